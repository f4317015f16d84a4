"""Spend, from the workers' journals into the store; and what follows from it, for as long as it is
open: budgets in shared memory, rows that are old enough to go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastgate.control.budgets import LOOK_S, Budgets
from fastgate.home import journal_home
from fastgate.observe.memory import CONTROL
from fastgate.spend.drain import Drain
from fastgate.spend.recovery import journal_bytes
from fastgate.spend.retention import forget_rows
from fastgate.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fastgate.config.schema import Config
    from fastgate.observe.memory import SharedMemory
    from fastgate.spend.ledger import Posted
    from fastgate.spend.pricing import Pricing
    from fastgate.spend.rows import Entry
    from fastgate.store import Store

__all__ = ["Books"]

_log = logging.getLogger("fastgate.control")

RECOVERY_S = 5.0
"""For some 100,000 requests; usually there are none."""

_FORGET_EVERY_S = 6 * 3600.0
_MEASURE_EVERY_S = 2.0
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

    async def recovered(self) -> None:
        """Return when what earlier processes left is posted, so that what keys have spent is known;
        or when that takes so long that keys can't be kept waiting.
        """
        try:
            async with asyncio.timeout(RECOVERY_S):
                await self._drain.caught_up.wait()
        except TimeoutError:
            _log.warning("spend of earlier runs is still being posted; budgets follow as it is")

    async def keep(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(_RETRY_S, self._drain.run))
            tasks.create_task(self._repeat(LOOK_S, self._look_at_budgets))
            tasks.create_task(self._repeat(_MEASURE_EVERY_S, self._measure))
            tasks.create_task(self._repeat(_FORGET_EVERY_S, self._forget_old_rows))

    async def _repeat(self, pause_s: float, job: Callable[[], Awaitable[None]]) -> None:
        """Do `job` again and again. What one of them fails of must not end the others."""
        while True:
            try:
                await job()
            except StoreError as error:
                _log.warning("the database could not be asked", {"error": str(error)})
            except Exception:
                # Nothing is lost: what is not posted stays in the journals.
                _log.exception("keeping the books failed; it is tried again")
            await asyncio.sleep(pause_s)

    def changed(self, kind: str, ids: Iterable[str]) -> None:
        """Somebody may have changed what was spent of these."""
        task = asyncio.create_task(self._budgets.refresh(self._store, kind, ids))
        self._refreshing.add(task)
        task.add_done_callback(self._on_refreshed)

    def _on_refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a balance could not be looked up", {"error": str(error)})

    async def _look_at_budgets(self) -> None:
        await self._budgets.look(self._store, self._config().budgets)

    async def _measure(self) -> None:
        lag_s = int(time.monotonic() - self._drain.clear_s)
        size = await asyncio.to_thread(journal_bytes, journal_home())
        self._metrics.gauge("fastgate_spend_lag_seconds").set(lag_s)
        self._metrics.gauge("fastgate_journal_bytes").set(size)

    async def _forget_old_rows(self) -> None:
        keep_days = self._config().spend.keep_days
        if keep_days:
            await forget_rows(self._store, keep_days, datetime.now(UTC).date())

    def _on_posted(self, posted: Posted, entries: list[Entry]) -> None:
        self._budgets.on_posted(posted, entries)
        for outcome in ("new", "adjusted", "known"):
            counter = self._metrics.counter("fastgate_spend_rows_total", outcome=outcome)
            counter.add(getattr(posted, outcome))
