"""Open loop: when requests leave. Times are seconds from the beginning of the run."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Rate", "arrivals", "parse_rate"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests/s: `steps` one after the other; or, with `ramp`, from steps[0] to steps[1]."""

    steps: tuple[float, ...]
    ramp: bool = False

    def __str__(self) -> str:
        return ("-" if self.ramp else ",").join(f"{step:g}" for step in self.steps)


def parse_rate(text: str) -> Rate:
    """Read `50`, a ramp `10-200` or a staircase `10,50,100`; raises ValueError."""
    ramp = "-" in text
    try:
        steps = tuple(float(part) for part in text.split("-" if ramp else ","))
    except ValueError:
        steps = ()
    if not steps or min(steps) <= 0 or (ramp and len(steps) != 2):
        raise ValueError(f"expected a rate above 0, RATE-RATE or RATE,RATE,..., got {text!r}")
    return Rate(steps, ramp)


def arrivals(rate: Rate, step: int, duration_s: float, poisson: bool, seed: int) -> Iterator[float]:
    """Yield the times of one step (of the whole ramp), from 0 to before `duration_s`.

    An arrival happens whenever the integral of the rate has grown by 1, or by an exponential of
    mean 1 (Poisson, a non-homogeneous one on a ramp).
    """
    rng = random.Random(f"{seed}/{step}")
    first, last = rate.steps if rate.ramp else (rate.steps[step],) * 2
    slope = (last - first) / duration_s
    total = rng.expovariate(1.0) if poisson else 0.0
    while True:
        at_s = _when(total, first, slope)
        # The last of a constant rate may come out at the very end for want of digits.
        if not at_s < duration_s * (1 - 1e-12):
            return
        yield at_s
        total += rng.expovariate(1.0) if poisson else 1.0


def _when(total: float, first: float, slope: float) -> float:
    """Solve first * t + slope * t^2 / 2 = total."""
    if slope == 0:
        return total / first
    inside = first * first + 2 * slope * total
    return math.inf if inside < 0 else (math.sqrt(inside) - first) / slope
