"""Reports of spend, on both stores; and the OpenAPI document, put to the test by schemathesis."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
import schemathesis

from fastgate.config.stored import decode
from fastgate.management.openapi import document
from fastgate.observe import memory as shared_memory
from fastgate.store import Store, open_store
from tests.managing import MASTER, Api

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PERIOD = "start_date=2026-03-01&end_date=2026-03-02"


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


async def add_day(store: Store, day: str, nano: int, **what: str) -> None:
    row: dict[str, Any] = dict.fromkeys(
        ("key_hash", "team_id", "user_id", "customer_id", "organization_id", "model", "provider"),
        "",
    )
    row |= {"model_group": "gpt", "tags": "[]", **what, "day": day, "spend_nano_usd": nano}
    row |= {"requests": 2, "successful_requests": 1, "failed_requests": 1, "total_tokens": 30}
    holders = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await store.execute(
        f"INSERT INTO daily_spend ({', '.join(row)}) VALUES ({holders})", *row.values()
    )


async def add_log(store: Store, request_id: str, nano: int | None, **what: Any) -> None:
    row: dict[str, Any] = {
        **{"request_id": request_id, "call_type": "chat", "key_hash": "h", "stream": False},
        **{"status": "success", "usage_source": "provider", "cache_hit": False, "attempts": 1},
        **dict.fromkeys(("prompt_tokens", "cached_tokens", "cache_write_tokens"), 1),
        **dict.fromkeys(("completion_tokens", "reasoning_tokens", "total_tokens"), 2),
        **{"spend_nano_usd": nano, "start_time": NOW, "tags": ["a"], **what},
    }
    holders = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await store.execute(
        f"INSERT INTO spend_logs ({', '.join(row)}) VALUES ({holders})", *row.values()
    )


async def test_the_report_groups_by_team_customer_and_key(api: Api) -> None:
    await api.done("/team/new", {"team_id": "t", "team_alias": "Team"})
    await add_day(api.store, "2026-03-01", 5, team_id="t", key_hash="k1", customer_id="c")
    await add_day(api.store, "2026-03-01", 7, team_id="t", key_hash="k2")
    await add_day(api.store, "2026-03-03", 9, team_id="t")
    teams = await api.done(f"/global/spend/report?{PERIOD}&group_by=team")
    assert teams == [
        {
            "group_by_day": "2026-03-01",
            "teams": [
                {
                    "team_name": "Team",
                    "total_spend": 12e-9,
                    "metadata": [
                        {"model": "gpt", "spend": 7e-9, "total_tokens": 30, "api_key": "k2"},
                        {"model": "gpt", "spend": 5e-9, "total_tokens": 30, "api_key": "k1"},
                    ],
                }
            ],
        }
    ]
    keys = await api.done(f"/global/spend/report?{PERIOD}&group_by=api_key&customer_id=c")
    assert [key["api_key"] for key in keys[0]["api_keys"]] == ["k1"]
    assert await api.done(f"/global/spend?{PERIOD}") == {"spend": 12e-9, "max_budget": None}
    by_key = await api.done(f"/global/spend/keys?{PERIOD}")
    assert [(key["api_key"], key["total_spend"]) for key in by_key] == [("k2", 7e-9), ("k1", 5e-9)]
    by_team = await api.done(f"/global/spend/teams?{PERIOD}")
    assert by_team["total_spend_per_team"] == [{"team_id": "Team", "total_spend": 12e-9}]
    assert await api.done(f"/global/spend/models?{PERIOD}") == [
        {"model": "gpt", "total_spend": 12e-9}
    ]


async def test_a_request_with_two_tags_counts_for_both(api: Api) -> None:
    await add_day(api.store, "2026-03-01", 5, tags='["a","b"]')
    await add_day(api.store, "2026-03-01", 7, tags='["b"]')
    assert await api.done(f"/spend/tags?{PERIOD}") == [
        {"individual_request_tag": "b", "log_count": 4, "total_spend": 12e-9},
        {"individual_request_tag": "a", "log_count": 2, "total_spend": 5e-9},
    ]
    activity = await api.done(f"/tag/daily/activity?{PERIOD}&tags=a")
    assert activity["metadata"]["total_spend"] == 5e-9
    assert list(activity["results"][0]["breakdown"]["entities"]) == ["a"]


async def test_activity_is_broken_down_per_day(api: Api) -> None:
    user_id, key = await api.user()
    await add_day(api.store, "2026-03-01", 5, user_id=user_id, key_hash="k", provider="p")
    await add_day(api.store, "2026-03-02", 7, user_id=user_id, model="m")
    await add_day(api.store, "2026-03-02", 9, user_id="other")
    mine = await api.done(f"/user/daily/activity?{PERIOD}", key=key)
    assert [(day["date"], day["metrics"]["spend"]) for day in mine["results"]] == [
        ("2026-03-02", 7e-9),
        ("2026-03-01", 5e-9),
    ]
    assert mine["results"][1]["breakdown"]["providers"]["p"]["metrics"]["api_requests"] == 2
    assert mine["metadata"]["total_spend"] == 12e-9
    all_of_it = await api.done(f"/user/daily/activity?{PERIOD}&page_size=1")
    assert all_of_it["metadata"] | {"total_pages": 2, "has_more": True} == all_of_it["metadata"]
    assert all_of_it["metadata"]["total_spend"] == 21e-9


async def test_rows_are_those_of_the_caller(api: Api) -> None:
    user_id, key = await api.user()
    own = hashlib.sha256(key.encode()).hexdigest()
    await add_log(api.store, "r1", 5, user_id=user_id, model_group="gpt")
    await add_log(api.store, "r2", None, key_hash=own, status="failure")
    await add_log(api.store, "r3", 9, user_id="other", start_time=NOW.replace(day=1))
    page = await api.done("/spend/logs/v2", key=key)
    assert {row["request_id"] for row in page["data"]} == {"r1", "r2"}
    assert {row["spend"] for row in page["data"]} == {5e-9, None}
    failed = await api.done("/spend/logs/v2?status_filter=failure")
    assert [row["request_id"] for row in failed["data"]] == ["r2"]
    row = (await api.done("/spend/logs?request_id=r1"))[0]
    assert (row["user"], row["cache_hit"], row["request_tags"]) == (user_id, "False", ["a"])
    days = await api.done(f"/spend/logs?{PERIOD}")
    assert [(day["startTime"], day["spend"]) for day in days] == [
        ("2026-03-01", 9e-9),
        ("2026-03-02", 5e-9),
    ]
    assert days[1]["models"] == {"": 0.0, "gpt": 5e-9}


# what workers ask


async def look_up(api: Api, token: str) -> Any:
    answer = await api.client.get(f"/internal/keys/{token}")
    assert answer.status in (200, 404)
    return decode(await answer.read()) if answer.status == 200 else None


async def test_a_worker_learns_of_a_key_with_all_that_is_above_it(api: Api) -> None:
    await api.done("/organization/new", {"organization_id": "o", "max_budget": 100})
    await api.done(
        "/team/new",
        {
            **{"team_id": "t", "organization_id": "o", "models": ["gpt"], "rpm_limit": 7},
            **{"max_budget": 50, "model_aliases": {"x": "gpt"}, "tags": ["team"]},
        },
    )
    await api.done("/budget/new", {"budget_id": "b", "tpm_limit": 9, "max_budget": 3})
    user_id, _ = await api.user("internal_user", max_budget=1, teams=["t"])
    made = await api.done(
        "/key/generate",
        {
            **{"team_id": "t", "user_id": user_id, "budget_id": "b", "key_alias": "a"},
            **{"models": ["all-team-models"], "duration": "1h", "tags": ["own"], "spend": 2},
        },
    )
    await api.done("/key/update", {"key": made["key"], "temp_budget_increase": 1.5})
    found = await look_up(api, made["token"])
    assert found is not None
    assert (found.key_hash, found.alias, found.team) == (made["token"], "a", "t")
    assert (found.user_id, found.organization_id, found.role) == (user_id, "o", "internal_user")
    assert (found.models, found.team_models, found.user_models) == ([], ["gpt"], [])
    assert found.aliases == {"x": "gpt"}
    assert found.tags == ["own", "team"]
    assert found.expires_unix_s == datetime.fromisoformat(made["expires"]).timestamp()
    scopes = {scope.kind: scope for scope in found.scopes}
    assert list(scopes) == ["key", "team", "team_member", "organization"]
    assert scopes["key"].tpm == 9
    assert scopes["key"].max_budget_nano_usd == 4_500_000_000
    assert scopes["key"].spend_nano_usd == 2_000_000_000
    assert (scopes["team"].rpm, scopes["team"].max_budget_nano_usd) == (7, 50_000_000_000)
    assert scopes["team_member"].id == f"t/{user_id}"
    assert scopes["organization"].max_budget_nano_usd == 100_000_000_000


async def test_a_worker_learns_that_a_key_is_blocked_gone_or_replaced(api: Api) -> None:
    made = await api.done("/key/generate", {"team_id": None})
    await api.done("/key/block", {"key": made["key"]})
    assert (await look_up(api, made["token"])).blocked == "key"
    new = await api.done("/key/regenerate", {"key": made["key"], "grace_period": "1h"})
    old = await look_up(api, made["token"])
    assert (old.key_hash, old.expires_unix_s > 0) == (new["token"], True)
    at_once = await api.done("/key/regenerate", {"key": new["key"]})
    assert await look_up(api, new["token"]) is None
    assert (await look_up(api, made["token"])).key_hash == at_once["token"]
    await api.done("/key/delete", {"keys": [at_once["key"]]})
    for token in (made["token"], at_once["token"], "x", "0" * 64):
        assert await look_up(api, token) is None
    relayed = await api.client.get(
        f"/internal/keys/{made['token']}", headers={"x-fastgate-role": "admin"}
    )
    assert relayed.status == 404


async def test_each_change_tells_the_workers(api: Api) -> None:
    team_id = (await api.done("/team/new", {}))["team_id"]
    user_id, key = await api.user()
    await api.done("/budget/new", {"budget_id": "b"})
    await api.done("/customer/new", {"user_id": "c"})
    token = hashlib.sha256(key.encode()).hexdigest()
    for path, body, change in (
        ("/key/update", {"key": key, "tpm_limit": 1}, ("key", [token])),
        ("/key/block", {"key": key}, ("key", [token])),
        ("/team/block", {"team_id": team_id}, ("team", [team_id])),
        ("/user/update", {"user_id": user_id, "tpm_limit": 1}, ("user", [user_id])),
        ("/budget/update", {"budget_id": "b", "tpm_limit": 1}, ("budget", ["b"])),
        ("/customer/block", {"user_ids": ["c"]}, ("customer", ["c"])),
        ("/key/delete", {"keys": [key]}, ("key", [token])),
        ("/team/delete", {"team_ids": [team_id]}, ("team", [team_id])),
    ):
        api.changes.clear()
        await api.done(path, body)
        assert change in api.changes, path


async def test_a_worker_that_asks_at_once_sees_the_change(api: Api) -> None:
    made = await api.done("/key/generate", {})
    await api.done("/key/block", {"key": made["key"]})
    await api.done("/key/regenerate", {"key": made["key"], "models": ["m"]})
    first, blocked, regenerated = [await seen for seen in api.seen]
    assert first is not None
    assert first.blocked == ""
    assert blocked is not None
    assert blocked.blocked == "key"
    assert regenerated is not None
    assert regenerated.models == ["m"]


# without a database


async def test_without_a_database_only_management_is_refused(api: Api) -> None:
    api.state.service = None
    status, answer = await api.ask("GET", "/key/list")
    assert (status, answer["error"]["type"]) == (503, "no_db_connection")
    assert (await api.client.get("/metrics")).status == 200
    assert (await api.client.get("/internal/keys/" + "0" * 64)).status == 503


# the document


async def test_the_document_is_served_as_the_table_has_it(api: Api) -> None:
    assert await (await api.client.get("/openapi.json")).json() == document()


SCHEMA = schemathesis.openapi.from_dict(document())
# Not the phase that tries each way of being wrong: 40 s.
SCHEMA.config.phases.update(phases=["fuzzing"])
# The key is the test's own.
SCHEMA.config.generation.update(with_security_parameters=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.threaded import Threaded

    with Threaded(f"sqlite:///{tmp_path_factory.mktemp('served')}/store.db") as running:
        yield running


@SCHEMA.parametrize()
@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
def test_no_request_breaks_the_api(case: Any, served: Any) -> None:
    answer = case.call(base_url=served.url, headers={"Authorization": f"Bearer {MASTER}"})
    assert answer.status_code in (200, 400, 404, 422, 503), answer.text
    assert "Traceback" not in answer.text
    if answer.status_code == 503:
        assert "not part of this installation" in answer.text
