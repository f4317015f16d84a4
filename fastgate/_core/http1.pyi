"""HTTP/1.1 framing, sans-IO: bytes in, offsets out; strict RFC 9112.

The contract for compiled callers is http1.pxd.
"""

from collections.abc import Iterable
from typing import Self, final

from typing_extensions import disjoint_base

from fastgate._core.httpfaults import ProtocolError

__all__ = [
    "NameSet",
    "ProtocolError",
    "Reader",
    "RequestReader",
    "ResponseReader",
    "as_chunk",
    "build_request_head",
    "build_response_head",
]

@final
class NameSet:
    """A fixed set of field names, compared without case. O(names of that length), about 5 ns."""

    def __new__(cls, names: Iterable[bytes]) -> Self:
        """Raise ValueError for a name above 63 bytes, or more than some 60,000 bytes in all."""

    def __contains__(self, name: bytes, /) -> bool: ...

@disjoint_base
class Reader:
    """What requests and responses share. One a connection; any one thread at a time."""

    @property
    def head(self) -> bytes:
        """What holds the head (None before it is complete): the segment when the head begins it."""

    @property
    def head_start(self) -> int:
        """Where in `head` the start line begins; an empty line may precede it."""

    @property
    def head_end(self) -> int:
        """The place in `head` behind the empty line that ends it."""

    @property
    def n_fields(self) -> int: ...
    @property
    def minor_version(self) -> int:
        """0 for HTTP/1.0, 1 for HTTP/1.1."""

    @property
    def keep_alive(self) -> bool:
        """Whether the message lets the connection be used again."""

    @property
    def content_length(self) -> int:
        """In bytes; -1: none given."""

    @property
    def chunked(self) -> bool: ...
    @property
    def until_eof(self) -> bool:
        """Whether the body ends with the connection. Responses only."""

    @property
    def complete(self) -> bool:
        """Whether the whole message has been read; without a body after feed_head() already."""

    @property
    def body_bytes(self) -> int:
        """Payload bytes of this message so far."""

    @property
    def n_spans(self) -> int:
        """Pieces of payload in the segment that was fed last."""

    @property
    def whole(self) -> bool:
        """Whether what feed_body() took can be sent on as it stands.

        Of a chunked body: whole chunks, no extension, no trailer field. Of any other body: always.
        """

    max_head_bytes: int
    """Limit of a head and of a trailer section; 32 KiB. Set it between messages only."""

    max_target_bytes: int
    """Limit of a request target; 16 KiB."""

    def feed_head(self, data: bytes, start: int) -> int:
        """Take bytes of a head; return the offset in `data` behind it, or -1: more is needed.

        `head` is `data` itself until reset() if that begins with the head and has all of it; else
        it is a copy. Interim responses are skipped. Raises ProtocolError at the first byte that no
        valid head goes on with.
        """

    def feed_body(self, data: bytes, start: int) -> int:
        """Take bytes of the body; return the offset in `data` behind the message, or -1.

        Leaves the places of the payload in `data` (n_spans, span_start(), span_end()); copies
        nothing. Not to be called when `complete`. Raises ProtocolError.
        """

    def started(self) -> bool:
        """Whether some byte of a start line has been fed since reset().

        An empty line before it does not count: some clients end a body with one.
        """

    def value(self, lower_name: bytes) -> bytes | None:
        """Return the first field's value of that name (lower case), copied, or None."""

    def has_any(self, names: NameSet) -> bool:
        """Return whether there is a field of one of these names."""

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all fields in order, names as the peer wrote them."""

    def span_start(self, index: int) -> int:
        """Return where the span begins in the segment that was fed last."""

    def span_end(self, index: int) -> int:
        """Return where the span ends in the segment that was fed last."""

    def payload(self, data: bytes) -> bytes:
        """Return the payload that feed_body(data, ...) found; `data` itself if it is all."""

    def chunk(self, data: bytes, last: bool) -> bytes:
        """Return the same payload as as_chunk() would."""

    def reset(self) -> None:
        """Make ready for the next message; free what an idle connection need not hold."""

@final
class RequestReader(Reader):
    """Reads what clients send."""

    @property
    def method_start(self) -> int: ...
    @property
    def method_end(self) -> int: ...
    @property
    def path_start(self) -> int: ...
    @property
    def path_end(self) -> int: ...
    @property
    def query_start(self) -> int: ...
    @property
    def query_end(self) -> int: ...
    @property
    def expect_continue(self) -> bool:
        """Whether a client of HTTP/1.1 asked for 100 (Continue) before it sends the body."""

    def method(self) -> bytes:
        """Return the method, case kept; b"" before the head is complete."""

    def path(self) -> bytes:
        """Return the target's path, escapes kept; "/" for an absolute-form target without one."""

    def query(self) -> bytes:
        """Return what follows '?'; b"" also when there is no '?'."""

@final
class ResponseReader(Reader):
    """Reads what an upstream answers."""

    @property
    def status(self) -> int:
        """From 200 to 599."""

    @property
    def interim(self) -> int:
        """Interim responses (1xx) skipped before this one; at most 16."""

    head_request: bool
    """Whether the request was HEAD, whose answer has no body. Set it after reset()."""

    def content_kind(self) -> int:
        """Return what Content-Type says: 1 text/event-stream, 2 application/json, 0 neither."""

    def feed_eof(self) -> bool:
        """Say that the connection ended; True if the message has, else raise ProtocolError."""

def build_request_head(
    prefix: bytes,
    reader: RequestReader,
    allowed: NameSet,
    extra: bytes,
    content_length: int,
    body: bytes | None = None,
) -> bytes:
    """Return prefix + allowed fields of `reader` + extra + framing + CRLF + `body`, in one
    allocation.

    `prefix` and `extra` are whole lines. Hop-by-hop fields, those named by Connection and those
    that frame the message are never copied. content_length -1: chunked; -2: no framing field.
    """

def build_response_head(
    status: int,
    reader: ResponseReader,
    denied: NameSet,
    extra: bytes,
    content_length: int,
    body: bytes | None = None,
) -> bytes:
    """Return status line + fields of `reader` but the denied + extra + framing + CRLF + `body`.

    The reason phrase is ours. Left out besides is what build_request_head() never copies.
    """

def as_chunk(payload: bytes, last: bool) -> bytes:
    """Return `payload` as one HTTP chunk, with the empty one that ends a body behind it if `last`.

    Nothing for nothing: an empty chunk would end the body.
    """
