"""Operations that gauge the measure itself: one that does nothing, two that are 3 % apart."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OPERATIONS"]


def nothing() -> Callable[[], object]:
    return lambda: None


def work(steps: int) -> Callable[[], object]:
    data = list(range(steps))
    # One C loop with the same instructions for each step.
    return lambda: data.count(-1)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "nothing": nothing,
    "work_of_1000": lambda: work(1000),
    "work_of_1030": lambda: work(1030),
}
