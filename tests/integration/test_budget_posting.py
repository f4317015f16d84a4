"""What is posted of budgets: rows to balances in a real store, balances to real shared memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

from fastgate.config.scopes import budget_key_of
from fastgate.control import budgets as budgets_module
from fastgate.control.budgets import Budgets
from fastgate.control.resets import reset_due
from fastgate.observe import memory as shared_memory
from fastgate.observe.memory import SharedMemory
from fastgate.spend import ledger
from fastgate.spend.drain import Drain
from fastgate.spend.ledger import Posted
from fastgate.spend.rows import Budget
from fastgate.spend.windows import balance, balances
from fastgate.store import Store, StoreUnavailable, open_store
from tests.spend import START, Worker, add_owners, in_thread, outcome

KEY: Budget = ("key", "key", "")
MEMBER: Budget = ("team_member", "team/user", "")
MODEL: Budget = ("key_model", "key/group", "1d")
GLOBAL: Budget = ("global", "", "total")
ALL = [KEY, ("team", "team", ""), MEMBER, MODEL, GLOBAL]


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> AsyncIterator[Store]:
    opened = await open_store(new_database(request.param))
    await add_owners(opened)
    yield opened
    await opened.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    fd = shared_memory.create(2)
    yield shared_memory.open(fd, shared_memory.CONTROL)
    os.close(fd)


@pytest.fixture
async def worker(home: Path, memory: SharedMemory) -> AsyncIterator[Worker]:
    made = await in_thread(Worker, home, memory.run << 32 | 1)
    yield made
    if made.spend.journal.position:
        await in_thread(made.die)


class Posting:
    """A drain that posts to shared memory, as control's does; and what a worker does to it."""

    def __init__(self, store: Store, home: Path, memory: SharedMemory) -> None:
        self.budgets = Budgets(memory)
        self.memory = memory.budgets
        self.drain = Drain(
            store,
            home,
            on_posted=self.budgets.on_posted,
            charged_here=self.budgets.is_of_this_run,
        )

    def entry(self, budget: Budget) -> int:
        return self.memory.entry(budget_key_of(*budget), monotonic_ns())

    def charge(self, named: Iterable[Budget], nano: int) -> None:
        for budget in named:
            self.memory.charge(self.entry(budget), nano)

    def spent(self, budget: Budget) -> tuple[int, int]:
        """Return what is spent in all, and what of it is not posted."""
        entry = self.entry(budget)
        return self.memory.spent_nano(entry), self.memory.unposted_nano(entry)

    async def all(self) -> None:
        while await self.drain.step():
            pass


@pytest.fixture
async def posting(store: Store, home: Path, memory: SharedMemory) -> AsyncIterator[Posting]:
    made = Posting(store, home, memory)
    yield made
    await in_thread(made.drain.close)


async def test_what_is_posted_moves_from_memory_into_the_balance(
    store: Store, worker: Worker, posting: Posting
) -> None:
    columns = worker.columns(budgets=ALL)
    for _ in range(3):
        worker.request(columns)
        posting.charge(ALL, 100)
    assert [posting.spent(each) for each in ALL] == [(300, 300)] * 5
    await posting.all()
    assert [posting.spent(each) for each in ALL] == [(300, 0)] * 5
    # What is settled while a batch is posted stays on top.
    posting.charge(ALL, 7)
    worker.request(columns)
    await posting.all()
    assert posting.spent(KEY) == (400, 0)
    assert await balances(store, ALL) == dict.fromkeys(ALL, 400)


async def test_of_other_runs_only_the_balance_counts(
    home: Path, posting: Posting, memory: SharedMemory
) -> None:
    other = await in_thread(Worker, home, (memory.run ^ 1) << 32 | 1)
    other.request(other.columns(budgets=[KEY]))
    posting.charge([KEY], 40)
    await posting.all()
    assert posting.spent(KEY) == (140, 40)
    await in_thread(other.die)


async def test_a_commit_whose_answer_was_lost_is_taken_over(
    worker: Worker, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = ledger.post

    async def lost(*values: Any) -> Posted:
        await careful(*values)
        raise StoreUnavailable("the connection broke")

    worker.request(worker.columns(budgets=ALL))
    posting.charge(ALL, 100)
    monkeypatch.setattr(ledger, "post", lost)
    with pytest.raises(StoreUnavailable):
        await posting.drain.step()
    assert posting.spent(KEY) == (100, 100)
    monkeypatch.setattr(ledger, "post", careful)
    await posting.all()
    assert [posting.spent(each) for each in ALL] == [(100, 0)] * 5


async def test_a_killed_worker_s_attempts_were_charged_and_its_requests_were_not(
    worker: Worker, posting: Posting
) -> None:
    columns = worker.columns(budgets=[KEY, MODEL])
    id = worker.reserve(columns, estimate_nano=900)
    worker.append("attempt", id, columns, outcome(spend_nano=30))
    posting.charge([KEY, MODEL], 30)
    await in_thread(worker.die)
    await posting.all()
    assert posting.spent(KEY) == posting.spent(MODEL) == (930, 0)


async def test_a_balance_that_was_read_before_a_batch_does_not_undo_it(
    store: Store, worker: Worker, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    async def slow(*values: Any) -> dict[Budget, int]:
        nonlocal reads
        reads += 1
        found = await balances(*values)
        if reads == 1:
            worker.request(worker.columns(budgets=[KEY]))
            posting.charge([KEY], 100)
            await posting.all()
        return found

    monkeypatch.setattr(budgets_module, "balances", slow)
    await posting.budgets.refresh(store, "key", ["key"])
    assert reads == 2
    assert posting.spent(KEY) == (100, 0)


async def test_a_window_ends_at_its_boundary_and_not_twice(
    store: Store, worker: Worker, posting: Posting
) -> None:
    worker.request(worker.columns(budgets=[MODEL, GLOBAL]))
    await posting.all()
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    [row] = await store.fetch("SELECT reset_at FROM budget_windows WHERE duration = '1d'")
    assert row["reset_at"] in (midnight, midnight + timedelta(days=1))
    assert await reset_due(store, now) == []
    later = now + timedelta(days=3)
    assert await reset_due(store, later) == [MODEL]
    assert await balances(store, [MODEL, GLOBAL]) == {MODEL: 0, GLOBAL: 100}
    assert await reset_due(store, later) == []


async def test_balances_with_a_duration_begin_anew(store: Store) -> None:
    for table in ("virtual_keys", "team_members"):
        await store.execute(
            f"UPDATE {table} SET spend_nano_usd = 5, budget_duration = '1d', budget_reset_at = $1",
            START,
        )
    assert sorted(await reset_due(store, START + timedelta(seconds=1))) == [KEY, MEMBER]
    assert await balances(store, [KEY, MEMBER]) == {KEY: 0, MEMBER: 0}
    assert await reset_due(store, START + timedelta(seconds=2)) == []


async def test_a_replaced_key_s_balance_is_its_successor_s(
    store: Store, worker: Worker, posting: Posting
) -> None:
    await store.execute("UPDATE virtual_keys SET key_hash = 'new' WHERE key_hash = 'key'")
    await store.execute(
        "INSERT INTO replaced_keys (key_hash, active_key_hash, revoke_at) VALUES ($1, $2, $3)",
        *("key", "new", START),
    )
    posting.entry(("key", "new", ""))
    worker.request(worker.columns(budgets=[KEY]))
    posting.charge([KEY], 100)
    await posting.all()
    assert posting.spent(KEY) == (100, 0)
    assert posting.spent(("key", "new", "")) == (100, 0)


async def test_a_duration_that_nobody_knows_keeps_no_row_out(
    store: Store, worker: Worker, posting: Posting
) -> None:
    strange = ("key_model", "key/group", "fortnight")
    worker.request(worker.columns(budgets=[strange]))
    await posting.all()
    assert await balance(store, strange) == 100


async def test_looking_for_what_is_due_reads_no_whole_table(
    new_database: Callable[[str], str],
) -> None:
    opened = await open_store(new_database("sqlite"))
    for asked in (
        "SELECT 1 FROM virtual_keys WHERE budget_reset_at <= $1 AND budget_duration IS NOT NULL",
        "SELECT 1 FROM budget_windows WHERE reset_at <= $1",
        "SELECT 1 FROM team_members WHERE team_id || '/' || user_id IN ($1, $1)",
        "SELECT 1 FROM budget_windows"
        " WHERE (scope_kind, scope_id, duration) IN (VALUES ($1, $1, $1))",
    ):
        plan = await opened.fetch(f"EXPLAIN QUERY PLAN {asked}", "x")
        said = [row["detail"] for row in plan]
        assert not any(each.startswith("SCAN") and "CONSTANT" not in each for each in said), said
    await opened.close()
