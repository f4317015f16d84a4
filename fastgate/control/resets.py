"""Budgets that begin anew: at LiteLLM's boundaries (management/money.py), whoever looks first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from fastgate.management.money import upcoming_reset

if TYPE_CHECKING:
    from fastgate.spend.rows import Budget
    from fastgate.store import Store

__all__ = ["reset_due"]

# Balances with a duration of their own: kind, table, the id as budgets name it.
_OWN = (
    ("key", "virtual_keys", "key_hash"),
    ("team", "teams", "team_id"),
    ("user", "users", "user_id"),
    ("team_member", "team_members", "team_id || '/' || user_id"),
)
# Those that follow a row of `budgets`, where they have no duration of their own.
_LINKED = (
    ("key", "virtual_keys", "key_hash", "AND budget_duration IS NULL"),
    ("organization", "organizations", "organization_id", ""),
    ("customer", "customers", "customer_id", ""),
    ("tag", "tags", "name", ""),
)


async def reset_due(store: Store, now: datetime) -> list[Budget]:
    """Set what is due back to 0 and say when next; return it, once the database has it so.

    Several gateways may look at the same time: each UPDATE asks again whether it is due.
    """
    found: list[Budget] = []
    async with store.transaction() as transaction:
        for kind, table, name in _OWN:
            rows = await transaction.fetch(
                f"SELECT {name} AS id, budget_duration FROM {table}"  # noqa: S608  names of ours
                " WHERE budget_reset_at <= $1 AND budget_duration IS NOT NULL",
                now,
            )
            for row in rows:
                reset = await transaction.execute(
                    f"UPDATE {table} SET spend_nano_usd = 0, budget_reset_at = $1"  # noqa: S608
                    f" WHERE {name} = $2 AND budget_reset_at <= $3",
                    *(upcoming_reset(row["budget_duration"], now), row["id"], now),
                )
                if reset:
                    found.append((kind, row["id"], ""))
        found += await _linked(transaction, now)
        found += await _windows(transaction, now)
    return found


async def _linked(transaction: Store, now: datetime) -> list[Budget]:
    found: list[Budget] = []
    budgets = await transaction.fetch(
        "SELECT budget_id, budget_duration FROM budgets"
        " WHERE budget_reset_at <= $1 AND budget_duration IS NOT NULL",
        now,
    )
    for budget in budgets:
        reset = await transaction.execute(
            "UPDATE budgets SET budget_reset_at = $1"
            " WHERE budget_id = $2 AND budget_reset_at <= $3",
            *(upcoming_reset(budget["budget_duration"], now), budget["budget_id"], now),
        )
        for kind, table, name, where in _LINKED if reset else ():
            rows = await transaction.fetch(
                f"UPDATE {table} SET spend_nano_usd = 0"  # noqa: S608  names of ours
                f" WHERE budget_id = $1 {where} RETURNING {name} AS id",
                budget["budget_id"],
            )
            found += [(kind, row["id"], "") for row in rows]
    return found


async def _windows(transaction: Store, now: datetime) -> list[Budget]:
    found: list[Budget] = []
    rows = await transaction.fetch(
        "SELECT scope_kind, scope_id, duration FROM budget_windows WHERE reset_at <= $1", now
    )
    for row in rows:
        budget = (row["scope_kind"], row["scope_id"], row["duration"])
        reset = await transaction.execute(
            "UPDATE budget_windows SET spend_nano_usd = 0, reset_at = $1"
            " WHERE scope_kind = $2 AND scope_id = $3 AND duration = $4 AND reset_at <= $5",
            *(upcoming_reset(row["duration"], now), *budget, now),
        )
        if reset:
            found.append(budget)
    return found
