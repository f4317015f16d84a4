"""The SQL that the documentation tells people to run, run on both stores."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fastgate.store import Store, open_store

KEYS_PAGE = Path(__file__).parents[2] / "docs/keys.md"
NAMES = (
    *("day", "key_hash", "team_id", "user_id", "customer_id", "organization_id", "tags"),
    *("model_group", "model", "provider", "requests", "total_tokens", "spend_nano_usd"),
    "unpriced_requests",
)


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> AsyncIterator[Store]:
    opened = await open_store(new_database(request.param))
    yield opened
    await opened.close()


async def spend(store: Store, day: str, team: str, key: str, nano: int, **more: int) -> None:
    values: dict[str, Any] = dict.fromkeys(NAMES, "")
    values.update(day=day, team_id=team, key_hash=key, model_group="gpt", spend_nano_usd=nano)
    values.update(requests=1, total_tokens=10, unpriced_requests=0, **more)
    holders = ", ".join(f"${n}" for n in range(1, len(NAMES) + 1))
    await store.execute(
        f"INSERT INTO daily_spend ({', '.join(NAMES)}) VALUES ({holders})", *values.values()
    )


async def test_what_a_team_cost_in_a_month(store: Store) -> None:
    [query] = re.findall(r"```sql\n(SELECT.*?)```", KEYS_PAGE.read_text(), re.DOTALL)
    made = "created_at, created_by, updated_at, updated_by"
    lists = "models, model_aliases, tags, metadata, model_max_budget, model_rpm_limit"
    await store.execute(
        f"INSERT INTO teams (team_id, team_alias, {lists}, model_tpm_limit, {made}) VALUES "
        "('t1', 'Research', '[]', '{}', '[]', '{}', '{}', '{}', '{}', "
        "'2026-01-01T00:00:00+00:00', 'a', '2026-01-01T00:00:00+00:00', 'a')"
    )
    for day in ("2026-02-28", "2026-03-01", "2026-03-31", "2026-04-01"):
        await spend(store, day, "t1", "k1", 1_500_000_001)
        await spend(store, day, "t1", "k2", 10)
        await spend(store, day, "", "k3", 7)
    await spend(store, "2026-03-15", "deleted-team", "k4", 9_007_199_254_740_993)
    found = await store.fetch(query)
    assert [(row["team"], round(float(row["usd"]), 9)) for row in found] == [
        ("deleted-team", 9_007_199.254740993),
        ("Research", 3.000000022),
        ("", 0.000000014),
    ]
    assert [(row["requests"], row["tokens"]) for row in found] == [(1, 10), (4, 40), (2, 20)]
    assert found[0]["unpriced_requests"] == 0
