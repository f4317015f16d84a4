"""Budgets: what was spent of each since its last reset, changed in the transaction of the rows.

Kinds that have a row of their own keep the balance there (balances.py); all others, and further
windows, in budget_windows. Either way the balance after the change is read back, for shared memory.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from fastgate.management.money import upcoming_reset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from fastgate.spend.rows import Budget
    from fastgate.store import Store

__all__ = ["TOTAL", "Windows", "balance", "balances"]

TOTAL = "total"
"""The duration of a window that never ends."""

# A duration of "" means the balance that stands here: table, and the id as budgets name it.
_OWN = {
    "key": ("virtual_keys", "key_hash"),
    "team": ("teams", "team_id"),
    "team_member": ("team_members", "team_id || '/' || user_id"),
    "user": ("users", "user_id"),
    "customer": ("customers", "customer_id"),
    "organization": ("organizations", "organization_id"),
    "tag": ("tags", "name"),
}
_ADD = """
INSERT INTO budget_windows (scope_kind, scope_id, duration, spend_nano_usd, reset_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (scope_kind, scope_id, duration)
DO UPDATE SET spend_nano_usd = budget_windows.spend_nano_usd + excluded.spend_nano_usd
"""
_T = TypeVar("_T")

# Asked for at once. SQLite takes 32,766 values in a statement, and a window has three.
_AT_ONCE = 1024


class Windows:
    """Changes of budgets, to be applied together."""

    def __init__(self) -> None:
        self._changes: dict[Budget, int] = defaultdict(int)

    def add(self, budgets: Iterable[Budget], nano: int) -> None:
        """Count what a request cost."""
        for budget in budgets:
            self._changes[budget] += nano

    async def apply(self, transaction: Store, now: datetime) -> dict[Budget, int]:
        """Write the changes; return what was spent of each budget since its last reset.

        A window begins with the first row in it, and ends at LiteLLM's boundary after `now`.
        """
        apart = sorted(
            (budget, nano) for budget, nano in self._changes.items() if budget[2] and nano
        )
        if apart:
            await transaction.execute_many(
                _ADD, [(*budget, nano, _end(budget[2], now)) for budget, nano in apart]
            )
        return await balances(transaction, self._changes)


async def balance(store: Store, budget: Budget) -> int:
    """Return what was spent of a budget since its last reset, in nano-dollars."""
    return (await balances(store, [budget]))[budget]


async def balances(store: Store, budgets: Iterable[Budget]) -> dict[Budget, int]:
    """Return what was spent of each budget since its last reset, in nano-dollars; 0 where nothing
    is known of it.

    For a key that was replaced, the balance is its successor's, which is in the answer too.
    """
    found: dict[Budget, int] = dict.fromkeys(budgets, 0)
    own: dict[str, list[str]] = defaultdict(list)
    apart = []
    for kind, scope_id, duration in found:
        if not duration and kind in _OWN:
            own[kind].append(scope_id)
        else:
            apart.append((kind, scope_id, duration))
    for kind, ids in own.items():
        known = await _own_balances(store, kind, ids)
        found |= {(kind, scope_id, ""): nano for scope_id, nano in known.items()}
        if kind == "key" and len(known) < len(ids):
            found |= await _successors(store, [each for each in ids if each not in known])
    for some in _in_parts(apart):
        places = ", ".join(f"(${3 * i + 1}, ${3 * i + 2}, ${3 * i + 3})" for i in range(len(some)))
        rows = await store.fetch(
            "SELECT scope_kind, scope_id, duration, spend_nano_usd FROM budget_windows"
            f" WHERE (scope_kind, scope_id, duration) IN (VALUES {places})",
            *(name for budget in some for name in budget),
        )
        for row in rows:
            name = row["scope_kind"], row["scope_id"], row["duration"]
            found[name] = row["spend_nano_usd"]
    return found


async def _own_balances(store: Store, kind: str, ids: list[str]) -> dict[str, int]:
    table, name = _OWN[kind]
    known: dict[str, int] = {}
    for some in _in_parts(ids):
        places = ", ".join(f"${i + 1}" for i in range(len(some)))
        rows = await store.fetch(
            f"SELECT {name} AS id, spend_nano_usd FROM {table} WHERE {name} IN ({places})",
            *some,
        )
        known |= {row["id"]: row["spend_nano_usd"] for row in rows}
    return known


async def _successors(store: Store, hashes: list[str]) -> dict[Budget, int]:
    """Return the balances of the keys that replaced these, under both names."""
    found: dict[Budget, int] = {}
    for some in _in_parts(hashes):
        places = ", ".join(f"${i + 1}" for i in range(len(some)))
        rows = await store.fetch(
            "SELECT replaced_keys.key_hash, active_key_hash, spend_nano_usd FROM replaced_keys"
            " JOIN virtual_keys ON virtual_keys.key_hash = active_key_hash"
            f" WHERE replaced_keys.key_hash IN ({places})",
            *some,
        )
        for row in rows:
            found["key", row["key_hash"], ""] = row["spend_nano_usd"]
            found["key", row["active_key_hash"], ""] = row["spend_nano_usd"]
    return found


def _in_parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield `values` in parts of at most _AT_ONCE, filled up to a power of two with the last one:
    few distinct lengths, so that statements are prepared few times.
    """
    for start in range(0, len(values), _AT_ONCE):
        some = list(values[start : start + _AT_ONCE])
        n = 1 << (len(some) - 1).bit_length()
        yield some + some[-1:] * (n - len(some))


def _end(duration: str, now: datetime) -> datetime | None:
    try:
        return None if duration == TOTAL else upcoming_reset(duration, now)
    except ValueError:
        # What a row was charged to must not keep the row out.
        return None
