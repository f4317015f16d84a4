"""What can be wrong with a message: the words for httphead.Code, and the exception with them."""

from __future__ import annotations

from typing import Final

__all__ = ["BYTE", "FAULTS", "FIELD_VALUE", "NOTHING", "ProtocolError"]

SHOWN_BYTES: Final = 80
"""Of what came, this much is told."""

NOTHING: Final = 0
BYTE: Final = 1
FIELD_VALUE: Final = 2
"""What is told of what came: only what can't hold a key. Targets and most fields can."""


class ProtocolError(Exception):
    """The peer's bytes are not HTTP/1.1 as we take it. Its connection can't be used on."""

    def __init__(self, status: int, expected: str, got: bytes | None = None) -> None:
        if got is not None:
            expected = f"{expected}, got {repr(got[:SHOWN_BYTES])[:SHOWN_BYTES]}"
        super().__init__(expected)
        self.status: int = status
        """What to answer a client with: 400, 413, 414, 431, 501, 505; 502: an upstream's fault."""


# In the order of httphead.Code, from BAD_METHOD on: status, expected, what to tell of what came.
FAULTS: Final = (
    (400, "expected a method", BYTE),
    (501, "CONNECT is not served", NOTHING),
    (400, "expected a target in origin-form or absolute-form, without a fragment", BYTE),
    (414, "the target is too long", NOTHING),
    (400, "expected HTTP/1.1 or HTTP/1.0", BYTE),
    (505, "only HTTP/1.1 and HTTP/1.0 are served", NOTHING),
    (400, "expected a status of three digits from 100 to 599", BYTE),
    (400, "expected a reason phrase or CRLF", BYTE),
    (400, "expected CRLF", BYTE),
    (400, "expected a field name or the empty line", BYTE),
    (400, "expected a field name and a colon", BYTE),
    (400, "expected a field value", BYTE),
    (431, "too many fields", NOTHING),
    (431, "the head is too long", NOTHING),
    (400, "expected a Host field", NOTHING),
    (400, "expected one Host field, got two", NOTHING),
    (400, "expected a host and perhaps a port", FIELD_VALUE),
    (400, "expected one Content-Length, got two", NOTHING),
    (400, "expected a Content-Length in decimal digits", FIELD_VALUE),
    (413, "expected a Content-Length of at most 18 digits", FIELD_VALUE),
    (400, "expected one Transfer-Encoding, got two", NOTHING),
    (501, "expected no Transfer-Encoding but chunked", FIELD_VALUE),
    (400, "expected no Transfer-Encoding in HTTP/1.0", FIELD_VALUE),
    (400, "expected Content-Length or Transfer-Encoding, got both", NOTHING),
    (431, "the Connection fields are too long", NOTHING),
    (502, "expected no 101: no upgrade was asked for", NOTHING),
    (502, "too many interim responses", NOTHING),
    (502, "expected no body in an interim response", NOTHING),
    (400, "expected a chunk size in hexadecimal digits", BYTE),
    (413, "the chunk size is too large", NOTHING),
    (400, "the chunk extensions are too long", NOTHING),
    (400, "expected a chunk extension", BYTE),
    (400, "expected CRLF behind the chunk", BYTE),
    (400, "expected no such field in a trailer section", NOTHING),
    (431, "the trailer section is too long", NOTHING),
    (502, "the connection ended before the message did", NOTHING),
)
