"""Percentiles and spreads against distributions that are known."""

from __future__ import annotations

import math
import random

import pytest

from bench.stats import percentile, share_between, spread, summarise


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, q) for q in (0.5, 0.9, 0.99, 0.999)] == [50, 90, 99, 100]
    assert percentile([7.0], 0.01) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_a_summary_of_an_exponential_distribution() -> None:
    draw = random.Random(1)
    found = summarise([draw.expovariate(1 / 0.010) for _ in range(50_000)])
    assert found["count"] == 50_000
    for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert found[name] == pytest.approx(-10 * math.log(1 - quantile), rel=0.05)
    assert found["mean"] == pytest.approx(10, rel=0.05)
    assert summarise([]) == {"count": 0}


def test_shares_and_spreads() -> None:
    assert share_between([0.001, 0.040, 0.041, 0.2], 0.038, 0.045) == 0.5
    assert share_between([], 0, 1) == 0.0
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert spread([0.0, 0.0]) == 0.0
