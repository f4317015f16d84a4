"""Playing scripts in time: the batch, the head, the tokens, the end.

A generation is one request under way. Three ways of going on: on the timer wheel (delays), round
robin in `_pump` (none: each loop iteration writes one group of every such stream), or waiting for
its connection to become writable. Whatever happens, it passes `_end` exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bench.answers import Request
from bench.faults import NO_FAULTS, Faults
from bench.ledger import Ledger
from bench.script import Ending, Script
from bench.simulation import Batch, Histogram, Latency, Prefill, PrefixCache, Wheel
from bench.wire import Connection

__all__ = ["Generation", "Pace", "Player"]

DELIVERY_POLL_S = 0.001
"""Nothing tells when a peer has acknowledged; on loopback it does so at once, or within 40 ms."""

LATENCY_BOUNDS_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """The engine's speed; 0 switches a part off."""

    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    distribution: str = "fixed"
    seed: int = 0
    prefill_tps: float = 0.0
    kv_tokens: int = 0
    batch: int = 0
    events_per_write: int = 1

    @property
    def instant(self) -> bool:
        delays = self.ttft_ms or self.itl_ms or self.prefill_tps
        return not (delays or self.kv_tokens or self.batch)


class Generation:
    __slots__ = (
        "arrived", "asked", "blocked", "connection", "due", "faults", "first_due", "flat",
        "itl_s", "number", "queued", "script", "sent", "step",
    )  # fmt: skip

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.faults = NO_FAULTS
        self.asked: Request | None = None
        self.script: Script | None = None
        self.arrived = 0.0
        self.due = 0.0
        """When the next write is due."""
        self.first_due = 0.0
        """When the first token is due; the head may go out before."""
        self.itl_s = 0.0
        self.sent = 0
        """Events written so far."""
        self.step = -1
        """The next of `script.ends` (or of `script.writes`); -1: the head."""
        self.queued = False
        self.blocked = False
        """Due, but the connection's write buffer is full."""
        self.flat = False
        """Played round robin."""


class Player:
    """All generations under way; all methods run on the loop.

    `build(asked, faults)` makes a script, once a generation has its place in the batch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pace: Pace,
        build: Callable[[Request, Faults], Script],
        on_finish: Callable[[], None],
        ledger: Ledger | None = None,
    ) -> None:
        self.batch = Batch(pace.batch)
        self.cache = PrefixCache(pace.kv_tokens)
        self.histograms = [
            Histogram(f"vllm:{name}_seconds", LATENCY_BOUNDS_S)
            for name in ("time_to_first_token", "inter_token_latency", "request_queue_time")
        ]
        self._ttft, self._itl, self._queue_time = self.histograms
        self.reset()
        self._loop = loop
        self._pace = pace
        self._build = build
        self._on_finish = on_finish
        self._ledger = ledger
        self._latency = Latency(pace.distribution, pace.seed)
        self._prefill = Prefill(pace.prefill_tps)
        self._wheel = Wheel(loop.time, loop.call_at, self._on_due)
        self._flat: list[Generation] = []
        self._pumping = False

    def reset(self) -> None:
        """Forget prompts and counters; what is under way goes on."""
        self.cache.clear()
        self.finished = self.events = 0
        self.prompt_tokens = self.cached_tokens = self.generated_tokens = 0

    # ---- ways in

    def play_now(self, connection: Connection, number: int, script: Script) -> None:
        """Play a script without delays, outside the batch."""
        self.prompt_tokens += script.prompt_tokens
        self.generated_tokens += script.tokens
        if len(script.writes) == 1:
            connection.transport.write(script.writes[0])
            self.finished += 1
            self.events += len(script.pieces)
            return
        generation = Generation(connection, number)
        generation.script = script
        generation.flat = True
        generation.step = 0
        connection.answering = generation
        self.batch.running += 1
        self._join_flat(generation)

    def play(self, connection: Connection, number: int, asked: Request, faults: Faults) -> None:
        """Play the answer to `asked` in time, once the batch has a place for it."""
        generation = Generation(connection, number)
        generation.asked = asked
        generation.faults = faults
        generation.arrived = self._loop.time()
        connection.answering = generation
        generation.queued = not self.batch.enter(generation)
        if not generation.queued:
            self._begin(generation)

    def abort(self, generation: Generation) -> None:
        """Its client is gone."""
        self._end(generation, True)

    def on_writable(self, generation: Generation) -> None:
        if not generation.blocked:
            return
        generation.blocked = False
        if generation.flat:
            self._join_flat(generation)
        else:
            self._step(generation, self._loop.time())

    # ---- in time

    def _begin(self, generation: Generation) -> None:
        """A place in the batch is free: schedule the head and the first token."""
        now = self._loop.time()
        asked, faults, pace = generation.asked, generation.faults, self._pace
        assert asked is not None
        generation.queued = False
        self._queue_time.observe(now - generation.arrived)
        if self.cache.capacity_blocks:
            prompt = asked.prompt.encode()
            part = self.cache.match(prompt) / max(1, len(prompt))
            asked.cached_tokens = int(asked.prompt_tokens * part)
        self.prompt_tokens += asked.prompt_tokens
        self.cached_tokens += asked.cached_tokens
        script = generation.script = self._build(asked, faults)
        generation.due = generation.first_due = now + faults.delay_ms / 1000
        if not faults.status:
            itl_s = (pace.itl_ms if faults.itl_ms is None else faults.itl_ms) / 1000
            ttft_s = (pace.ttft_ms if faults.ttft_ms is None else faults.ttft_ms) / 1000
            uncached_tokens = asked.prompt_tokens - asked.cached_tokens
            ready = self._prefill.schedule(generation.due, uncached_tokens)
            generation.first_due = ready + self._latency.sample(ttft_s)
            generation.itl_s = itl_s if script.stream else 0.0
        if not script.stream:
            # A plain answer comes when its last token does, and its head with it.
            gaps = range(asked.tokens - 1) if not faults.status and itl_s else ()
            generation.first_due += sum(self._latency.sample(itl_s) for _ in gaps)
            generation.due = generation.first_due
        self._ttft.observe(generation.first_due - generation.arrived)
        if generation.due <= now:
            self._step(generation, now)
        else:
            self._wheel.add(generation.due, generation)

    def _on_due(self, item: object, now: float) -> None:
        assert isinstance(item, Generation)
        if item.connection.answering is item:
            # Woken a fraction early it is due all the same.
            self._step(item, max(now, item.due))

    def _step(self, generation: Generation, now: float) -> None:
        """Write all that is due; then hang the generation on the wheel again, or end it."""
        script, connection = generation.script, generation.connection
        assert script is not None
        moments = len(script.ends)
        while generation.due <= now:
            if connection.paused:
                generation.blocked = True
                return
            if generation.step >= 0:
                self._write_moment(generation, b"")
            elif generation.first_due <= now and moments:
                generation.due = generation.first_due
                self._write_moment(generation, script.head)
            else:
                connection.transport.write(script.head)
                generation.due = generation.first_due
                generation.step = 0
            if generation.step >= moments:
                return self._finish(generation, now)
            if generation.step > 0:
                generation.due += self._latency.sample(generation.itl_s)
        self._wheel.add(generation.due, generation)

    def _write_moment(self, generation: Generation, before: bytes) -> None:
        """Write the events of the next moment, behind the bytes `before`."""
        script = generation.script
        assert script is not None
        generation.step = max(generation.step, 0)
        end = script.ends[generation.step]
        pieces = script.pieces[generation.sent : end]
        generation.connection.transport.write(before + b"".join(pieces))
        self.events += end - generation.sent
        generation.sent = end
        generation.step += 1

    # ---- round robin

    def _join_flat(self, generation: Generation) -> None:
        self._flat.append(generation)
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Write the next group of each stream without delays; once per loop iteration."""
        playing, self._flat = self._flat, []
        for generation in playing:
            connection, script = generation.connection, generation.script
            assert script is not None
            if connection.answering is not generation:
                continue
            if connection.paused:
                generation.blocked = True
                continue
            connection.transport.write(script.writes[generation.step])
            generation.step += 1
            if generation.step < len(script.writes):
                generation.sent = generation.step * self._pace.events_per_write
                self._flat.append(generation)
            else:
                self.events += len(script.pieces)
                self._finish(generation, self._loop.time())
        self._pumping = bool(self._flat)
        if self._flat:
            self._loop.call_soon(self._pump)

    # ---- ways out

    def _finish(self, generation: Generation, now: float) -> None:
        """The script has been written: keep, close, reset or go silent, as it says."""
        script = generation.script
        assert script is not None
        if script.ending is Ending.STALL:
            return
        if self._ledger is not None and script.ending is not Ending.KEEP:
            return self._finish_delivered(generation)
        self._leave(generation, now)

    def _finish_delivered(self, generation: Generation) -> None:
        """Hang up once all that is billed has arrived: a reset would take it back."""
        connection = generation.connection
        if connection.answering is not generation:
            return
        if connection.undelivered_bytes():
            self._loop.call_later(DELIVERY_POLL_S, self._finish_delivered, generation)
        else:
            self._leave(generation, self._loop.time())

    def _leave(self, generation: Generation, now: float) -> None:
        script, connection = generation.script, generation.connection
        assert script is not None
        self.finished += 1
        connection.answering = None
        if script.ending is not Ending.KEEP:
            connection.hang_up(script.ending is Ending.RESET)
        self._end(generation)
        if script.ending is Ending.KEEP:
            connection.finish(now)
        self._on_finish()

    def _end(self, generation: Generation, gone: bool = False) -> None:
        """Give the place in the batch, or in its queue, back; `gone`: the client left."""
        if self._ledger is not None:
            self._ledger.write(generation, gone)
        if generation.flat:
            self.batch.running -= 1
            return
        if generation.queued:
            self.batch.withdraw(generation)
            return
        if generation.script is not None:
            self.generated_tokens += generation.script.tokens
            if generation.step > 1:
                self._itl.observe(generation.itl_s, generation.step - 1)
        waiting = self.batch.leave()
        if isinstance(waiting, Generation):
            self._begin(waiting)
