"""Both ends of the gateway as plain sockets, which say exactly what a test tells them to.

They share no code with the gateway: what is read is taken apart by the few lines below.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Answer",
    "Call",
    "Client",
    "Upstream",
    "chunked",
    "plain_answer",
    "request",
    "sse_answer",
]

WAIT_S = 10.0
"""Nothing here takes so long, on a loaded machine either."""


def request(
    body: Any = None,
    *,
    path: str = "/v1/chat/completions",
    key: str = "",
    fields: str = "",
    version: str = "1.1",
) -> bytes:
    """Return a POST of `body` (bytes, or a value for JSON); a GET when there is none."""
    method = "GET" if body is None else "POST"
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    head = f"{method} {path} HTTP/{version}\r\nHost: test\r\n{fields}"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """Return each piece as one HTTP chunk, and the last chunk."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return framed + b"0\r\n\r\n" if last else framed


def plain_answer(body: bytes, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b" % (
        status,
        len(body),
        fields,
        body,
    )


def sse_answer(*pieces: bytes, last: bool = True) -> bytes:
    """Return the head of a chunked event stream and its first chunks."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + chunked(*pieces, last=last)


@dataclass
class Answer:
    """One response as a client reads it."""

    status: int
    fields: dict[str, str]
    body: bytes
    complete: bool
    """Its framing says that it ended."""
    interim: list[int] = field(default_factory=list)
    """Statuses of the 1xx heads before it."""

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.kept = b""

    @classmethod
    async def connect(cls, port: int, *, receive_buffer_bytes: int = 0) -> Client:
        plug = socket.socket()
        if receive_buffer_bytes:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plug.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
        except OSError:
            plug.close()
            raise
        reader, writer = await asyncio.open_connection(sock=plug, limit=2**16)
        return cls(reader, writer)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def send_slowly(self, pieces: list[bytes]) -> None:
        """Send each piece in a segment of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def read(self) -> bytes:
        """Return the next bytes; empty: the gateway closed, or broke the connection."""
        if self.kept:
            data, self.kept = self.kept, b""
            return data
        try:
            async with asyncio.timeout(WAIT_S):
                return await self.reader.read(2**16)
        except ConnectionError:
            return b""

    async def read_until(self, mark: bytes) -> bytes:
        """Return what comes up to the end of `mark`; what follows stays for the next read."""
        data = b""
        while mark not in data:
            more = await self.read()
            assert more, f"closed before {mark!r}: {data[-300:]!r}"
            data += more
        end = data.index(mark) + len(mark)
        self.kept = data[end:] + self.kept
        return data[:end]

    async def read_rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    async def answer(self) -> Answer:
        """Read one whole response, or as much of it as comes."""
        interim = []
        while True:
            head = await self.read_until(b"\r\n\r\n")
            status, fields = parse_head(head)
            if status >= 200:
                break
            interim.append(status)
        body, complete = await self._body(status, fields)
        return Answer(status, fields, body, complete, interim)

    async def _body(self, status: int, fields: dict[str, str]) -> tuple[bytes, bool]:
        if status in (204, 304):
            return b"", True
        if "transfer-encoding" in fields:
            assert fields["transfer-encoding"] == "chunked"
            assert "content-length" not in fields
            return await self._chunks()
        if "content-length" not in fields:
            assert fields.get("connection") == "close"
            return await self.read_rest(), True
        wanted = int(fields["content-length"])
        body = b""
        while len(body) < wanted:
            data = await self.read()
            if not data:
                return body, False
            body += data
        self.kept = body[wanted:] + self.kept
        return body[:wanted], True

    async def _chunks(self) -> tuple[bytes, bool]:
        data, body, at = b"", b"", 0
        while True:
            found = re.compile(rb"([0-9a-f]+)\r\n").match(data, at)
            if found is not None:
                size = int(found[1], 16)
                end = found.end() + size + 2
                if len(data) >= end:
                    assert data[end - 2 : end] == b"\r\n", data[at : end + 20]
                    body += data[found.end() : end - 2]
                    at = end
                    if size == 0:
                        self.kept = data[at:] + self.kept
                        return body, True
                    continue
            more = await self.read()
            if not more:
                return body, False
            data, at = data[at:] + more, 0

    def close(self) -> None:
        """Leave, as a client that has had enough does: a FIN."""
        self.writer.close()

    def reset(self) -> None:
        """Leave with a RST."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        self.writer.transport.abort()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and fields, names in lower case. Fails on a field that comes twice."""
    line, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", line)
    assert found is not None, line
    fields: dict[str, str] = {}
    for each in rest:
        name, _, value = each.partition(":")
        assert name.lower() not in fields, head
        fields[name.lower()] = value.strip()
    return int(found[1]), fields


class UpstreamConnection(asyncio.Protocol):
    """One connection that the gateway opened."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.transport: Any = None
        self.received = b""
        self.ended_s = 0.0
        """time.monotonic() when the gateway closed or broke it."""
        self.ended = asyncio.Event()
        self.calls = 0
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.upstream.connections.append(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while self.upstream.reads_requests:
            call = self._take()
            if call is None:
                return
            self.calls += 1
            self.upstream.on_call(call)

    def _take(self) -> Call | None:
        """Cut one whole request off what was received."""
        head, mark, rest = self.received.partition(b"\r\n\r\n")
        if not mark:
            return None
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return None
        self.received = rest[size:]
        return Call(self, head + mark, rest[:size])

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _end(self) -> None:
        if not self.ended.is_set():
            self.ended_s = time.monotonic()
            self.ended.set()


@dataclass
class Call:
    """One request as the upstream got it; answers go out through it."""

    connection: UpstreamConnection
    head: bytes
    body: bytes

    def send(self, data: bytes) -> None:
        self.connection.transport.write(data)

    async def send_apart(self, *pieces: bytes) -> None:
        """Send each piece by itself, as far as the kernel plays along."""
        for piece in pieces:
            self.connection.transport.write(piece)
            await asyncio.sleep(0.001)

    def close(self) -> None:
        self.connection.transport.close()

    def reset(self) -> None:
        self.connection.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        self.connection.transport.abort()

    async def gone(self) -> float:
        """Return when the gateway gave the connection up."""
        async with asyncio.timeout(WAIT_S):
            await self.connection.ended.wait()
        return self.connection.ended_s

    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """A server on a loopback port. Calls wait in a queue, or go to a test's `on_call`."""

    def __init__(self) -> None:
        self.connections: list[UpstreamConnection] = []
        self.queue: asyncio.Queue[Call] = asyncio.Queue()
        self.on_call: Callable[[Call], Any] = self.queue.put_nowait
        self.reads_requests = True
        self.server: Any = None
        self.port = 0

    @classmethod
    async def listen(cls, port: int = 0, *, send_buffer_bytes: int = 0) -> Upstream:
        upstream = cls()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if send_buffer_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        listener.bind(("127.0.0.1", port))
        upstream.port = listener.getsockname()[1]
        upstream.server = await asyncio.get_running_loop().create_server(
            lambda: UpstreamConnection(upstream), sock=listener, backlog=4096
        )
        return upstream

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open(self) -> int:
        """How many connections the gateway has open."""
        return sum(not connection.ended.is_set() for connection in self.connections)

    async def call(self) -> Call:
        """Return the next request."""
        async with asyncio.timeout(WAIT_S):
            return await self.queue.get()

    async def close(self) -> None:
        """Stop listening and break every connection."""
        self.server.close()
        for connection in self.connections:
            connection.transport.abort()
        await asyncio.sleep(0)
