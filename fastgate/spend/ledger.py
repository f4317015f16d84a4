"""Posting: one transaction that writes rows, balances, roll-up and how far the journals were read.

Two defences against counting twice, each enough by itself. A checkpoint moves only from where this
process knows it to be: when another drainer was there, nothing is written (Overtaken). And a
request id is a row only once: those that are rows already are left out of everything.

One exception: a row that was billed as an orphan, and whose settlement turns up after all, gives
way to it; the difference goes to the balances.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgate.spend.balances import Balances
from fastgate.spend.recovery import Place
from fastgate.spend.rows import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    TIMES,
    Budget,
    Entry,
    attempt_row,
    row,
)
from fastgate.spend.windows import Windows
from fastgate.store import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastgate.store import Row, Store

__all__ = ["Move", "Overtaken", "Posted", "forget", "places", "post"]


class Overtaken(Exception):
    """Another process has posted from the same journal: what we know of it is out of date."""


class Move(NamedTuple):
    """A worker's journal was taken from one place to another."""

    epoch: str
    from_: Place
    to: Place


class Posted(NamedTuple):
    """What became of a batch."""

    new: int
    adjusted: int
    """Rows that had been billed as orphans."""
    known: int
    """Were rows already; nothing changed."""
    balances: dict[Budget, int] = {}
    """Of the budgets that requests in it were charged to: nano-dollars in the present window."""


class _Rows(NamedTuple):
    row: tuple[Any, ...]
    attempts: list[tuple[Any, ...]]

    def spent_nano(self) -> int:
        return (self.row[_SPEND] or 0) + sum(each[_ATTEMPT_SPEND] or 0 for each in self.attempts)


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join(f"${i + 1}" for i in range(len(columns)))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"


_INSERT_ROW = _insert("spend_logs", COLUMNS)
_INSERT_ATTEMPT = _insert("spend_attempts", ATTEMPT_COLUMNS)
_ORPHANED = "orphaned"
_STATUS = COLUMNS.index("status")
_SPEND = COLUMNS.index("spend_nano_usd")
_ATTEMPT_SPEND = ATTEMPT_COLUMNS.index("spend_nano_usd")


async def places(store: Store) -> dict[str, Place]:
    """Return how far each worker's journal has been posted, by epoch."""
    rows = await store.fetch("SELECT worker_epoch, segment, offset_bytes FROM journal_checkpoints")
    return {row["worker_epoch"]: Place(row["segment"], row["offset_bytes"]) for row in rows}


async def forget(store: Store, epochs: Iterable[str]) -> None:
    """Drop the checkpoints of journals that are no more."""
    await store.execute_many(
        "DELETE FROM journal_checkpoints WHERE worker_epoch = $1", [(epoch,) for epoch in epochs]
    )


async def post(store: Store, entries: list[Entry], moves: Iterable[Move]) -> Posted:
    """Write what requests came to. Raises Overtaken, or the store's errors: nothing was written."""
    made: dict[str, _Rows] = {}
    budgets = {entry.request_id: entry.budgets for entry in entries}
    time = TIMES[store.dialect]
    for entry in entries:
        attempts = [attempt_row(entry.request_id, *attempt, time) for attempt in entry.attempts]
        made.setdefault(entry.request_id, _Rows(row(entry, time), attempts))
    now = datetime.now(UTC)
    async with store.transaction() as transaction:
        for move in moves:
            await _move(transaction, move, now)
        known = await _known(transaction, list(made))
        late = [
            request_id
            for request_id, status in known.items()
            if status == _ORPHANED and made[request_id].row[_STATUS] != _ORPHANED
        ]
        balances, windows = Balances(), Windows()
        for request_id in late:
            spent = await _take_back(transaction, request_id, balances)
            windows.add(budgets[request_id], -spent)
            del known[request_id]
        new = [rows for request_id, rows in made.items() if request_id not in known]
        await _write(transaction, new, balances)
        for entry in entries:
            # Those of known rows, too: perhaps nobody heard that they were posted.
            windows.add(entry.budgets, 0)
        for rows in new:
            windows.add(budgets[rows.row[0]], rows.spent_nano())
        await balances.apply(transaction, now)
        found = await windows.apply(transaction, now)
    return Posted(len(new) - len(late), len(late), len(known), found)


async def _move(transaction: Store, move: Move, now: datetime) -> None:
    # First of all in a transaction: it is also the lock that keeps a second drainer out.
    if move.from_ == Place(0, 0):
        try:
            await transaction.execute(
                "INSERT INTO journal_checkpoints (worker_epoch, segment, offset_bytes, updated_at)"
                " VALUES ($1, $2, $3, $4)",
                *(move.epoch, *move.to, now),
            )
        except Conflict:
            raise Overtaken(move.epoch) from None
        return
    moved = await transaction.execute(
        "UPDATE journal_checkpoints SET segment = $1, offset_bytes = $2, updated_at = $3"
        " WHERE worker_epoch = $4 AND segment = $5 AND offset_bytes = $6",
        *(*move.to, now, move.epoch, *move.from_),
    )
    if moved != 1:
        raise Overtaken(move.epoch)


async def _known(transaction: Store, request_ids: list[str]) -> dict[str, str]:
    """Return those that are rows already, with their status."""
    if not request_ids:
        return {}
    # Few distinct lengths, so that the statement is prepared few times.
    n = 1 << (len(request_ids) - 1).bit_length()
    padded = request_ids + request_ids[-1:] * (n - len(request_ids))
    wanted = ", ".join(f"${i + 1}" for i in range(n))
    rows = await transaction.fetch(
        f"SELECT request_id, status FROM spend_logs WHERE request_id IN ({wanted})",
        *padded,
    )
    return {row["request_id"]: row["status"] for row in rows}


async def _take_back(transaction: Store, request_id: str, balances: Balances) -> int:
    """Return what it had cost."""
    orphan = await transaction.fetch_one(
        f"SELECT {', '.join(COLUMNS)} FROM spend_logs WHERE request_id = $1",
        request_id,
    )
    assert orphan is not None
    values = tuple(orphan[name] for name in COLUMNS)
    balances.add(values, -1)
    taken = _Rows(values, [])
    for attempt in await _attempts(transaction, request_id):
        taken.attempts.append(tuple(attempt[name] for name in ATTEMPT_COLUMNS))
        balances.add_attempt(values, taken.attempts[-1], -1)
    await transaction.execute("DELETE FROM spend_attempts WHERE request_id = $1", request_id)
    await transaction.execute("DELETE FROM spend_logs WHERE request_id = $1", request_id)
    return taken.spent_nano()


async def _attempts(transaction: Store, request_id: str) -> list[Row]:
    return await transaction.fetch(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM spend_attempts WHERE request_id = $1",
        request_id,
    )


async def _write(transaction: Store, new: list[_Rows], balances: Balances) -> None:
    for made in new:
        balances.add(made.row)
        for attempt in made.attempts:
            balances.add_attempt(made.row, attempt)
    if new:
        await transaction.execute_many(_INSERT_ROW, [made.row for made in new])
    attempts = list(_attempts_of(new))
    if attempts:
        await transaction.execute_many(_INSERT_ATTEMPT, attempts)


def _attempts_of(new: list[_Rows]) -> Iterator[tuple[Any, ...]]:
    for made in new:
        yield from made.attempts
