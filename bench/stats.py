"""Percentiles and spreads, shared by the load client and the comparison."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["percentile", "share_between", "spread", "summarise"]

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p999": 0.999}


def percentile(ordered: Sequence[float], quantile: float) -> float:
    """The nearest-rank percentile of sorted values; NaN when there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]


def summarise(values_s: Sequence[float]) -> dict[str, float]:
    """Count, and mean, percentiles and maximum in milliseconds."""
    if not values_s:
        return {"count": 0}
    ordered = sorted(values_s)
    found = {name: percentile(ordered, q) for name, q in QUANTILES.items()}
    found |= {"mean": statistics.fmean(ordered), "max": ordered[-1]}
    return {"count": len(ordered)} | {name: round(v * 1000, 4) for name, v in found.items()}


def share_between(values_s: Sequence[float], low_s: float, high_s: float) -> float:
    """The part of the values, 0 to 1, that lies in [low_s, high_s]."""
    if not values_s:
        return 0.0
    return sum(low_s <= value <= high_s for value in values_s) / len(values_s)


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: how far repeated runs were apart."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
