"""The stand on which peers are measured: who runs on which core, started and stopped.

The engine and the load client share the load core, one peer at a time has the other core alone.
A stand without cores measures nothing: it only starts and stops.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.peers.peer import Peer, Place
from bench.procfs import tree

__all__ = ["Failed", "Running", "Stand", "end_on_sigterm", "start_engine"]

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
"""The slowest peer takes some 12 s."""
STOP_S = 10.0
TOKENS = 256
"""Of a stream that runs flat out; the other figures ask for fewer."""

ENGINE_OPTIONS = ("--tokens", str(TOKENS), "--log-requests", "0", "--models", "sim,gpt-4o-mini")
"""gpt-4o-mini is for peers that pass on no names but those they know."""


class Failed(Exception):
    """The comparison can't go on; says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A peer that answers. `pid` is None for the direct connection."""

    peer: Peer
    port: int
    pid: int | None
    headers: list[str]
    command: list[str]
    start_s: float
    """From its start to its first answer."""
    ready_s: float = 0.0
    """When it gave that, by the monotonic clock."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.peer.path}"


def spawn(
    command: list[str],
    core: int | None,
    output: int | Any,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process, and all it will start, on one core (None: on any)."""

    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})  # is inherited
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT if output != subprocess.PIPE else None,
        )
    finally:
        os.sched_setaffinity(0, before)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, and those of its children that outlive it."""
    family = _handles(tree(process.pid)[1:])
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for handle in family:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], STOP_S)  # readable: it has ended
        os.close(handle)


def end_on_sigterm() -> None:
    """Let a plain kill end what was started, too, as Ctrl-C does."""

    def end(*_: object) -> None:
        # Also of a process that was just made, and that nobody here knows of yet.
        for pid in tree(os.getpid())[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


def _handles(pids: list[int]) -> list[int]:
    """Descriptors of processes: they never mean another one that was given the number later."""
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(
    port: int,
    method: str,
    path: str,
    body: object = None,
    key: str = "",
    more: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"content-type": "application/json"} | (more or {})
    if key:
        headers["authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@contextlib.contextmanager
def start_engine(*options: str, core: int | None = None) -> Iterator[tuple[int, int]]:
    """Run a simulated engine; yields its (pid, port)."""
    command = [sys.executable, "-m", "bench", "engine", *options]
    process = spawn(command, core, subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if not line.startswith("listening on "):
            raise Failed(f"the engine did not start: {line!r}")
        yield process.pid, int(line.rpartition(":")[2])
    finally:
        stop(process)
        if process.stdout is not None:
            process.stdout.close()


class Stand:
    def __init__(
        self, engine_pid: int, engine_port: int, cores: tuple[int, int] | None = None
    ) -> None:
        self.engine_pid = engine_pid
        self.engine_port = engine_port
        self.load_core, self.peer_core = cores or (None, None)
        self.cores = cores or ()

    @contextlib.contextmanager
    def running(self, peer: Peer) -> Iterator[Running]:
        """Run a peer before the engine until the block ends; it has answered once by then."""
        if not peer.start:
            yield Running(peer, self.engine_port, None, [], [], 0.0)
            return
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            place = Place(free_port(), self.engine_port, Path(folder), free_port())
            command = peer.command(place)
            log = place.folder / "output.log"
            with log.open("wb") as output:
                begun = time.perf_counter()
                process = spawn(command, self.peer_core, output, peer.environment(place))
            try:
                place = self._wait_answer(peer, place, process, log)
                start_s = time.perf_counter() - begun
                headers = peer.headers(place)
                yield Running(
                    peer, place.port, process.pid, headers, command, start_s, time.monotonic()
                )
            finally:
                stop(process)

    def _wait_answer(
        self, peer: Peer, place: Place, process: subprocess.Popen[bytes], log: Path
    ) -> Place:
        """Return the place, with the port that the peer chose where it chooses."""
        headers = dict(line.split(": ", 1) for line in peer.headers(place))
        port_file = peer.port_file(place)
        body = {"model": peer.model, "messages": [{"role": "user", "content": "Hello!"}]}
        deadline = time.monotonic() + START_S
        answer: object = "none"
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if port_file:
                    place = replace(place, port=int(port_file.read_text()))
                status, text = request(place.port, "POST", peer.path, body, peer.key, headers)
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.005)
                continue
            if status == 200:
                return place
            answer = (status, text[:200])
            time.sleep(0.05)
        tail = log.read_text(errors="replace")[-1500:]
        raise Failed(f"{peer.name} does not answer (last answer: {answer}); its output:\n{tail}")

    def pace(self, itl_ms: float) -> None:
        """Make the engine pace its streams from now on; 0: flat out again."""
        self._tell("/sim/reset")
        if itl_ms:
            self._tell("/sim/faults", {"faults": f"itl-ms={itl_ms}"})

    def _tell(self, path: str, body: object = None) -> None:
        status, text = request(self.engine_port, "POST", path, body)
        if status != 200:
            raise Failed(f"the engine refused {path}: {text!r}")

    def events(self) -> int:
        """Events that the engine has sent since the last pace()."""
        _, text = request(self.engine_port, "GET", "/sim/log")
        return int(json.loads(text)["counters"]["events"])
