"""A worker's questions to control: one small GET each, over its private socket."""

from __future__ import annotations

import asyncio

from fastgate._core.http1 import ResponseReader

__all__ = ["ask_control"]


async def ask_control(control_socket: str, path: str) -> tuple[int, bytes]:
    """Return the answer's status and body. Raises OSError or ProtocolError; a time limit is the
    caller's.
    """
    reader, writer = await asyncio.open_unix_connection(control_socket)
    try:
        lines = f"GET {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n"
        writer.write(lines.encode())
        answer = ResponseReader()
        body = b""
        while not answer.complete:
            data = await reader.read(65536)
            if not data:
                answer.feed_eof()
                break
            at = 0 if answer.head is not None else answer.feed_head(data, 0)
            if 0 <= at < len(data):
                answer.feed_body(data, at)
                body += answer.payload(data)
        return answer.status, body
    finally:
        writer.close()
