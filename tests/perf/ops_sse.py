"""Operations of `_core.sse` that have an instruction budget: name -> factory of one operation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastgate._core.sse import Scanner

__all__ = ["OPERATIONS"]


def event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


CHUNK = event(
    {
        "id": "chatcmpl-9b7c2d5e1f",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "llama-3",
        "choices": [
            {"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}
        ],
    }
)
USAGE = event(
    {
        "id": "chatcmpl-9b7c2d5e1f",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "llama-3",
        "choices": [],
        "usage": {"prompt_tokens": 1100, "completion_tokens": 256, "total_tokens": 1356},
    }
)
DELTA = b"event: content_block_delta\n" + event(
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " token"}}
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-9b7c2d5e1f",
        "object": "chat.completion",
        "model": "llama-3",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "some text " * 100}}],
        "usage": {"prompt_tokens": 1100, "completion_tokens": 256, "total_tokens": 1356},
    }
).encode()


def feed_of(raw: bytes) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        scanner = Scanner()
        end = len(raw)
        return lambda: scanner.feed(raw, 0, end)

    return prepare


def document() -> Callable[[], object]:
    scanner = Scanner(1)
    end = len(ANSWER)

    def run() -> int:
        scanner.reset(1)
        scanner.feed(ANSWER, 0, end)
        return scanner.feed_eof()

    return run


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "sse feed: one chat chunk, 198 B": feed_of(CHUNK),
    "sse feed: 100 chat chunks": feed_of(CHUNK * 100),
    "sse feed: one usage event": feed_of(USAGE),
    "sse feed: one Anthropic delta": feed_of(DELTA),
    "sse feed: 64 KiB of one string": feed_of(b"data: {" + b'"x":"' + b"x" * 65536 + b'"}\n\n'),
    "sse feed: a 1 KB answer": document,
}
