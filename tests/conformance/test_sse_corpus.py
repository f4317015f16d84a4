"""The stream corpus: the right usage from each row, whole, byte by byte and cut at each offset."""

from __future__ import annotations

import base64
import json
import random
from itertools import pairwise
from typing import Any

import pytest

from fastgate._core.sse import Scanner
from tests.corpus import corpus
from tests.differential.sse_reader import read_events, read_stream
from tests.differential.test_sse_reader import (
    assert_document,
    assert_every_split,
    assert_stream,
)

pytestmark = pytest.mark.corpus

SMALL_BYTES = 4096
"""Up to here every offset is tried; beyond, SAMPLES of them."""
SAMPLES = 24
READ_BYTES = 64 * 1024
"""What one read from a socket returns at most."""

# The corpus names counts as the provider of the row does.
NAMES = {
    **dict.fromkeys(["prompt_tokens", "input_tokens", "prompt"], "input_tokens"),
    **dict.fromkeys(["completion_tokens", "output_tokens", "completion"], "output_tokens"),
    "total_tokens": "total_tokens",
    "cache_read_input_tokens": "cached_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "thoughts": "reasoning_tokens",
}
USAGE_EVENT = (
    b'data: {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, '
    b'"total_tokens": 18}}\n\n'
)


def rows() -> list[dict[str, Any]]:
    path = corpus("sse-corpus") / "sse.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def raw_of(row: dict[str, Any]) -> bytes:
    if row["id"] == "sse/one-event-20MB":  # described, not stored
        text = b"x" * (20 * 1024 * 1024)
        return b'data: {"choices":[{"delta":{"content":"' + text + b'"}}]}\n\n' + USAGE_EVENT
    return base64.b64decode(row["raw_b64"])


def assert_usage(scanner: Scanner, row: dict[str, Any]) -> None:
    wanted = {NAMES[name]: count for name, count in (row["usage"] or {}).items()}
    for name in set(NAMES.values()):
        if name in wanted or not wanted:
            assert getattr(scanner, name) == wanted.get(name, -1), (row["id"], name)


def test_usage_and_events_are_those_of_the_corpus() -> None:
    for row in rows():
        raw = raw_of(row)
        scanner = Scanner()
        for start, end in pairwise([*range(0, len(raw), READ_BYTES), len(raw)]):
            scanner.feed(raw, start, end)
        scanner.feed_eof()
        assert_usage(scanner, row)
        if row["events"] is not None:
            assert scanner.events == len(row["events"]), row["id"]


def test_the_oracle_agrees_with_the_corpus() -> None:
    for row in rows():
        if row["events"] is not None:
            read = [
                [name.decode() or "message", data.decode("utf-8", "replace")]
                for name, data in read_events(raw_of(row))
            ]
            assert read == row["events"], row["id"]


def test_small_rows_say_the_same_in_every_split() -> None:
    for row in rows():
        raw = raw_of(row)
        if len(raw) <= SMALL_BYTES:
            assert_every_split(raw)


def test_large_rows_say_the_same_in_sampled_splits() -> None:
    pick = random.Random(1)
    for row in rows():
        raw = raw_of(row)
        if SMALL_BYTES < len(raw) <= 4 * 1024 * 1024:
            facts = read_stream(raw)
            for _ in range(SAMPLES):
                cuts = [*range(0, len(raw), READ_BYTES), *pick.sample(range(len(raw)), 2)]
                assert_stream(raw, facts, cuts, check_cuts=False)


def cassettes(form: str) -> list[tuple[str, bytes]]:
    """Return (id, body) of each recorded answer of real providers and engines in that format."""
    folder = corpus("cassettes")
    index = map(json.loads, (folder / "index.jsonl").read_text("utf-8").splitlines())
    return [
        (row["id"], (folder / row["response_file"]).read_bytes())
        for row in index
        if row["format"] == form
    ]


def test_recorded_streams_are_read_as_the_reader_reads_them() -> None:
    pick = random.Random(2)
    billed = 0
    for _id, raw in cassettes("sse"):
        facts = read_stream(raw)
        billed += facts.counts["output_tokens"] >= 0
        assert_stream(raw, facts, ())
        for _ in range(SAMPLES):
            assert_stream(raw, facts, pick.sample(range(len(raw)), 3), check_cuts=False)
    assert billed > 40


def test_recorded_documents_are_read_as_the_reader_reads_them() -> None:
    pick = random.Random(3)
    for _id, raw in cassettes("json"):
        assert_document(raw, ())
        assert_document(raw, pick.sample(range(len(raw)), 3))
