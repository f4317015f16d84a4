"""A simulated OpenAI-compatible engine: `python -m bench engine --port P`.

For tests, the demo and load. It answers every route of the gateway, plain or streaming, with the
timing, queueing, prefix caching and metrics of a GPU engine, misbehaves on demand (faults.py), and
remembers what it received. The first line on standard output is `listening on HOST:PORT`.

    wire.py        bytes -> requests           answers.py     request -> events
    script.py      events -> framed bytes      generation.py  scripts played in time
    simulation.py  when, how many, what cached control.py     /sim/*, /metrics
    ledger.py      what was billed

Without delays, batch or faults, a request whose bytes were seen before is answered from `_quick`
(request line -> body -> Script) without being parsed; anything else takes `_answer`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.answers import BUILDERS, Answer, Request, build_error, build_models, read_request
from bench.control import Control
from bench.faults import NO_FAULTS, Faults, parse_faults, split_model
from bench.generation import Generation, Pace, Player
from bench.ledger import Ledger, meter
from bench.script import Script, build_script
from bench.simulation import Latency
from bench.wire import Connection, field_value

__all__ = ["Engine", "Options", "main"]

KINDS = {
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcriptions",
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/images/generations": "images",
    "/messages": "messages",
    "/moderations": "moderations",
    "/rerank": "rerank",
    "/responses": "responses",
}

QUICK_BODY_BYTES = 8192
QUICK_ENTRIES = 4096
"""Bounds the remembered scripts; a load test sends far fewer different bodies."""

SWEEP_PARTS = 10
"""Idle connections are looked for ten times per keep-alive time: within 10 % of it."""


@dataclass(frozen=True, slots=True)
class Options:
    host: str = "127.0.0.1"
    port: int = 0
    unix: str = ""
    models: tuple[str, ...] = ("sim",)
    """Names that are served; `*` serves any."""
    tokens: int = 16
    pace: Pace = field(default_factory=Pace)
    keepalive_s: float = 5.0
    api_key: str = ""
    log_requests: int = 1000
    ledger: str = ""
    """A file for a line about each attempt (ledger.py); empty: none is kept."""
    tls_cert: str = ""
    tls_key: str = ""


class Engine:
    """The whole engine; all methods run on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self.options = options
        self.loop = loop
        ledger = Ledger(options.ledger) if options.ledger else None
        self.player = Player(loop, options.pace, self._script, self._on_finish, ledger)
        self.connections: set[Connection] = set()
        self.opened = 0
        self.log: deque[tuple[int, int, float, bytes, bytes]] = deque(maxlen=options.log_requests)
        self.aborts: deque[dict[str, Any]] = deque(maxlen=10_000)
        self.received = self.aborted = 0
        self.control = Control(self)
        self._quick: dict[bytes, dict[bytes, Script]] = {}
        self._quick_entries = 0
        self._instant = options.pace.instant and not options.api_key and ledger is None
        self.quick_allowed = self._instant

    def _on_finish(self) -> None:
        self.control.notify()

    # ---- connections

    def on_open(self, connection: Connection) -> None:
        self.opened += 1
        connection.number = self.opened
        connection.idle_since = self.loop.time()
        self.connections.add(connection)
        delay_s = self.control.take_slow_accept_s()
        if delay_s:
            connection.turn_deaf()
            self.loop.call_later(delay_s, connection.listen)

    def on_close(self, connection: Connection) -> None:
        self.connections.discard(connection)
        generation = connection.answering
        if generation is not None:
            connection.answering = None
            self.aborted += 1
            self.aborts.append(
                {
                    "request": generation.number,
                    "events": generation.sent,
                    "monotonic_s": time.monotonic(),
                }
            )
            self.player.abort(generation)
        self.control.notify()

    def on_writable(self, generation: Generation) -> None:
        self.player.on_writable(generation)

    def close_idle(self) -> None:
        """Close connections that have been idle for the keep-alive time; runs again by itself."""
        now = self.loop.time()
        limit = now - self.options.keepalive_s
        for connection in list(self.connections):
            if connection.answering is None and connection.idle_since <= limit:
                connection.transport.close()
        self.loop.call_later(self.options.keepalive_s / SWEEP_PARTS, self.close_idle)

    # ---- requests

    def on_request(self, connection: Connection, head: bytes, lower: bytes, body: bytes) -> None:
        line = head[: head.find(b"\r\n")]
        if line.startswith((b"POST /sim/", b"GET /sim/")):
            return self.control.on_request(connection, line, body)
        now = self.loop.time()
        self.received += 1
        self.log.append((self.received, connection.number, now, head, body))
        if self.quick_allowed and b"\r\nx-sim:" not in lower:
            script = self._quick.get(line, {}).get(body)
            if script is not None and b"\r\nconnection: close" not in lower:
                connection.idle_since = now
                return self.player.play_now(connection, self.received, script)
        self._answer(connection, line, head, lower, body)
        self.control.notify()

    def _answer(
        self, connection: Connection, line: bytes, head: bytes, lower: bytes, body: bytes
    ) -> None:
        connection.keep_alive = (
            line.endswith(b"1.1")
            and b"close" not in field_value(head, lower, b"connection").lower()
        )
        target = line.split(b" ")[1].partition(b"?")[0].decode("latin-1")
        path = target.removeprefix("/v1")
        if path in ("/health", "/ping"):
            return self._reply(connection, Answer("application/json", [b"{}"]))
        if path == "/metrics":
            return self._reply(
                connection, Answer("text/plain; version=0.0.4", [self.control.metrics().encode()])
            )
        if self.options.api_key:
            given = field_value(head, lower, b"authorization") or field_value(
                head, lower, b"x-api-key"
            )
            if given.decode("latin-1").removeprefix("Bearer ") != self.options.api_key:
                return self._refuse(connection, "chat", 401, "Unauthorized")
        if path == "/models":
            return self._reply(connection, build_models(self.options.models))
        kind = KINDS.get(path)
        if kind is None:
            return self._refuse(connection, "chat", 404, f"no route {target}")
        try:
            asked = read_request(kind, body, self.options.tokens)
            asked.request_id = field_value(head, lower, b"x-request-id").decode("latin-1")
            name, suffix = split_model(asked.model)
            faults = self.control.take_faults(asked.model)
            faults = parse_faults(suffix, "+", faults)
            faults = parse_faults(field_value(head, lower, b"x-sim").decode(), ";", faults)
        except ValueError as error:
            return self._refuse(connection, kind, 400, str(error))
        if name not in self.options.models and "*" not in self.options.models:
            return self._refuse(connection, kind, 404, f"The model `{name}` does not exist.")
        if self._instant and faults is NO_FAULTS and connection.keep_alive:
            script = self._script(asked, faults)
            self._remember(line, body, script)
            return self.player.play_now(connection, self.received, script)
        if faults.tokens is not None:
            asked.tokens = max(1, faults.tokens)
        self.player.play(connection, self.received, asked, faults)

    def _remember(self, line: bytes, body: bytes, script: Script) -> None:
        script.group(self.options.pace.events_per_write if script.stream else 0)
        if len(body) > QUICK_BODY_BYTES:
            return
        if self._quick_entries >= QUICK_ENTRIES:
            self._quick.clear()
            self._quick_entries = 0
        self._quick.setdefault(line, {})[body] = script
        self._quick_entries += 1

    def _script(self, asked: Request, faults: Faults) -> Script:
        asked.usage = not faults.no_usage
        answer = BUILDERS[asked.kind](asked)
        if faults.status:
            message = f"the simulated engine was told to answer {faults.status}"
            body = build_error(asked.kind, faults.status, message)
            answer = Answer("application/json", [body], status=faults.status)
        script = build_script(answer, asked.kind, faults)
        script.meter = meter(
            asked, len(answer.events), faults.error_event if script.failing else None
        )
        script.prompt_tokens = asked.prompt_tokens
        script.tokens = 0 if faults.status else asked.tokens * asked.choices
        return script

    def _reply(self, connection: Connection, answer: Answer) -> None:
        script = build_script(answer, "chat")
        connection.transport.write(script.head + script.pieces[0])
        self.player.finished += 1
        connection.finish(self.loop.time())

    def _refuse(self, connection: Connection, kind: str, status: int, message: str) -> None:
        body = build_error(kind, status, message)
        self._reply(connection, Answer("application/json", [body], status=status))

    def allow_quick(self) -> None:
        """Faults or waiters came or went: decide anew whether `_quick` may answer."""
        self.quick_allowed = self._instant and not self.control.busy


async def serve(options: Options) -> None:
    """Listen, say where, and run until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    engine = Engine(loop, options)
    context = None
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key or None)

    def connect() -> Connection:
        return Connection(engine)

    if options.unix:
        server: Any = await loop.create_unix_server(connect, options.unix, ssl=context)
        where = f"unix:{options.unix}"
    else:
        server = await loop.create_server(
            connect, options.host, options.port, ssl=context, backlog=4096
        )
        host, port = server.sockets[0].getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.keepalive_s:
        engine.close_idle()
    gc.freeze()
    print(f"listening on {where}", flush=True)
    await stop.wait()
    server.close()


def read_options(argv: list[str]) -> Options:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m bench engine", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--unix", default="", metavar="PATH", help="a Unix socket instead")
    parser.add_argument("--models", default="sim", help="comma-separated; * serves any name")
    parser.add_argument("--ttft-ms", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=defaults.tokens)
    parser.add_argument("--distribution", default="fixed", help="fixed or lognormal:SIGMA")
    parser.add_argument("--prefill-tps", type=float, default=0.0, help="0: prefill takes no time")
    parser.add_argument("--kv-tokens", type=int, default=0, help="size of the prefix cache")
    parser.add_argument("--batch", type=int, default=0, help="generations at once; 0: no limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--events-per-write",
        type=int,
        default=1,
        help="for streams without delays; each event is its own HTTP chunk; 0: all at once",
    )
    parser.add_argument(
        "--keepalive-s", type=float, default=defaults.keepalive_s, help="0: for ever"
    )
    parser.add_argument("--api-key", default="", help="refuse requests without it")
    parser.add_argument("--log-requests", type=int, default=defaults.log_requests)
    parser.add_argument(
        "--ledger", default="", metavar="FILE", help="append a line of JSON for each attempt"
    )
    parser.add_argument("--tls-cert", default="")
    parser.add_argument("--tls-key", default="")
    given = vars(parser.parse_args(argv))
    given["models"] = tuple(filter(None, given["models"].split(",")))
    try:
        Latency(given["distribution"], 0)
    except ValueError as error:
        parser.error(str(error))
    pace = Pace(**{name: given.pop(name) for name in Pace.__dataclass_fields__})
    return Options(**given, pace=pace)


def main(argv: list[str]) -> int:
    uvloop.run(serve(read_options(argv)))
    return 0
