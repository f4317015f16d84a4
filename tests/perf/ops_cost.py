"""Operations of `cost`: what the end of a request costs, and its reservation."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from fastgate._core.cost import Rates
from fastgate.spend.price import Price

__all__ = ["OPERATIONS"]


def rates() -> Rates:
    usd = {"input": Fraction(5, 2), "cached": Fraction(5, 4), "output": Fraction(10)}
    per_token = {lane: value / 10**6 for lane, value in usd.items()}
    dearer = {lane: 2 * value for lane, value in per_token.items()}
    return Rates.decode(Price("perf", {-1: per_token, 200_000: dearer}).encode())


def cost() -> Callable[[], object]:
    made = rates()
    return lambda: made.cost_nano(5, 2006, 1920, 0, 300, 64)


def max_cost() -> Callable[[], object]:
    made = rates()
    return lambda: made.max_cost_nano(5, 2006, 4096)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "cost_nano": cost,
    "max_cost_nano": max_cost,
}
