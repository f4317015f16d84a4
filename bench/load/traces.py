"""Recorded traffic: when requests came, and how long they were.

Mooncake JSONL    timestamp (ms), input_length, output_length, hash_ids: the same id stands for
                  the same 512 tokens, so that shared prefixes are shared again
Azure CSV         TIMESTAMP, ContextTokens, GeneratedTokens
ShareGPT          JSON or JSONL of {"conversations": [{"from", "value"}, ...]}; no times
OpenAI batch      JSONL of {"custom_id", "method", "url", "body"}; no times
prompts           JSONL of {"prompt"} or {"turns"}; no times
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["Entry", "has_times", "read_trace"]

BLOCK_TOKENS = 512
"""Mooncake's: tokens that one of `hash_ids` stands for."""

_COMMON = "the of and to in is you that it he was for on are as with"
_FILLER = _COMMON.split()


@dataclass(slots=True)
class Entry:
    """One recorded request; `body` when the whole of it was recorded."""

    at_s: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    blocks: tuple[int, ...] = ()
    text: str = ""
    body: dict[str, Any] | None = None

    def prompt(self) -> str:
        """Text of `input_tokens` words, block by block; the recorded text when there is one."""
        if self.text:
            return self.text
        words: list[str] = []
        for block in self.blocks or (hash((self.at_s, self.input_tokens)),):
            size = BLOCK_TOKENS if self.blocks else self.input_tokens
            # The id is the block's first word: engines hash blocks from their beginning.
            words.append(f"block{block}")
            rng = random.Random(block)
            words.extend(rng.choices(_FILLER, k=size - 1))
        return " ".join(words[: max(1, self.input_tokens)])


def read_trace(path: str) -> Iterator[Entry]:
    """Yield a trace's requests in the order of the file, the first at 0 s. Raises ValueError."""
    place = Path(path)
    if place.suffix == ".csv":
        yield from _azure(place)
        return
    first_s: float | None = None
    for number, entry in _objects(place):
        try:
            found = _entry(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}:{number}: not a request of a known trace ({error})") from None
        first_s = found.at_s if first_s is None else first_s
        found.at_s -= first_s
        yield found


def has_times(path: str) -> bool:
    """Does the trace say when its requests came?"""
    place = Path(path)
    return place.suffix == ".csv" or "timestamp" in next(_objects(place), (0, {}))[1]


def _objects(place: Path) -> Iterator[tuple[int, Any]]:
    if place.suffix == ".json":
        yield from enumerate(json.loads(place.read_text()), 1)
        return
    with place.open() as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, json.loads(line)


def _entry(entry: dict[str, Any]) -> Entry:
    if "hash_ids" in entry:
        return Entry(
            at_s=entry["timestamp"] / 1000,
            input_tokens=int(entry["input_length"]),
            output_tokens=int(entry["output_length"]),
            blocks=tuple(entry["hash_ids"]),
        )
    if "body" in entry:
        return Entry(body=dict(entry["body"]))
    if "conversations" in entry:
        said = entry["conversations"]
        asked = next(turn["value"] for turn in said if turn["from"] in ("human", "user"))
        answered = next(
            (turn["value"] for turn in said if turn["from"] not in ("human", "user")), ""
        )
        return Entry(text=asked, output_tokens=max(1, len(answered.split())))
    text = entry["prompt"] if "prompt" in entry else entry["turns"][0]
    return Entry(text=str(text))


def _azure(place: Path) -> Iterator[Entry]:
    first: datetime | None = None
    with place.open(newline="") as lines:
        for row in csv.DictReader(lines):
            try:
                # Seven places behind the point; datetime reads six.
                at = datetime.fromisoformat(row["TIMESTAMP"][:26])
                sizes = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"{place}: expected TIMESTAMP, ContextTokens, GeneratedTokens: {error}"
                ) from None
            first = at if first is None else first
            yield Entry((at - first).total_seconds(), *sizes)
