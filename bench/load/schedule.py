"""When requests leave in an open loop: a list of times that no answer can change.

A schedule is a rate curve turned round. x is how many requests were due by then: 0, 1, 2 ... for
constant arrivals, sums of exponential steps for Poisson's; when() says when the curve's area is x.
All processes draw the same schedule, and each takes every Nth time of it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

__all__ = ["arrivals", "when"]


def when(x: float, rate: float, ramp_s: float) -> float:
    """Seconds after which `x` requests were due, if the rate climbs from 0 to `rate` in ramp_s."""
    in_ramp = rate * ramp_s / 2
    if x < in_ramp:
        return math.sqrt(2 * x * ramp_s / rate)
    return ramp_s + (x - in_ramp) / rate


def arrivals(
    rate: float, kind: str, ramp_s: float, seed: int, index: int = 0, count: int = 1
) -> Iterator[int]:
    """Yield every `count`th scheduled time from the `index`th on, in ns from the start, endless."""
    if kind == "poisson":
        chance = random.Random(seed)
        due: Iterator[float] = itertools.accumulate(iter(lambda: chance.expovariate(1.0), None))
    else:
        due = map(float, itertools.count())
    for x in itertools.islice(due, index, None, count):
        yield round(when(x, rate, ramp_s) * 1e9)
