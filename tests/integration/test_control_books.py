"""What control does with spend as long as the store is open: recovery first, then figures of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fastgate.config.schema import Config
from fastgate.control import books as books_module
from fastgate.control.books import Books
from fastgate.observe import memory as shared_memory
from fastgate.observe.memory import SharedMemory
from fastgate.observe.metrics import render
from fastgate.spend.drain import Drain
from fastgate.spend.pricing import Pricing
from fastgate.store import Store, open_store
from tests.spend import Worker, add_owners, in_thread, spent


@pytest.fixture
async def store(new_database: Callable[[str], str]) -> AsyncIterator[Store]:
    opened = await open_store(new_database("sqlite"))
    await add_owners(opened)
    yield opened
    await opened.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTGATE_HOME", str(tmp_path))
    return tmp_path / "journal"


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    fd = shared_memory.create(2)
    yield shared_memory.open(fd, shared_memory.CONTROL)
    os.close(fd)


@pytest.fixture
async def books(store: Store, home: Path, memory: SharedMemory) -> Books:
    config = Config()
    return Books(store, memory, Pricing(lambda: config), lambda: config)


@pytest.fixture
async def start(books: Books) -> AsyncIterator[Callable[[], None]]:
    """Return a function that lets the books be kept until the test ends."""
    keeping: list[asyncio.Task[None]] = []
    yield lambda: keeping.append(asyncio.create_task(books.keep()))
    for task in keeping:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def shown(memory: SharedMemory, line: str) -> None:
    """Return when /metrics has this line."""
    async with asyncio.timeout(10):
        while f"\n{line}\n".encode() not in render(memory):
            await asyncio.sleep(0.01)


async def test_what_earlier_workers_left_is_posted_before_keys_are_told(
    store: Store, home: Path, books: Books, memory: SharedMemory, start: Callable[[], None]
) -> None:
    dead = await in_thread(Worker, home, 1, 1 << 20)
    for _ in range(2_500):
        dead.request()
    await in_thread(dead.die)
    start()
    await books.recovered()
    assert (await spent(store))["virtual_keys key"] == 250_000
    await shown(memory, 'fastgate_spend_rows_total{outcome="new"} 2500')
    await shown(memory, "fastgate_spend_lag_seconds 0")


async def test_keys_are_not_kept_waiting_for_ever(
    store: Store,
    home: Path,
    books: Books,
    start: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Another process drains this folder, and does not end.
    other = Drain(store, home)
    await other.step()
    monkeypatch.setattr(books_module, "RECOVERY_S", 0.05)
    start()
    await books.recovered()
    assert "spend of earlier runs is still being posted" in caplog.text
    await in_thread(other.close)


def size_of(home: Path) -> int:
    """What the workers' folders hold; a draft may go away meanwhile."""
    size = 0
    for folder, _, names in os.walk(home):
        for name in names:
            if folder != str(home):
                with suppress(FileNotFoundError):
                    size += os.path.getsize(os.path.join(folder, name))
    return size


async def test_the_journals_show_in_the_metrics(
    home: Path, books: Books, memory: SharedMemory
) -> None:
    worker = await in_thread(Worker, home)
    worker.reserve()
    books._drain.clear_s -= 1_000_000_000
    async with asyncio.timeout(10):
        # The next segment is being made by a thread.
        while True:
            await books._measure()
            size = await in_thread(size_of, home)
            if f"fastgate_journal_bytes {size}" in render(memory).decode().splitlines():
                break
            await asyncio.sleep(0.01)
    assert size >= 64 * 1024
    page = render(memory).decode()
    [lag] = [line for line in page.splitlines() if line.startswith("fastgate_spend_lag_seconds ")]
    assert int(lag.split()[1]) >= 1_000_000_000
    await in_thread(worker.die)


async def test_one_job_that_fails_does_not_end_the_others(
    store: Store,
    books: Books,
    memory: SharedMemory,
    start: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A duration that only SQL past the API can have set.
    await store.execute(
        "UPDATE virtual_keys SET budget_duration = 'fortnight', budget_reset_at = created_at"
    )
    start()
    await books.recovered()
    await shown(memory, "fastgate_spend_lag_seconds 0")
    async with asyncio.timeout(10):
        while "keeping the books failed" not in caplog.text:
            await asyncio.sleep(0.01)
