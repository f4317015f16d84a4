"""Recorded traffic: files of prompts, and traces with their times.

| format | known by | what it gives |
| Mooncake JSONL | `hash_ids` | times, lengths, and which blocks of 512 tokens prompts share |
| Azure LLM CSV | a TIMESTAMP column | times and lengths |
| ShareGPT JSON or JSONL | `conversations` | the human turns of real conversations |
| OpenAI batch JSONL | `body` | whole request bodies; only model and stream are ours |
| JSONL of prompts | `turns`, `messages`, `prompt` or `text` | prompts |
"""

from __future__ import annotations

import csv
import datetime
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.bodies import kind_of_path
from bench.load.lengths import Lengths
from bench.load.words import Words

__all__ = ["Ask", "BadTrace", "read_prompts", "read_trace", "timed"]

BLOCK_TOKENS = 512
"""Of Mooncake's hash_ids."""

BLOCK_MARK = 1 << 41
"""Marks of the texts of hashed blocks: apart from prompts and prefixes."""

CACHED_BLOCKS = 4096
"""Texts of blocks that are kept: 10 MB. Others are made again."""


class BadTrace(Exception):
    """A file that can't be replayed; says which line, what was expected and what came."""


@dataclass(slots=True)
class Ask:
    """What one conversation asks, before it is bytes."""

    turns: tuple[str, ...]
    system: str = ""
    limit: int = 0
    """Of output tokens; 0: none."""
    at_s: float = 0.0
    """When, from the trace's start."""
    kind: str = ""
    body: dict[str, Any] | None = None
    """A whole body; the rest does not matter then."""


def timed(path: Path) -> bool:
    """Whether the trace says when its requests came."""
    if path.suffix == ".csv":
        return True
    first = next(rows(path), (0, {}))[1]
    return "timestamp" in first


def read_trace(options: Any, words: Words) -> Iterator[Ask]:
    """Yield the asks of `options.trace`, each read when it is wanted; raises BadTrace."""
    path = Path(options.trace)
    if path.suffix == ".csv":
        yield from azure(path, words)
        return
    limits = Lengths(options.max_tokens)
    limit = int(limits.numbers[0]) if limits else 0
    block = functools.lru_cache(CACHED_BLOCKS)(
        lambda number: words.text(BLOCK_MARK + number, BLOCK_TOKENS)
    )
    for number, row in rows(path):
        try:
            if "hash_ids" in row:
                yield mooncake(row, block)
            elif "body" in row:
                kind = kind_of_path(row.get("url", "")) or "chat"
                yield Ask((), kind=kind, body=dict(row["body"]))
            else:
                yield Ask(turns_of(row), limit=limit)
        except (KeyError, TypeError, ValueError) as error:
            raise BadTrace(
                f"{path}:{number}: expected Mooncake's, ShareGPT's, a batch's or a prompt's "
                f"members, got {str(row)[:80]!r} ({error!r})"
            ) from None


def mooncake(row: dict[str, Any], block: Any) -> Ask:
    """A prompt of the blocks that the trace names, cut to its length."""
    length = int(row["input_length"])
    texts = [block(number) for number in row["hash_ids"]]
    surplus = len(texts) * BLOCK_TOKENS - length
    if 0 < surplus < BLOCK_TOKENS and texts:
        texts[-1] = " ".join(texts[-1].split()[: BLOCK_TOKENS - surplus])
    at_s = row["timestamp"] / 1000
    return Ask((" ".join(texts),), limit=int(row["output_length"]), at_s=at_s)


def azure(path: Path, words: Words) -> Iterator[Ask]:
    start = None
    with path.open(newline="") as file:
        for mark, row in enumerate(csv.DictReader(file)):
            try:
                # Seven digits of a fraction, of which fromisoformat() takes six.
                when = datetime.datetime.fromisoformat(row["TIMESTAMP"].strip()[:26])
                length = int(row["ContextTokens"])
                limit = int(row["GeneratedTokens"])
            except (KeyError, TypeError, ValueError, AttributeError):
                raise BadTrace(
                    f"{path}:{mark + 2}: expected TIMESTAMP, ContextTokens and GeneratedTokens, "
                    f"got {str(row)[:80]!r}"
                ) from None
            start = start or when
            at_s = (when - start).total_seconds()
            yield Ask((words.text(mark, max(1, length)),), limit=max(1, limit), at_s=at_s)


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of a JSONL file, or of one JSON array."""
    with path.open() as file:
        if file.read(1) == "[":
            file.seek(0)
            found = parse(path, 1, file.read())
            yield from ((1, row) for row in found)
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.strip():
                row = parse(path, number, line)
                if not isinstance(row, dict):
                    row = {"prompt": row}
                yield number, row


def parse(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadTrace(f"{path}:{number}: expected JSON, got {text[:80]!r} ({error})") from None


def turns_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The user's turns of a row, whichever of the known ways it has; raises ValueError."""
    if "conversations" in row:
        said = row["conversations"]
        found = [turn["value"] for turn in said if turn.get("from") in ("human", "user")]
    elif "messages" in row:
        found = [turn["content"] for turn in row["messages"] if turn.get("role") == "user"]
    elif "turns" in row:
        found = row["turns"]
    else:
        found = [row["prompt"] if "prompt" in row else row["text"]]
    if not found or not all(isinstance(turn, str) for turn in found):
        raise ValueError("no text of a user")
    return tuple(found)


def read_prompts(path: Path) -> list[tuple[str, ...]]:
    """The turns of each prompt: a directory has one a file, .jsonl one a row, else one a line."""
    found: list[tuple[str, ...]]
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
        found = [(file.read_text(),) for file in files]
    elif path.suffix in (".json", ".jsonl"):
        found = []
        for number, row in rows(path):
            try:
                found.append(turns_of(row))
            except (KeyError, TypeError, ValueError) as error:
                raise BadTrace(f"{path}:{number}: expected a prompt, got {error!r}") from None
    else:
        found = [(line,) for line in path.read_text().splitlines() if line.strip()]
    if not found:
        raise BadTrace(f"{path}: expected prompts, found none")
    return found
