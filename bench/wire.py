"""The simulated engine's HTTP/1.1: requests in, bytes out, nothing it does not need.

Not a model of a strict server: it trusts its clients, which are ours. Each connection answers one
request at a time; what is pipelined behind waits in `_held`. Requests go to `engine.on_request`.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import Any

__all__ = ["CHUNKED", "Connection", "build_head", "chunk", "field_value", "fields"]

CHUNKED = -1
UNFRAMED = -2

REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 408: "Request Timeout",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


def build_head(status: int, content_type: str, length: int, extra: str = "") -> bytes:
    """Return a response head; `length` may be CHUNKED or UNFRAMED, `extra` is whole lines."""
    framing = f"content-length: {length}\r\n"
    if length == CHUNKED:
        framing = "transfer-encoding: chunked\r\n"
    elif length == UNFRAMED:
        framing = "connection: close\r\n"
    version = "1.0" if length == UNFRAMED else "1.1"
    return (
        f"HTTP/{version} {status} {REASONS.get(status, 'Status')}\r\nserver: simulated\r\n"
        f"content-type: {content_type}\r\n{extra}{framing}\r\n"
    ).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def fields(head: bytes) -> list[tuple[str, str]]:
    """The field lines of a request head as (lower-case name, value)."""
    pairs = (line.split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line)
    return [(pair[0].lower(), pair[-1].strip()) for pair in pairs]


def field_value(head: bytes, lower: bytes, name: bytes) -> bytes:
    """The value of the first field called `name` (lower case); b"" when there is none."""
    start = lower.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return head[start : head.find(b"\r\n", start)].strip()


def read_chunked(data: bytes, start: int) -> tuple[bytes, int] | None:
    """Return the body and the offset behind it, or None while it is incomplete."""
    parts = []
    while True:
        line_end = data.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(data[start:line_end].partition(b";")[0], 16)
        start = line_end + 2
        if not size:
            break
        if start + size + 2 > len(data):
            return None
        parts.append(data[start : start + size])
        start += size + 2
    while True:  # trailer fields, until the empty line
        line_end = data.find(b"\r\n", start)
        if line_end < 0:
            return None
        if line_end == start:
            return b"".join(parts), start + 2
        start = line_end + 2


class Connection(asyncio.Protocol):
    """One downstream connection. `answering` is the generation under way, if any."""

    __slots__ = (
        "_continued", "_held", "_held_bytes", "_wanted", "answering", "engine", "idle_since",
        "keep_alive", "number", "paused", "transport",
    )  # fmt: skip

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.transport: Any = None
        self.number = 0
        self.answering: Any = None
        self.paused = False
        self.keep_alive = True
        self.idle_since = 0.0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._wanted = 0
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.engine.on_open(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.engine.on_close(self)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.answering is not None:
            self.engine.on_writable(self.answering)

    def data_received(self, data: bytes) -> None:
        if self._held or self.answering is not None:
            self._held.append(data)
            self._held_bytes += len(data)
            if self.answering is not None or self._held_bytes < self._wanted:
                return
            data = b"".join(self._held)
            self._held.clear()
        self._feed(data)

    def _hold(self, data: bytes, wanted: int) -> None:
        self._held = [data]
        self._held_bytes = len(data)
        self._wanted = wanted

    def turn_deaf(self) -> None:
        """Read nothing until listen(): to a client, as if it had not been accepted."""
        self._hold(b"", sys.maxsize)

    def listen(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        if not self.transport.is_closing():
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        start = 0
        size = len(data)
        while start < size:
            head_end = data.find(b"\r\n\r\n", start)
            if head_end < 0:
                return self._hold(data[start:], 0)
            head = data[start : head_end + 2]
            lower = head.lower()
            body_start = head_end + 4
            at = lower.find(b"\r\ncontent-length:")
            if at >= 0:
                end = body_start + int(lower[at + 17 : lower.find(b"\r\n", at + 17)])
                if end > size:
                    self._continue(lower)
                    return self._hold(data[start:], end - start)
                body = data[body_start:end]
            elif b"\r\ntransfer-encoding:" in lower:
                found = read_chunked(data, body_start)
                if found is None:
                    self._continue(lower)
                    return self._hold(data[start:], 0)
                body, end = found
            else:
                body, end = b"", body_start
            self._continued = False
            self.engine.on_request(self, head, lower, body)
            start = end
            if self.answering is not None or self.transport.is_closing():
                break
        if start < size:
            self._hold(data[start:], 0)

    def _continue(self, lower: bytes) -> None:
        # RFC 9110 10.1.1: asked for once, sent once.
        if not self._continued and b"\r\nexpect: 100-continue" in lower:
            self._continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def finish(self, now: float) -> None:
        """The answer has been written whole: go on with what the client sent meanwhile."""
        self.answering = None
        self.idle_since = now
        if not self.keep_alive:
            self.transport.close()
        elif self._held:
            self.listen()

    def undelivered_bytes(self) -> int:
        """What was written and the peer's kernel has not acknowledged yet."""
        waiting: int = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        # tcp(7), SIOCOUTQ: sent or not, as long as it is not acknowledged.
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return waiting + int.from_bytes(queued, sys.byteorder)

    def hang_up(self, reset: bool) -> None:
        """Close behind what was written, with a FIN or an RST."""
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.close()
