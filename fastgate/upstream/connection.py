"""One connection to an engine or provider: bytes between a transport and the request that holds it.

It knows no policy. What it reads goes to `sink` (the pipeline) together with the request it belongs
to; bytes that come while no request holds it, or behind the end of an answer, make it unusable (RFC
9112 9.2: a response that was not asked for must never answer the next request).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate._core.http1 import ResponseReader
from fastgate.upstream.socketio import plain_fd, send_now

if TYPE_CHECKING:
    import asyncio

__all__ = ["Connection", "Sink"]


class Sink:
    """Who is told what a connection reads, for the request that holds it; Pipeline is it."""

    def on_upstream_data(self, held: Any, data: bytes) -> None:
        """Bytes of the answer to `held`."""
        raise TypeError("a Sink is made as a Pipeline")


class Connection:
    """An asyncio protocol; made by a pool, held by at most one request at a time."""

    def __init__(self, pool: Any, sink: Any) -> None:
        self.pool = pool
        self.sink = sink
        self.transport: Any = None
        self.fd = -1
        """The socket, for sending past the transport; -1: not to be done (TLS, or closed)."""
        self.unsent = False
        """The transport may hold bytes of ours."""
        self.reader = ResponseReader()
        self.context: Any = None
        """The request that holds it; None: idle."""
        self.opened_ns = 0
        self.idle_since_ns = 0
        self.served = 0
        """Answers that ended cleanly; above 0 the peer may have closed it meanwhile."""
        self.closed = False
        self.dirty = False
        """A request on it was broken off: not to be used again."""
        self.reading = True
        self.write_paused = False

    def begin(self, context: Any) -> None:
        """Give the connection to `context`."""
        self.context = context
        self.reader.reset()

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.fd = plain_fd(transport)

    def data_received(self, data: bytes) -> None:
        if self.context is None:
            self.abort()
            return
        self.sink.on_upstream_data(self.context, data)

    def eof_received(self) -> bool:
        """Let the transport close: connection_lost() follows, and says the rest."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # The descriptor is closed, and its number free for another, as soon as this returns.
        self.closed = True
        self.fd = -1
        context = self.context
        self.context = None
        self.pool.on_closed(self)
        if context is not None:
            self.sink.on_upstream_lost(context, self, exc)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.context is not None:
            self.sink.on_upstream_full(self.context)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.context is not None:
            self.sink.on_upstream_drained(self.context)

    # the pipeline's side

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        if self.fd >= 0 and not self._unsent():
            sent = send_now(self.fd, data)
            if sent == len(data):
                return
            self.unsent = True
            data = data[sent:]
        self.transport.write(data)

    def write_all(self, parts: list[bytes]) -> None:
        """Send pieces of the request in one system call."""
        self.unsent = True
        self.transport.writelines(parts)

    def _unsent(self) -> bool:
        """Does the transport still hold bytes? Those must go first."""
        if self.unsent:
            self.unsent = self.transport.get_write_buffer_size() > 0
        return self.unsent

    def pause(self) -> None:
        """Stop reading: downstream takes no more."""
        if self.reading and not self.closed:
            self.reading = False
            self.transport.pause_reading()

    def resume(self) -> None:
        if not self.reading and not self.closed:
            self.reading = True
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once; whoever held it must have let go before."""
        if not self.closed:
            self.closed = True
            self.transport.abort()
