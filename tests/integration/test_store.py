"""The stores: the same behaviour from a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fastgate.store import Conflict, Store, StoreError, StoreUnavailable, migrating, open_store
from tests.postgres import Postgres

NOW = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)


Open = Callable[[str], Awaitable[Store]]


@pytest.fixture
async def open_url() -> AsyncIterator[Open]:
    """Return `open_store`, whose stores are closed when the test ends: each has threads."""
    opened: list[Store] = []

    async def open_one(url: str) -> Store:
        opened.append(await open_store(url))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(url: str, open_url: Open) -> Store:
    return await open_url(url)


async def add_budget(store: Store, budget_id: str, **more: object) -> None:
    values = {
        **{"budget_id": budget_id, "model_max_budget": {}, "created_by": "a", "updated_by": "a"},
        **{"created_at": NOW, "updated_at": NOW, **more},
    }
    names = ", ".join(values)
    holders = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await store.execute(f"INSERT INTO budgets ({names}) VALUES ({holders})", *values.values())


async def ids(store: Store) -> list[str]:
    return [row["budget_id"] for row in await store.fetch("SELECT budget_id FROM budgets")]


async def test_what_goes_in_comes_out_as_it_was(store: Store) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    await add_budget(
        store,
        'it\'s "quoted" $1 ?1 é\U0001f600',
        max_budget_nano_usd=2**63 - 1,
        budget_reset_at=NOW.astimezone(there),
        model_max_budget={"gpt": [1, None, "x"], "5": {}},
    )
    row = await store.fetch_one("SELECT * FROM budgets")
    assert row is not None
    assert row["budget_id"] == 'it\'s "quoted" $1 ?1 é\U0001f600'
    assert row["max_budget_nano_usd"] == 2**63 - 1
    assert row["budget_reset_at"] == NOW
    assert row["budget_reset_at"].utcoffset() == timedelta(0)
    assert row["model_max_budget"] == {"gpt": [1, None, "x"], "5": {}}
    assert row["soft_budget_nano_usd"] is None


async def test_sums_of_money_stay_whole_numbers(store: Store) -> None:
    for n in range(3):
        await add_budget(store, str(n), max_budget_nano_usd=2**53 + n)
    row = await store.fetch_one("SELECT sum(max_budget_nano_usd) AS total FROM budgets")
    assert row == {"total": 3 * 2**53 + 3}
    assert type(row["total"]) is int


async def test_rows_touched_are_counted(store: Store) -> None:
    await add_budget(store, "a")
    await add_budget(store, "b")
    assert await store.execute("UPDATE budgets SET tpm_limit = $1", 5) == 2
    assert await store.execute("DELETE FROM budgets WHERE budget_id = $1", "none") == 0
    returned = await store.fetch("DELETE FROM budgets WHERE tpm_limit = $1 RETURNING budget_id", 5)
    assert sorted(row["budget_id"] for row in returned) == ["a", "b"]
    assert await ids(store) == []


async def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError):
        async with store.transaction() as transaction:
            await add_budget(transaction, "a")
            async with transaction.transaction() as same:
                await add_budget(same, "b")
            # Not yet to be seen from outside.
            assert await ids(store) == []
            assert len(await ids(transaction)) == 2
            raise RuntimeError
    assert await ids(store) == []
    async with store.transaction() as transaction:
        await add_budget(transaction, "c")
    assert await ids(store) == ["c"]


async def test_many_are_one(store: Store) -> None:
    insert = (
        "INSERT INTO journal_checkpoints (worker_epoch, segment, offset_bytes, updated_at) "
        "VALUES ($1, $2, $3, $4)"
    )
    await store.execute_many(insert, [("e", n, n, NOW) for n in range(2500)])
    with pytest.raises(Conflict):
        await store.execute_many(insert, [("f", 1, 1, NOW), ("e", 7, 7, NOW)])
    row = await store.fetch_one("SELECT count(*) AS n FROM journal_checkpoints")
    assert row == {"n": 2500}


async def test_a_second_row_with_the_same_id_is_a_conflict(store: Store) -> None:
    await add_budget(store, "secret-id")
    with pytest.raises(Conflict) as caught:
        await add_budget(store, "secret-id")
    assert "secret-id" not in str(caught.value)
    # What others refer to does not go.
    await store.execute(
        "INSERT INTO tags (name, models, budget_id, created_at, created_by, updated_at, updated_by)"
        " VALUES ('t', $1, 'secret-id', $2, 'a', $2, 'a')",
        [],
        NOW,
    )
    with pytest.raises(Conflict):
        await store.execute("DELETE FROM budgets")


async def test_cancelled_in_a_transaction_leaves_nothing(store: Store) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with store.transaction() as transaction:
            await add_budget(transaction, "a")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await add_budget(store, "b")
    assert await ids(store) == ["b"]


async def test_writers_take_turns(store: Store) -> None:
    await add_budget(store, "a", tpm_limit=0)

    async def add_one() -> None:
        async with store.transaction() as transaction:
            await transaction.execute("UPDATE budgets SET tpm_limit = tpm_limit + 1")

    await asyncio.gather(*(add_one() for _ in range(50)))
    assert (await store.fetch("SELECT tpm_limit FROM budgets")) == [{"tpm_limit": 50}]


async def test_replicas_that_start_at_once_migrate_once(url: str, open_url: Open) -> None:
    stores = await asyncio.gather(*(open_url(url) for _ in range(4)))
    rows = await stores[0].fetch("SELECT version FROM schema_migrations ORDER BY version")
    known = await asyncio.to_thread(migrating.bundled)
    assert [row["version"] for row in rows] == [each.version for each in known]


async def test_a_database_of_a_newer_version_is_refused(url: str, store: Store) -> None:
    await store.execute(migrating.RECORD, 9999, "later", NOW)
    with pytest.raises(StoreError, match="migration 9999, which this fastgate does not know"):
        await open_store(url)


async def test_reports_written_for_litellm_find_their_views(store: Store) -> None:
    await store.execute(
        "INSERT INTO spend_logs (request_id, call_type, key_hash, stream, status, prompt_tokens, "
        "cached_tokens, cache_write_tokens, completion_tokens, reasoning_tokens, total_tokens, "
        "usage_source, spend_nano_usd, cache_hit, attempts, start_time) VALUES "
        "('r', 'chat', 'h', FALSE, 'aborted', 1, 0, 0, 2, 0, 3, 'provider', 37, TRUE, 1, $1)",
        NOW,
    )
    row = await store.fetch_one(
        'SELECT api_key, spend, "startTime", cache_hit, status FROM "LiteLLM_SpendLogs"'
    )
    assert row is not None
    assert (row["api_key"], row["cache_hit"], row["status"]) == ("h", "True", "failure")
    assert float(row["spend"]) == pytest.approx(37e-9)
    assert row["startTime"] == NOW
    for view in ("VerificationToken", "TeamTable", "UserTable"):
        assert await store.fetch(f'SELECT * FROM "LiteLLM_{view}"') == []


@pytest.mark.parametrize("url", ["", "mysql://u:hunter2@h/d", "sqlite://", "sqlite:///", "x"])
async def test_another_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(StoreError, match="expected sqlite:///PATH or postgresql") as caught:
        await open_store(url)
    assert "hunter2" not in str(caught.value)


async def test_nobody_at_the_address_is_unavailable(free_port: Callable[[], int]) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d")
    assert "hunter2" not in str(caught.value)


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/x"):
        await open_store(f"sqlite:///{tmp_path}/file/x")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database" * 100)
    # The loop's own thread for such work is there from now on.
    await asyncio.to_thread(int)
    threads = threading.active_count()
    with pytest.raises(StoreError, match="not a database"):
        await open_store(f"sqlite:///{tmp_path}/file")
    assert threading.active_count() == threads


async def test_the_file_is_for_its_owner_alone(tmp_path: Path, open_url: Open) -> None:
    path = tmp_path / "made" / "store.db"
    await open_url(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_it_comes_back_with_its_server(postgres: Postgres, open_url: Open) -> None:
    store = await open_url(postgres.database())
    await add_budget(store, "a")
    postgres.stop_server()
    try:
        with pytest.raises(StoreUnavailable):
            await ids(store)
        with pytest.raises(StoreUnavailable):
            async with store.transaction() as transaction:
                await ids(transaction)
    finally:
        await asyncio.to_thread(postgres.start_server)
    assert await ids(store) == ["a"]


async def test_options_for_litellms_driver_are_passed_over(
    postgres: Postgres, open_url: Open
) -> None:
    store = await open_url(
        postgres.database() + "?schema=public&connection_limit=10&pool_timeout=60&pgbouncer=true"
    )
    assert await ids(store) == []
