"""The drain: from the workers' journals into the database, for ever, in batches.

One process a folder (`drain.lock`). A batch is frozen when it is taken and tried until it is in the
database or another process turns out to have posted it; so a database that is away only delays, and
what is held meanwhile is one batch. A row that the database will not have (and a batch that has
one) is set aside in `rejected.jsonl` for a person to look at; the others go on.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import orjson

from fastgate.spend import ledger
from fastgate.spend.ledger import Move, Overtaken, Posted
from fastgate.spend.recovery import Place, WorkerJournal, worker_folders
from fastgate.spend.windows import balances
from fastgate.store import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastgate.spend.rows import Budget, Entry
    from fastgate.store import Store

__all__ = ["REJECTED", "Drain"]

# Measured with SQLite and narrow rows: 4 us a row at this size, 8 at 100, 376 one by one.
BATCH = 1_000
# How far rows lag behind requests when there are fewer.
INTERVAL_S = 0.2
_LONGEST_PAUSE_S = 5.0

REJECTED = "rejected.jsonl"
"""Requests whose row the database refused, a line of JSON each."""

# What a row that can't be made or written ends in.
_REFUSALS = (StoreError, ArithmeticError, LookupError, ValueError)

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class _Batch(NamedTuple):
    entries: list[Entry]
    moves: list[Move]


class Drain:
    """Posts what workers record under `home` (the folder of all journals) to a store."""

    def __init__(
        self,
        store: Store,
        home: Path,
        *,
        on_posted: Callable[[Posted, list[Entry]], object] = lambda posted, entries: None,
        priced: Callable[[Entry], Entry] = lambda entry: entry,
        charged_here: Callable[[str], bool] = lambda epoch: True,
        batch: int = BATCH,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._store = store
        self._home = home
        self._on_posted = on_posted
        self._priced = priced
        self._charged_here = charged_here
        self._limit = batch
        self._interval_s = interval_s
        self._lock_fd = -1
        self._reading = threading.Lock()
        """What blocks does so in threads; a cancelled task leaves its own running."""
        self._journals: dict[str, WorkerJournal] = {}
        self._places: dict[str, Place] | None = None
        """In the database, by worker; None: not known."""
        self._batch: _Batch | None = None
        """Taken from the journals, and not known to be in the database."""
        self._taken_s = 0.0
        self.caught_up = asyncio.Event()
        """All that was in the journals when draining began is in the database: what dead workers
        of earlier runs left, above all."""
        self.clear_s = time.monotonic()
        """What was recorded before this moment of the monotonic clock is in the database."""

    async def run(self) -> None:
        """Drain until cancelled. A store that is away is waited for."""
        pause_s = 0.0
        try:
            while True:
                try:
                    more = await self.step()
                except StoreUnavailable as error:
                    if not pause_s:
                        _log.warning("spend can't be posted", {"error": str(error)})
                    pause_s = min(max(2 * pause_s, self._interval_s), _LONGEST_PAUSE_S)
                    await asyncio.sleep(pause_s)
                    continue
                if pause_s:
                    _log.warning("spend is posted again")
                    pause_s = 0.0
                if not more:
                    await asyncio.sleep(self._interval_s)
        finally:
            await asyncio.to_thread(self.close)

    async def step(self) -> bool:
        """Post one batch; True: there is more. Raises StoreUnavailable."""
        if self._lock_fd < 0 and not await self._off_loop(self._lock):
            return False
        if self._places is None:
            self._places = await ledger.places(self._store)
        if self._batch is None:
            self._taken_s = time.monotonic()
            self._batch = await self._off_loop(self._take)
        batch = self._batch
        if batch.entries:
            try:
                await self._post(batch)
            except Overtaken:
                if not await self._was_ours(batch):
                    _log.warning("the spend journal was posted from elsewhere; reading it again")
                    await self._off_loop(self._forget_all)
                    return True
        self._batch = None
        finished = await self._off_loop(self._release)
        if finished:
            await ledger.forget(self._store, finished)
        if len(batch.entries) >= self._limit:
            return True
        self.clear_s = self._taken_s
        self.caught_up.set()
        return False

    def close(self) -> None:
        """Let go of the journals and the lock. Blocks."""
        with self._reading:
            self._forget_all()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    async def _post(self, batch: _Batch) -> None:
        refused: list[Entry] = []
        try:
            posted = await ledger.post(self._store, batch.entries, batch.moves)
        except (StoreUnavailable, Overtaken):
            raise
        except _REFUSALS as error:
            _log.error("a batch of spend was refused", {"error": str(error)})
            posted = await self._post_apart(batch, refused)
        assert self._places is not None
        self._places |= {move.epoch: move.to for move in batch.moves}
        self._on_posted(
            posted, [each for each in batch.entries if not refused or each not in refused]
        )

    async def _was_ours(self, batch: _Batch) -> bool:
        """Return whether `batch` is in the database: its commit was done and the answer lost."""
        places = await ledger.places(self._store)
        if any(places.get(move.epoch) != move.to for move in batch.moves):
            return False
        named = {budget for entry in batch.entries for budget in entry.budgets}
        posted = Posted(len(batch.entries), 0, 0, await balances(self._store, named))
        self._places = places
        self._on_posted(posted, batch.entries)
        return True

    async def _post_apart(self, batch: _Batch, refused: list[Entry]) -> Posted:
        """Post one by one, then the checkpoint; add to `refused` what the database won't have. In
        between, only unique ids keep from counting twice.
        """
        new = adjusted = known = 0
        balances: dict[Budget, int] = {}
        for entry in batch.entries:
            try:
                posted = await ledger.post(self._store, [entry], [])
            except StoreUnavailable:
                raise
            except _REFUSALS as error:
                await self._off_loop(partial(self._reject, entry, str(error)))
                refused.append(entry)
            else:
                new, adjusted, known = (
                    new + posted.new,
                    adjusted + posted.adjusted,
                    known + posted.known,
                )
                balances |= posted.balances
        await ledger.post(self._store, [], batch.moves)
        return Posted(new, adjusted, known, balances)

    async def _off_loop(self, call: Callable[[], _T]) -> _T:
        def alone() -> _T:
            with self._reading:
                return call()

        return await asyncio.to_thread(alone)

    # The rest blocks.

    def _lock(self) -> bool:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = os.open(self._home / "drain.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            return False
        self._lock_fd = lock_fd
        return True

    def _take(self) -> _Batch:
        assert self._places is not None
        for folder in worker_folders(self._home):
            if folder.name not in self._journals:
                posted = self._places.get(folder.name, Place(0, 0))
                self._journals[folder.name] = WorkerJournal(folder, posted)
        batch = _Batch([], [])
        for epoch, journal in self._journals.items():
            taken = journal.take(self._limit - len(batch.entries))
            if taken:
                if not self._charged_here(epoch):
                    taken = [entry._replace(charged_nano=0) for entry in taken]
                batch.entries.extend(map(self._priced, taken))
                before = self._places.get(epoch, Place(0, 0))
                batch.moves.append(Move(epoch, before, journal.place))
            if len(batch.entries) >= self._limit:
                break
        return batch

    def _release(self) -> list[str]:
        """Delete what is posted; return the workers of whom nothing is left."""
        finished = []
        for epoch, journal in list(self._journals.items()):
            journal.release()
            if journal.finished:
                journal.close()
                del self._journals[epoch]
                finished.append(epoch)
        return finished

    def _forget_all(self) -> None:
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()
        self._places = None
        self._batch = None

    def _reject(self, entry: Entry, why: str) -> None:
        line = orjson.dumps({"why": why, **entry._asdict()}, default=repr)
        with (self._home / REJECTED).open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
