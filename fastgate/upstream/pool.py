"""The connections to one origin: idle ones to take, a bounded queue to wait in, and new ones.

`take` and `give_back` are plain calls without IO: a request that finds an idle connection goes on
in the same call chain. `wait` queues a request and opens a connection when the cap allows; the
pipeline hears of it through `sink.on_connected(context, connection)` or
`sink.on_connect_failed(context, kind, detail)`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from fastgate.upstream.connection import Connection
from fastgate.upstream.origin import Origin, tls_context

if TYPE_CHECKING:
    from fastgate.config.schema import Upstream
    from fastgate.upstream.resolver import Resolver

__all__ = ["Pool"]

# The kernel doubles it, and one read returns no more than that: it is what is held for a client
# that takes no more. With the kernel's own choice, up to 256 KiB. Only for plain connections, which
# lead to engines nearby: a distant provider needs the large windows that the kernel finds itself.
RECEIVE_BUFFER_BYTES = 32 * 1024

# Kinds of connect failure, as metrics and retry decisions name them.
CONNECT_KINDS = ("refused", "timeout", "dns", "tls", "connect")


class Pool:
    """Belongs to one worker and its loop; not for threads."""

    def __init__(self, origin: Origin, settings: Upstream, resolver: Resolver, sink: Any) -> None:
        self.origin = origin
        self.settings = settings
        self.resolver = resolver
        self.sink = sink
        self.idle: list[Connection] = []
        """Used last stands last, and is taken first: the others age out."""
        self.waiting: deque[Any] = deque()
        self.members: set[Connection] = set()
        """All that are open, idle or held."""
        self.connecting = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.tls: ssl.SSLContext | None = None
        self.closing = False
        self.idle_ns = int(settings.idle_timeout_s * 1e9)
        self.max_age_ns = int(settings.max_age_s * 1e9)

    def take(self, now_ns: int) -> Connection | None:
        """Return an idle connection that is young enough, or None."""
        while self.idle:
            connection: Connection = self.idle.pop()
            if (
                not connection.closed
                and now_ns - connection.idle_since_ns < self.idle_ns
                and now_ns - connection.opened_ns < self.max_age_ns
            ):
                return connection
            connection.abort()
        return None

    def give_back(self, connection: Connection, now_ns: int) -> None:
        """Take a connection whose answer ended cleanly: to the next waiting request, or to the idle
        ones.
        """
        connection.context = None
        connection.served += 1
        connection.resume()
        if connection.closed:
            return
        if self.closing or now_ns - connection.opened_ns >= self.max_age_ns:
            connection.abort()
            return
        connection.idle_since_ns = now_ns
        if self.waiting:
            for context in self.waiting:
                if not context.fresh:
                    self.waiting.remove(context)
                    self.sink.on_connected(context, connection)
                    return
        self.idle.append(connection)

    def wait(self, context: Any, now_ns: int) -> bool:
        """Queue a request until a connection is there; False: the queue is full."""
        if len(self.waiting) >= self.settings.max_waiting:
            return False
        self.waiting.append(context)
        if self.connecting < len(self.waiting):
            self._open_one()
        return True

    def forget(self, context: Any) -> None:
        """The request waits no more."""
        try:
            self.waiting.remove(context)
        except ValueError:
            pass

    def on_closed(self, connection: Connection) -> None:
        """A connection is gone, whoever closed it."""
        self.members.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        # Its place under the cap may be what somebody waits for.
        if len(self.waiting) > self.connecting:
            self._open_one()

    def sweep(self, now_ns: int) -> None:
        """Close what has been idle too long. Called by the worker's sweeper."""
        # The oldest stand first.
        while self.idle and (self.closing or now_ns - self.idle[0].idle_since_ns >= self.idle_ns):
            self.idle.pop(0).abort()

    def close(self) -> None:
        """Use no more: idle connections close now, held ones when their request ends."""
        self.closing = True
        self.sweep(0)

    def _open_one(self) -> None:
        if len(self.members) + self.connecting >= self.settings.max_connections:
            if self.idle:
                # Who waits beside an idle connection needs a fresh one: it takes this one's place.
                self.idle.pop(0).abort()
            return
        self.connecting += 1
        task = asyncio.get_running_loop().create_task(self._open())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _open(self) -> None:
        kind = detail = ""
        connection = None
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                connection = await self._connect()
        except TimeoutError:
            kind = "timeout"
            detail = f"no connection within {self.settings.connect_timeout_s:g} s"
        except ssl.SSLError as error:
            # The library's own words: expired, wrong name, self-signed, protocol version.
            kind, detail = "tls", str(getattr(error, "verify_message", "") or error)
        except ConnectionRefusedError as error:
            kind, detail = "refused", str(error)
        except OSError as error:
            kind = "dns" if type(error).__name__ == "gaierror" else "connect"
            detail = str(error)
        finally:
            self.connecting -= 1
        if connection is None:
            self._fail_one(kind, detail)
        else:
            self._hand_out(connection)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        origin: Origin = self.origin
        if origin.tls and self.tls is None:
            self.tls = await loop.run_in_executor(None, tls_context, origin)
        name = (origin.server_name or origin.host) if origin.tls else None
        made: Connection
        if origin.unix_socket:
            _, made = await loop.create_unix_connection(
                self._member, origin.unix_socket, ssl=self.tls, server_hostname=name
            )
            return made
        failure: OSError | None = None
        for address in await self.resolver.addresses(origin.host, origin.port):
            try:
                _, made = await loop.create_connection(
                    self._member, address, origin.port, ssl=self.tls, server_hostname=name
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
            else:
                if not origin.tls:
                    plug = made.transport.get_extra_info("socket")
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                return made
        raise failure or OSError(f"{origin.host} has no address")

    def _member(self) -> Any:
        return Connection(self, self.sink)

    def _hand_out(self, connection: Connection) -> None:
        now_ns = monotonic_ns()
        connection.opened_ns = now_ns
        connection.idle_since_ns = now_ns
        if connection.closed or (self.closing and not self.waiting):
            connection.abort()
            return
        self.members.add(connection)
        if self.waiting:
            self.sink.on_connected(self.waiting.popleft(), connection)
        else:
            self.idle.append(connection)

    def _fail_one(self, kind: str, detail: str) -> None:
        if self.waiting:
            self.sink.on_connect_failed(self.waiting.popleft(), kind, detail)
