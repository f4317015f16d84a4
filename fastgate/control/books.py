"""Spend, from the workers' journals into the store; and what follows from it, for as long as it is
open: budgets in shared memory, rows that are old enough to go.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastgate.control.budgets import Budgets
from fastgate.home import journal_home
from fastgate.observe.memory import CONTROL
from fastgate.spend.drain import Drain
from fastgate.spend.retention import forget_rows
from fastgate.store import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastgate.config.schema import Config
    from fastgate.observe.memory import SharedMemory
    from fastgate.spend.ledger import Posted
    from fastgate.spend.pricing import Pricing
    from fastgate.spend.rows import Entry
    from fastgate.store import Store

__all__ = ["Books"]

_log = logging.getLogger("fastgate.control")

_FORGET_EVERY_S = 6 * 3600.0
_RETRY_S = 2.0


class Books:
    """Of one control process and one store."""

    def __init__(
        self, store: Store, memory: SharedMemory, pricing: Pricing, config: Callable[[], Config]
    ) -> None:
        self._store = store
        self._config = config
        self._budgets = Budgets(memory)
        self._metrics = memory.metrics(CONTROL)
        self._drain = Drain(
            store,
            journal_home(),
            on_posted=self._on_posted,
            priced=pricing.priced,
            charged_here=self._budgets.is_of_this_run,
        )
        self._refreshing: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Post what earlier processes left, so that what keys have spent is known."""
        try:
            while await self._drain.step():
                pass
        except StoreUnavailable as error:
            _log.warning("spend can't be posted yet", {"error": str(error)})

    async def keep(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post())
            tasks.create_task(self._budgets.keep(self._store, self._config))
            tasks.create_task(self._forget_old_rows())

    def changed(self, kind: str, ids: Iterable[str]) -> None:
        """Somebody may have changed what was spent of these."""
        task = asyncio.create_task(self._budgets.refresh(self._store, kind, ids))
        self._refreshing.add(task)
        task.add_done_callback(self._on_refreshed)

    def _on_refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a balance could not be looked up", {"error": str(error)})

    async def _post(self) -> None:
        while True:
            try:
                await self._drain.run()
            except Exception:
                # Nothing is lost: what is not posted stays in the journals.
                _log.exception("spend can't be posted")
                await asyncio.sleep(_RETRY_S)

    async def _forget_old_rows(self) -> None:
        while True:
            keep_days = self._config().spend.keep_days
            if keep_days:
                try:
                    await forget_rows(self._store, keep_days, datetime.now(UTC).date())
                except StoreError as error:
                    _log.warning("old rows can't be deleted", {"error": str(error)})
            await asyncio.sleep(_FORGET_EVERY_S)

    def _on_posted(self, posted: Posted, entries: list[Entry]) -> None:
        self._budgets.on_posted(posted, entries)
        for outcome in ("new", "adjusted", "known"):
            counter = self._metrics.counter("fastgate_spend_rows_total", outcome=outcome)
            counter.add(getattr(posted, outcome))
