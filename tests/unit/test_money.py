"""Dollars and nano-dollars, durations and the resets of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgate.management.money import MAX_USD, parse_duration, to_nano, to_usd, upcoming_reset

# A Wednesday.
NOW = datetime(2026, 1, 28, 13, 45, 31, 500, tzinfo=UTC)


@given(st.integers(0, 2**52))
def test_every_nano_dollar_comes_back(nano: int) -> None:
    assert to_nano(to_usd(nano)) == nano


@given(st.decimals(0, MAX_USD, places=5))
def test_what_a_client_writes_is_what_is_stored(written: object) -> None:
    assert to_nano(float(str(written))) == Fraction(str(written)) * 10**9


@pytest.mark.parametrize(
    ("text", "reset"),
    [
        ("30s", datetime(2026, 1, 28, 13, 46, tzinfo=UTC)),
        ("15m", datetime(2026, 1, 28, 14, 0, tzinfo=UTC)),
        ("1h", datetime(2026, 1, 28, 14, 0, tzinfo=UTC)),
        ("12h", datetime(2026, 1, 29, 0, 0, tzinfo=UTC)),
        ("1d", datetime(2026, 1, 29, tzinfo=UTC)),
        ("daily", datetime(2026, 1, 29, tzinfo=UTC)),
        ("3d", datetime(2026, 1, 31, tzinfo=UTC)),
        ("7d", datetime(2026, 2, 2, tzinfo=UTC)),
        ("1w", datetime(2026, 2, 2, tzinfo=UTC)),
        ("30d", datetime(2026, 2, 1, tzinfo=UTC)),
        ("1mo", datetime(2026, 2, 1, tzinfo=UTC)),
        ("monthly", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2mo", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_budgets_start_anew_where_litellms_do(text: str, reset: datetime) -> None:
    assert upcoming_reset(text, NOW) == reset
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-9)))
    assert upcoming_reset(text, elsewhere) == reset


@given(
    st.sampled_from(["1s", "7s", "30s", "5m", "7m", "5h", "24h", "1d", "7d", "30d", "1mo", "12mo"]),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)
def test_a_reset_is_always_ahead(text: str, now: datetime) -> None:
    assert upcoming_reset(text, now) > now


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("30s", NOW, NOW + timedelta(seconds=30)),
        ("30d", NOW, NOW + timedelta(days=30)),
        ("1mo", datetime(2026, 1, 31), datetime(2026, 2, 28)),
        ("1mo", datetime(2028, 1, 31), datetime(2028, 2, 29)),
        ("12mo", datetime(2026, 12, 31), datetime(2027, 12, 31)),
        ("1mo", datetime(2026, 12, 5), datetime(2027, 1, 5)),
    ],
)
def test_a_duration_is_added(text: str, start: datetime, end: datetime) -> None:
    assert parse_duration(text, start) == end


@pytest.mark.parametrize(
    "text", ["", "0d", "1", "d", "-1d", "1.5h", "1y", " 1d", "1d ", "999999mo", "999999w", "1D"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text, NOW)
