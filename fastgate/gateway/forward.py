"""Stage `forward`: head and body -> upstream.

The head is built, never copied: our own lines for the deployment, then the client's fields of the
allow-list. The body goes as it came, but for the model's name and stream_options, which are spliced
into the raw bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgate._core.fields import forward_fields
from fastgate._core.http1 import build_request_head

if TYPE_CHECKING:
    from fastgate.gateway.context import Context
    from fastgate.gateway.peek import Peek
    from fastgate.upstream.connection import Connection

__all__ = ["send", "send_upload"]

# Up to here head and body are joined by one copy, for one plain write; above, writev takes both.
JOIN_BYTES = 64 * 1024


def send(context: Context, connection: Connection, peek: Peek) -> None:
    """Write the whole request to `connection`."""
    scan = peek.scan
    if peek.owner is not context:
        # A retry, or a wait for a connection: other requests were looked at meanwhile.
        scan.scan(context.body, context.body_start, context.body_end)
        peek.owner = context
    target = context.target
    model = context.upstream_model
    body = scan.splice(
        context.body,
        context.body_start,
        context.body_end,
        None if model == scan.model else model,
        context.strip_usage,
    )
    joined = len(body) <= JOIN_BYTES
    head = build_request_head(
        target.prefix(context.endpoint.suffix),
        context.reader,
        target.allowed,
        forward_fields(context.request_id, True),
        len(body),
        body if joined else None,
    )
    if joined:
        connection.write(head)
    else:
        connection.write_all([head, body])


def send_upload(context: Context, connection: Connection, length: int, parts: list[bytes]) -> None:
    """Write the head of a streamed request and what there is of its body; `length` -1: in
    chunks.
    """
    target = context.target
    head = build_request_head(
        target.prefix(context.endpoint.suffix),
        context.reader,
        target.allowed_form,
        forward_fields(context.request_id, False),
        length,
    )
    connection.write_all([head, *parts])
