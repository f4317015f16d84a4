"""Reading the gateway's books: its tables, when nothing is on its way to them any more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fastgate.spend.verify import verify
from fastgate.store import Store, StoreUnavailable, open_store
from tests.ledger.checker import Checked, sums

__all__ = ["Books", "check_balances", "read_books"]

DRAINED_S = 60.0
"""Nothing takes so long to be posted, on a loaded machine either."""

_BALANCES = {
    "key_hash": "SELECT key_hash AS id, spend_nano_usd, total_spend_nano_usd FROM virtual_keys",
    "team_id": "SELECT team_id AS id, spend_nano_usd, total_spend_nano_usd FROM teams",
    "user_id": "SELECT user_id AS id, spend_nano_usd, total_spend_nano_usd FROM users",
    "organization_id": "SELECT organization_id AS id, spend_nano_usd, total_spend_nano_usd"
    " FROM organizations",
    "customer_id": "SELECT customer_id AS id, spend_nano_usd, total_spend_nano_usd FROM customers",
    "member": "SELECT team_id || '/' || user_id AS id, spend_nano_usd, total_spend_nano_usd"
    " FROM team_members",
    "tag": "SELECT name AS id, spend_nano_usd, total_spend_nano_usd FROM tags",
}
_DAILY = (
    *("requests", "successful_requests", "failed_requests", "prompt_tokens", "cached_tokens"),
    *("completion_tokens", "total_tokens", "spend_nano_usd", "unpriced_requests"),
)


class Books(NamedTuple):
    """What the tables hold."""

    rows: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    balances: dict[tuple[str, str], tuple[int, int]]
    """By kind and owner: since the budget's last reset, and in all; nano-dollars."""
    daily: Counter[str]
    """Sums over all of daily_spend."""
    findings: list[str]
    """Of `fastgate spend verify`, and what never became a row."""


async def read_books(url: str, home: Path) -> Books:
    """Wait until all that is over is posted, then read."""
    store = await _opened(url)
    try:
        deadline = time.monotonic() + DRAINED_S
        while True:
            report = await verify(store, home / "journal")
            if not report.waiting and not report.open:
                break
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        findings = [f"verify: {finding}" for finding in report.findings]
        if report.waiting or report.open:
            findings.append(f"not posted: {report.waiting}, still reserved: {report.open}")
        rows = await store.fetch("SELECT * FROM spend_logs")
        attempts = await store.fetch("SELECT * FROM spend_attempts")
        balances = {
            (kind, row["id"]): (row["spend_nano_usd"], row["total_spend_nano_usd"])
            for kind, sql in _BALANCES.items()
            for row in await store.fetch(sql)
        }
        daily: Counter[str] = Counter()
        for row in await store.fetch("SELECT * FROM daily_spend"):
            daily.update({name: row[name] for name in _DAILY})
        return Books(rows, attempts, balances, daily, findings)
    finally:
        await store.close()


async def _opened(url: str) -> Store:
    deadline = time.monotonic() + DRAINED_S
    while True:
        try:
            return await open_store(url)
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def check_balances(checked: Checked, books: Books) -> None:
    """Rows and their attempts = balances = roll-up."""
    checked.findings += books.findings
    expected = {(kind, owner): nano for kind, owner, nano in sums(books.rows, books.attempts)}
    for key in expected.keys() | books.balances.keys():
        balance = books.balances.get(key)
        if balance is None:
            # A key of the configuration has no balance; an owner of a row must have one.
            checked.find("no balance", key, expected[key])
        elif balance != (expected.get(key, 0),) * 2:
            checked.find("a balance is not the sum of its rows", key, expected.get(key), balance)
    for name, found in books.daily.items():
        wanted = _total(name, books.rows, books.attempts)
        if found != wanted:
            checked.find(f"the roll-up's {name}", wanted, found)
    checked.counts["nano-dollars"] = books.daily["spend_nano_usd"]


def _total(name: str, rows: list[dict[str, Any]], attempts: Iterable[dict[str, Any]]) -> int:
    if name == "requests":
        return len(rows)
    if name in ("successful_requests", "failed_requests"):
        successes = sum(row["status"] == "success" for row in rows)
        return successes if name == "successful_requests" else len(rows) - successes
    if name == "unpriced_requests":
        return sum(row["spend_nano_usd"] is None for row in rows)
    return sum((row[name] or 0) for row in (*rows, *attempts))
