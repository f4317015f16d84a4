"""`fastgate spend verify` as it is run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fastgate.cli import main
from fastgate.spend.drain import Drain
from fastgate.store import open_store
from tests.spend import Worker, add_owners


def test_it_says_whether_the_books_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["spend", "verify", "--home", str(tmp_path), "--wait", "0"]
    assert main(options) == 2
    assert "no database" in capsys.readouterr().out
    worker = Worker(tmp_path / "journal")
    worker.request()

    asyncio.run(drain(tmp_path, new=True))
    worker.reserve()
    assert main(options) == 0
    assert capsys.readouterr().out == (
        "the books agree: 1 requests, 0.000000100 USD, 5 balances, 1 requests under way\n"
    )
    worker.request()
    assert main(options) == 1
    assert capsys.readouterr().out.startswith("1 requests are over and not posted")
    asyncio.run(drain(tmp_path))
    with closing(sqlite3.connect(tmp_path / "fastgate.db")) as database:
        database.execute("UPDATE users SET total_spend_nano_usd = 7")
        database.commit()
    assert main([*options, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == [{"what": "balance of user_id user", "expected": 200, "found": 7}]
    worker.die()


async def drain(home: Path, *, new: bool = False) -> None:
    store = await open_store(f"sqlite:///{home}/fastgate.db")
    if new:
        await add_owners(store)
    draining = Drain(store, home / "journal")
    await draining.step()
    await asyncio.to_thread(draining.close)
    await store.close()
