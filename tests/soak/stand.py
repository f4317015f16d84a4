"""A raw streaming upstream and raw clients for thousands of connections, in the test's own process.

Both sides read the same clock, so that what passes between a client's close and the upstream's loss
of its connection is one subtraction. Events go out from one timer, whatever the number of streams.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["KEY", "Client", "Upstream", "config", "rss_bytes", "serve_upstream", "tree_rss_bytes"]

KEY = "sk-soak-0123456789abcdef"
_ID = re.compile(rb"x-(?:fastgate-)?request-id: ([0-9a-f]{32})\r\n", re.I)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENT = _chunk(
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,'
    b'"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
END = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Stream(asyncio.Protocol):
    """One upstream connection; every request on it is answered with a stream."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.buffer = b""
        self.request_id = b""
        self.sent = 0
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.upstream.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        if not found or length is None or len(rest) < int(length[1]):
            return
        self.buffer = b""
        id_ = _ID.search(head + b"\r\n")
        assert id_ is not None
        self.request_id = id_[1]
        self.sent = 0
        self.transport.write(_HEAD + EVENT)
        self.upstream.streams.add(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def step(self) -> None:
        if self.full:
            return
        self.transport.write(self.upstream.event)
        self.sent += 1
        if self.sent >= self.upstream.events:
            self.transport.write(END)
            self.upstream.streams.discard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.upstream.connections.discard(self)
        if self in self.upstream.streams:
            self.upstream.streams.discard(self)
            self.upstream.lost_at[self.request_id] = time.monotonic()


class Upstream:
    """`events` each `interval_s`, to every stream."""

    def __init__(self, interval_s: float, events: int, event: bytes = EVENT) -> None:
        self.interval_s = interval_s
        self.events = events
        self.event = event
        self.connections: set[Stream] = set()
        self.streams: set[Stream] = set()
        self.lost_at: dict[bytes, float] = {}
        """When the connection of a stream that had not ended was lost, by request id."""
        self.port = 0

    async def play(self) -> None:
        while True:
            await asyncio.sleep(self.interval_s)
            for stream in list(self.streams):
                stream.step()


@asynccontextmanager
async def serve_upstream(upstream: Upstream) -> AsyncIterator[Upstream]:
    """Serve `upstream` on a free port of loopback."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stream(upstream), "127.0.0.1", 0, backlog=4096)
    upstream.port = server.sockets[0].getsockname()[1]
    player = asyncio.create_task(upstream.play())
    yield upstream
    player.cancel()
    for connection in list(upstream.connections):
        connection.transport.abort()
    server.close()
    await server.wait_closed()


class Client(asyncio.Protocol):
    """One raw client: sends a request, sees bytes come."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[bytes] = loop.create_future()
        """Resolves to the request's id with the answer's first bytes."""
        self.ended: asyncio.Future[bytes] = loop.create_future()
        """Resolves to the last bytes when the connection ends, or the last chunk has come."""
        self.tail = b""
        self.received_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self.tail = (self.tail + data)[-64:]
        if not self.first.done():
            found = _ID.search(data)
            self.first.set_result(found[1] if found else b"")
        if self.tail.endswith(b"\r\n0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(self.tail)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.first, self.ended):
            if not future.done():
                future.set_result(self.tail)

    def ask(self, stream: bool = True) -> None:
        body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":%b}' % (
            b"true" if stream else b"false"
        )
        self.transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (KEY.encode(), len(body), body)
        )

    @classmethod
    async def connect(cls, port: int, source: str = "127.0.0.1") -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, "127.0.0.1", port, local_addr=(source, 0))
        return client


def config(upstream_port: int, **limits: object) -> dict[str, object]:
    """Return a configuration with one deployment and one key, limits on but out of reach."""
    return {
        "model_list": [
            {
                "model_name": "m",
                "litellm_params": {
                    "model": "openai/m",
                    "api_base": f"http://127.0.0.1:{upstream_port}/v1",
                    "api_key": "sk-upstream",
                },
                "model_info": {"id": "soak"},
            }
        ],
        "general_settings": {"master_key": "sk-the-master-key-of-the-soak"},
        "fastgate_settings": {
            "keys": [
                {"key": KEY, "alias": "soak", "rpm": 10**8, "tpm": 10**11, "max_parallel": 10**6}
            ],
            "limits": limits,
            "upstream": {"max_connections": 8192, "max_waiting": 8192},
        },
    }


def rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def tree(pid: int) -> list[int]:
    """Return `pid` and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        children: Iterable[str] = (task / "children").read_text().split()
        for child in children:
            found += tree(int(child))
    return found


def tree_rss_bytes(pid: int) -> int:
    return sum(rss_bytes(one) for one in tree(pid))
