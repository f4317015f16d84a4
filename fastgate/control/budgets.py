"""Keeps what the database says of budgets in the memory that workers decide by.

    a batch of rows is posted   its sum moves from "not posted" into the balance, as one change
    a budget begins anew        its balance is 0
    a balance is changed by hand the new one holds

Workers need none of this to go on: what they settle counts at once.

A balance that was read on its own, not with a batch, is old as soon as a batch is posted: it would
take back what that batch moved into the balance. Such a one is read again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from time import monotonic_ns
from typing import TYPE_CHECKING

from fastgate.config.scopes import budget_key_of
from fastgate.control.resets import reset_due
from fastgate.spend.windows import balances

if TYPE_CHECKING:
    from fastgate.config import schema
    from fastgate.observe.memory import SharedMemory
    from fastgate.spend.ledger import Posted
    from fastgate.spend.rows import Budget, Entry
    from fastgate.store import Store

__all__ = ["LOOK_S", "Budgets"]

_log = logging.getLogger("fastgate.control")

LOOK_S = 2.0
"""How late a budget may begin anew."""

# Tries to read a balance between two batches. After so many, the batches bring it themselves.
_LOOKS = 10

_KINDS = ("key", "team", "user", "customer", "organization", "tag")


class Budgets:
    """Of one control process."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._readers: list[set[Budget]] = []
        """For each who reads balances now: those that were posted meanwhile."""

    def is_of_this_run(self, epoch: str) -> bool:
        """Return whether the worker with this epoch charged the memory that there is now."""
        return int(epoch, 16) >> 32 == self._memory.run

    def on_posted(self, posted: Posted, entries: Iterable[Entry]) -> None:
        """Take over the balances of a batch that is in the database."""
        charged: dict[Budget, int] = defaultdict(int)
        for entry in entries:
            for budget in entry.budgets:
                charged[budget] += entry.charged_nano
        for budget, balance_nano in posted.balances.items():
            self._post(budget, charged[budget], balance_nano)
        for posted_since in self._readers:
            posted_since.update(posted.balances)

    async def refresh(self, store: Store, kind: str, ids: Iterable[str]) -> None:
        """Take over the balances of these: somebody may have changed them."""
        if kind in _KINDS:
            await self._take_over(store, [(kind, scope_id, "") for scope_id in ids])

    async def look(self, store: Store, everywhere: Iterable[schema.Budget]) -> None:
        """Begin budgets anew that are due, and take over what was spent of those that no key
        brings: nobody else says it when workers first need it. To be called every LOOK_S.
        """
        found = await reset_due(store, datetime.now(UTC))
        for budget in found:
            _log.info("a budget begins anew", {"budget": "/".join(filter(None, budget))})
        for given in everywhere:
            name = (given.kind, given.id, given.duration)
            self._memory.budgets.entry(budget_key_of(*name), monotonic_ns())
            found.append(name)
        await self._take_over(store, found)

    async def _take_over(self, store: Store, budgets: Iterable[Budget]) -> None:
        """Take over what the database says of these."""
        wanted = set(budgets)
        for _ in range(_LOOKS):
            posted_since: set[Budget] = set()
            self._readers.append(posted_since)
            try:
                found = await balances(store, wanted)
            finally:
                self._readers.remove(posted_since)
            for budget, balance_nano in found.items():
                if budget not in posted_since:
                    self._post(budget, 0, balance_nano)
            wanted &= posted_since
            if not wanted:
                return

    def _post(self, budget: Budget, charged_nano: int, balance_nano: int) -> None:
        budgets = self._memory.budgets
        budgets.post(budgets.find(budget_key_of(*budget)), charged_nano, balance_nano)
