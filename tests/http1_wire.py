"""Drives the readers of `http1` as a connection does: segments in, messages and an outcome out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from fastgate._core.http1 import ProtocolError, Reader, RequestReader, ResponseReader

__all__ = [
    "Exchange",
    "Message",
    "bytewise",
    "dechunk",
    "read_requests",
    "read_response",
    "splits",
]


@dataclass
class Message:
    start: tuple[object, ...]
    fields: list[tuple[bytes, bytes]]
    minor_version: int
    keep_alive: bool
    content_length: int
    chunked: bool
    body: bytes = b""


@dataclass
class Exchange:
    """What came out. `accept`: every message is complete; `surplus`: bytes behind the last one."""

    messages: list[Message] = field(default_factory=list)
    outcome: Literal["accept", "reject", "incomplete"] = "accept"
    error: str = ""
    status: int = 0
    surplus: bool = False


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def splits(raw: bytes) -> Iterator[list[bytes]]:
    """Yield `raw` whole, byte by byte, and cut once at each offset."""
    yield [raw]
    yield bytewise(raw)
    for i in range(1, len(raw)):
        yield [raw[:i], raw[i:]]


def dechunk(data: bytes) -> bytes:
    """Decode a chunked body that has neither extensions nor trailers: an oracle in ten lines."""
    parts: list[bytes] = []
    at = 0
    while not parts or parts[-1]:
        line_end = data.index(b"\r\n", at)
        start = line_end + 2
        end = start + int(data[at:line_end], 16)
        parts.append(data[start:end])
        assert data[end : end + 2] == b"\r\n", data[at : end + 2]
        at = end + 2
    assert at == len(data)
    return b"".join(parts)


def message_of(reader: Reader, start: tuple[object, ...]) -> Message:
    return Message(
        start,
        reader.items(),
        reader.minor_version,
        reader.keep_alive,
        reader.content_length,
        reader.chunked,
    )


class BodySink:
    """Takes what feed_body() finds, in each of the ways that a relay may use, and compares them."""

    def __init__(self) -> None:
        self.payload = b""
        self.relayed = b""

    def take(self, reader: Reader, data: bytes, start: int) -> int:
        end = reader.feed_body(data, start)
        spans = [(reader.span_start(i), reader.span_end(i)) for i in range(reader.n_spans)]
        assert all(start <= first < last <= len(data) for first, last in spans), spans
        payload = reader.payload(data)
        assert payload == b"".join(data[first:last] for first, last in spans)
        self.payload += payload
        assert reader.body_bytes == len(self.payload)
        if reader.chunked and reader.whole:
            self.relayed += data[start:] if end < 0 else data[start:end]
        else:
            self.relayed += reader.chunk(data, end >= 0)
        if end >= 0:
            assert reader.complete
            assert dechunk(self.relayed) == self.payload
        return end


def read_requests(segments: list[bytes], reader: RequestReader | None = None) -> Exchange:
    """Read requests until one ends the connection; what comes behind that is not looked at."""
    reader = reader or RequestReader()
    result = Exchange()
    sink: BodySink | None = None
    closed = False
    try:
        for data in segments:
            at = 0
            while at < len(data) and not closed:
                if sink is None:
                    at = reader.feed_head(data, at)
                    if at < 0:
                        break
                    start = (reader.method(), reader.path(), reader.query(), reader.expect_continue)
                    message = message_of(reader, start)
                    sink = BodySink()
                else:
                    at = sink.take(reader, data, at)
                    if at < 0:
                        break
                if reader.complete:
                    message.body = sink.payload
                    result.messages.append(message)
                    closed = not reader.keep_alive
                    sink = None
                    reader.reset()
    except ProtocolError as error:
        result.outcome = "reject"
        result.error, result.status = str(error), error.status
    else:
        if sink is not None or reader.started():
            result.outcome = "incomplete"
    return result


def read_response(
    segments: list[bytes], *, eof: bool = False, head_request: bool = False
) -> Exchange:
    """Read one answer; `eof`: the connection ends behind the segments."""
    reader = ResponseReader()
    reader.head_request = head_request
    result = Exchange()
    sink: BodySink | None = None
    try:
        for data in segments:
            at = 0
            if sink is None:
                at = reader.feed_head(data, 0)
                if at < 0:
                    continue
                result.messages.append(message_of(reader, (reader.status, reader.interim)))
                sink = BodySink()
            if not reader.complete and at < len(data):
                at = sink.take(reader, data, at)
                if at < 0:
                    continue
            result.surplus = result.surplus or at < len(data)
        if eof:
            reader.feed_eof()
    except ProtocolError as error:
        return Exchange([], "reject", str(error), error.status)
    if sink is not None:
        result.messages[0].body = sink.payload
    result.outcome = "accept" if reader.complete else "incomplete"
    return result
