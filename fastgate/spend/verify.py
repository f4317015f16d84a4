"""Whether the books agree.

    rows = roll-up, for each day whose rows are kept
    roll-up = balance, for each key, team, member, user, customer, organization and tag
    what the journals say is over is a row; what is reserved is a live worker's
    no segment was damaged, no row was refused

It reads, and changes nothing. The journals are read here with no more than the core's Reader: what
checks the drain must not share its mistakes.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import orjson

from fastgate._core.journal import KINDS, Reader
from fastgate.spend import ledger
from fastgate.spend.drain import REJECTED
from fastgate.spend.recovery import DAMAGED, worker_folders
from fastgate.spend.retention import forgotten_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fastgate.spend.recovery import Place
    from fastgate.store import Store

__all__ = ["Finding", "Report", "verify"]

_DAY = {
    "sqlite": "substr(start_time, 1, 10)",
    "postgresql": "to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
_SUM = "CAST(coalesce(sum({}.spend_nano_usd), 0) AS BIGINT)"
# What daily_spend calls an owner, and where its balance is.
_OWNERS = {
    "team_id": "SELECT team_id AS id, total_spend_nano_usd AS total FROM teams",
    "user_id": "SELECT user_id AS id, total_spend_nano_usd AS total FROM users",
    "organization_id": "SELECT organization_id AS id, total_spend_nano_usd AS total"
    " FROM organizations",
    "customer_id": "SELECT customer_id AS id, total_spend_nano_usd AS total FROM customers",
}


_RESERVE, _SETTLE = KINDS["reserve"], KINDS["settle"]


class Finding(NamedTuple):
    """One thing that is not as it should be: numbers that differ, or something by itself."""

    what: str
    expected: int = 0
    found: int = 0


class Report(NamedTuple):
    """What was found, and how much was looked at."""

    findings: list[Finding]
    """Empty: the books agree."""
    requests: int
    """In the roll-up, from its beginning; as is the spend."""
    spend_nano_usd: int
    balances: int
    """Compared."""
    open: int
    """Reservations of live workers."""
    waiting: int
    """Settled requests, and reservations of dead workers, that are not posted yet."""


class _Journals(NamedTuple):
    findings: list[Finding]
    open: int
    waiting: int


async def verify(store: Store, home: Path) -> Report:
    """Compare the store with itself, and with the journals under `home`."""
    async with store.transaction() as transaction:
        if store.dialect == "postgresql":
            # One view of everything, while the drain goes on.
            await transaction.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        days = await _days(transaction)
        findings = [*_unlike(days), *await _unlike_balances(transaction)]
        balances = await _count_balances(transaction)
        totals = await transaction.fetch_one(
            f"SELECT CAST(coalesce(sum(d.requests), 0) AS BIGINT) AS requests, {_SUM.format('d')}"
            " AS spend FROM daily_spend d"
        )
        places = await ledger.places(transaction)
    assert totals is not None
    journals = await asyncio.to_thread(_journals, home, places)
    return Report(
        findings + journals.findings,
        totals["requests"],
        totals["spend"],
        balances,
        journals.open,
        journals.waiting,
    )


async def _days(store: Store) -> dict[str, list[tuple[int, int]]]:
    """Return, by day, (requests, nano-dollars) of the roll-up and of the rows."""
    first = await forgotten_before(store)
    first_day = first.isoformat() if first else ""
    day = _DAY[store.dialect]
    days: dict[str, list[tuple[int, int]]] = defaultdict(lambda: [(0, 0), (0, 0)])
    for row in await store.fetch(
        f"SELECT d.day AS day, CAST(sum(d.requests) AS BIGINT) AS n, {_SUM.format('d')} AS nano"
        " FROM daily_spend d WHERE d.day >= $1 GROUP BY d.day",
        first_day,
    ):
        days[row["day"]][0] = row["n"], row["nano"]
    for row in await store.fetch(
        f"SELECT {day} AS day, count(*) AS n, {_SUM.format('r')} AS nano"
        " FROM spend_logs r GROUP BY 1"
    ):
        days[row["day"]][1] = row["n"], row["nano"]
    for row in await store.fetch(
        f"SELECT {day.replace('start_time', 'r.start_time')} AS day, {_SUM.format('a')} AS nano"
        " FROM spend_attempts a JOIN spend_logs r ON r.request_id = a.request_id GROUP BY 1"
    ):
        n, nano = days[row["day"]][1]
        days[row["day"]][1] = n, nano + row["nano"]
    return {day: sums for day, sums in sorted(days.items()) if day >= first_day}


def _unlike(days: dict[str, list[tuple[int, int]]]) -> Iterator[Finding]:
    for day, ((requests, nano), (found_requests, found_nano)) in days.items():
        if requests != found_requests:
            yield Finding(f"{day}: rows", requests, found_requests)
        if nano != found_nano:
            yield Finding(f"{day}: nano-dollars of the rows", nano, found_nano)


async def _unlike_balances(store: Store) -> list[Finding]:
    findings: list[Finding] = []
    for column, balances in _OWNERS.items():
        spent = await _spent_by(store, column)
        rows = await store.fetch(balances)
        findings += _differences(column, spent, ((row["id"], row["total"]) for row in rows))
    findings += await _unlike_keys(store)
    findings += await _unlike_members(store)
    findings += await _unlike_tags(store)
    return findings


async def _spent_by(store: Store, column: str) -> dict[str, int]:
    rows = await store.fetch(
        f"SELECT d.{column} AS id, {_SUM.format('d')} AS nano FROM daily_spend d"
        f" WHERE d.{column} <> '' GROUP BY 1"
    )
    return {row["id"]: row["nano"] for row in rows}


def _differences(
    kind: str, spent: dict[str, int], balances: Iterable[tuple[str, int]]
) -> Iterator[Finding]:
    for owner, total in balances:
        if spent.get(owner, 0) != total:
            yield Finding(f"balance of {kind} {owner}", spent.get(owner, 0), total)


async def _unlike_keys(store: Store) -> list[Finding]:
    spent = await _spent_by(store, "key_hash")
    # A key goes on with the balance of those that it replaced.
    for row in await store.fetch("SELECT key_hash, active_key_hash FROM replaced_keys"):
        earlier = spent.pop(row["key_hash"], 0)
        active = row["active_key_hash"]
        spent[active] = spent.get(active, 0) + earlier
    rows = await store.fetch("SELECT key_hash, total_spend_nano_usd FROM virtual_keys")
    totals = [(row["key_hash"], row["total_spend_nano_usd"]) for row in rows]
    return list(_differences("key_hash", spent, totals))


async def _unlike_members(store: Store) -> list[Finding]:
    rows = await store.fetch(
        f"SELECT d.team_id AS team, d.user_id AS member, {_SUM.format('d')} AS nano"
        " FROM daily_spend d WHERE d.team_id <> '' AND d.user_id <> '' GROUP BY 1, 2"
    )
    spent = {f"{row['member']} in {row['team']}": row["nano"] for row in rows}
    members = await store.fetch("SELECT team_id, user_id, total_spend_nano_usd FROM team_members")
    totals = [
        (f"{row['user_id']} in {row['team_id']}", row["total_spend_nano_usd"]) for row in members
    ]
    return list(_differences("member", spent, totals))


async def _unlike_tags(store: Store) -> list[Finding]:
    spent: dict[str, int] = defaultdict(int)
    for row in await store.fetch(
        f"SELECT d.tags AS tags, {_SUM.format('d')} AS nano FROM daily_spend d"
        " WHERE d.tags <> '' GROUP BY 1"
    ):
        for tag in orjson.loads(row["tags"]):
            spent[tag] += row["nano"]
    rows = await store.fetch("SELECT name, total_spend_nano_usd FROM tags")
    totals = [(row["name"], row["total_spend_nano_usd"]) for row in rows]
    return list(_differences("tag", spent, totals))


async def _count_balances(store: Store) -> int:
    tables = (
        "virtual_keys",
        "teams",
        "team_members",
        "users",
        "organizations",
        "customers",
        "tags",
    )
    row = await store.fetch_one(
        "SELECT " + " + ".join(f"(SELECT count(*) FROM {table})" for table in tables) + " AS n"
    )
    assert row is not None
    n: int = row["n"]
    return n


def _journals(home: Path, places: dict[str, Place]) -> _Journals:
    findings = []
    open_requests = waiting = 0
    for folder in worker_folders(home):
        reserved, settled = _read(folder, places.get(folder.name, (0, 0)))
        waiting += settled
        if _is_locked(folder):
            open_requests += reserved
        else:
            waiting += reserved
    damaged = home / DAMAGED
    if damaged.is_dir():
        findings += [
            Finding(f"damaged segment, records after its damage are lost: {path}")
            for path in sorted(damaged.iterdir())
        ]
    rejected = home / REJECTED
    if rejected.exists():
        n = rejected.read_bytes().count(b"\n")
        findings.append(Finding(f"requests whose rows the database refused: {rejected}", 0, n))
    return _Journals(findings, open_requests, waiting)


def _read(folder: Path, place: tuple[int, int]) -> tuple[int, int]:
    """Return how many requests are reserved, and how many settled behind `place`."""
    reserved: set[str] = set()
    settled = 0
    for path in sorted(folder.glob("*.segment")):
        try:
            with path.open("rb") as file:
                reader = Reader(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        except (FileNotFoundError, ValueError):
            continue  # deleted since; or damaged, which the drain will find
        for kind, request_id, _, _ in reader:
            if kind == _RESERVE:
                reserved.add(request_id)
            elif kind == _SETTLE:
                reserved.discard(request_id)
                settled += (reader.number, reader.offset) > place
    return len(reserved), settled


def _is_locked(folder: Path) -> bool:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at once must not take each other for a worker.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
