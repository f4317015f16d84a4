"""Streams in any pieces: the client gets the engine's bytes, and the bill is right.

The rows of the stream corpus are played as chunked answers. Where the client did not ask for usage,
the event that the gateway asked for is missing from what it gets, and nothing else is.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_sse_corpus import NAMES, raw_of, rows
from tests.differential.sse_reader import read_stream
from tests.front import MASTER_KEY, config_of
from tests.raw_peers import chunked, request
from tests.wired import Wired, snapshot_of, wired

SMALL_BYTES = 700
"""Up to here every split is tried; beyond, SAMPLES of them."""
SAMPLES = 12
READ_BYTES = 64 * 1024
"""What one read from a socket returns at most."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_TO_EOF = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.fixture
def snapshot(tmp_path: Path) -> bytes:
    return snapshot_of(tmp_path, config_of(9))


@pytest.fixture
async def worker(snapshot: bytes) -> AsyncIterator[Wired]:
    with wired(snapshot) as found:
        yield found


def chat(include_usage: bool, version: str = "1.1") -> bytes:
    body: dict[str, Any] = {"model": "many", "messages": [], "stream": True}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    return request(body, key=MASTER_KEY, version=version)


def play(
    worker: Wired,
    asked: bytes,
    segments: list[bytes],
    eof: bool = False,
    error: Exception | None = None,
) -> tuple[bytes, bool]:
    """Send a request, answer it in `segments`, and end the upstream by `eof` or `error`, if asked.

    Return what the client got, and whether its own connection lives on.
    """
    connection, _ = worker.upstream()
    client, wire = worker.client()
    client.data_received(asked)
    assert connection.context is not None
    for segment in segments:
        if connection.context is None:
            break
        connection.data_received(segment)
    if eof or error is not None:
        connection.connection_lost(error)
    got, open_ = wire.take(), not wire.closed
    client.connection_lost(None)
    if not connection.closed:
        connection.pool.idle.remove(connection)
        connection.abort()
        connection.connection_lost(None)
    return got, open_


def body_of(answer: bytes) -> tuple[bytes, bool]:
    """Return a chunked answer's body, and whether its last chunk is there."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head, head
    parts = []
    at = 0
    while found := re.compile(rb"([0-9a-fA-F]+)(?:;[^\r\n]*)?\r\n").match(rest, at):
        size = int(found[1], 16)
        if size == 0:
            assert rest[found.end() :] == b"\r\n"
            return b"".join(parts), True
        parts.append(rest[found.end() : found.end() + size])
        at = found.end() + size + 2
        assert rest[at - 2 : at] == b"\r\n"
    assert at == len(rest)
    return b"".join(parts), False


def blocks(raw: bytes) -> Iterator[bytes]:
    """Yield the stream cut behind each blank line."""
    at = 0
    for found in re.finditer(rb"(?:\A(?:\xef\xbb\xbf)?|(?<=\n)|(?<=\r)(?!\n))(?:\r\n|\r|\n)", raw):
        yield raw[at : found.end()]
        at = found.end()
    yield raw[at:]


def without_usage(raw: bytes) -> bytes:
    """Return the stream without the events that hold nothing but usage."""
    kept = []
    done = False
    for block in blocks(raw):
        facts = read_stream(block)
        if done or facts.usage_only != [True]:
            kept.append(block)
        done = done or facts.done_seen
    return b"".join(kept)


def assert_row(
    worker: Wired, row: dict[str, Any], raw: bytes, answer: list[bytes], include_usage: bool
) -> None:
    got, _ = play(worker, chat(include_usage), answer)
    body, complete = body_of(got)
    note = (row["id"], include_usage, [len(part) for part in answer][:4])
    assert body == (raw if include_usage else without_usage(raw)), note
    assert complete, note


def assert_bill(worker: Wired, row: dict[str, Any]) -> None:
    """The access log's line has the row's usage."""
    line = worker.log.last()
    wanted = {NAMES[name]: count for name, count in (row["usage"] or {}).items()}
    for name in ("input_tokens", "output_tokens"):
        assert line.get(name, -1) == wanted.get(name, -1), (row["id"], line)


def small_rows() -> list[tuple[dict[str, Any], bytes]]:
    return [(row, raw) for row in rows() if 0 < len(raw := raw_of(row)) <= SMALL_BYTES]


@pytest.mark.corpus
@pytest.mark.parametrize("include_usage", [True, False])
async def test_small_rows_at_every_split(worker: Wired, include_usage: bool) -> None:
    for row, raw in small_rows():
        middle = len(raw) // 2
        framed = chunked(raw[:middle], raw[middle:])
        answer = HEAD + framed
        assert_row(worker, row, raw, [answer], include_usage)
        assert_bill(worker, row)
        for cut in range(1, len(framed)):
            at = len(HEAD) + cut
            assert_row(worker, row, raw, [answer[:at], answer[at:]], include_usage)
            assert_bill(worker, row)


@pytest.mark.corpus
@pytest.mark.parametrize("include_usage", [True, False])
async def test_small_rows_byte_by_byte_and_one_chunk_for_each_byte(
    worker: Wired, include_usage: bool
) -> None:
    for row, raw in small_rows():
        answer = HEAD + chunked(raw)
        assert_row(worker, row, raw, [bytes([b]) for b in answer], include_usage)
        assert_bill(worker, row)
        bytewise = chunked(*[bytes([b]) for b in raw])
        assert_row(worker, row, raw, [HEAD + bytewise], include_usage)
        assert_bill(worker, row)


@pytest.mark.corpus
@pytest.mark.parametrize("include_usage", [True, False])
async def test_large_rows_in_sampled_pieces(worker: Wired, include_usage: bool) -> None:
    pick = random.Random(7)
    for row in rows():
        raw = raw_of(row)
        if len(raw) <= SMALL_BYTES:
            continue
        # 8 KiB chunks, as an engine's buffered writer makes them.
        answer = HEAD + chunked(*[raw[at : at + 8192] for at in range(0, len(raw), 8192)])
        for _ in range(SAMPLES if len(raw) < 2**20 else 1):
            marks = set(range(READ_BYTES, len(answer), READ_BYTES))
            marks.update(pick.sample(range(1, len(answer)), 3))
            cuts = [0, *sorted(marks), len(answer)]
            segments = [answer[a:b] for a, b in pairwise(cuts)]
            assert_row(worker, row, raw, segments, include_usage)
            assert_bill(worker, row)


EVENT = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}\n\n'
)
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("include_usage", [True, False])
async def test_chunk_extensions_and_trailers_at_every_split(
    worker: Wired, include_usage: bool
) -> None:
    framed = (
        b"%X;name=value;flag\r\n%b\r\n" % (len(EVENT), EVENT)
        + b'0%x ; quoted="a;b"\r\n%b\r\n' % (len(USAGE), USAGE)
        + b"%x\r\n%b\r\n" % (len(DONE), DONE)
        + b"000\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n"
    )
    wanted = EVENT + (USAGE if include_usage else b"") + DONE
    for cut in range(len(framed)):
        got, open_ = play(worker, chat(include_usage), [HEAD + framed[:cut], framed[cut:]])
        body, complete = body_of(got)
        assert (body, complete, open_) == (wanted, True, True), cut
        # Trailers would be fields that nobody has looked at.
        assert b"X-Checksum" not in got
        assert worker.log.last()["output_tokens"] == 5


async def test_the_head_at_every_split(worker: Wired) -> None:
    answer = HEAD + chunked(EVENT, USAGE, DONE)
    for cut in range(1, len(HEAD) + 1):
        got, _ = play(worker, chat(False), [answer[:cut], answer[cut:]])
        assert body_of(got) == (EVENT + DONE, True), cut


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_client_of_http_1_0_reads_to_the_end_of_its_connection(
    worker: Wired, include_usage: bool
) -> None:
    answer = HEAD + chunked(EVENT, USAGE, DONE)
    wanted = EVENT + (USAGE if include_usage else b"") + DONE
    for cut in range(len(HEAD), len(answer)):
        segments = [answer[:cut], answer[cut:]]
        got, open_ = play(worker, chat(include_usage, "1.0"), segments)
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        assert (body, open_) == (wanted, False), cut


@pytest.mark.parametrize("include_usage", [True, False])
async def test_an_upstream_of_http_1_0_ends_with_its_connection(
    worker: Wired, include_usage: bool
) -> None:
    answer = HEAD_TO_EOF + EVENT + USAGE + DONE
    wanted = EVENT + (USAGE if include_usage else b"") + DONE
    for cut in range(1, len(answer)):
        segments = [answer[:cut], answer[cut:]]
        got, open_ = play(worker, chat(include_usage), segments, eof=True)
        assert (*body_of(got), open_) == (wanted, True, True), cut
        assert worker.log.last()["output_tokens"] == 5


CONTENT = json.dumps({"id": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 5}}).encode()
FRAMINGS = {
    "length": b"Content-Length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n" + chunked(CONTENT[:9], CONTENT[9:]),
    "end": b"\r\n" + CONTENT,
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_plain_answer_in_any_framing_and_pieces(
    worker: Wired, framing: str, version: str
) -> None:
    asked = request({"model": "many", "messages": []}, key=MASTER_KEY, version=version)
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + FRAMINGS[framing]
    for cut in range(1, len(answer)):
        segments = [answer[:cut], answer[cut:]]
        got, _ = play(worker, asked, segments, eof=framing == "end")
        head, _, body = got.partition(b"\r\n\r\n")
        if b"transfer-encoding" in head:
            assert version == "1.1"
            body, complete = body_of(got)
            assert complete
        else:
            assert b"content-length: %d" % len(CONTENT) in head or b"connection: close" in head
        assert body == CONTENT, cut
        assert worker.log.last()["output_tokens"] == 5


@pytest.mark.parametrize("include_usage", [True, False])
async def test_what_never_became_an_event_is_passed_on_at_the_end(
    worker: Wired, include_usage: bool
) -> None:
    # No content yet, so that all is held back; and an end without a blank line.
    raw = b": ping\n\n" + b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n' + b"data: {"
    for head, framed in ((HEAD, chunked(raw)), (HEAD_TO_EOF, raw)):
        answer = head + framed
        for cut in range(1, len(answer)):
            segments = [answer[:cut], answer[cut:]]
            got, _ = play(worker, chat(include_usage), segments, eof=head is HEAD_TO_EOF)
            assert body_of(got) == (raw, True), (cut, got)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_reset_is_not_the_end_of_an_answer_without_length(
    worker: Wired, version: str
) -> None:
    answer = HEAD_TO_EOF + EVENT + EVENT
    got, open_ = play(worker, chat(True, version), [answer], error=ConnectionResetError())
    assert not open_
    assert worker.log.last()["error"] == "upstream_cut"
    if version == "1.1":
        body, complete = body_of(got)
        assert body.startswith(EVENT + EVENT + b'data: {"error"')
        assert not complete


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_cut_stream_is_never_a_clean_end(worker: Wired, include_usage: bool) -> None:
    answer = HEAD + chunked(EVENT, EVENT, USAGE, DONE)
    for cut in range(len(HEAD) + 1, len(answer)):
        got, open_ = play(worker, chat(include_usage), [answer[:cut]], eof=True)
        if b"200 OK" not in got:
            # Nothing had been passed on: an error with a status of its own.
            assert got.startswith(b"HTTP/1.1 502"), got
            continue
        assert not open_, cut
        body, complete = body_of(got)
        assert not complete, cut
        passed, error, _ = body.partition(b'data: {"error"')
        assert answer_starts_with(passed, include_usage), cut
        if b"[DONE]" in passed:
            assert not error
        assert worker.log.last()["error"] == "upstream_cut"


def answer_starts_with(passed: bytes, include_usage: bool) -> bool:
    whole = EVENT + EVENT + (USAGE if include_usage else b"") + DONE
    return whole.startswith(passed)
