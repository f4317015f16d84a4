"""What a reader hands out and when: places, payload, faults; and what it is not to be asked."""

from __future__ import annotations

import pytest

from fastgate._core.http1 import ProtocolError, RequestReader, as_chunk
from tests.http1_wire import read_requests

LINE = b"POST /v1/x HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
CHUNKED = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b"hello, world"


def test_a_head_in_one_segment_is_left_in_place() -> None:
    data = LINE + HOST + b"Content-Length: 5\r\n\r\nhelloGET"
    reader = RequestReader()
    start = reader.feed_head(data, 0)
    assert reader.head is data
    assert (reader.head_start, reader.head_end, data[start:]) == (0, start, b"helloGET")
    assert (data[reader.method_start : reader.method_end]) == b"POST"
    assert (data[reader.path_start : reader.path_end]) == b"/v1/x"
    end = reader.feed_body(data, start)
    assert data[end:] == b"GET"
    assert (reader.span_start(0), reader.span_end(0)) == (start, end)
    reader.reset()
    assert reader.head is None


def test_a_head_behind_other_bytes_is_a_copy_of_its_own() -> None:
    reader = RequestReader()
    head = b"\r\n" + LINE + HOST + b"\r\n"
    assert reader.feed_head(b"xx" + head + b"more", 2) == len(head) + 2
    assert (reader.head, reader.head_start, reader.head_end) == (head, 2, len(head))
    assert reader.path() == b"/v1/x"


def test_values_are_found_by_name_in_any_case() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nx-^A: 1\r\nX-~a: 2\r\nX-^a: 3\r\n\r\n"
    reader = RequestReader()
    assert reader.value(b"host") is None
    reader.feed_head(raw[:-1], 0)
    assert reader.value(b"host") is None
    reader.feed_head(raw[-1:], 0)
    assert reader.value(b"host") == b"a"
    # A comparison that only sets the bit of lower case would take ^ for ~.
    assert reader.value(b"x-^a") == b"1"
    assert reader.value(b"x-~a") == b"2"
    assert reader.value(b"x-") is None


def test_payload_that_is_the_whole_segment_is_not_copied() -> None:
    reader = RequestReader()
    reader.feed_head(LINE + HOST + b"Content-Length: 12\r\n\r\n", 0)
    assert reader.feed_body(BODY, 0) == 12
    assert reader.payload(BODY) is BODY
    assert reader.whole


@pytest.mark.parametrize(
    ("data", "whole", "chunk"),
    [
        (b"5\r\nhello\r\n", True, b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n0\r\n\r\n", True, b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n11\r\n" + b"x" * 17 + b"\r\n", True, b"16\r\nhello" + b"x" * 17 + b"\r\n"),
        (b"", True, b""),
        (b"0\r\n\r\n", True, b""),
        (b"5\r\nhello", False, b"5\r\nhello\r\n"),
        (b"5\r\nhello\r", False, b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n5", False, b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n0\r\n", False, b"5\r\nhello\r\n"),
        (b"5;a\r\nhello\r\n", False, b"5\r\nhello\r\n"),
        (b"5 ;a\r\nhello\r\n", False, b"5\r\nhello\r\n"),
        (b"5\r\nhello\r\n0\r\nA: b\r\n\r\n", False, b"5\r\nhello\r\n"),
    ],
)
def test_what_can_be_sent_on_as_it_stands(data: bytes, whole: bool, chunk: bytes) -> None:
    reader = RequestReader()
    reader.feed_head(CHUNKED, 0)
    reader.feed_body(data, 0)
    assert reader.whole is whole
    assert reader.chunk(data, False) == chunk
    assert reader.chunk(data, True) == chunk + b"0\r\n\r\n"
    assert as_chunk(reader.payload(data), True) == chunk + b"0\r\n\r\n"


def test_what_begins_within_a_chunk_cannot_be_sent_on() -> None:
    reader = RequestReader()
    reader.feed_head(CHUNKED, 0)
    reader.feed_body(b"5\r\nhel", 0)
    reader.feed_body(b"lo\r\n", 0)
    assert not reader.whole
    reader.feed_body(b"5\r\nhello\r\n", 0)
    assert reader.whole


def test_many_chunks_in_one_segment() -> None:
    data = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    reader = RequestReader()
    for _ in range(2):
        reader.feed_head(CHUNKED, 0)
        assert reader.feed_body(data, 0) == len(data)
        assert reader.n_spans == reader.body_bytes == 10_000
        assert reader.payload(data) == b"x" * 10_000
        reader.reset()


# Faults


def test_a_message_says_what_was_expected_and_what_came() -> None:
    assert (
        read_requests([b"GET / HTTP/1.1\r\nA: \0"]).error == "expected a field value, got b'\\x00'"
    )
    error = read_requests([LINE + b"Content-Length: " + b"x" * 500 + b"\r\n"]).error
    assert error.startswith("expected a Content-Length in decimal digits, got b'xxx")
    assert len(error) < 130


def test_a_message_never_holds_a_key() -> None:
    key = b"sk-0123456789"
    for raw in (
        b"GET /?key=%b\0" % key,
        b"GET / HTTP/1.1\r\nAuthorization: Bearer %b\0" % key,
        b"GET / HTTP/1.1\r\n%b\r\n" % key,
        CHUNKED + b"%b" % key,
    ):
        assert "sk-0" not in read_requests([raw]).error


def test_after_a_fault_nothing_is_read_and_reset_begins_anew() -> None:
    reader = RequestReader()
    for data in (b"GET / HTTP/1.1\r\nHost: a\r\nA: \0", b"\x16"):
        with pytest.raises(ProtocolError):
            reader.feed_head(data, 0)
        assert reader.items() == []
        assert reader.value(b"host") is None
        assert reader.path() == reader.method() == reader.query() == b""
        with pytest.raises(AssertionError):
            reader.feed_head(b"GET", 0)
        with pytest.raises(AssertionError):
            reader.feed_body(b"GET", 0)
        reader.reset()
    assert reader.feed_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0) > 0


def test_a_fault_in_the_body_leaves_no_payload_to_be_relayed() -> None:
    reader = RequestReader()
    reader.feed_head(CHUNKED, 0)
    with pytest.raises(ProtocolError):
        reader.feed_body(b"5\r\nhello\r\nX", 0)
    assert reader.n_spans == 0
    assert not reader.complete


def test_misuse_is_an_assertion() -> None:
    reader = RequestReader()
    with pytest.raises(AssertionError):
        reader.feed_body(b"x", 0)
    with pytest.raises(AssertionError):
        reader.feed_head(b"x", 2)
    with pytest.raises(AssertionError):
        reader.feed_head(b"x", -1)
    data = CHUNKED + b"5\r\nhello\r\n"
    reader.feed_body(data, reader.feed_head(data, 0))
    for index in (-1, 1):
        with pytest.raises(AssertionError):
            reader.span_start(index)
        with pytest.raises(AssertionError):
            reader.span_end(index)
    with pytest.raises(AssertionError):
        reader.payload(b"short")
    with pytest.raises(AssertionError):
        reader.chunk(b"short", False)
    with pytest.raises(AssertionError):
        reader.feed_head(data, 0)
