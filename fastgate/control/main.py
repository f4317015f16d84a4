"""The control process: everything that is not on the way of a request.

It may be slow, fail and be killed: workers have what they need, and the supervisor starts another.
Its socket is the supervisor's, so that a request made meanwhile waits for the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import setproctitle
import uvloop
from aiohttp import web

from fastgate.channel import LoopChannel
from fastgate.config import snapshot as snapshots
from fastgate.config.added import storage_secret
from fastgate.config.schema import Config
from fastgate.control.app import State, create_app
from fastgate.control.books import Books
from fastgate.control.models import StoredModels
from fastgate.control.notices import Notices
from fastgate.control.reload import Reloader
from fastgate.home import home
from fastgate.management.call import Service
from fastgate.observe import log
from fastgate.observe import memory as shared_memory
from fastgate.store import Store, StoreError, StoreUnavailable, open_store

if TYPE_CHECKING:
    from fastgate.channel import Message
    from fastgate.store.sealing import Sealer

__all__ = ["main"]

_log = logging.getLogger("fastgate.control")

# Of what runs when told to stop; the supervisor kills after 2 s.
_SHUTDOWN_S = 1.0

# Between two tries to reach the database.
_STORE_RETRY_S = 2.0

# How long control's other routes wait for it when control starts.
_STORE_WAIT_S = 1.0


class Control:
    """What connects the channel with the rest."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        memory = shared_memory.open(arguments.memory_fd, shared_memory.CONTROL)
        self.state = State(memory, Config())
        self.books: Books | None = None
        """Of the store; None while it is not open."""
        self._memory = memory
        self.configured = asyncio.Event()
        self.store_tried = asyncio.Event()
        """The database was opened, or can't be for now."""
        self.ended = asyncio.Event()
        self.orphaned = False
        """The supervisor is dead."""
        self.channel = LoopChannel(
            arguments.channel_fd, asyncio.get_running_loop(), self._on_message, self._on_closed
        )
        self._notices = Notices(self._changed)
        self._models = StoredModels(lambda: self.state.service, self.channel.send)
        self._config_path = arguments.config
        self._reloader = Reloader(
            arguments.config,
            json.loads(arguments.overrides),
            arguments.exposed,
            memory.metrics(shared_memory.CONTROL),
            self._models.publish,
        )

    def _on_message(self, message: Message) -> None:
        if message.kind == "snapshot":
            self.state.config = snapshots.decode(message.blob)
            self.state.version = message.fields["version"]
            self._models.begin(self.state.config)
            self.channel.send("snapshot_applied", {"version": self.state.version})
            self.configured.set()
        elif message.kind == "workers":
            self.state.workers = message.fields["workers"]
            self.state.started_s = message.fields["started_s"]
        elif message.kind == "reload":
            self._reloader.request()
        elif message.kind == "stop":
            self.ended.set()

    def _on_closed(self) -> None:
        self.orphaned = True
        self.configured.set()
        self.ended.set()

    # the database

    async def keep_store(self, url: str) -> None:
        """Open the store as soon as it can be, and close it when cancelled. Nothing else waits."""
        store: Store | None = None
        try:
            while store is None:
                try:
                    store = await open_store(url)
                except StoreUnavailable as error:
                    _log.warning("the database is not available", {"error": str(error)})
                    self.store_tried.set()
                    await asyncio.sleep(_STORE_RETRY_S)
                except StoreError as error:
                    _log.error("no database: the management API is off", {"error": str(error)})
                    self.store_tried.set()
                    return
            sealer = await asyncio.to_thread(_sealer, self._config_path)
            books = Books(store, self._memory, self.state.pricing, lambda: self.state.config)
            await books.recover()
            self.books = books
            self.state.service = Service(store, lambda: self.state.config, self._changed, sealer)
            self._models.request()
            self.store_tried.set()
            async with self._notices.listening(store):
                await books.keep()
        finally:
            self.state.service = self.books = None
            if store is not None:
                await store.close()

    def _changed(self, kind: str, ids: list[str]) -> None:
        """Have every worker forget what it remembers of these."""
        if self.books is not None:
            self.books.changed(kind, ids)
        self.channel.send("principals_changed", {"kind": kind, "ids": ids})
        if kind in ("model", "all"):
            self._models.request()


def _database_url(config: Config) -> str:
    return (
        os.environ.get("DATABASE_URL")
        or config.spend.database_url
        or f"sqlite:///{home()}/fastgate.db"
    )


def _sealer(config_path: str) -> Sealer | None:
    """Return what seals secrets of the database; None: there is no secret, or no cryptography."""
    try:
        from fastgate.store.sealing import Sealer  # noqa: PLC0415  with the extra [sealing]
    except ModuleNotFoundError:
        return None
    secret = storage_secret(config_path, os.environ)
    return Sealer(secret) if secret else None


async def _run(arguments: argparse.Namespace) -> None:
    control = Control(arguments)
    await control.configured.wait()
    keeping = asyncio.create_task(control.keep_store(_database_url(control.state.config)))
    # Whoever asks meanwhile waits in the socket's queue, and need not be told to come again.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(control.store_tried.wait(), _STORE_WAIT_S)
    runner = web.AppRunner(create_app(control.state), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=arguments.listen_fd)).start()
    control.channel.send("ready")
    await control.ended.wait()
    control.channel.close()
    await runner.cleanup()
    keeping.cancel()
    await asyncio.wait([keeping])
    if control.orphaned:
        # The supervisor can't tidy up any more.
        _remove_socket(arguments.control_socket)


def _remove_socket(path: str) -> None:
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fastgate control", description="started by the supervisor"
    )
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--memory-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--control-socket", required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--overrides", default="{}", help="JSON: what the command line changes")
    parser.add_argument("--exposed", action="store_true", help="other machines can connect")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run control until the supervisor says so, or is dead."""
    arguments = _arguments(argv)
    setproctitle.setproctitle("fastgate: control")
    log.setup("control", "info")
    # Signals are for the supervisor: systemd and terminals send them to all.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_run(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
