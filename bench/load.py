"""A load client for OpenAI-compatible servers: `python -m bench load --url U --model M`.

Closed loop (`--concurrency C`): C connections, each sends its next request when it has its answer.
Open loop (`--rate R`): requests leave at their scheduled times, whatever the answers do, and every
time is measured from the *scheduled* time, so that a server that stalls can't hide it.

Built to cost little per event, so that it does not become what is measured: one Protocol per
connection, one request as ready bytes, a time stamp per segment, events counted by their empty
line. Consequences: a gap is the time between two segments that brought events; an event whose empty
line was split over two HTTP chunks is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench.stats import share_between, summarise

__all__ = ["Options", "Results", "main", "run"]

LAST_CHUNK = b"\r\n0\r\n\r\n"
UNTIL_EOF = -1
CHUNKED = -2

SPIN_S = 0.002
"""Timers of the loop are up to 1 ms late; the last 2 ms before a scheduled time are polled."""

NAGLE_S = (0.038, 0.045)
"""Where delays land that come from Nagle's algorithm and a peer's 40 ms delayed acknowledgement."""


@dataclass(frozen=True, slots=True)
class Options:
    url: str
    model: str = "sim"
    key: str = ""
    concurrency: int = 1
    rate: float = 0.0
    """Requests per second; 0: closed loop."""
    arrivals: str = "constant"
    duration_s: float = 5.0
    requests: int = 0
    """Stop after that many; 0: only the duration counts."""
    stream: bool = False
    include_usage: bool = False
    max_tokens: int = 0
    prompt: str = "Tell me, in a few words, what a gateway is for and why one would want one."
    ramp_s: float = 0.0
    """Spread the first requests of a closed loop over that time."""
    grace_s: float = 30.0
    """How long requests in flight at the end may take to finish."""
    timeout_s: float = 60.0
    headers: tuple[str, ...] = ()
    unix: str = ""
    seed: int = 0


@dataclass(slots=True)
class Results:
    latency_s: array[float] = field(default_factory=lambda: array("d"))
    ttft_s: array[float] = field(default_factory=lambda: array("d"))
    gap_s: array[float] = field(default_factory=lambda: array("d"))
    late_s: array[float] = field(default_factory=lambda: array("d"))
    """Open loop: how much later than scheduled the client itself sent."""
    errors: Counter[str] = field(default_factory=Counter)
    started: int = 0
    finished: int = 0
    events: int = 0
    bytes: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0

    def report(self, options: Options) -> dict[str, Any]:
        elapsed_s = self.elapsed_s or math.inf
        return {
            "options": asdict(options) | {"key": "set" if options.key else ""},
            "started": self.started,
            "requests": self.finished,
            "errors": dict(self.errors),
            "requests_per_s": round(self.finished / elapsed_s, 2),
            "events": self.events,
            "events_per_s": round(self.events / elapsed_s, 2),
            "bytes": self.bytes,
            "latency_ms": summarise(self.latency_s),
            "ttft_ms": summarise(self.ttft_s),
            "gap_ms": summarise(self.gap_s),
            "late_ms": summarise(self.late_s),
            "share_38_45_ms": {
                "ttft": round(share_between(self.ttft_s, *NAGLE_S), 6),
                "gap": round(share_between(self.gap_s, *NAGLE_S), 6),
            },
            "elapsed_s": round(self.elapsed_s, 4),
            "client_cpu_s": round(self.cpu_s, 4),
        }


def build_request(options: Options) -> bytes:
    """The one request that is sent over and over, head and body."""
    url = urlsplit(options.url)
    path = url.path if url.path not in ("", "/") else "/v1/chat/completions"
    body: dict[str, Any] = {
        "model": options.model,
        "messages": [{"role": "user", "content": options.prompt}],
    }
    if options.max_tokens:
        body["max_tokens"] = options.max_tokens
    if options.stream:
        body["stream"] = True
        if options.include_usage:
            body["stream_options"] = {"include_usage": True}
    payload = json.dumps(body, separators=(",", ":")).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {url.netloc or 'localhost'}",
        "content-type: application/json",
        f"content-length: {len(payload)}",
        *([f"authorization: Bearer {options.key}"] if options.key else []),
        *options.headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + payload


class Client(asyncio.Protocol):
    """One connection with at most one request in flight."""

    __slots__ = (
        "_begun", "_head", "_last", "_left", "_lost", "_run", "_status", "_tail", "busy",
        "sent_s", "transport",
    )  # fmt: skip

    def __init__(self, run: Run) -> None:
        self._run = run
        self.transport: Any = None
        self.busy = False
        self.sent_s = 0.0
        """When the request under way was sent, or was to be sent (open loop)."""
        self._head = b""
        self._begun = False
        """The head of the answer has been read."""
        self._status = 0
        self._left = 0
        """Bytes of the body to come; or CHUNKED, UNTIL_EOF."""
        self._last = 0.0
        """When the last event came; 0: none yet."""
        self._tail = b""
        """The last bytes of the body, preceded by the head's line end."""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._run.on_connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self.busy:
            whole = self._begun and self._left == UNTIL_EOF and exc is None
            self._finish("" if whole else "truncated" if self._begun else "disconnected")
        self._run.on_lost(self)

    def send(self, scheduled_s: float) -> None:
        self.busy = True
        self._begun = False
        self._head = b""
        self._last = 0.0
        self._tail = b"\r\n"
        self.sent_s = scheduled_s
        self.transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self._run.results.errors["surplus bytes"] += 1
            self.transport.abort()
            return
        results = self._run.results
        results.bytes += len(data)
        if not self._begun:
            data = self._read_head(data)
            if not self._begun:
                return
        events = data.count(b"\n\n")
        if data[:1] == b"\n" and self._tail.endswith(b"\n"):
            events += 1
        if events:
            now = time.perf_counter()
            results.events += events
            if self._last:
                results.gap_s.append(now - self._last)
            else:
                results.ttft_s.append(now - self.sent_s)
            self._last = now
            if b'data: {"error"' in data:
                results.errors["error event"] += 1
        if self._left == CHUNKED:
            self._tail = (self._tail + data[-7:])[-7:]
            if self._tail == LAST_CHUNK:
                self._finish("")
        elif self._left != UNTIL_EOF:
            self._left -= len(data)
            if self._left <= 0:
                self._finish("")

    def _read_head(self, data: bytes) -> bytes:
        """Return what follows the head; the head may come in pieces, or behind a 1xx head."""
        data = self._head + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return b""
        self._status = int(data[9:12])
        if self._status < 200:
            self._head = b""
            return self._read_head(data[end + 4 :])
        lower = data[: end + 2].lower()
        at = lower.find(b"\r\ncontent-length:")
        if at >= 0:
            self._left = int(lower[at + 17 : lower.find(b"\r\n", at + 17)])
        else:
            chunked = b"\r\ntransfer-encoding: chunked" in lower
            self._left = CHUNKED if chunked else UNTIL_EOF
        self._lost = b"\r\nconnection: close" in lower
        self._begun = True
        return data[end + 4 :]

    def _finish(self, error: str) -> None:
        self.busy = False
        results = self._run.results
        if not error and self._status >= 400:
            error = f"status {self._status}"
        if error:
            results.errors[error] += 1
        else:
            results.finished += 1
            results.latency_s.append(time.perf_counter() - self.sent_s)
        if self._lost:
            self.transport.close()
        self._run.on_answer(self, self._lost)


class Run:
    """One measurement: schedules requests and owns the connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self.options = options
        self.results = Results()
        self.request = build_request(options)
        self._loop = loop
        self._clients: set[Client] = set()
        self._idle: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._done = asyncio.Event()
        self._random = random.Random(options.seed)
        self._next_s = 0.0
        self._look_s = min(1.0, options.timeout_s)

    async def run(self) -> Results:
        options, results = self.options, self.results
        cpu_before = time.process_time()
        if not options.rate:
            opening = (self._open(self._idle.append) for _ in range(options.concurrency))
            await asyncio.gather(*opening)
        if not self._idle and not options.rate:
            return results
        start = time.perf_counter()
        self._loop.call_later(options.duration_s, self._stop)
        self._watch = self._loop.call_later(self._look_s, self._expire)
        if options.rate:
            self._next_s = start
            self._schedule()
        else:
            idle, self._idle = self._idle, []
            for index, client in enumerate(idle):
                delay_s = options.ramp_s * index / len(idle)
                self._loop.call_later(delay_s, self._next, client)
        try:
            await asyncio.wait_for(self._done.wait(), options.duration_s + options.grace_s)
        except TimeoutError:
            results.errors["unfinished"] += sum(client.busy for client in self._clients)
        results.elapsed_s = time.perf_counter() - start
        results.cpu_s = time.process_time() - cpu_before
        self._watch.cancel()
        self._stopping = True
        for client in list(self._clients):
            client.busy = False
            client.transport.abort()
        return results

    # ---- connections

    async def _open(self, then: Callable[[Client], None]) -> None:
        url = urlsplit(self.options.url)
        host, port = url.hostname or "127.0.0.1", url.port or 80
        try:
            if self.options.unix:
                opening = self._loop.create_unix_connection(lambda: Client(self), self.options.unix)
            else:
                opening = self._loop.create_connection(lambda: Client(self), host, port)
            _, client = await opening
        except OSError as error:
            self.results.errors[f"connect: {os.strerror(error.errno or 0)}"] += 1
        else:
            then(client)

    def _open_soon(self, then: Callable[[Client], None]) -> None:
        task = self._loop.create_task(self._open(then))
        self._tasks.add(task)
        task.add_done_callback(self._on_opened)

    def _on_opened(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_done()

    def on_connected(self, client: Client) -> None:
        self._clients.add(client)

    def on_lost(self, client: Client) -> None:
        self._clients.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        self._check_done()

    # ---- requests

    def _may_start(self) -> bool:
        """Count a request, unless there are to be no more."""
        if self._stopping:
            return False
        self.results.started += 1
        if self.results.started == self.options.requests:
            self._stopping = True
        return True

    def _next(self, client: Client) -> None:
        """Closed loop: this connection's next request."""
        if self._may_start():
            self._send(client, 0.0)
        else:
            self._check_done()

    def _send(self, client: Client, scheduled_s: float) -> None:
        if client.transport.is_closing():
            return self._open_soon(lambda fresh: self._send(fresh, scheduled_s))
        now = time.perf_counter()
        if scheduled_s:
            self.results.late_s.append(now - scheduled_s)
        client.send(scheduled_s or now)

    def on_answer(self, client: Client, lost: bool) -> None:
        if self.options.rate:
            if not lost:
                self._idle.append(client)
            self._check_done()
        elif lost and not self._stopping:
            self._open_soon(self._next)
        else:
            self._next(client)

    def _schedule(self) -> None:
        """Open loop: send what is due; sleep until shortly before the next, then poll."""
        while not self._stopping:
            wait_s = self._next_s - time.perf_counter()
            if wait_s > SPIN_S:
                self._loop.call_later(wait_s - SPIN_S, self._schedule)
                return
            if wait_s > 0:
                self._loop.call_soon(self._schedule)
                return
            scheduled_s = self._next_s
            rate, poisson = self.options.rate, self.options.arrivals == "poisson"
            self._next_s += self._random.expovariate(rate) if poisson else 1 / rate
            self._may_start()
            if self._idle:
                self._send(self._idle.pop(), scheduled_s)
            else:
                self._open_soon(lambda client, at=scheduled_s: self._send(client, at))

    # ---- the end

    def _stop(self) -> None:
        self._stopping = True
        self._check_done()

    def _check_done(self) -> None:
        """End when nothing more will be sent (or can be: all connections lost) or come."""
        more = bool(self.options.rate or self._clients) and not self._stopping
        busy = self._tasks or any(client.busy for client in self._clients)
        if not more and not busy:
            self._done.set()

    def _expire(self) -> None:
        """Give up on requests that take longer than the time limit."""
        limit = time.perf_counter() - self.options.timeout_s
        for client in list(self._clients):
            if client.busy and client.sent_s < limit:
                self.results.errors["timeout"] += 1
                client.busy = False
                client.transport.abort()
                if not self.options.rate and not self._stopping:
                    self._open_soon(self._next)
        self._watch = self._loop.call_later(self._look_s, self._expire)


async def run(options: Options) -> Results:
    """Run one measurement on the running loop."""
    return await Run(asyncio.get_running_loop(), options).run()


def show(report: dict[str, Any]) -> str:
    """The report as a few lines for people."""
    lines = [
        f"{report['requests']} requests in {report['elapsed_s']:.2f} s: "
        f"{report['requests_per_s']:.1f}/s, {report['events_per_s']:.1f} events/s, "
        f"client CPU {report['client_cpu_s']:.2f} s"
    ]
    for name in ("latency_ms", "ttft_ms", "gap_ms", "late_ms"):
        found = report[name]
        if found["count"]:
            values = (f"{key} {found[key]:.3f}" for key in ("p50", "p90", "p99", "p999", "max"))
            lines.append(f"{name:<11} {'  '.join(values)}")
    if report["errors"]:
        lines.append(f"errors      {report['errors']}")
    return "\n".join(lines)


def read_options(argv: list[str]) -> tuple[Options, str]:
    parser = argparse.ArgumentParser(
        prog="python -m bench load", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--url", required=True, help="http://HOST:PORT[/path]; path: /v1/chat/completions")
    add("--unix", default="", metavar="PATH", help="connect to this Unix socket")
    add("--model", default="sim")
    add("--key", default="", help="sent as a bearer token")
    add("--concurrency", type=int, default=1, help="closed loop")
    add("--rate", type=float, default=0.0, help="open loop: requests per second")
    add("--arrivals", choices=("constant", "poisson"), default="constant")
    add("--duration", type=float, default=5.0, dest="duration_s", metavar="S")
    add("--requests", type=int, default=0, help="stop after that many")
    add("--stream", action="store_true")
    add("--include-usage", action="store_true")
    add("--max-tokens", type=int, default=0)
    add("--prompt", default=Options.__dataclass_fields__["prompt"].default)
    add("--ramp", type=float, default=0.0, dest="ramp_s", metavar="S")
    add("--grace", type=float, default=30.0, dest="grace_s", metavar="S")
    add("--timeout", type=float, default=60.0, dest="timeout_s", metavar="S")
    add("--header", action="append", default=[], dest="headers", metavar="'NAME: VALUE'")
    add("--seed", type=int, default=0)
    add("--json", default="", metavar="FILE", help="write the whole report there; - is stdout")
    given = vars(parser.parse_args(argv))
    path = given.pop("json")
    given["headers"] = tuple(given["headers"])
    return Options(**given), path


def main(argv: list[str]) -> int:
    options, path = read_options(argv)
    report = uvloop.run(run(options)).report(options)
    text = json.dumps(report, indent=1)
    if path == "-":
        print(text)
    else:
        print(show(report))
        if path:
            Path(path).write_text(text + "\n")
    return 0 if report["requests"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
