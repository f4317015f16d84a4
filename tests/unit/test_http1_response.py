"""Answers of upstreams: what is taken, where they end, what is refused and at which byte."""

from __future__ import annotations

import pytest

from fastgate._core.http1 import ProtocolError, ResponseReader
from tests.http1_wire import Exchange, bytewise, read_response, splits

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

# Each ends with the first byte that is wrong.
REFUSED = {
    "no status line": b"h",
    "HTTP/0.9": b"<",
    "an HTTP/2 frame": b"\0",
    "a TLS alert": b"\x15",
    "an empty line before": b"\r",
    "HTTP/2": b"HTTP/2",
    "HTTP/1.2": b"HTTP/1.2",
    "no space": b"HTTP/1.1\r",
    "two spaces": b"HTTP/1.1  ",
    "status 99": b"HTTP/1.1 0",
    "status 600": b"HTTP/1.1 6",
    "status of two digits": b"HTTP/1.1 20 ",
    "status of four digits": b"HTTP/1.1 2000",
    "status of letters": b"HTTP/1.1 a",
    "a tab behind the status": b"HTTP/1.1 200\t",
    "a bare LF behind the status": b"HTTP/1.1 200\n",
    "a bare CR behind the status": b"HTTP/1.1 200\rO",
    "a bare LF behind the reason": b"HTTP/1.1 200 OK\n",
    "a bare CR behind the reason": b"HTTP/1.1 200 OK\rX",
    "a control character in the reason": b"HTTP/1.1 200 O\x01",
    "a folded line": OK + b"A: b\r\n ",
    "a bare CR in a value": OK + b"A: b\rc",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "a length and a coding": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "a signed length": OK + b"Content-Length: +5\r\n",
    "a length of 20 digits": OK + b"Content-Length: " + b"9" * 20 + b"\r\n",
    "the coding gzip": OK + b"Transfer-Encoding: gzip, chunked\r\n",
    "a coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "an interim answer with a length": b"HTTP/1.1 100 C\r\nContent-Length: 1\r\n\r\n",
    "a chunked interim answer": b"HTTP/1.1 103 C\r\nTransfer-Encoding: chunked\r\n\r\n",
    "17 interim answers": b"HTTP/1.1 100 C\r\n\r\n" * 17,
    "a bad chunk size": CHUNKED + b"0x",
    "a forbidden trailer": CHUNKED + b"0\r\nContent-Length:",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_byte_is_refused_when_it_comes_and_not_before(case: str) -> None:
    raw = REFUSED[case]
    assert read_response([raw[:-1]]).outcome != "reject"
    for segments in ([raw], [raw[:-1], raw[-1:]], bytewise(raw), [raw + b"\r\n\r\n"]):
        assert read_response(segments).outcome == "reject"


def outcome(result: Exchange) -> tuple[object, ...]:
    message = result.messages[0]
    return (
        *message.start,
        message.keep_alive,
        message.content_length,
        message.chunked,
        message.body,
        result.surplus,
    )


# status, interim, keep_alive, content_length, chunked, body, surplus
COMPLETE = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, 0, True, 5, False, b"hello", False),
    "chunks": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 200, 0, True, -1, True, b"hello", False),
    "no reason, no space": (
        b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
        *(404, 0, True, 0, False, b"", False),
    ),
    "no reason": (
        b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n",
        *(599, 0, True, 0, False, b"", False),
    ),
    "a reason above ASCII": (
        b"HTTP/1.1 200 \xc3\xa4\t~\r\nContent-Length: 0\r\n\r\n",
        *(200, 0, True, 0, False, b"", False),
    ),
    "close": (
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx",
        *(200, 0, False, 1, False, b"x", False),
    ),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        *(200, 0, False, 1, False, b"x", False),
    ),
    "HTTP/1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        *(200, 0, True, 1, False, b"x", False),
    ),
    "204": (b"HTTP/1.1 204 N\r\n\r\n", 204, 0, True, -1, False, b"", False),
    "204 with a length of 0": (
        b"HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n",
        *(204, 0, True, -1, False, b"", False),
    ),
    # RFC 9110 8.6: it must not have one; whoever sends it may send a body as well.
    "204 with a body": (
        b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\nhello",
        *(204, 0, False, -1, False, b"", True),
    ),
    "204 that is chunked": (
        b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(204, 0, False, -1, False, b"", False),
    ),
    "304 with a length": (
        b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n",
        *(304, 0, True, 5, False, b"", False),
    ),
    "304 that would be chunked": (
        b"HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(304, 0, True, -1, False, b"", False),
    ),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: </a>\r\nConnection: close\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\nx",
        *(200, 2, True, 1, False, b"x", False),
    ),
    "16 interim answers": (
        b"HTTP/1.1 100\r\n\r\n" * 16 + OK + b"Content-Length: 1\r\n\r\nx",
        *(200, 16, True, 1, False, b"x", False),
    ),
    "a second answer": (
        OK + b"Content-Length: 2\r\n\r\n{}" + OK + b"Content-Length: 7\r\n\r\nSTOLEN!",
        *(200, 0, True, 2, False, b"{}", True),
    ),
}


@pytest.mark.parametrize("case", COMPLETE)
def test_an_answer_ends_where_it_says(case: str) -> None:
    raw, *expected = COMPLETE[case]
    for segments in splits(raw):
        result = read_response(segments)
        assert result.error == ""
        assert result.outcome == "accept"
        assert outcome(result) == tuple(expected)
        assert read_response(segments, eof=True).outcome == "accept"


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_an_answer_without_a_length_ends_with_the_connection(version: bytes) -> None:
    raw = version + b" 200 OK\r\nConnection: keep-alive\r\n\r\nhello"
    for segments in splits(raw):
        assert read_response(segments).outcome == "incomplete"
        result = read_response(segments, eof=True)
        assert outcome(result) == (200, 0, False, -1, False, b"hello", False)


def test_a_body_until_the_end_may_be_empty() -> None:
    reader = ResponseReader()
    reader.feed_head(OK + b"\r\n", 0)
    assert reader.until_eof
    assert not reader.complete
    assert reader.feed_eof()
    assert reader.complete


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"H",
        OK,
        OK + b"Content-Length: 5\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        CHUNKED,
        CHUNKED + b"5\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r",
        b"HTTP/1.1 100 C\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_never_ends_cleanly(raw: bytes) -> None:
    result = read_response([raw] if raw else [], eof=True)
    assert (result.outcome, result.status) == ("reject", 502)


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"A: b"])
def test_the_answer_to_head_has_no_body(field: bytes) -> None:
    raw = OK + field + b"\r\n\r\n"
    for segments in splits(raw):
        result = read_response(segments, head_request=True)
        assert result.outcome == "accept"
        assert result.messages[0].keep_alive
        assert not result.messages[0].chunked
    assert read_response([raw + b"x"], head_request=True).surplus


def test_head_is_forgotten_with_the_message() -> None:
    reader = ResponseReader()
    reader.head_request = True
    reader.feed_head(OK + b"Content-Length: 5\r\n\r\n", 0)
    reader.reset()
    assert (reader.status, reader.head_request) == (0, False)
    reader.feed_head(OK + b"Content-Length: 5\r\n\r\n", 0)
    assert not reader.complete


def test_what_was_said_of_one_answer_does_not_stick_to_the_next() -> None:
    reader = ResponseReader()
    interim = b"HTTP/1.1 103 E\r\nConnection: close\r\nA: b\r\n\r\n"
    for raw in (
        interim + b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n",
        CHUNKED,
        OK + b"Content-Length: 5\r\n\r\n",
    ):
        assert reader.feed_head(raw, 0) == len(raw)
        expected = (raw.count(b"103"), b"1.1 200" in raw, b"chunked" in raw, b"1.0" in raw)
        found = (reader.interim, reader.keep_alive, reader.chunked, reader.until_eof)
        assert found == expected
        reader.reset()


def test_the_answer_behind_an_interim_one_is_a_head_of_its_own() -> None:
    reader = ResponseReader()
    head = OK + b"Content-Length: 0\r\n\r\n"
    raw = b"HTTP/1.1 100 C\r\n\r\n" + head
    assert reader.feed_head(raw, 0) == len(raw)
    assert (reader.head, reader.head_end) == (head, len(head))
    assert reader.items() == [(b"Content-Length", b"0")]


def test_each_interim_answer_has_the_limit_of_a_head() -> None:
    # 16 of 30 KiB pass one by one; nothing of them is kept.
    interim = b"HTTP/1.1 103 E\r\nLink: " + b"x" * 30_000 + b"\r\n\r\n"
    raw = interim * 16 + OK + b"Content-Length: 0\r\n\r\n"
    for segments in ([raw], [raw[i : i + 1000] for i in range(0, len(raw), 1000)]):
        assert read_response(segments).outcome == "accept"


@pytest.mark.parametrize(("count", "status"), [(100, 0), (101, 431)])
def test_an_answer_may_have_100_fields(count: int, status: int) -> None:
    assert read_response([OK + b"A: b\r\n" * count + b"\r\n"]).status == status


def test_an_endless_head_is_refused_at_the_limit() -> None:
    reader = ResponseReader()
    reader.feed_head(b"HTTP/1.1 200 ", 0)
    with pytest.raises(ProtocolError, match="the head is too long"):
        for _ in range(32 * 1024):
            reader.feed_head(b"x", 0)
