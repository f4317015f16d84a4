"""Rows are posted for names that nobody has made; whatever is made later has what they cost."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fastgate.observe import memory as shared_memory
from fastgate.spend.drain import Drain
from fastgate.spend.verify import verify
from fastgate.store import Store, open_store
from tests.managing import Api
from tests.spend import Worker, in_thread

SECRET = "sk-made-after-it-was-used"
COST = 300


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> AsyncIterator[Api]:
    store = await open_store(new_database(request.param))
    fd = shared_memory.create(2)
    made = Api(shared_memory.open(fd, shared_memory.CONTROL), store)
    await made.client.start_server()
    yield made
    await asyncio.gather(*made.seen)
    await made.client.close()
    await store.close()
    os.close(fd)


async def total(store: Store, table: str) -> int:
    row = await store.fetch_one(f"SELECT total_spend_nano_usd AS nano FROM {table}")
    assert row is not None
    found: int = row["nano"]
    return found


async def test_what_is_made_late_has_what_was_spent_under_its_name(
    api: Api, tmp_path: Path
) -> None:
    home = tmp_path / "journal"
    worker = await in_thread(Worker, home)
    columns = worker.columns(key_hash=hashlib.sha256(SECRET.encode()).hexdigest())
    draining = Drain(api.store, home)
    for i in range(3):
        id = worker.reserve(columns)
        worker.note(id, customer_id=f"customer {i % 2}", tags=["a", "b"] if i else ["a"])
        worker.settle(id, columns)
    while await draining.step():
        pass
    await api.done("/organization/new", {"organization_alias": "o", "organization_id": "org"})
    await api.done("/user/new", {"user_id": "user", "auto_create_key": False})
    await api.done("/team/new", {"team_id": "team", "organization_id": "org"})
    member = {"role": "user", "user_id": "user"}
    await api.done("/team/member_add", {"team_id": "team", "member": member})
    made = await api.done("/key/generate", {"key": SECRET, "team_id": "team", "user_id": "user"})
    assert made["spend"] == 0
    tables = ("virtual_keys", "teams", "team_members", "users", "organizations")
    assert {table: await total(api.store, table) for table in tables} == dict.fromkeys(tables, COST)
    # They go on from there.
    worker.request(columns)
    while await draining.step():
        pass
    assert await total(api.store, "virtual_keys") == COST + 100
    report = await verify(api.store, home)
    assert report.findings == []
    assert report.balances == 5 + 2 + 2
    await in_thread(draining.close)
    await in_thread(worker.die)


async def test_customers_and_tags_of_one_batch_begin_apart(api: Api, tmp_path: Path) -> None:
    home = tmp_path / "journal"
    worker = await in_thread(Worker, home)
    draining = Drain(api.store, home)
    for round in range(2):
        for name in ("x", "y"):
            id = worker.reserve()
            worker.note(id, customer_id=name, tags=[name, "both"])
            worker.settle(id)
        while await draining.step():
            pass
        if not round:
            # Forgotten by hand: their rows stay.
            await api.done("/customer/delete", {"user_ids": ["x"]})
            await api.done("/tag/delete", {"name": "both"})
    rows = await api.store.fetch(
        "SELECT customer_id AS id, total_spend_nano_usd AS nano FROM customers"
        " UNION ALL SELECT name, total_spend_nano_usd FROM tags ORDER BY id"
    )
    assert [(row["id"], row["nano"]) for row in rows] == [
        *(("both", 400), ("x", 200), ("x", 200), ("y", 200), ("y", 200)),
    ]
    assert (await verify(api.store, home)).findings == []
    await in_thread(draining.close)
    await in_thread(worker.die)
