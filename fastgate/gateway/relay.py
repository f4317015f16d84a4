"""Stage `relay`: upstream bytes -> downstream bytes.

A segment that starts and ends on a chunk boundary, and from which nothing is to be taken out, is
written on as the same bytes object that the socket gave us. Anything else is framed anew: its
payload as one chunk of our own.

When we asked for the usage event and the client did not, that event is taken out again. For that an
unfinished event at the end of a segment is held back (at most MAX_TAIL_BYTES; a longer one is no
usage event, and is let go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgate._core.http1 import NameSet, as_chunk, build_response_head
from fastgate._core.sse import Scanner

if TYPE_CHECKING:
    from fastgate._core.http1 import ResponseReader
    from fastgate.gateway.context import Context

__all__ = ["answer_head", "frame", "look", "start"]

# Kinds of fastgate._core.sse.Scanner.
EVENTS = 0
DOCUMENT = 1

# A usage event has some 300 bytes.
MAX_TAIL_BYTES = 64 * 1024

# Of ResponseReader.content_kind().
EVENT_STREAM = 1
NEITHER = 0

# Fields of an answer that concern the peer's own connection or site, or that we write ourselves.
# All hop-by-hop fields are left out besides (RFC 9110 7.6.1).
DENIED = NameSet(
    (
        b"alt-svc",
        b"connection",
        b"date",
        b"server",
        b"server-timing",
        b"set-cookie",
        b"strict-transport-security",
        b"via",
        b"x-fastgate-attempts",
        b"x-fastgate-deployment",
        b"x-fastgate-overhead-us",
        b"x-fastgate-request-id",
        b"x-litellm-call-id",
        b"x-litellm-model-api-base",
        b"x-litellm-model-id",
        b"x-request-id",
    )
)


def start(context: Context, reader: ResponseReader) -> bool:
    """Prepare for the body of the answer whose head was read; True: it is an event stream."""
    kind = reader.content_kind()
    context.tail = b""
    events = kind == EVENT_STREAM
    context.scanner = None
    if kind != NEITHER:
        context.scanner = Scanner()
        context.scanner.reset(EVENTS if events else DOCUMENT)
    if not events:
        context.strip_usage = False
    # RFC 9112 6.1: chunked is for HTTP/1.1 clients only; others read until the connection ends.
    unknown = reader.content_length < 0 or context.strip_usage
    bodiless = reader.status == 204 or reader.status == 304
    context.chunked_out = unknown and not bodiless and context.reader.minor_version == 1
    if unknown and not bodiless and not context.chunked_out:
        context.keep_alive = False
    return events


def answer_head(
    context: Context, reader: ResponseReader, fields: bytes, whole_bytes: int, body: bytes | None
) -> bytes:
    """Return the head to send downstream, and `body` behind it. `whole_bytes`: the body's length
    when all of it is here, else -1.
    """
    length = reader.content_length
    if context.chunked_out:
        length = -1
    elif whole_bytes >= 0:
        length = whole_bytes
    elif length < 0 or context.strip_usage or reader.status == 204 or reader.status == 304:
        length = -2
    if not context.keep_alive:
        fields += b"connection: close\r\n"
    elif context.reader.minor_version == 0:
        fields += b"connection: keep-alive\r\n"
    return build_response_head(reader.status, reader, DENIED, fields, length, body)


def look(context: Context, reader: ResponseReader, data: bytes, last: bool) -> int:
    """Scan the payload of the segment that was just fed; return what was seen first in it.

    Leaves in the context, counted over tail + payload: where the last complete event ends, and what
    to cut.
    """
    scanner = context.scanner
    if scanner is None:
        return 0
    seen = 0
    joined = len(context.tail)
    boundary = 0
    cut_start = cut_end = -1
    # The event's beginning has been let go already: its end must follow, whatever it is.
    released = not scanner.at_boundary and not context.tail
    n = reader.n_spans
    for i in range(n):
        first = reader.span_start(i)
        stop = reader.span_end(i)
        seen |= scanner.feed(data, first, stop)
        if scanner.usage_only_end >= 0 and cut_end < 0 and not (released and boundary == 0):
            # Begun before this span, it began right behind the last complete event.
            began = scanner.usage_only_start
            cut_start = boundary if began < 0 else joined + began - first
            cut_end = joined + scanner.usage_only_end - first
        if scanner.boundary > first:
            boundary = joined + scanner.boundary - first
        joined += stop - first
    if last:
        seen |= scanner.feed_eof()
    context.boundary = boundary
    context.cut_start = cut_start
    context.cut_end = cut_end
    return seen


def frame(context: Context, reader: ResponseReader, data: bytes, start: int, end: int) -> bytes:
    """Return what to send downstream for the segment data[start:]; `end` is -1, or where the
    message ended.
    """
    last = end >= 0
    if context.strip_usage and (
        context.tail or context.cut_end >= 0 or not context.scanner.at_boundary
    ):
        payload = _cut(context, context.tail + reader.payload(data), last)
        if not context.chunked_out:
            return payload
        return as_chunk(payload, last)
    if reader.chunked:
        if context.chunked_out and reader.whole:
            return (
                data if start == 0 and (end < 0 or end == len(data)) else _slice(data, start, end)
            )
        if not context.chunked_out:
            return reader.payload(data)
        return reader.chunk(data, last)
    if context.chunked_out:
        return reader.chunk(data, last)
    return reader.payload(data)


def _slice(data: bytes, start: int, end: int) -> bytes:
    return data[start:] if end < 0 else data[start:end]


def _cut(context: Context, payload: bytes, last: bool) -> bytes:
    """Take the usage event out of `payload` and hold back its unfinished end."""
    boundary = context.boundary
    if last:
        boundary = len(payload)
        context.tail = b""
    else:
        context.tail = payload[boundary:]
        if len(context.tail) > MAX_TAIL_BYTES:
            # No usage event is so long: what there is of it goes on its way.
            boundary = len(payload)
            context.tail = b""
    if context.cut_end >= 0:
        return payload[: context.cut_start] + payload[context.cut_end : boundary]
    return payload[:boundary]
