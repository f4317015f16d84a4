"""Operations of `_core.jscan` that have an instruction budget: name -> factory of one operation."""

from __future__ import annotations

import json
from collections.abc import Callable

from fastgate._core.jscan import BodyScan

__all__ = ["OPERATIONS"]

CHAT = json.dumps(
    {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Write a haiku about the sea, and make it rhyme."},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
        "stream": True,
        "user": "u-1234",
    }
).encode()


def scan_of(raw: bytes) -> Callable[[], object]:
    scan = BodyScan()
    end = len(raw)
    return lambda: scan.scan(raw, 0, end)


def prompt_of(text: str) -> Callable[[], Callable[[], object]]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return lambda: scan_of(json.dumps(body, ensure_ascii=False).encode())


def splice() -> Callable[[], object]:
    scan = BodyScan()
    end = len(CHAT)
    scan.scan(CHAT, 0, end)
    return lambda: scan.splice(CHAT, 0, end, "meta-llama/Llama-3.1-8B-Instruct", True)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "jscan scan: chat, 260 B": lambda: scan_of(CHAT),
    "jscan scan: 64 KiB of ASCII text": prompt_of("All work and no play. " * 3000),
    "jscan scan: 64 KiB of text with escapes": prompt_of('if (a == "b") {\n\treturn;\n}\n' * 2400),
    "jscan scan: 64 KiB of Chinese text": prompt_of("不积跬步无以至千里" * 2400),
    "jscan scan: 10,000 token ids": lambda: scan_of(
        json.dumps({"model": "m", "input": list(range(1000, 11000))}).encode()
    ),
    "jscan splice: model and usage": splice,
}
