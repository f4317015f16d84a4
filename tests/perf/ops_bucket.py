"""Operations of `bucket`: what one request does to limits, a bucket and its deployment."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from fastgate._core.bucket import BucketTable, DeploymentTable, LimitTable
from fastgate._core.table import Region

__all__ = ["OPERATIONS"]

SECOND = 1_000_000_000


def limits() -> LimitTable:
    return LimitTable(Region(bytearray(LimitTable.bytes_for(256))))


def entry_found() -> Callable[[], object]:
    table = limits()
    for key in range(2, 66):
        table.entry(key, SECOND)
    return lambda: table.entry(40, SECOND)


def reserve_and_settle() -> Callable[[], object]:
    table = limits()
    entry = table.entry(5, SECOND)

    def operation() -> None:
        table.reserve(entry, SECOND, 10**9, 10**9, 1000, 100)
        table.settle(entry, SECOND, SECOND, -20)

    return operation


def reserve_and_settle_as_time_goes_on() -> Callable[[], object]:
    table = limits()
    entry = table.entry(5, SECOND)
    # A quarter of a second between requests: every fourth makes the window move on.
    times = count(SECOND, SECOND // 4)

    def operation() -> None:
        now = next(times)
        table.reserve(entry, now, 10**9, 10**9, -1, 100)
        table.settle(entry, now, now, -20)

    return operation


def refusal() -> Callable[[], object]:
    table = limits()
    entry = table.entry(5, SECOND)
    return lambda: table.reserve(entry, SECOND, 0, 10**9, 1000, 100)


def bucket_take() -> Callable[[], object]:
    table = BucketTable(Region(bytearray(BucketTable.bytes_for(8))))
    entry = table.entry(5, SECOND)
    times = count(SECOND, SECOND // 4)
    return lambda: table.take(entry, next(times), 100.0, 40.0, 10.0)


def deployment_attempt() -> Callable[[], object]:
    table = DeploymentTable(Region(bytearray(DeploymentTable.bytes_for(8))))
    entry = table.entry(5, SECOND)

    def operation() -> None:
        table.begin(entry)
        table.end(entry)
        table.count(entry, SECOND, False)

    return operation


def deployment_in_flight() -> Callable[[], object]:
    table = DeploymentTable(Region(bytearray(DeploymentTable.bytes_for(8))))
    entry = table.entry(5, SECOND)
    return lambda: table.in_flight(entry)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "entry_found": entry_found,
    "reserve_and_settle": reserve_and_settle,
    "reserve_and_settle_as_time_goes_on": reserve_and_settle_as_time_goes_on,
    "refusal": refusal,
    "bucket_take": bucket_take,
    "deployment_attempt": deployment_attempt,
    "deployment_in_flight": deployment_in_flight,
}
