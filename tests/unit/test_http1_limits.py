"""Every limit of a request: the last size that passes and the first that does not."""

from __future__ import annotations

import pytest

from fastgate._core.http1 import ProtocolError, RequestReader
from tests.http1_wire import bytewise, read_requests

LINE = b"POST /v1/x HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
CHUNKED = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def padded(size: int) -> bytes:
    """Return a head of that many bytes."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n"
    return head.replace(b"A: ", b"A: " + b"x" * (size - len(head)))


def test_a_head_of_32_kib_passes_and_a_byte_more_is_431() -> None:
    assert len(padded(32768)) == 32768
    for segments in ([padded(32768)], bytewise(padded(32768))):
        assert read_requests(segments).outcome == "accept"
    for segments in ([padded(32769)], bytewise(padded(32769)), [padded(200_000)]):
        assert read_requests(segments).status == 431


def test_an_endless_head_is_refused_at_the_limit() -> None:
    reader = RequestReader()
    reader.feed_head(b"GET / HTTP/1.1\r\nA: ", 0)
    with pytest.raises(ProtocolError, match="too long"):
        for _ in range(32768):
            reader.feed_head(b"x", 0)
    assert read_requests([b"M" * 40_000]).status == 431


def test_the_limit_of_a_head_can_be_set() -> None:
    reader = RequestReader()
    reader.max_head_bytes = 100
    assert read_requests([padded(100)], reader).outcome == "accept"
    assert read_requests([padded(101)], reader).status == 431


@pytest.mark.parametrize(("size", "status"), [(8_000, 0), (16_384, 0), (16_385, 414)])
def test_a_target_may_have_16_kib(size: int, status: int) -> None:
    raw = b"GET /" + b"x" * (size - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    for segments in ([raw], [raw[:9000], raw[9000:]], bytewise(raw)):
        assert read_requests(segments).status == status


def test_a_long_target_is_refused_before_it_ends() -> None:
    assert read_requests([b"GET /" + b"x" * 16_384]).status == 414


@pytest.mark.parametrize(("count", "status"), [(99, 0), (100, 431)])
def test_a_head_may_have_100_fields(count: int, status: int) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * count + b"\r\n"
    assert read_requests([raw]).status == status
    assert read_requests(bytewise(raw)).status == status


@pytest.mark.parametrize(("size", "status"), [(1024, 0), (1025, 431)])
def test_connection_values_may_have_1_kib_in_all(size: int, status: int) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b\r\nConnection: b\r\n\r\n"
    assert read_requests([raw % (b"a" * (size - 1))]).status == status


@pytest.mark.parametrize(("size", "outcome"), [(4096, "accept"), (4097, "reject")])
def test_a_chunk_line_may_have_4_kib(size: int, outcome: str) -> None:
    # The size and the CR are counted.
    raw = CHUNKED + b"1;" + b"a" * (size - 3) + b"\r\nx\r\n0\r\n\r\n"
    assert read_requests([raw]).outcome == outcome
    assert read_requests(bytewise(raw)).outcome == outcome


@pytest.mark.parametrize(("size", "status"), [(32_768, 0), (32_769, 431)])
def test_a_trailer_section_may_have_32_kib(size: int, status: int) -> None:
    raw = CHUNKED + b"0\r\nA: " + b"a" * (size - 7) + b"\r\n\r\n"
    assert read_requests([raw]).status == status
    assert read_requests(bytewise(raw)).status == status


def test_the_largest_chunk_and_length_are_taken() -> None:
    reader = RequestReader()
    start = reader.feed_head(CHUNKED + b"fFfFfFfFfF\r\nhello", 0)
    assert start == len(CHUNKED)
    assert reader.feed_body(CHUNKED + b"fFfFfFfFfF\r\nhello", start) == -1
    assert reader.body_bytes == 5
    reader.reset()
    reader.feed_head(LINE + HOST + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n", 0)
    assert reader.content_length == 10**18 - 1
