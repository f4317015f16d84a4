"""From journals into a real SQLite and a real PostgreSQL: rows, balances, roll-up, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastgate._core.journal import Columns
from fastgate.spend import ledger, rows
from fastgate.spend.drain import REJECTED, Drain
from fastgate.spend.ledger import Posted
from fastgate.spend.recovery import DAMAGED
from fastgate.spend.retention import forget_rows
from fastgate.spend.segments import segment_name
from fastgate.spend.verify import Finding, verify
from fastgate.store import Store, StoreUnavailable, open_store
from tests.spend import START, START_US, Worker, add_owners, in_thread, outcome, spent


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> AsyncIterator[Store]:
    opened = await open_store(new_database(request.param))
    await add_owners(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(new_database: Callable[[str], str]) -> AsyncIterator[Store]:
    opened = await open_store(new_database("sqlite"))
    await add_owners(opened)
    yield opened
    await opened.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def worker(home: Path) -> AsyncIterator[Worker]:
    made = await in_thread(Worker, home)
    yield made
    if made.spend.journal.position:
        await in_thread(made.die)


async def drained(store: Store, home: Path, **options: Any) -> Posted:
    """Drain all there is; return what became of it, in all."""
    totals: list[Posted] = [Posted(0, 0, 0)]
    draining = Drain(store, home, on_posted=lambda posted, _: totals.append(posted), **options)
    while await draining.step():
        pass
    await in_thread(draining.close)
    return Posted(*map(sum, zip(*(posted[:3] for posted in totals), strict=True)))


async def spend_logs(store: Store) -> list[dict[str, Any]]:
    return await store.fetch("SELECT * FROM spend_logs ORDER BY request_id")


async def assert_books_agree(store: Store, home: Path) -> None:
    report = await verify(store, home)
    assert (report.findings, report.waiting) == ([], 0)


async def test_a_request_becomes_a_row_with_all_it_said(
    store: Store, home: Path, worker: Worker
) -> None:
    id = worker.reserve()
    worker.note(id, client_request_id="theirs", customer_id="customer", tags=["b", "a"])
    worker.note(id, provider_response_id="chatcmpl-1", metadata={"k": [1, "é\0"]})
    worker.settle(id, cached_tokens=3, stream=True)
    assert await drained(store, home) == Posted(1, 0, 0)
    (row,) = await spend_logs(store)
    assert row == {
        **{"request_id": id.decode(), "provider_response_id": "chatcmpl-1"},
        **{"client_request_id": "theirs", "call_type": "chat", "key_hash": "key"},
        **{"key_alias": "alias", "team_id": "team", "user_id": "user", "customer_id": "customer"},
        **{"organization_id": "org", "tags": ["b", "a"], "model_group": "group", "model": "model"},
        **{"deployment_id": "deployment", "provider": "provider", "api_base": "http://engine"},
        **{"stream": True, "status": "success", "error_kind": None, "http_status": 200},
        **{"prompt_tokens": 10, "cached_tokens": 3, "cache_write_tokens": 0},
        **{"completion_tokens": 5, "reasoning_tokens": 0, "total_tokens": 15},
        **{"usage_source": "provider", "spend_nano_usd": 100, "price_version": "v1"},
        **{"cache_hit": False, "attempts": 1, "start_time": START},
        **{"first_byte_time": START + timedelta(microseconds=1500)},
        **{"end_time": START + timedelta(microseconds=9000), "ttft_ms": 1.25, "overhead_us": 31},
        **{"session_id": None, "trace_id": None, "metadata": {"k": [1, "é"]}},
    }
    assert await spent(store) == {
        **{"virtual_keys key": 100, "teams team": 100, "users user": 100, "team_members team": 100},
        **{"organizations org": 100, "customers customer": 100, "tags a": 100, "tags b": 100},
    }
    (day,) = await store.fetch("SELECT * FROM daily_spend")
    assert (day["day"], day["tags"], day["requests"]) == ("2026-03-01", '["a","b"]', 1)
    assert (day["spend_nano_usd"], day["prompt_tokens"], day["cached_tokens"]) == (100, 10, 3)
    await assert_books_agree(store, home)


async def test_billed_attempts_and_failures_are_told_apart(
    store: Store, home: Path, worker: Worker
) -> None:
    id, other = worker.reserve(), worker.columns(deployment_id="other", provider="elsewhere")
    failed = {"http_status": 502, "status": rows.FAILURE, "spend_nano": 40}
    broken = outcome(**failed, error_kind=rows.error_kind_code("status_502"))
    worker.append("attempt", id, other, broken)
    worker.settle(id, attempt=2)
    gone = {"status": rows.ABORTED, "error_kind": rows.error_kind_code("client_gone")}
    worker.request(**gone, spend_nano=-1, http_status=0)
    await drained(store, home)
    (attempt,) = await store.fetch("SELECT * FROM spend_attempts")
    assert (attempt["request_id"], attempt["attempt"]) == (id.decode(), 1)
    assert (attempt["deployment_id"], attempt["error_kind"]) == ("other", "status_502")
    first, second = await spend_logs(store)
    assert (first["attempts"], first["spend_nano_usd"]) == (2, 100)
    assert (second["status"], second["error_kind"]) == ("aborted", "client_gone")
    # What has no known price is not free: it has no price.
    assert (second["spend_nano_usd"], second["http_status"]) == (None, None)
    days = await store.fetch("SELECT * FROM daily_spend ORDER BY provider")
    assert [(day["provider"], day["requests"], day["failed_requests"]) for day in days] == [
        ("elsewhere", 0, 0),
        ("provider", 2, 1),
    ]
    assert [(day["spend_nano_usd"], day["unpriced_requests"]) for day in days] == [
        (40, 0),
        (100, 1),
    ]
    assert (await spent(store))["virtual_keys key"] == 140
    await assert_books_agree(store, home)


async def test_draining_again_changes_nothing(store: Store, home: Path, worker: Worker) -> None:
    for _ in range(30):
        worker.request()
    assert await drained(store, home, batch=7) == Posted(30, 0, 0)
    before = await spent(store)
    assert await drained(store, home) == Posted(0, 0, 0)
    # Nor does it with every checkpoint lost.
    await store.execute("DELETE FROM journal_checkpoints")
    assert await drained(store, home) == Posted(0, 0, 30)
    assert await spent(store) == before
    worker.request()
    assert await drained(store, home) == Posted(1, 0, 0)
    await assert_books_agree(store, home)


async def test_what_a_dead_worker_left_open_is_billed_as_far_as_it_went(
    store: Store, home: Path, worker: Worker
) -> None:
    settled, silent = worker.request(), worker.reserve(estimate_nano=900)
    unpriced = worker.reserve(estimate_nano=-1)
    streaming = worker.reserve()
    worker.append("progress", streaming, 50, 300)
    worker.append("progress", streaming, 80, 450)
    worker.append("attempt", streaming, worker.columns(), outcome(spend_nano=11))
    assert await drained(store, home) == Posted(1, 0, 0)
    assert (await verify(store, home)).open == 3
    await in_thread(worker.die)
    assert (await verify(store, home)).waiting == 3
    assert await drained(store, home) == Posted(3, 0, 0)
    found = {row["request_id"].encode(): row for row in await spend_logs(store)}
    assert {id: (row["status"], row["spend_nano_usd"]) for id, row in found.items()} == {
        settled: ("success", 100),
        silent: ("orphaned", 900),
        unpriced: ("orphaned", None),
        streaming: ("orphaned", 450),
    }
    assert (found[streaming]["completion_tokens"], found[streaming]["prompt_tokens"]) == (80, 7)
    assert found[streaming]["usage_source"] == "estimated"
    assert found[streaming]["error_kind"] == "killed"
    assert (await spent(store))["teams team"] == 100 + 900 + 450 + 11
    assert sorted(path.name for path in home.iterdir()) == ["drain.lock"]
    assert await store.fetch("SELECT * FROM journal_checkpoints") == []
    await assert_books_agree(store, home)


async def test_an_orphan_that_is_settled_late_is_adjusted(
    store: Store, home: Path, worker: Worker
) -> None:
    id = worker.reserve()
    worker.append("attempt", id, worker.columns(), outcome(spend_nano=11))
    reservation = (START_US, 10_000, 900, 7)
    constant = rows.constant_of(worker.columns().json)
    orphan = rows.orphan(id.decode(), constant, [b'{"tags":["t"]}'], reservation, None, [])
    await ledger.post(store, [orphan], [])
    assert (await spent(store))["tags t"] == 900
    worker.settle(id, spend_nano=123)
    assert await drained(store, home) == Posted(0, 1, 0)
    (row,) = await spend_logs(store)
    assert (row["status"], row["spend_nano_usd"]) == ("success", 123)
    balances = await spent(store)
    assert balances["users user"] == 134
    assert "tags t" not in balances
    await assert_books_agree(store, home)
    # An orphan that comes after the settlement changes nothing.
    assert await ledger.post(store, [orphan], []) == Posted(0, 0, 1)


async def test_a_key_that_was_regenerated_goes_on_with_its_balance(
    store: Store, home: Path, worker: Worker
) -> None:
    worker.request()
    await drained(store, home)
    await store.execute("UPDATE virtual_keys SET key_hash = 'new'")
    await store.execute(
        "INSERT INTO replaced_keys (key_hash, active_key_hash, revoke_at)"
        " VALUES ('key', 'new', $1)",
        START,
    )
    worker.request()
    worker.request(worker.columns(key_hash="new"))
    await drained(store, home)
    assert (await spent(store))["virtual_keys new"] == 300
    await assert_books_agree(store, home)


async def test_rows_are_forgotten_and_the_roll_up_is_not(
    store: Store, home: Path, worker: Worker
) -> None:
    day_us = 86_400_000_000
    for day in range(4):
        id = worker.reserve()
        worker.append("attempt", id, worker.columns(), outcome(spend_nano=1))
        worker.settle(id, start_us=START_US + day * day_us)
    await drained(store, home)
    today = date(2026, 3, 4)
    assert await forget_rows(store, 2, today) == 1
    assert await forget_rows(store, 2, today) == 0
    assert [row["start_time"].day for row in await spend_logs(store)] == [2, 3, 4]
    assert await store.fetch_one("SELECT count(*) AS n FROM spend_attempts") == {"n": 3}
    assert (await spent(store))["virtual_keys key"] == 404
    await assert_books_agree(store, home)
    assert await forget_rows(store, 1, today) == 1
    await assert_books_agree(store, home)
    with pytest.raises(ValueError, match="at least 1 day"):
        await forget_rows(store, 0, today)


async def test_verify_names_what_differs(store: Store, home: Path, worker: Worker) -> None:
    first = worker.request(worker.columns(team_id="", user_id=""))
    id = worker.reserve()
    worker.note(id, tags=["t"])
    worker.settle(id)
    await drained(store, home)
    await assert_books_agree(store, home)
    await store.execute("UPDATE teams SET total_spend_nano_usd = total_spend_nano_usd + 1")
    await store.execute("UPDATE tags SET total_spend_nano_usd = 0")
    await store.execute("DELETE FROM spend_logs WHERE request_id = $1", first.decode())
    worker.request()
    report = await verify(store, home)
    assert report.findings == [
        Finding("2026-03-01: rows", 2, 1),
        Finding("2026-03-01: nano-dollars of the rows", 200, 100),
        Finding("balance of team_id team", 100, 101),
        Finding("balance of tag t", 100, 0),
    ]
    assert (report.requests, report.spend_nano_usd, report.waiting) == (2, 200, 1)


async def test_segments_go_when_nothing_in_them_is_open(
    sqlite: Store, home: Path, worker: Worker
) -> None:
    draining = Drain(sqlite, home)

    def numbers() -> list[int]:
        return sorted(int(path.stem) for path in home.glob("0*/0*.segment"))

    await draining.step()
    held = worker.reserve()
    for _ in range(3):
        await _fill_segment(worker)
    await draining.step()
    await draining.step()
    assert numbers()[:2] == [1, 2]
    worker.settle(held)
    await draining.step()
    await draining.step()
    assert numbers()[0] == worker.spend.journal.segment == 4
    await in_thread(draining.close)


async def _fill_segment(worker: Worker) -> None:
    """Record requests until the next segment is begun."""
    number = worker.spend.journal.segment
    while worker.spend.journal.segment == number:
        await _ready(worker)
        worker.request()


async def _ready(worker: Worker) -> None:
    while worker.spend._next is None:
        await asyncio.sleep(0.001)


class Flaky:
    """A store that is away at times."""

    def __init__(self, store: Store) -> None:
        self.store, self.away, self.asked = store, True, asyncio.Event()
        self.dialect = store.dialect

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        if self.away:
            self.asked.set()
            raise StoreUnavailable("away")
        async with self.store.transaction() as transaction:
            yield transaction


async def test_a_database_that_is_away_only_delays(
    sqlite: Store, home: Path, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    flaky, posted = Flaky(sqlite), asyncio.Event()
    draining = Drain(flaky, home, on_posted=lambda *_: posted.set(), interval_s=0.001)
    first = worker.request()
    running = asyncio.create_task(draining.run())
    await flaky.asked.wait()
    second = worker.request()
    flaky.away = False
    await posted.wait()
    posted.clear()
    await posted.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [row["request_id"] for row in await spend_logs(sqlite)] == [
        first.decode(),
        second.decode(),
    ]
    said = [record.message for record in caplog.records]
    assert said == ["spend can't be posted", "spend is posted again"]


async def test_a_commit_whose_answer_was_lost_counts_once(
    sqlite: Store, home: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = ledger.post

    async def lost(*values: Any) -> Posted:
        await careful(*values)
        raise StoreUnavailable("the connection broke")

    worker.request()
    draining = Drain(sqlite, home)
    monkeypatch.setattr(ledger, "post", lost)
    with pytest.raises(StoreUnavailable):
        await draining.step()
    monkeypatch.setattr(ledger, "post", careful)
    while await draining.step():
        pass
    await in_thread(draining.close)
    assert (await spent(sqlite))["virtual_keys key"] == 100
    await assert_books_agree(sqlite, home)


async def test_two_drains_take_turns(sqlite: Store, home: Path, worker: Worker) -> None:
    one, two = Drain(sqlite, home), Drain(sqlite, home)
    worker.request()
    await one.step()
    worker.request()
    await two.step()
    assert len(await spend_logs(sqlite)) == 1
    await in_thread(one.close)
    await two.step()
    await in_thread(two.close)
    assert len(await spend_logs(sqlite)) == 2


async def test_a_row_that_the_database_refuses_is_set_aside(
    sqlite: Store, home: Path, worker: Worker
) -> None:
    worker.request()
    worker.request(spend_nano=13)
    await sqlite.execute(
        "CREATE TRIGGER unlucky BEFORE INSERT ON spend_logs WHEN NEW.spend_nano_usd = 13"
        " BEGIN SELECT RAISE(ABORT, 'unlucky'); END"
    )
    worker.request()
    assert await drained(sqlite, home) == Posted(2, 0, 0)
    refused = orjson.loads((home / REJECTED).read_bytes())
    assert "unlucky" in refused["why"]
    assert refused["outcome"][5] == 13
    report = await verify(sqlite, home)
    assert report.findings == [
        Finding(f"requests whose rows the database refused: {home / REJECTED}", 0, 1)
    ]


async def test_what_is_no_json_costs_no_more_than_itself(
    sqlite: Store, home: Path, worker: Worker
) -> None:
    worker.request(Columns(b"[1]"))
    worker.append("note", worker.reserve(), b"{}")
    noted = worker.reserve()
    worker.append("note", noted, b'"text"')
    worker.settle(noted)
    worker.request()
    assert await drained(sqlite, home) == Posted(2, 0, 0)
    assert [row["key_hash"] for row in await spend_logs(sqlite)] == ["", "key"]
    assert (home / REJECTED).read_bytes().count(noted) == 1


async def test_a_damaged_segment_counts_up_to_its_damage_and_is_kept(
    sqlite: Store, home: Path, worker: Worker
) -> None:
    ids = [worker.request() for _ in range(10)]
    await in_thread(worker.die)
    path = home / f"{worker.epoch:016x}" / segment_name(1)
    content = bytearray(path.read_bytes())
    content[content.index(bytes.fromhex(ids[6].decode()))] ^= 1
    path.write_bytes(content)
    assert await drained(sqlite, home) == Posted(6, 0, 0)
    kept = home / DAMAGED / f"{worker.epoch:016x}-{segment_name(1)}"
    assert kept.read_bytes() == content
    report = await verify(sqlite, home)
    assert [str(kept) in finding.what for finding in report.findings] == [True]


async def test_what_is_no_segment_is_set_aside(sqlite: Store, home: Path, worker: Worker) -> None:
    worker.request()
    await in_thread(worker.die)
    folder = home / f"{worker.epoch:016x}"
    (folder / segment_name(2)).write_bytes(b"")
    (folder / segment_name(3)).write_bytes(b"nonsense" * 1000)
    assert await drained(sqlite, home) == Posted(1, 0, 0)
    assert len(list((home / DAMAGED).iterdir())) == 2
    assert not folder.exists()


def test_times_are_exact_to_the_microsecond() -> None:
    constant = rows.constant_of(b"{}")
    at = rows.COLUMNS.index("start_time")
    for us in (START_US, 1, 2**50 + 1, 253_402_300_799_999_999):
        entry = rows.Entry("x", constant, [], (us, *([0] * 11), *([0] * 7)), [])
        found: datetime = rows.row(entry, rows.TIMES["postgresql"])[at]
        assert (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == us
        # As the store writes a time, so that text sorts as time does.
        text = rows.row(entry, rows.TIMES["sqlite"])[at]
        assert text == found.isoformat(timespec="microseconds")
