"""Dollars as clients write them, nano-dollars as we count; and the durations of budgets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

__all__ = ["MAX_USD", "parse_duration", "to_nano", "to_usd", "upcoming_reset"]

NANO = 1_000_000_000
MAX_USD = 9_000_000_000
"""Of one amount: what BIGINT nano-dollars hold, rounded down."""

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w|mo)|(hourly|daily|weekly|monthly)")
_WORDS = {"hourly": (1, "h"), "daily": (1, "d"), "weekly": (7, "d"), "monthly": (1, "mo")}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def to_nano(dollars: float) -> int:
    """Return whole nano-dollars: those of the shortest decimal that is this double, which is what
    the client wrote; rounded to even.
    """
    return int((Decimal(repr(dollars)) * NANO).to_integral_value(ROUND_HALF_EVEN))


def to_usd(nano: int) -> float:
    """Return dollars: the nearest double, which up to 4.5 million dollars (2 ** 52 nano-dollars)
    rounds back to the exact nano-dollar.
    """
    return nano / NANO


def _parse(text: str) -> tuple[int, str]:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"expected a duration such as 30s, 15m, 12h, 30d or 1mo, got {text[:20]!r}"
        )
    return _WORDS[match[3]] if match[3] else (int(match[1]), match[2])


def parse_duration(text: str, start: datetime) -> datetime:
    """Return the time that lies `text` (`30d`, `1mo`) after `start`. Raises ValueError."""
    count, unit = _parse(text)
    if unit != "mo":
        try:
            return start + timedelta(seconds=count * _SECONDS[unit])
        except OverflowError:
            raise ValueError(f"expected a duration within this age, got {text!r}") from None
    years, month = divmod(start.month - 1 + count, 12)
    if start.year + years > datetime.max.year:
        raise ValueError(f"expected a duration within this age, got {text!r}")
    for day in (start.day, 30, 29, 28):
        try:
            return start.replace(year=start.year + years, month=month + 1, day=day)
        except ValueError:
            # The month is shorter.
            continue
    raise AssertionError("every month has 28 days")


def upcoming_reset(duration: str, now: datetime) -> datetime:
    """Return when a budget of this duration starts anew. LiteLLM's boundaries, in UTC: seconds to
    hours by the clock, `1d` at midnight, `7d` on Monday, `30d` and `1mo` on the 1st. Raises
    ValueError.
    """
    count, unit = _parse(duration)
    now = now.astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "w":
        count, unit = count * 7, "d"
    if (count, unit) == (7, "d"):
        return midnight + timedelta(days=7 - now.weekday())
    if (count, unit) == (30, "d"):
        count, unit = 1, "mo"
    if unit == "mo":
        return parse_duration(f"{count}mo", midnight.replace(day=1))
    if unit == "d":
        return parse_duration(f"{count}d", midnight)
    span_s = count * _SECONDS[unit]
    since_s = int((now - midnight).total_seconds())
    # By the clock where it divides a day; else from the last midnight on.
    return midnight + timedelta(seconds=(since_s // span_s + 1) * span_s)
