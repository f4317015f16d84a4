"""The simulated engine's own routes: faults to come, what happened so far, metrics.

    POST /sim/faults   {"faults": "status=503", "requests": 3, "model": "a"}; or "connections": 2
                       with slow-accept. Without a count: until /sim/reset. "share": 0.1 takes one
                       in ten, by the engine's seed.
    POST /sim/reset    forget faults, log, aborts and prefix cache; counters back to 0
    GET  /sim/log      counters, requests received (?after=NUMBER), aborts
    GET  /sim/wait     the same, once ?requests= ?finished= ?aborted= are reached and not more than
                       ?open= connections are left, or after ?timeout-s= (5), with "timed_out"

`connections` that used these routes are not counted as opened or open.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from typing import Any
from urllib.parse import parse_qsl

import orjson

from bench.answers import JSON
from bench.faults import NO_FAULTS, Faults, parse_faults
from bench.wire import Connection, build_head, fields

__all__ = ["Control"]

LOGGED_BODY_BYTES = 1 << 20
WAIT_TIMEOUT_S = 5.0
SECRET_FIELDS = ("authorization", "x-api-key", "api-key")


class Armed:
    """Faults that wait for requests or connections; `left` is None for no end."""

    __slots__ = ("faults", "left", "model", "on_connect", "share")

    def __init__(self, order: dict[str, Any]) -> None:
        self.faults = parse_faults(order["faults"])
        self.on_connect = "connections" in order
        self.left: int | None = order.get("connections" if self.on_connect else "requests")
        self.model: str | None = order.get("model")
        self.share = float(order.get("share", 1.0))


class Control:
    """`busy` is true while faults are armed or someone waits: the quick path is off then."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._armed: list[Armed] = []
        self._dice = random.Random(engine.options.pace.seed)
        self._waiters: dict[Connection, tuple[dict[str, int], asyncio.TimerHandle]] = {}
        self._connections: set[int] = set()

    @property
    def busy(self) -> bool:
        return bool(self._armed or self._waiters)

    def on_request(self, connection: Connection, line: bytes, body: bytes) -> None:
        self._connections.add(connection.number)
        path, _, query = line.split(b" ")[1].decode("latin-1").partition("?")
        asked = dict(parse_qsl(query))
        status, answer = 200, {}
        try:
            match path:
                case "/sim/faults":
                    self._armed.append(Armed(orjson.loads(body)))
                case "/sim/reset":
                    self._reset()
                case "/sim/log":
                    answer = self._report(int(asked.get("after", 0)))
                case "/sim/wait":
                    return self._wait(connection, asked)
                case _:
                    status, answer = 404, {"error": f"no route {path}"}
        except (KeyError, ValueError) as error:
            status, answer = 400, {"error": str(error)}
        self._engine.allow_quick()
        self._reply(connection, answer, status)

    def _reply(self, connection: Connection, answer: object, status: int = 200) -> None:
        body = orjson.dumps(answer)
        connection.transport.write(build_head(status, JSON, len(body)) + body)
        connection.idle_since = self._engine.loop.time()

    # ---- faults

    def take_faults(self, model: str) -> Faults:
        """The faults for the next request of `model`; uses up one of their count."""
        if not self._armed:
            return NO_FAULTS
        for armed in self._armed:
            if armed.on_connect or armed.model not in (None, model):
                continue
            if armed.share >= 1 or self._dice.random() < armed.share:
                self._use(armed)
                return armed.faults
        return NO_FAULTS

    def take_slow_accept_s(self) -> float:
        for armed in self._armed:
            if armed.on_connect:
                self._use(armed)
                return armed.faults.slow_accept_ms / 1000
        return 0.0

    def _use(self, armed: Armed) -> None:
        if armed.left is not None:
            armed.left -= 1
            if armed.left <= 0:
                self._armed.remove(armed)
                self._engine.allow_quick()

    # ---- reports

    def counters(self) -> dict[str, int]:
        engine, player = self._engine, self._engine.player
        ours = sum(c.number in self._connections for c in engine.connections)
        return {
            "requests": engine.received,
            "finished": player.finished,
            "aborted": engine.aborted,
            "running": player.batch.running,
            "waiting": player.batch.waiting,
            "events": player.events,
            "prompt_tokens": player.prompt_tokens,
            "cached_tokens": player.cached_tokens,
            "generated_tokens": player.generated_tokens,
            "opened": engine.opened - len(self._connections),
            "open": len(engine.connections) - ours,
        }

    def _report(self, after: int = 0) -> dict[str, Any]:
        engine = self._engine
        return {
            "counters": self.counters(),
            "requests": [describe(*entry) for entry in engine.log if entry[0] > after],
            "aborts": list(engine.aborts),
        }

    def _reset(self) -> None:
        engine = self._engine
        self._armed.clear()
        engine.log.clear()
        engine.aborts.clear()
        engine.received = engine.aborted = 0
        engine.player.reset()

    # ---- waiting

    def _wait(self, connection: Connection, asked: dict[str, str]) -> None:
        timeout_s = float(asked.pop("timeout-s", WAIT_TIMEOUT_S))
        goals = {name: int(value) for name, value in asked.items()}
        unknown = goals.keys() - {"requests", "finished", "aborted", "open", "running"}
        if unknown:
            raise ValueError(f"can't wait for {', '.join(sorted(unknown))}")
        timer = self._engine.loop.call_later(timeout_s, self._give_up, connection)
        self._waiters[connection] = (goals, timer)
        connection.idle_since = math.inf  # not idle: it waits
        self._engine.allow_quick()
        self.notify()

    def notify(self) -> None:
        """Something was counted: answer those who waited for it."""
        if not self._waiters:
            return
        now = self.counters()
        for connection, (goals, timer) in list(self._waiters.items()):
            if connection.transport.is_closing():
                self._release(connection, timer)
            elif all(now[k] <= v if k == "open" else now[k] >= v for k, v in goals.items()):
                self._release(connection, timer)
                self._reply(connection, self._report())

    def _give_up(self, connection: Connection) -> None:
        self._release(connection, self._waiters[connection][1])
        if not connection.transport.is_closing():
            self._reply(connection, self._report() | {"timed_out": True})

    def _release(self, connection: Connection, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        del self._waiters[connection]
        self._engine.allow_quick()

    # ---- metrics

    def metrics(self) -> str:
        """Prometheus text in vLLM's names; HELP lines are left out."""
        engine, player = self._engine, self._engine.player
        labels = f'model_name="{engine.options.models[0]}"'
        gauges = {
            "vllm:num_requests_running": player.batch.running,
            "vllm:num_requests_waiting": player.batch.waiting,
            "vllm:kv_cache_usage_perc": round(player.cache.usage, 6),
        }
        counters = {
            "vllm:prompt_tokens_total": player.prompt_tokens,
            "vllm:generation_tokens_total": player.generated_tokens,
            "vllm:prefix_cache_queries_total": player.prompt_tokens,
            "vllm:prefix_cache_hits_total": player.cached_tokens,
            "vllm:prompt_tokens_cached_total": player.cached_tokens,
            "vllm:num_preemptions_total": 0,
            "vllm:request_success_total": player.finished,
        }
        lines = []
        for kind, found in (("gauge", gauges), ("counter", counters)):
            for name, value in found.items():
                lines += [f"# TYPE {name} {kind}", f"{name}{{{labels}}} {value}"]
        cache = f'{labels},block_size="128",num_gpu_blocks="{player.cache.capacity_blocks}"'
        lines += ["# TYPE vllm:cache_config_info gauge", f"vllm:cache_config_info{{{cache}}} 1"]
        for histogram in player.histograms:
            lines += histogram.lines(labels)
        return "\n".join(lines) + "\n"


def describe(
    number: int, connection: int, received_s: float, head: bytes, body: bytes
) -> dict[str, Any]:
    """One request as received; secrets by their SHA-256, the body as text where it is text."""
    method, target, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ", 2)
    shown = [
        (name, hashlib.sha256(value.encode("latin-1")).hexdigest())
        if name in SECRET_FIELDS
        else (name, value)
        for name, value in fields(head)
    ]
    try:
        text = body[:LOGGED_BODY_BYTES].decode()
    except UnicodeDecodeError:
        text = None
    return {
        "number": number,
        "connection": connection,
        "monotonic_s": received_s,
        "method": method,
        "target": target,
        "headers": shown,
        "body": text,
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
