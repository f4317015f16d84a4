"""Answers of our own: JSON, errors in OpenAI's (or Anthropic's) shape, and the pieces of a response
head.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from fastgate.errors import GatewayError

__all__ = ["CONTINUE", "error_body", "error_event", "response", "wrapped_error"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_encode = msgspec.json.Encoder().encode

# What an upstream said in something other than JSON is quoted up to here, for whoever is on call.
_QUOTED_CHARS = 200


def response(
    status: int,
    body: bytes,
    *,
    fields: bytes = b"",
    content_type: bytes = b"application/json",
    keep_alive: bool = True,
    minor_version: int = 1,
    head_only: bool = False,
) -> bytes:
    """Return a whole response. `fields` are extra lines, each ending in CRLF."""
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n".encode()
    connection = b""
    if not keep_alive:
        connection = b"connection: close\r\n"
    elif minor_version == 0:
        connection = b"connection: keep-alive\r\n"
    return b"".join(
        (
            line,
            b"content-type: ",
            content_type,
            b"\r\ncontent-length: ",
            str(len(body)).encode(),
            b"\r\n",
            connection,
            fields,
            b"\r\n",
            b"" if head_only else body,
        )
    )


def error_body(error: GatewayError, protocol: str = "openai") -> bytes:
    """Return the JSON body that tells a client of `error`."""
    return _encode(_error(error.public, error.type, error.param, error.status, protocol))


def error_event(error: GatewayError, protocol: str = "openai") -> bytes:
    """Return `error` as one server-sent event, for a stream that can't be finished."""
    body = error_body(error, protocol)
    name = b"event: error\n" if protocol == "anthropic" else b""
    return name + b"data: " + body + b"\n\n"


def wrapped_error(status: int, content: bytes, protocol: str) -> bytes:
    """Return a JSON body for an upstream's error that was not JSON itself (a proxy's HTML page,
    say).
    """
    text = content[: 4 * _QUOTED_CHARS].decode("utf-8", "replace")[:_QUOTED_CHARS].strip()
    message = f"the upstream answered {status} with no JSON body" + (f": {text}" if text else "")
    return _encode(_error(message, "upstream_error", "None", status, protocol))


def json_body(value: Any) -> bytes:
    return _encode(value)


def _error(message: str, type_: str, param: str | None, status: int, protocol: str) -> Any:
    error = {"message": message, "type": type_, "param": param, "code": str(status)}
    return {"type": "error", "error": error} if protocol == "anthropic" else {"error": error}
