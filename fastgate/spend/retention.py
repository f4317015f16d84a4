"""Forgetting rows: whole days, and only those that the roll-up keeps.

`daily_spend` and the balances stay, so that reports by day and budgets know no difference. Which
days are gone is written down, for `spend verify` to tell "forgotten" from "lost".
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgate.store import Store

__all__ = ["forget_rows", "forgotten_before"]

# Rows of one transaction: others wait for some 50 ms at most.
_AT_ONCE = 5_000


async def forget_rows(store: Store, keep_days: int, today: date) -> int:
    """Delete the rows of requests that began more than `keep_days` days before `today` (UTC);
    return how many there were.
    """
    if keep_days < 1:
        raise ValueError(f"expected to keep at least 1 day of rows, got {keep_days}")
    first_kept = today - timedelta(days=keep_days)
    midnight = datetime.combine(first_kept, time(), UTC)
    # Written first: a crash in between leaves rows that are there and need not be.
    async with store.transaction() as transaction:
        known = await forgotten_before(transaction)
        if known is None:
            await transaction.execute(
                "INSERT INTO spend_retention (forgotten_before) VALUES ($1)", first_kept.isoformat()
            )
        elif known < first_kept:
            await transaction.execute(
                "UPDATE spend_retention SET forgotten_before = $1", first_kept.isoformat()
            )
    n = 0
    while True:
        deleted = await _forget_some(store, midnight)
        n += deleted
        if deleted < _AT_ONCE:
            return n


async def forgotten_before(store: Store) -> date | None:
    """Return the first day whose rows are all there; None: none were forgotten."""
    row = await store.fetch_one("SELECT max(forgotten_before) AS day FROM spend_retention")
    return date.fromisoformat(row["day"]) if row and row["day"] else None


async def _forget_some(store: Store, midnight: datetime) -> int:
    async with store.transaction() as transaction:
        old = await transaction.fetch(
            "SELECT request_id FROM spend_logs WHERE start_time < $1 ORDER BY start_time LIMIT $2",
            *(midnight, _AT_ONCE),
        )
        ids = [(row["request_id"],) for row in old]
        if ids:
            await transaction.execute_many("DELETE FROM spend_attempts WHERE request_id = $1", ids)
            await transaction.execute_many("DELETE FROM spend_logs WHERE request_id = $1", ids)
    return len(ids)
