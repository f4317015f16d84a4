"""What makes the simulated engine behave like one: time, batch, prefill and prefix cache.

No sockets here. The clock is an argument, so that each part is exact under test:

    Wheel          wakes many generations with one timer
    Latency        samples of TTFT and ITL, seeded
    PrefixCache    least-recently-used blocks of prompts, 512 bytes each
    Prefill        one prompt after the other at a given rate
    Batch          at most N generations at once, the rest wait in order
    Histogram      a Prometheus histogram for /metrics
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Protocol

__all__ = ["Batch", "Histogram", "Latency", "Prefill", "PrefixCache", "Wheel"]

TICK_S = 0.001
"""uvloop's own timers have this grain: a finer wheel would only add wake-ups."""

BLOCK_BYTES = 512
BYTES_PER_TOKEN = 4
"""The usual rule of thumb for English text; a block is then 128 tokens."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Wheel:
    """Calls `wake(item, now)` when an item's time has come, with one timer for all items.

    `call_at(when, callback)` is the loop's, `clock()` its time, both in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], Timer],
        wake: Callable[[object, float], None],
    ) -> None:
        self._clock = clock
        self._call_at = call_at
        self._wake = wake
        self._slots: dict[int, list[object]] = {}
        self._ticks: list[int] = []
        self._timer: Timer | None = None
        self._armed = 0

    def add(self, due: float, item: object) -> None:
        """Wake `item` at the first tick that is not before `due`."""
        tick = math.ceil(due / TICK_S)
        slot = self._slots.get(tick)
        if slot is not None:
            slot.append(item)
            return
        self._slots[tick] = [item]
        heapq.heappush(self._ticks, tick)
        if self._timer is None or tick < self._armed:
            self._arm(tick)

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = tick
        self._timer = self._call_at(tick * TICK_S, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock()
        # The loop's timers may fire a fraction early: the tick that was waited for is due.
        last = max(self._armed, int(now / TICK_S))
        due: list[object] = []
        while self._ticks and self._ticks[0] <= last:
            due += self._slots.pop(heapq.heappop(self._ticks))
        for item in due:
            self._wake(item, now)
        if self._ticks and (self._timer is None or self._ticks[0] < self._armed):
            self._arm(self._ticks[0])


class Latency:
    """Samples around a given median: always the median itself, or lognormal with `sigma`."""

    def __init__(self, distribution: str, seed: int) -> None:
        kind, _, sigma = distribution.partition(":")
        if kind not in ("fixed", "lognormal") or (kind == "fixed") != (sigma == ""):
            raise ValueError(f"expected fixed or lognormal:SIGMA, got {distribution!r}")
        self._sigma = float(sigma or 0)
        self._random = random.Random(seed)

    def sample(self, median_s: float) -> float:
        if not self._sigma or not median_s:
            return median_s
        return median_s * math.exp(self._random.gauss(0.0, self._sigma))


class PrefixCache:
    """A KV cache's view of prompts: chained blocks, the least recently used evicted first."""

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity_blocks = capacity_tokens * BYTES_PER_TOKEN // BLOCK_BYTES
        self._blocks: OrderedDict[int, None] = OrderedDict()

    @property
    def usage(self) -> float:
        """The part of the blocks that is in use, 0 to 1."""
        return len(self._blocks) / self.capacity_blocks if self.capacity_blocks else 0.0

    def clear(self) -> None:
        self._blocks.clear()

    def match(self, prompt: bytes) -> int:
        """Return how many leading bytes of `prompt` are cached; cache its whole blocks."""
        if not self.capacity_blocks:
            return 0
        matched = 0
        missed = False
        chain = 0
        for start in range(0, len(prompt) - BLOCK_BYTES + 1, BLOCK_BYTES):
            chain = hash((chain, prompt[start : start + BLOCK_BYTES]))
            if chain in self._blocks:
                self._blocks.move_to_end(chain)
                matched += 0 if missed else BLOCK_BYTES
                continue
            missed = True
            self._blocks[chain] = None
            if len(self._blocks) > self.capacity_blocks:
                self._blocks.popitem(last=False)
        return matched


class Prefill:
    """One prompt after the other: what a long prompt costs those behind it."""

    def __init__(self, tokens_per_s: float) -> None:
        self._tokens_per_s = tokens_per_s
        self._free_at = 0.0

    def schedule(self, now: float, uncached_tokens: int) -> float:
        """Return when the prefill of that many tokens, begun no sooner than `now`, is done."""
        if not self._tokens_per_s:
            return now
        self._free_at = max(now, self._free_at) + uncached_tokens / self._tokens_per_s
        return self._free_at


class Batch:
    """At most `size` items run (0: no limit); the others wait in the order in which they came."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[object] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self, item: object) -> bool:
        """Return whether `item` may start now; if not it waits until leave() returns it."""
        if self._size and self.running >= self._size:
            self._waiting.append(item)
            return False
        self.running += 1
        return True

    def leave(self) -> object | None:
        """End one running item; return the one that takes its place."""
        if self._waiting:
            return self._waiting.popleft()
        self.running -= 1
        return None

    def withdraw(self, item: object) -> bool:
        """Take a waiting item out; return whether it was waiting."""
        try:
            self._waiting.remove(item)
        except ValueError:
            return False
        return True


class Histogram:
    """A Prometheus histogram with fixed upper bounds, in seconds."""

    def __init__(self, name: str, bounds_s: Iterable[float]) -> None:
        self._name = name
        self._bounds = tuple(bounds_s)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value_s: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value_s)] += times
        self._sum += value_s * times

    def lines(self, labels: str) -> list[str]:
        """The histogram in Prometheus' text format."""
        found = [f"# TYPE {self._name} histogram"]
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{self._name}_bucket{{{labels},le="{bound}"}} {total}')
        found.append(f"{self._name}_sum{{{labels}}} {self._sum:.6f}")
        found.append(f"{self._name}_count{{{labels}}} {total}")
        return found
