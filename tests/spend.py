"""For tests of spend: a worker's journal that is written at will, and owners to bill."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastgate._core.fields import request_id
from fastgate._core.journal import Columns, Outcome
from fastgate.spend import rows
from fastgate.spend.segments import SpendJournal
from fastgate.store import Store

__all__ = ["START", "START_US", "Worker", "add_owners", "in_thread", "outcome", "spent"]

START = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
START_US = 1_772_409_599_999_999

CONSTANT = {
    "key_hash": "key",
    "key_alias": "alias",
    "team_id": "team",
    "user_id": "user",
    "organization_id": "org",
    "model_group": "group",
    "model": "model",
    "deployment_id": "deployment",
    "provider": "provider",
    "api_base": "http://engine",
    "call_type": "chat",
    "price_version": "v1",
}


class Worker:
    """Writes requests into a journal of its own, as the data plane does. Make it off the loop."""

    def __init__(self, home: Path, epoch: int = 1, segment_bytes: int = 64 * 1024) -> None:
        self.spend = SpendJournal(
            home, epoch, segment_bytes=segment_bytes, call_in_loop=lambda call: call()
        )
        self.epoch = epoch
        self.made = 0
        self._columns: dict[str, Columns] = {}

    def columns(self, **changed: object) -> Columns:
        text = json.dumps(CONSTANT | changed)
        return self._columns.setdefault(text, Columns(text.encode()))

    def reserve(self, columns: Columns | None = None, estimate_nano: int = 900) -> bytes:
        """Reserve a request; return its id."""
        id = request_id(START_US // 1000, self.epoch, self.made)
        self.made += 1
        self.append("reserve", id, columns or self.columns(), START_US, 10_000, estimate_nano, 7)
        return id

    def settle(self, id: bytes, columns: Columns | None = None, **values: int) -> None:
        self.append("settle", id, columns or self.columns(), outcome(**values))

    def request(self, columns: Columns | None = None, **values: int) -> bytes:
        """Record a whole request; return its id."""
        id = self.reserve(columns)
        self.settle(id, columns, **values)
        return id

    def note(self, id: bytes, **members: Any) -> None:
        self.append("note", id, json.dumps(members).encode())

    def append(self, method: str, *values: Any) -> None:
        while not getattr(self.spend.journal, method)(*values):
            assert self.spend.roll()

    def die(self) -> None:
        """Leave the journal as a process does that ends, or is killed."""
        self.spend.close()


def outcome(**values: int) -> Outcome:
    made = Outcome()
    defaults = {
        **{"start_us": START_US, "first_byte_us": START_US + 1500, "end_us": START_US + 9000},
        **{"ttft_us": 1250, "overhead_us": 31, "spend_nano": 100, "prompt_tokens": 10},
        **{"completion_tokens": 5, "total_tokens": 15, "http_status": 200, "attempt": 1},
        **{"status": rows.SUCCESS, "usage_source": rows.PROVIDER},
    }
    for name, value in (defaults | values).items():
        setattr(made, name, value)
    return made


_OWNERS = """
INSERT INTO organizations (organization_id, models, metadata, created_at, created_by, updated_at,
    updated_by) VALUES ($1, $2, $3, $4, $5, $4, $5);
INSERT INTO users (user_id, user_role, models, metadata, model_max_budget, created_at, created_by,
    updated_at, updated_by) VALUES ($1, 'internal_user', $2, $3, $3, $4, $5, $4, $5);
INSERT INTO teams (team_id, models, model_aliases, tags, metadata, model_max_budget,
    model_rpm_limit, model_tpm_limit, created_at, created_by, updated_at, updated_by)
    VALUES ($1, $2, $3, $2, $3, $3, $3, $3, $4, $5, $4, $5);
INSERT INTO virtual_keys (key_hash, key_name, models, aliases, tags, allowed_routes, permissions,
    metadata, budget_limits, model_max_budget, model_rpm_limit, model_tpm_limit, created_at,
    created_by, updated_at, updated_by)
    VALUES ($1, 'sk-...', $2, $3, $2, $2, $3, $3, $2, $3, $3, $3, $4, $5, $4, $5)
"""


async def add_owners(store: Store) -> None:
    """Add the owners that CONSTANT names."""
    for statement, id in zip(_OWNERS.split(";"), ("org", "user", "team", "key"), strict=True):
        await store.execute(statement, id, [], {}, START, "test")
    await store.execute(
        "INSERT INTO team_members (team_id, user_id, role, models, created_at)"
        " VALUES ('team', 'user', 'user', $1, $2)",
        *([], START),
    )


async def spent(store: Store) -> dict[str, int]:
    """Return every balance that is not 0."""
    found = {}
    for table, name in (
        *(("virtual_keys", "key_hash"), ("teams", "team_id"), ("users", "user_id")),
        *(("organizations", "organization_id"), ("customers", "customer_id"), ("tags", "name")),
        ("team_members", "team_id"),
    ):
        for row in await store.fetch(
            f"SELECT {name} AS id, spend_nano_usd AS nano, total_spend_nano_usd AS total"
            f" FROM {table}"
        ):
            assert row["nano"] == row["total"]
            if row["nano"]:
                found[f"{table} {row['id']}"] = row["nano"]
    return found


async def in_thread(call: Any, *values: Any) -> Any:
    """Call what blocks."""
    return await asyncio.to_thread(call, *values)
