"""A whole worker inside the test: each segment is read exactly as the test cuts it.

Real sockets join and split what is written as they like. Here `data_received` is called with the
very bytes, so that "at every split" means every split; all between the two transports is the
gateway's own code.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fastgate._core.fields import Lines
from fastgate.config.load import load
from fastgate.config.snapshot import encode
from fastgate.gateway.downstream import Downstream
from fastgate.gateway.worker import Worker
from fastgate.observe import memory as shared_memory
from fastgate.upstream.connection import Connection

__all__ = ["Wire", "Wired", "snapshot_of", "wired"]


class Wire:
    """A transport that keeps what is written and never fails."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False
        """By close(), abort() or write_eof()."""
        self.paused = False

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.sent += data

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            self.write(part)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else self

    def setsockopt(self, *option: Any) -> None:
        """As its own socket."""

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def take(self) -> bytes:
        """Return what was written since the last take."""
        data = bytes(self.sent)
        self.sent.clear()
        return data


class Log:
    """An access log that keeps the last lines."""

    def __init__(self) -> None:
        self.lines = Lines(64 * 1024)

    def flush(self) -> None:
        self.lines.take()

    def last(self) -> dict[str, Any]:
        """Return the line written last; the others are forgotten."""
        record: dict[str, Any] = json.loads(self.lines.take().splitlines()[-1])
        return record


class Wired:
    """The worker, and its two sides."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.log = Log()
        worker.recorder.log = self.log
        worker.recorder.lines = self.log.lines
        worker.recorder.lines = self.log.lines

    def client(self) -> tuple[Downstream, Wire]:
        """Return a new connection of a client."""
        wire = Wire()
        downstream = Downstream(self.worker)
        downstream.connection_made(wire)
        return downstream, wire

    def upstream(self) -> tuple[Connection, Wire]:
        """Return a new idle connection to the first deployment: the next request takes it."""
        target = next(iter(self.worker.pipeline.catalog.targets.values()))
        pool = target.pool
        wire = Wire()
        connection = Connection(pool, pool.sink)
        connection.connection_made(wire)
        connection.opened_ns = self.worker.now_ns()
        connection.served = 1
        pool.members.add(connection)
        pool.give_back(connection, self.worker.now_ns())
        return connection, wire


def snapshot_of(folder: Path, config: Mapping[str, Any]) -> bytes:
    """Return what a worker is given for `config`. Not for the loop: it reads and writes files."""
    path = folder / "config.yaml"
    settings = {**config.get("fastgate_settings", {}), "log": {"access_log": "off"}}
    path.write_text(yaml.safe_dump({**config, "fastgate_settings": settings}))
    return encode(load(path, {}).config)


@contextmanager
def wired(snapshot: bytes) -> Iterator[Wired]:
    """Run a worker on the test's own loop; it has no listener and no processes beside it."""
    fd = shared_memory.create(1)
    try:
        memory = shared_memory.open(fd, 0)
        worker = Worker(asyncio.get_running_loop(), memory, 0, "no-control")
        worker.apply(snapshot)
        found = Wired(worker)
        yield found
        assert not worker.pipeline.active
    finally:
        os.close(fd)
