"""A price: what each unit of a request costs, as exact fractions of a dollar.

A `Price` is immutable and holds for any time; which one holds when is for `prices.py` to say. It is
compiled once into a card of `_core.cost`: every rate a whole number over one common denominator, so
that a sum of any of them is exact and is rounded once, by the one division at its end. What is too
fine or too dear for that is refused here, never rounded.

What a price does not name falls back within its kind: cached tokens cost what uncached ones do,
reasoning what other output does. A whole kind that has no price (an embedding model's output) costs
an unknown amount, not nothing; only a price that names no token at all makes tokens free.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction

from fastgate._core.cost import LANE_NAMES, MAX_RATE, MAX_STEPS, Rates

__all__ = ["EVER_US", "Lanes", "Price", "encoded"]

EVER_US = -(2**63)
"""The time since when a price holds that always did."""
NANO = 10**9
NEVER_TOKENS = 2**63 - 1
UNPRICED = -1

Lanes = Mapping[str, Fraction]
"""Dollars for one of each lane that is named; seconds: for a whole one."""

_FALLBACK = {
    "cached": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_in": "input",
    "image_in": "input",
    "reasoning": "output",
    "audio_out": "output",
    "image_out": "output",
}
"""In an order in which each is looked for before what falls back to it."""
_KINDS = ("input", "output")
_APART = ("images", "requests", "seconds")

_TIME = struct.Struct("=q")
_BODY = struct.Struct(f"=Q{1 + MAX_STEPS + MAX_STEPS * len(LANE_NAMES)}q")


class Price:
    """What one model costs, from whatever source."""

    __slots__ = ("_body", "_rates", "by_more_than_tokens", "source", "version")

    def __init__(self, source: str, steps: Mapping[int, Lanes]) -> None:
        """Compile `steps`: lanes by the number of prompt tokens above which they hold, -1: all.

        A step names what differs from the steps below it. Raises ValueError for what can't be
        told apart from its rounding: too many steps, rates too fine or too dear.
        """
        numbers = _numbers(steps)
        self.source = source
        """Where it comes from, for people and for `version`."""
        self.by_more_than_tokens = any(
            lanes.get(lane) for lanes in steps.values() for lane in ("images", "seconds")
        )
        """Something is charged that the rows of requests do not keep."""
        digest = hashlib.sha256(f"{source}:{numbers}".encode()).digest()[:8]
        self.version = digest.hex()
        """The same for the same rates from the same kind of source, on any machine."""
        self._body = _BODY.pack(int.from_bytes(digest, "big"), *numbers)
        self._rates = Rates.decode(self.encode())

    def __repr__(self) -> str:
        return f"Price({self.source!r}, {self.version})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Price) and self._body == other._body

    def __hash__(self) -> int:
        return hash(self._body)

    def encode(self, since_us: int = EVER_US) -> bytes:
        """Return what `Rates.decode` takes, for a price that holds from `since_us` on."""
        return _TIME.pack(since_us) + self._body

    def cost_nano(
        self,
        prompt: int = 0,
        cached: int = 0,
        cache_write: int = 0,
        completion: int = 0,
        reasoning: int = 0,
        audio_in: int = 0,
        audio_out: int = 0,
        requests: int = 1,
        seconds_ns: int = 0,
        **parts: int,
    ) -> int | None:
        """Return what a request costs, as `Rates.cost_nano` does, of which this takes the rest."""
        return self._rates.cost_nano(
            0,
            prompt,
            cached,
            cache_write,
            completion,
            reasoning,
            audio_in,
            audio_out,
            requests,
            seconds_ns,
            **parts,
        )

    def max_cost_nano(
        self, input_tokens_upper: int, max_output_tokens: int, n: int = 1
    ) -> int | None:
        """Return the most that a request of these bounds costs, as `Rates.max_cost_nano` does."""
        return self._rates.max_cost_nano(0, input_tokens_upper, max_output_tokens, n)


def encoded(periods: Iterable[tuple[int, Price | None]]) -> bytes:
    """Return the cards of `periods`, each a time and the price from it on (None: unknown)."""
    return b"".join(
        _TIME.pack(since_us) + _UNKNOWN if price is None else price.encode(since_us)
        for since_us, price in periods
    )


def _numbers(steps: Mapping[int, Lanes]) -> list[int]:
    """Return scale, thresholds and rates, as a card has them."""
    if -1 not in steps or len(steps) > MAX_STEPS:
        raise ValueError(f"expected a base and at most {MAX_STEPS - 1} tiers")
    thresholds = sorted(steps)
    table: list[list[Fraction | None]] = []
    named: dict[str, Fraction] = {}
    for above in thresholds:
        named.update(steps[above])
        table.append(_resolved(named))
    known = [rate * NANO for rates in table for rate in rates if rate is not None]
    scale = math.lcm(*(rate.denominator for rate in known))
    largest = max(known, default=Fraction(0)) * scale
    if scale > MAX_RATE or largest > MAX_RATE:
        raise ValueError("expected prices with fewer digits, or less far apart")
    rows = [
        [UNPRICED if rate is None else int(rate * NANO * scale) for rate in rates]
        for rates in table
    ]
    spare = MAX_STEPS - len(rows)
    rows += [rows[-1]] * spare
    return [scale, *thresholds, *[NEVER_TOKENS] * spare, *(rate for row in rows for rate in row)]


def _resolved(named: Lanes) -> list[Fraction | None]:
    """Return a rate for every lane, in their order; None: unknown."""
    found: dict[str, Fraction | None] = {kind: named.get(kind) for kind in _KINDS}
    if named and not named.keys() - set(_APART):
        found = dict.fromkeys(_KINDS, Fraction(0))
    for lane, instead in _FALLBACK.items():
        found[lane] = named.get(lane, found[instead])
    for lane in _APART:
        found[lane] = named.get(lane, Fraction(0))
    # Named by the second, counted by the nanosecond.
    found["seconds"] = named.get("seconds", Fraction(0)) / NANO
    return [found[lane] for lane in LANE_NAMES]


_UNKNOWN = _BODY.pack(
    0,
    1,
    -1,
    *[NEVER_TOKENS] * (MAX_STEPS - 1),
    *[UNPRICED] * (MAX_STEPS * len(LANE_NAMES)),
)
"""The card of no price at all: whatever is counted costs an unknown amount."""
