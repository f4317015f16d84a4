"""What the tests' models cost, and the same in exact fractions: the arithmetic of nobody else."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

__all__ = ["PRICES", "cost_nano", "price_fields"]

_HALF = Fraction(1, 2)

PRICES = {
    "sim-a": ("0.0000000137", "0.0000000031", "0.0000000711"),
    "sim-b": ("0.0000000193", "0.0000000047", "0.0000000893"),
    "sim-spare": ("0.0000000229", "0.0000000053", "0.0000001013"),
    "sim-m": ("0.0000000317", "0.0000000061", "0.0000001277"),
    "sim-e": ("0.0000000413", "0.0000000079", "0.0000000001"),
    "sim-down": ("0.0000000503", "0.0000000083", "0.0000001499"),
}
"""Dollars for a token of the prompt, for one from the cache, for one of the answer. In tenths of a
nano-dollar they are primes: a token that is missing, surplus or of another model shows in the sum.
"""


def price_fields(model: str) -> dict[str, Any]:
    """Return a deployment's parameters for what `model` costs."""
    prompt, cached, completion = PRICES[model]
    return {
        "input_cost_per_token": float(prompt),
        "cache_read_input_token_cost": float(cached),
        "output_cost_per_token": float(completion),
    }


def cost_nano(model: str, prompt: int, cached: int, completion: int) -> int:
    """Return what a request comes to, in nano-dollars; half of one is rounded up."""
    price = [Fraction(usd) * 10**9 for usd in PRICES[model]]
    exact = (prompt - cached) * price[0] + cached * price[1] + completion * price[2]
    return int((exact + _HALF) // 1)
