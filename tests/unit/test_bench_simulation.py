"""The simulated engine's time, batch, prefill and prefix cache, under a clock of the test's."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from bench.simulation import Batch, Histogram, Latency, Prefill, PrefixCache, Wheel


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Keeps the timers of a wheel; `advance` fires those that are due, `early_s` too soon."""

    def __init__(self, early_s: float = 0.0) -> None:
        self.now = 0.0
        self.early_s = early_s
        self.timers: list[tuple[float, Callable[[], None], Timer]] = []

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.timers.append((when, callback, Timer()))
        return self.timers[-1][2]

    def advance(self, to: float) -> None:
        while due := [t for t in self.timers if t[0] <= to and not t[2].cancelled]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0] - self.early_s)
            first[1]()
        self.now = to

    def waiting(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self.timers)


@pytest.mark.parametrize("early_s", [0.0, 0.0005])
def test_the_wheel_wakes_each_item_once_in_order(early_s: float) -> None:
    clock = Clock(early_s)
    woken: list[object] = []
    wheel = Wheel(lambda: clock.now, clock.call_at, lambda item, now: woken.append(item))
    for item, due in (("b", 0.02), ("c", 0.3), ("a", 0.0101), ("b2", 0.0199)):
        wheel.add(due, item)
    assert clock.waiting() == 1
    clock.advance(0.25)
    assert woken == ["a", "b", "b2"]
    clock.advance(0.5)
    assert woken == ["a", "b", "b2", "c"]
    assert clock.waiting() == 0


def test_the_wheel_takes_items_that_are_added_while_it_turns() -> None:
    clock = Clock()
    woken: list[float] = []

    def wake(item: object, now: float) -> None:
        woken.append(round(now, 3))
        if now < 0.05:
            wheel.add(now + 0.02, item)

    wheel = Wheel(lambda: clock.now, clock.call_at, wake)
    wheel.add(0.02, "stream")
    clock.advance(1.0)
    assert woken == [0.02, 0.04, 0.06]


def test_an_item_that_is_not_done_does_not_turn_the_wheel_for_ever() -> None:
    clock = Clock(early_s=0.0005)
    times = 0

    def wake(item: object, now: float) -> None:
        nonlocal times
        times += 1
        if times < 5:
            wheel.add(0.01, item)  # still the tick that is being worked on

    wheel = Wheel(lambda: clock.now, clock.call_at, wake)
    wheel.add(0.01, "stream")
    clock.advance(0.01)
    assert times == 5


def test_latency_is_fixed_or_lognormal_around_its_median() -> None:
    assert Latency("fixed", 1).sample(0.05) == 0.05
    samples = [Latency("lognormal:0.5", seed).sample(0.05) for seed in range(500)]
    assert statistics.median(samples) == pytest.approx(0.05, rel=0.1)
    assert max(samples) > 2 * min(samples)
    assert Latency("lognormal:0.5", 7).sample(1) == Latency("lognormal:0.5", 7).sample(1)


@pytest.mark.parametrize("text", ["normal", "fixed:1", "lognormal", "lognormal:x"])
def test_an_unknown_distribution_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Latency(text, 0)


def test_the_prefix_cache_matches_whole_leading_blocks() -> None:
    cache = PrefixCache(capacity_tokens=10_000)
    prompt = bytes(range(256)) * 8
    assert cache.match(prompt) == 0
    assert cache.match(prompt) == 2048
    assert cache.match(prompt[:1300] + b"x" * 748) == 1024
    assert cache.match(b"x" + prompt[1:]) == 0


def test_the_prefix_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = PrefixCache(capacity_tokens=256)  # two blocks
    first, second, third = (bytes([n]) * 512 for n in (1, 2, 3))
    cache.match(first)
    cache.match(second)
    assert cache.match(first) == 512
    cache.match(third)
    assert cache.match(second) == 0
    assert cache.usage == 1.0


def test_prefills_run_one_after_the_other() -> None:
    prefill = Prefill(tokens_per_s=1000)
    assert prefill.schedule(10.0, 500) == 10.5
    assert prefill.schedule(10.2, 500) == 11.0
    assert prefill.schedule(20.0, 100) == 20.1
    assert Prefill(0).schedule(5.0, 10_000) == 5.0


def test_a_full_batch_makes_the_others_wait_in_order() -> None:
    batch = Batch(2)
    assert [batch.enter(item) for item in "abcde"] == [True, True, False, False, False]
    assert batch.withdraw("c")
    assert not batch.withdraw("a")
    assert batch.leave() == "d"
    assert batch.leave() == "e"
    assert batch.leave() is None
    assert (batch.running, batch.waiting) == (1, 0)


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram("ttft", (0.1, 1.0))
    for value in (0.1, 0.2, 5.0):
        histogram.observe(value)
    assert histogram.lines('model="m"')[1:] == [
        'ttft_bucket{model="m",le="0.1"} 1',
        'ttft_bucket{model="m",le="1.0"} 2',
        'ttft_bucket{model="m",le="+Inf"} 3',
        'ttft_sum{model="m"} 5.300000',
        'ttft_count{model="m"} 3',
    ]
