"""Budgets: what was spent of each since its last reset, changed in the transaction of the rows.

Kinds that have a row of their own keep the balance there (balances.py); all others, and further
windows, in budget_windows. Either way the balance after the change is read back, for shared memory.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastgate.spend.rows import Budget
    from fastgate.store import Store

__all__ = ["Windows", "balance"]

# A duration of "" means the balance that stands here.
_OWN = {
    "key": "SELECT spend_nano_usd FROM virtual_keys WHERE key_hash = $1",
    "team": "SELECT spend_nano_usd FROM teams WHERE team_id = $1",
    "team_member": "SELECT spend_nano_usd FROM team_members WHERE team_id || '/' || user_id = $1",
    "user": "SELECT spend_nano_usd FROM users WHERE user_id = $1",
    "customer": "SELECT spend_nano_usd FROM customers WHERE customer_id = $1",
    "organization": "SELECT spend_nano_usd FROM organizations WHERE organization_id = $1",
    "tag": "SELECT spend_nano_usd FROM tags WHERE name = $1",
}
_ADD = """
INSERT INTO budget_windows (scope_kind, scope_id, duration, spend_nano_usd)
VALUES ($1, $2, $3, $4)
ON CONFLICT (scope_kind, scope_id, duration)
DO UPDATE SET spend_nano_usd = budget_windows.spend_nano_usd + excluded.spend_nano_usd
"""
_WINDOW = """
SELECT spend_nano_usd FROM budget_windows
WHERE scope_kind = $1 AND scope_id = $2 AND duration = $3
"""


class Windows:
    """Changes of budgets, to be applied together."""

    def __init__(self) -> None:
        self._changes: dict[Budget, int] = defaultdict(int)

    def add(self, budgets: Iterable[Budget], nano: int) -> None:
        """Count what a request cost."""
        for budget in budgets:
            self._changes[budget] += nano

    async def apply(self, transaction: Store) -> dict[Budget, int]:
        """Write the changes; return what was spent of each budget since its last reset."""
        apart = sorted((*budget, nano) for budget, nano in self._changes.items() if budget[2])
        if apart:
            await transaction.execute_many(_ADD, apart)
        return {budget: await balance(transaction, budget) for budget in self._changes}


async def balance(store: Store, budget: Budget) -> int:
    """Return what was spent of a budget since its last reset, in nano-dollars."""
    kind, scope_id, duration = budget
    if not duration and kind in _OWN:
        row = await store.fetch_one(_OWN[kind], scope_id)
    else:
        row = await store.fetch_one(_WINDOW, *budget)
    if row is None:
        return 0
    spent: int = row["spend_nano_usd"]
    return spent
