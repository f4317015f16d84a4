"""Operations of `histo`: counting, and what a scrape does with a histogram."""

from __future__ import annotations

from collections.abc import Callable

from fastgate._core.histo import HISTOGRAM_BYTES, Counter, Histogram

__all__ = ["OPERATIONS"]


def histogram() -> Histogram:
    made = Histogram(bytearray(HISTOGRAM_BYTES))
    for i in range(200):
        made.record(i * i * 10_000)
    return made


def counter_add() -> Callable[[], object]:
    counter = Counter(bytearray(8))
    return lambda: counter.add(1)


def record() -> Callable[[], object]:
    made = histogram()
    return lambda: made.record(1_234_567)


def merge() -> Callable[[], object]:
    made, other = histogram(), histogram()
    return lambda: made.merge(other)


def count_at_most() -> Callable[[], object]:
    made = histogram()
    return lambda: made.count_at_most(250_000_000)


def quantile() -> Callable[[], object]:
    made = histogram()
    return lambda: made.quantile(0.99)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "counter_add": counter_add,
    "record": record,
    "merge": merge,
    "count_at_most": count_at_most,
    "quantile": quantile,
}
