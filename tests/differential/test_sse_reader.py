"""Whatever the bytes and wherever they are cut: the scanner sees what `sse_reader` sees."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgate._core.sse import Scanner
from tests.differential.sse_reader import (
    COUNTS,
    Facts,
    read_document,
    read_events,
    read_stream,
)

EVENTS, DOCUMENT = 0, 1


def facts_of(scanner: Scanner) -> dict[str, object]:
    return {
        "content_events": scanner.content_events,
        "content_seen": scanner.content_seen,
        "error_seen": scanner.error_seen,
        "error_first": scanner.error_first,
        "done_seen": scanner.done_seen,
        **{name: getattr(scanner, name) for name in COUNTS},
    }


def expected(facts: Facts) -> dict[str, object]:
    return {
        "content_events": facts.content_events,
        "content_seen": facts.content_seen,
        "error_seen": facts.error_seen,
        "error_first": facts.error_first,
        "done_seen": facts.done_seen,
        **facts.counts,
    }


def assert_stream(raw: bytes, facts: Facts, cuts: Iterable[int], check_cuts: bool = True) -> None:
    """Feed `raw` cut at `cuts`; assert what is seen, and after each segment where events ended."""
    scanner = Scanner(EVENTS)
    boundary = 0
    usage_only: list[bytes] = []
    edges = sorted({0, len(raw), *cuts})
    for start, end in pairwise(edges):
        before = boundary
        scanner.feed(raw, start, end)
        assert start <= scanner.boundary <= end
        if scanner.boundary > start or scanner.at_boundary:
            boundary = scanner.boundary
        assert scanner.at_boundary == (boundary == end)
        if check_cuts:
            assert len(read_events(raw[:boundary])) == scanner.events
        if scanner.usage_only_end >= 0:
            first = scanner.usage_only_start
            usage_only.append(raw[first if first >= 0 else before : scanner.usage_only_end])
            assert first >= 0 or before < start
    assert scanner.feed_eof() == 0
    assert scanner.events == facts.events
    assert facts_of(scanner) == expected(facts)
    if len(edges) == 2:
        assert len(usage_only) == any(facts.usage_only)
    for event in usage_only:
        assert read_stream(event).usage_only == [True]


def splits_of(raw: bytes) -> Iterable[Sequence[int]]:
    """Whole, byte by byte, and cut in two at each offset."""
    yield ()
    yield range(len(raw))
    for at in range(1, len(raw)):
        yield (at,)


def assert_every_split(raw: bytes) -> None:
    facts = read_stream(raw)
    for cuts in splits_of(raw):
        assert_stream(raw, facts, cuts)


def assert_document(raw: bytes, cuts: Iterable[int]) -> None:
    scanner = Scanner(DOCUMENT)
    for start, end in pairwise(sorted({0, len(raw), *cuts})):
        assert scanner.feed(raw, start, end) == 0
    scanner.feed_eof()
    assert facts_of(scanner) == expected(read_document(raw))


# Values that mean something in the places where the scanner looks, and some that do not.
NAMES = st.sampled_from(
    (
        *COUNTS["input_tokens"],
        *("output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"),
        *("cache_creation_input_tokens", "prompt_tokens_details", "x", "error", "usage"),
    )
)
NUMBERS = st.sampled_from(
    (
        *("0", "7", "11.0", "1.1e1", "110e-1", "1e30", "-3", "-0", "0.5", "0.0e9", "1e-400"),
        *("9007199254740992", "9007199254740993", "100000000000000000000000e-21"),
    )
)
TEXTS = st.sampled_from(["", "a", "error", "ping", "response.failed", "\n", '"usage":{}', "é\\"])


def members(
    *pairs: tuple[st.SearchStrategy[str], st.SearchStrategy[str]],
) -> st.SearchStrategy[str]:
    """JSON text of an object with members of these kinds."""
    member = st.one_of(
        *(st.builds(lambda k, v: f"{json.dumps(k)}: {v}", key, value) for key, value in pairs)
    )
    return st.lists(member, max_size=4).map(lambda items: "{" + ",".join(items) + "}")


SCALARS = st.one_of(
    st.sampled_from(["null", "true", "false", "[]", "{}", "[0]", '{"a":[]}']),
    NUMBERS,
    TEXTS.map(json.dumps),
)
DETAILS = members((NAMES, SCALARS))
USAGE = members((NAMES, NUMBERS), (NAMES, SCALARS), (NAMES, DETAILS))
DELTA = members((st.sampled_from(["role", "content", "tool_calls", "x"]), SCALARS))
CHOICE = members(
    (st.sampled_from(["delta", "message"]), st.one_of(DELTA, SCALARS)),
    (st.sampled_from(["text", "finish_reason", "index"]), SCALARS),
)
CHOICES = st.lists(st.one_of(CHOICE, SCALARS), max_size=2).map(lambda c: "[" + ",".join(c) + "]")
WRAPPER = members((st.sampled_from(["usage", "x"]), st.one_of(USAGE, SCALARS)))
ROOT = members(
    (st.sampled_from(["usage", "usageMetadata"]), st.one_of(USAGE, SCALARS)),
    (st.just("choices"), st.one_of(CHOICES, SCALARS)),
    (st.sampled_from(["message", "response"]), st.one_of(WRAPPER, SCALARS)),
    (st.sampled_from(["error", "type", "object", "x"]), SCALARS),
)
PAYLOAD = st.one_of(
    ROOT, ROOT, st.sampled_from(["[DONE]", " [DONE] ", "[DONE]x", "[", "", "[1, 2]", "text", "{}x"])
)
LINE_ENDS = st.sampled_from(["\n", "\r", "\r\n"])
LINES = st.one_of(
    PAYLOAD.map("data: {}".format),
    PAYLOAD.map("data:{}".format),
    st.sampled_from(
        ["event: error", "event:ping", "event", "data", ": hb", "id: 1", "datax: 1", ""]
    ),
    st.just(""),
)
STREAMS = st.tuples(
    st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb"]),
    st.lists(st.tuples(LINES, LINE_ENDS), max_size=12),
).map(lambda s: s[0] + "".join(line + end for line, end in s[1]).encode())


@settings(max_examples=400, deadline=None)
@given(STREAMS, st.integers(0, 2**32))
@example(b'data: {"choices":[],"usage":{}}\r\n\r\ndata: 1\r\n\r\n', 0)
def test_streams_are_read_as_the_reader_reads_them(raw: bytes, seed: int) -> None:
    facts = read_stream(raw)
    pick = random.Random(seed)
    assert_stream(raw, facts, ())
    assert_stream(raw, facts, range(len(raw)), check_cuts=False)
    for _ in range(4):
        assert_stream(raw, facts, pick.sample(range(len(raw) + 1), min(len(raw), 3)))


@settings(max_examples=400, deadline=None)
@given(st.one_of(PAYLOAD, ROOT.map(" {}\r\n".format)), st.integers(0, 2**32))
def test_documents_are_read_as_the_reader_reads_them(text: str, seed: int) -> None:
    raw = text.encode()
    pick = random.Random(seed)
    assert_document(raw, ())
    assert_document(raw, range(len(raw)))
    assert_document(raw, pick.sample(range(len(raw) + 1), min(len(raw), 3)))


def test_every_split_of_one_stream_with_everything() -> None:
    assert_every_split(
        b"\xef\xbb\xbf: hello\r\n\r\n"
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":'
        b'25,"output_tokens":1}}}\n\n'
        b'data: {"choices":[{"delta":{"content":"h\\u00e9 \\"x\\" \xc3\xa9"}}],"usage":null}\r\r'
        b'data: {"choices":[],\r\ndata: "usage":{"prompt_tokens":1.1e1,\r\n'
        b'data: "completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3}}}\r\n\r\n'
        b'event: error\ndata: {"error":{"message":"x"}}\n\ndata: [DONE]\n\ndata: [1,2]\n\nid'
    )
