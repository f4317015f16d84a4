"""HTTP/1.1 framing, sans-IO: bytes in, offsets out; strict RFC 9112. The contract for compiled callers is http1.pxd."""

from collections.abc import Iterable
from typing import final

from typing_extensions import disjoint_base

__all__ = [
    "NameSet",
    "ProtocolError",
    "Reader",
    "RequestReader",
    "ResponseReader",
    "build_request_head",
    "build_response_head",
]

FAULTS: tuple[tuple[int, str, int], ...]
"""(status, what was expected, what to show of what came), in the order of httphead.Code from BAD_METHOD on."""

NOTHING: int
BYTE: int
FIELD_VALUE: int

class ProtocolError(Exception):
    """The peer's bytes are not HTTP/1.1 as we take it. The connection cannot be used on."""

    status: int
    """What to answer a client with: 400, 413, 414, 431, 501 or 505. Means nothing to a reader of responses."""

    def __init__(self, status: int, message: str) -> None: ...

@disjoint_base
@final
class NameSet:
    """A fixed set of field names, compared without case. O(names of that length), about 5 ns."""

    def __init__(self, names: Iterable[bytes]) -> None:
        """Raise ValueError for a name above 63 bytes."""

    def __contains__(self, name: bytes, /) -> bool: ...

@disjoint_base
class Reader:
    """What requests and responses share. One a connection; any one thread at a time."""

    @property
    def head(self) -> bytes:
        """The object that holds the head (None before it is complete): the segment itself when the head begins it."""

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
        """Whether the message lets the connection be used again. False where the body ends with it."""

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
        """Whether the whole message has been read; known after feed_head() when there is no body."""

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
        """Take bytes of a head; return the offset in `data` behind it, or -1 when all was taken and more is needed.

        `head` refers to `data` until reset() if the head begins it and is complete in it; else it is a copy.
        Interim responses are skipped. Raises ProtocolError at the first byte that no valid head goes on with.
        """

    def feed_body(self, data: bytes, start: int) -> int:
        """Take bytes of the body; return the offset in `data` behind the message, or -1 when it goes on.

        Leaves the places of the payload in `data` (n_spans, span_start(), span_end()); copies nothing. Not to be
        called when `complete`. Raises ProtocolError.
        """

    def started(self) -> bool:
        """Whether some byte of a start line has been fed since reset(). An empty line before it does not count."""

    def value(self, lower_name: bytes) -> bytes | None:
        """Return a copy of the value of the first field of that name, which must be lower case. O(fields)."""

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return all fields in order, names as the peer wrote them."""

    def span_start(self, index: int) -> int:
        """Return where the span begins in the segment that was fed last."""

    def span_end(self, index: int) -> int:
        """Return where the span ends in the segment that was fed last."""

    def payload(self, data: bytes) -> bytes:
        """Return the payload found by the last feed_body(data, ...), joined; `data` itself if it is all payload."""

    def chunk(self, data: bytes) -> bytes:
        """Return the same payload as one chunk; b"" when there is none, since an empty chunk ends a body."""

    def reset(self) -> None:
        """Make ready for the next message. Lets go of `head` and frees what an idle connection need not hold."""

@disjoint_base
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
        """Return the path of the target, escapes kept; "/" for an absolute-form target without one."""

    def query(self) -> bytes:
        """Return what follows '?'; b"" also when there is no '?'."""

@disjoint_base
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
    """Whether the request was HEAD, whose answer has no body. Set it after reset(), before feed_head()."""

    def feed_eof(self) -> bool:
        """Say that the connection ended; True if the message ended with it or before, else raise ProtocolError."""

def build_request_head(
    prefix: bytes, reader: RequestReader, allowed: NameSet, extra: bytes, content_length: int
) -> bytes:
    """Return prefix + allowed fields of `reader` + extra + framing + CRLF, in one allocation.

    `prefix` and `extra` are whole lines. Hop-by-hop fields, those named by Connection and those that frame the
    message are never copied. content_length -1: chunked; -2: no framing field.
    """

def build_response_head(
    status: int, reader: ResponseReader, denied: NameSet, extra: bytes, content_length: int
) -> bytes:
    """Return status line + fields of `reader` but the denied + extra + framing + CRLF.

    The reason phrase is ours. Left out besides are the fields that build_request_head() never copies.
    """
