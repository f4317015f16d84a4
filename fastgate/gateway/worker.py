"""A worker process: one loop, the listeners given to it, and what all its connections share.

It opens no file but the shared memory, its access log and TLS material, knows no database and waits
for nobody: the configuration comes as a Snapshot from the supervisor, and control may be dead.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import resource
import signal
import socket
import ssl
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import setproctitle
import uvloop

from fastgate.channel import LoopChannel, Message
from fastgate.config.schema import Deployment
from fastgate.config.snapshot import Snapshot, decode
from fastgate.gateway.addresses import Addresses
from fastgate.gateway.book import Book
from fastgate.gateway.catalog import Catalog, Target
from fastgate.gateway.downstream import Downstream
from fastgate.gateway.keys import Keys
from fastgate.gateway.named import Named
from fastgate.gateway.pipeline import Pipeline
from fastgate.gateway.rates import RatesLookup
from fastgate.gateway.record import Recorder
from fastgate.gateway.route import Router
from fastgate.gateway.shared import Shared
from fastgate.home import journal_home
from fastgate.observe import log
from fastgate.observe import memory as shared_memory
from fastgate.observe.access_log import AccessLog
from fastgate.spend.segments import SpendJournal
from fastgate.upstream.origin import Origin
from fastgate.upstream.pool import Pool
from fastgate.upstream.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgate.errors import GatewayError

__all__ = ["Worker", "main"]

_log = logging.getLogger("fastgate.worker")

SWEEP_S = 0.25
"""How late a timeout may fire. Sweeping 10,000 connections takes 1.5 ms (measured)."""

# Of RLIMIT_NOFILE: downstream connections get 60 %, upstream ones have caps of their own, the rest
# is for files.
CONNECTION_SHARE = 0.6


class Worker(Shared):
    """What the connections of a process share."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, memory: Any, slot: int, control: str
    ) -> None:
        super().__init__(loop)
        self.memory = memory
        self.slot = slot
        self.metrics = memory.metrics(slot)
        self.downstreams: set[Downstream] = set()
        self.pools: dict[Origin, Pool] = {}
        self.resolver = Resolver(30.0)
        self.log: AccessLog | None = None
        self.recorder = Recorder(self.metrics)
        rng = random.SystemRandom()
        self.router = Router(
            memory.deployments, memory.limits, False, random.Random(rng.random()).random
        )
        self.pipeline = Pipeline(
            self, memory.limits, memory.budgets, self.router, self.recorder, rng.getrandbits(40)
        )
        self.config: Any = None
        """Of the newest Snapshot; None: there was none yet."""
        self.log_target = ""
        self.rates = RatesLookup(control)
        self.ended = asyncio.Event()
        self.on_drained: Callable[[], None] = lambda: None
        """Called when, while draining, there is no request left; perhaps more than once."""
        self._stopping = False
        self._control_socket = control
        self._servers: list[asyncio.AbstractServer] = []
        self._listeners: list[socket.socket] = []
        self._in_flight = self.metrics.gauge("fastgate_in_flight")
        self._connections = self.metrics.gauge("fastgate_connections")
        self._sweeper: asyncio.TimerHandle | None = None

    # configuration

    def apply(self, encoded: bytes) -> None:
        """Take over a Snapshot; running requests keep the one they have."""
        config = decode(encoded)
        snapshot = Snapshot(config)
        self.config = config
        self.apply_limits(config.limits)
        self.max_connections = config.limits.max_connections or int(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0] * CONNECTION_SHARE
        )
        router = config.router
        self.max_fallbacks = router.max_fallbacks
        self.retry_after_s = router.retry_after_s
        self.allowed_fails = router.allowed_fails
        self.disable_cooldowns = router.disable_cooldowns
        self.router.least_busy = router.routing_strategy == "least-busy"
        upstream = config.upstream
        self.resolver.ttl_s = upstream.dns_ttl_s
        pipeline = self.pipeline
        pipeline.addresses = Addresses(config.allowed_ips) if config.allowed_ips else None
        pipeline.stall_ns = int(upstream.stall_timeout_s * 1e9)
        pipeline.ping_ns = int(upstream.ping_timeout_s * 1e9)
        pipeline.max_wait_ns = int(upstream.max_wait_s * 1e9)
        if pipeline.book is not None:
            pipeline.book.refuses_when_full = config.spend.journal_full == "refuse"
        self.control = self._control_target()
        self.rates.forget()
        catalog = Catalog(snapshot, self)
        if pipeline.keys is not None:
            pipeline.keys.apply(snapshot.stored)
        pipeline.snapshot = snapshot
        pipeline.catalog = catalog
        used = {target.pool.origin for target in catalog.targets.values()}
        used.add(self.control.pool.origin)
        for origin in [o for o in self.pools if o not in used]:
            self.pools.pop(origin).close()
        self._open_log(config.log.access_log)
        logging.getLogger().setLevel(config.log.level.upper())

    def pool_of(self, origin: Origin) -> Pool:
        """Return the pool for `origin`; it outlives a reload."""
        pool = self.pools.get(origin)
        if pool is None:
            upstream = self.config.upstream
            pool = self.pools[origin] = Pool(origin, upstream, self.resolver, self.pipeline)
        else:
            pool.settings = self.config.upstream
        return pool

    def now_ns(self) -> int:
        return monotonic_ns()

    def _control_target(self) -> Target:
        origin = Origin("http", "control", 0, self._control_socket)
        deployment = Deployment(
            id="control", group="", provider="", model="", host="control", port=0, api_base=""
        )
        target = Target(deployment, self.pool_of(origin))
        target.fields = b""
        # Health checks of many deployments take their time; scrapes give up after 10 s.
        target.timeout_ns = target.stream_timeout_ns = 30_000_000_000
        return target

    def _open_log(self, target: str) -> None:
        if self.log is not None and self.log_target == target:
            return
        if self.log is not None:
            self.log.close()
        self.log_target = target
        dropped = self.metrics.counter("fastgate_access_log_dropped_total")
        self.log = None if target == "off" else AccessLog(target, dropped.add)
        self.recorder.log = self.log
        self.recorder.lines = None if self.log is None else self.log.lines

    def keep_books(self) -> None:
        """Put every request on record from now on."""
        epoch = self.memory.run << 32 | int.from_bytes(os.urandom(4))
        spend = SpendJournal(
            journal_home(),
            epoch,
            call_in_loop=self.loop.call_soon_threadsafe,
            segment_bytes=self.config.spend.segment_bytes,
        )
        book = Book(spend, self.memory.limits, self.memory.budgets, self.recorder)
        book.refuses_when_full = self.config.spend.journal_full == "refuse"
        self.pipeline.book = book

    # listeners

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept on `sockets`, which the supervisor bound."""
        server = self.config.server
        if server.tls_cert_file:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self.tls.load_cert_chain(server.tls_cert_file, server.tls_key_file or None)
            self.tls.set_alpn_protocols(["http/1.1"])
        for listener in sockets:
            listener.setblocking(False)
            plain = listener.family == socket.AF_UNIX
            if not plain:
                # Accepted connections inherit it. Without it the kernel takes up to 4 MiB for a
                # client that reads nothing, before we hear of that and pause its upstream.
                listener.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.limits.high_water_bytes
                )
            create = self.loop.create_unix_server if plain else self.loop.create_server
            made = await create(
                self._downstream,
                sock=listener,
                ssl=None if plain else self.tls,
                backlog=4096,
            )
            self._servers.append(made)
        self._listeners = sockets
        self._sweep()

    def _downstream(self) -> Any:
        return Downstream(self)

    def on_open(self, downstream: Downstream) -> None:
        """A client connected."""
        self.downstreams.add(downstream)
        self._connections.set(len(self.downstreams))
        peer = downstream.transport.get_extra_info("peername")
        downstream.peer = peer[0] if isinstance(peer, tuple) else "unix"
        if len(self.downstreams) > self.max_connections:
            downstream.shed()

    def on_close(self, downstream: Downstream) -> None:
        self.downstreams.discard(downstream)
        self._connections.set(len(self.downstreams))

    def on_refused(self, error: GatewayError) -> None:
        """A connection was refused before it was a request."""
        self.recorder.error(error.source, f"http_{error.status}")

    # time

    def _sweep(self) -> None:
        now_ns = monotonic_ns()
        try:
            for downstream in list(self.downstreams):
                downstream.sweep(now_ns)
            self.pipeline.sweep(now_ns)
            for pool in self.pools.values():
                pool.sweep(now_ns)
            self._in_flight.set(len(self.pipeline.active))
            for target in self.pipeline.catalog.targets.values():
                pool = target.pool
                target.idle.set(len(pool.idle))
                target.active.set(len(pool.members) - len(pool.idle))
            if self.log is not None:
                self.log.flush()
        except Exception:
            _log.exception("sweep")
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    # the end

    def drain(self, grace_s: float, accept: bool) -> None:
        """Finish: every answer from now on closes its connection; then call `on_drained`.

        `accept` True: new connections are still served, until `stop`, so that nobody is refused
        while another worker has work. False: a successor listens on the same sockets.
        """
        self.draining = True
        if not accept:
            self._stop_accepting()
        for downstream in list(self.downstreams):
            if downstream.context is None and downstream.served and not downstream.lingering():
                # Between two requests: the client finds it closed and opens another.
                downstream.transport.close()
        self.loop.call_later(grace_s, self.ended.set)
        self.on_request_end()

    def stop(self) -> None:
        """Accept no more, and end when the last request has."""
        self._stopping = self.draining = True
        self._stop_accepting()
        self.on_request_end()

    def on_request_end(self) -> None:
        """While draining, after each request: was it the last?"""
        if not self.pipeline.active:
            # What was accepted and not read yet is a request too: look again after a turn of the
            # loop.
            self.loop.call_later(SWEEP_S / 5, self._look_if_idle)

    def _look_if_idle(self) -> None:
        if self.pipeline.active:
            return
        if any(not d.served and not d.lingering() for d in self.downstreams):
            self.loop.call_later(SWEEP_S, self._look_if_idle)
            return
        self.on_drained()
        if self._stopping:
            self.ended.set()

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self) -> None:
        """Send what is still buffered, and close everything."""
        self._stop_accepting()
        deadline_ns = monotonic_ns() + 2_000_000_000
        while monotonic_ns() < deadline_ns and any(  # noqa: ASYNC110  nothing tells
            d.transport.get_write_buffer_size() for d in self.downstreams if not d.closed
        ):
            await asyncio.sleep(0.01)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for downstream in list(self.downstreams):
            downstream.transport.close()
        for pool in self.pools.values():
            pool.close()
            for connection in list(pool.members):
                connection.abort()
            for task in list(pool.tasks):
                task.cancel()
        await asyncio.sleep(0)
        if self.log is not None:
            self.log.close()
        self.rates.forget()
        if self.pipeline.book is not None:
            self.pipeline.book.spend.close()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastgate worker", description="started by the supervisor"
    )
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--memory-fd", type=int, required=True)
    parser.add_argument("--listen-fd", required=True, help="comma-separated")
    parser.add_argument("--control-socket", required=True)
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    memory = shared_memory.open(arguments.memory_fd, arguments.slot)
    worker = Worker(loop, memory, arguments.slot, arguments.control_socket)
    worker.pipeline.keys = Keys(arguments.control_socket)
    worker.pipeline.named = Named(arguments.control_socket)
    configured = asyncio.Event()

    def on_message(message: Message) -> None:
        kind, fields, blob = message
        if kind == "snapshot":
            try:
                worker.apply(blob)
            except Exception:
                # The one before stays in force; without one there is nothing to serve with.
                _log.exception("snapshot")
                if worker.config is None:
                    worker.ended.set()
            else:
                channel.send("snapshot_applied", fields)
        elif kind == "principals_changed":
            if worker.pipeline.keys is not None:
                worker.pipeline.keys.forget(fields["kind"], fields["ids"])
                worker.pipeline.named.forget(fields["kind"], fields["ids"])
        elif kind == "drain":
            worker.drain(fields["grace_s"], fields["accept"])
        elif kind == "hasten":
            worker.drain(fields["grace_s"], True)
            worker.stop()
        elif kind == "stop":
            worker.stop()
        configured.set()

    def on_closed() -> None:
        # The supervisor is dead: nobody will replace this process, so it ends when its requests
        # have.
        if worker.config is not None:
            worker.drain(worker.limits.drain_grace_s, False)
        worker.stop()
        configured.set()

    channel = LoopChannel(arguments.channel_fd, loop, on_message, on_closed)
    worker.on_drained = lambda: channel.send("drained")
    await configured.wait()
    if worker.config is not None and not worker.ended.is_set():
        worker.keep_books()
        fds = [int(fd) for fd in arguments.listen_fd.split(",")]
        await worker.listen([socket.socket(fileno=fd) for fd in fds])
        channel.send("ready")
        await worker.ended.wait()
    await worker.close()
    channel.close()


def main(argv: list[str] | None = None) -> int:
    """Run a worker until it has drained."""
    arguments = _arguments(argv)
    setproctitle.setproctitle(f"fastgate: worker {arguments.slot}")
    # A service manager signals the whole group; what they mean for a worker, the supervisor says.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Requests make next to no cycles; what the start made never goes away.
    log.setup(f"worker {arguments.slot}", "info")
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(_run(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
