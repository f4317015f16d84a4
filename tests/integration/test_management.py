"""Keys, teams, users, budgets over the management API, on both stores."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastgate.observe import memory as shared_memory
from fastgate.store import open_store
from tests.managing import Api


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


async def test_a_key_is_shown_once_and_known_by_its_hash(api: Api) -> None:
    made = await api.done(
        "/key/generate",
        {"key_alias": "ci", "max_budget": 0.1, "models": ["gpt"], "metadata": {"a": [1]}, "x": 1},
    )
    key, token = made["key"], made["token"]
    assert key.startswith("sk-")
    assert len(key) == 46
    assert token == made["token_id"] == hashlib.sha256(key.encode()).hexdigest()
    assert made["key_name"] == f"sk-...{key[-4:]}"
    assert (made["max_budget"], made["models"], made["metadata"]) == (0.1, ["gpt"], {"a": [1]})
    assert made["expires"] is None
    for named in (key, token):
        shown = await api.done(f"/key/info?key={named}")
        assert shown["key"] == named
        assert "token" not in shown["info"]
        assert shown["info"]["key_alias"] == "ci"
        assert shown["info"]["status"] == "active"
    for table in ("virtual_keys", "audit_log"):
        assert key not in str(await api.store.fetch(f"SELECT * FROM {table}"))
    assert api.changes == [("key", [token])]


async def test_an_unknown_key_is_not_found(api: Api) -> None:
    status, answer = await api.ask("GET", "/key/info?key=sk-none")
    assert status == 404
    assert answer["error"] == {
        "message": "Key not found in database",
        "type": "not_found_error",
        "param": "key",
        "code": "404",
    }


async def test_an_alias_is_given_once(api: Api) -> None:
    await api.done("/key/generate", {"key_alias": "ci"})
    status, answer = await api.ask("POST", "/key/generate", {"key_alias": "ci"})
    assert status == 400
    assert answer["error"]["message"] == "Key with alias 'ci' already exists"


async def test_spend_rounds_to_the_nano_dollar(api: Api) -> None:
    made = await api.done("/key/generate", {"spend": 0.123456789})
    row = await api.store.fetch_one("SELECT spend_nano_usd FROM virtual_keys")
    assert row == {"spend_nano_usd": 123_456_789}
    for nano in (1, 999_999_999_999_999):
        await api.store.execute("UPDATE virtual_keys SET spend_nano_usd = $1", nano)
        shown = await api.done(f"/key/info?key={made['key']}")
        assert round(shown["info"]["spend"] * 10**9) == nano


async def test_null_takes_a_limit_away_and_absence_leaves_it(api: Api) -> None:
    key = (await api.done("/key/generate", {"tpm_limit": 5, "rpm_limit": 6}))["key"]
    changed = await api.done("/key/update", {"key": key, "tpm_limit": None, "models": ["m"]})
    assert (changed["tpm_limit"], changed["rpm_limit"]) == (None, 6)
    assert (changed["key"], changed["models"]) == (key, ["m"])


async def test_a_regenerated_key_goes_on_with_its_spend(api: Api) -> None:
    old = await api.done("/key/generate", {"key_alias": "a", "spend": 2, "max_budget": 5})
    body = {"key": old["key"], "grace_period": "1h"}
    new = await api.done("/key/regenerate", body)
    assert new["key"] != old["key"]
    assert (new["spend"], new["max_budget"], new["key_alias"]) == (2.0, 5.0, "a")
    assert (await api.ask("GET", f"/key/info?key={old['key']}"))[0] == 404
    assert ("key", [old["token"], new["token"]]) in api.changes
    again = await api.done(f"/key/{new['token']}/regenerate", {"new_key": "sk-0123456789abcdef"})
    assert again["key"] == "sk-0123456789abcdef"
    chain = await api.store.fetch("SELECT active_key_hash FROM replaced_keys")
    assert {row["active_key_hash"] for row in chain} == {again["token"]}


async def test_keys_are_listed_by_page(api: Api) -> None:
    for n in range(5):
        await api.done("/key/generate", {"key_alias": str(n)})
    page = await api.done("/key/list?page=2&size=2&return_full_object=true")
    assert (page["total_count"], page["current_page"], page["total_pages"]) == (5, 2, 3)
    assert [key["key_alias"] for key in page["keys"]] == ["2", "1"]


async def test_keys_are_blocked_reset_and_deleted(api: Api) -> None:
    made = await api.done("/key/generate", {"spend": 3, "key_alias": "b"})
    assert (await api.done("/key/block", {"key": made["key"]}))["blocked"] is True
    assert (await api.done("/key/unblock", {"key": made["token"]}))["blocked"] is False
    reset = await api.done(f"/key/{made['token']}/reset_spend", {"reset_to": 0})
    assert reset["spend"] == 0
    assert await api.done("/key/delete", {"key_aliases": ["b"]}) == {
        "deleted_keys": [made["token"]]
    }
    assert (await api.ask("POST", "/key/delete", {"keys": [made["key"]]}))[0] == 404


async def test_expiry_and_reset_are_worked_out(api: Api) -> None:
    made = await api.done("/key/generate", {"duration": "1h", "budget_duration": "1d"})
    now = datetime.now(UTC)
    assert abs(datetime.fromisoformat(made["expires"]) - now - timedelta(hours=1)).seconds < 60
    reset = datetime.fromisoformat(made["budget_reset_at"])
    assert (reset.hour, reset.minute) == (0, 0)
    assert timedelta(0) < reset - now <= timedelta(days=1)


async def test_what_does_not_fit_is_422(api: Api) -> None:
    bodies: list[tuple[Any, list[str]]] = [
        ({"max_budget": "ten"}, ["body", "max_budget"]),
        ({"max_budget": -1}, ["body", "max_budget"]),
        ({"models": "gpt"}, ["body", "models"]),
        ({"duration": "soon"}, ["body", "duration"]),
        ({"budget_duration": "0d"}, ["body", "budget_duration"]),
        ({"tpm_limit": 2**63}, ["body", "tpm_limit"]),
        ({"key": "short"}, ["body", "key"]),
        ({"metadata": {"a": "\0"}}, ["body"]),
        ([], ["body"]),
    ]
    for body, where in bodies:
        status, answer = await api.ask("POST", "/key/generate", body)
        assert status == 422, answer
        assert answer["detail"][0]["loc"] == where
    assert (await api.done("/key/list"))["total_count"] == 0


# teams and users


async def test_a_team_has_members_models_and_keys(api: Api) -> None:
    team = await api.done(
        "/team/new",
        {"team_alias": "A", "models": ["gpt"], "team_member_budget": 5, "max_budget": 10},
    )
    team_id = team["team_id"]
    await api.done("/key/generate", {"team_id": team_id})
    added = await api.done(
        "/team/member_add", {"team_id": team_id, "member": {"role": "admin", "user_email": "e@x"}}
    )
    assert added["updated_team_memberships"][0]["max_budget"] == 5.0
    user_id = added["updated_users"][0]["user_id"]
    again = {"team_id": team_id, "member": [{"user_id": user_id}]}
    status, answer = await api.ask("POST", "/team/member_add", again)
    assert (status, answer["error"]["type"]) == (400, "team_member_already_in_team")
    await api.done(
        "/team/member_update",
        {"team_id": team_id, "user_id": user_id, "max_budget_in_team": 7, "role": "user"},
    )
    await api.done("/team/model/add", {"team_id": team_id, "models": ["b"]})
    info = await api.done(f"/team/info?team_id={team_id}")
    assert info["team_info"]["models"] == ["gpt", "b"]
    assert info["team_info"]["members_with_roles"] == [
        {"role": "user", "user_id": user_id, "user_email": "e@x"}
    ]
    assert info["team_memberships"][0]["max_budget"] == 7.0
    assert len(info["keys"]) == 1
    await api.done("/team/member_delete", {"team_id": team_id, "user_email": "e@x"})
    status, answer = await api.ask(
        "POST", "/team/model/delete", {"team_id": team_id, "models": ["gpt", "b"]}
    )
    assert status == 400
    assert (await api.done("/team/block", {"team_id": team_id}))["blocked"] is True
    assert len(await api.done("/team/list")) == 1
    assert (await api.done("/v2/team/list?team_alias=A"))["total"] == 1
    await api.done("/team/delete", {"team_ids": [team_id]})
    assert (await api.ask("GET", f"/team/info?team_id={team_id}"))[0] == 404
    assert (await api.done("/key/list"))["total_count"] == 0


async def test_a_user_comes_with_a_key(api: Api) -> None:
    made = await api.done("/user/new", {"user_email": "a@x", "max_budget": 3, "models": ["gpt"]})
    info = await api.done(f"/user/info?user_id={made['user_id']}")
    assert info["user_info"]["user_role"] == "internal_user"
    assert [key["token"] for key in info["keys"]] == [made["token"]]
    assert info["keys"][0]["models"] == ["gpt"]
    assert (await api.ask("POST", "/user/new", {"user_email": "a@x"}))[0] == 400
    assert (await api.done("/user/list?role=internal_user"))["total"] == 1
    assert (await api.done("/user/new", {"auto_create_key": False}))["key"] is None
    await api.done("/user/delete", {"user_ids": [made["user_id"]]})
    assert (await api.done("/key/list"))["total_count"] == 0


async def test_budgets_customers_and_organizations(api: Api) -> None:
    budget = await api.done("/budget/new", {"budget_id": "b", "max_budget": 5})
    assert budget["max_budget"] == 5.0
    await api.done("/budget/update", {"budget_id": "b", "rpm_limit": 3})
    assert (await api.done("/budget/info", {"budgets": ["b", "none"]}))[0]["rpm_limit"] == 3
    customer = await api.done("/customer/new", {"user_id": "c", "budget_id": "b"})
    assert customer["litellm_budget_table"]["max_budget"] == 5.0
    own = await api.done("/end_user/new", {"user_id": "d", "max_budget": 1.5})
    assert own["litellm_budget_table"]["max_budget"] == 1.5
    assert (await api.ask("POST", "/customer/new", {"user_id": "d"}))[0] == 400
    assert (await api.ask("POST", "/budget/delete", {"id": "b"}))[0] == 400
    await api.done("/customer/block", {"user_ids": ["c", "new"]})
    assert (await api.done("/customer/info?end_user_id=new"))["blocked"] is True
    gone = await api.done("/customer/delete", {"user_ids": ["c", "none"]})
    assert gone["deleted_customers"] == 1
    await api.done("/budget/delete", {"id": "b"})
    made = await api.done("/organization/new", {"organization_alias": "o", "max_budget": 9})
    status, changed = await api.ask(
        "PATCH",
        "/organization/update",
        {"organization_id": made["organization_id"], "max_budget": 8},
    )
    assert (status, changed["litellm_budget_table"]["max_budget"]) == (200, 8.0)
    await api.done("/team/new", {"organization_id": made["organization_id"]})
    body = {"organization_ids": [made["organization_id"]]}
    assert (await api.ask("DELETE", "/organization/delete", body))[0] == 400


async def test_models_keep_no_secret(api: Api) -> None:
    params = {"model": "openai/x", "api_base": "http://h/v1", "api_key": "sk-in-clear"}
    body = {"model_name": "m", "litellm_params": params, "model_info": {"id": "i"}}
    status, answer = await api.ask("POST", "/model/new", body)
    assert status == 400
    assert "sk-in-clear" not in str(answer)
    params["api_key"] = "os.environ/HOME"
    await api.done("/model/new", body)
    shown = await api.done("/model/info")
    assert [(m["model_name"], m["model_info"]["db_model"]) for m in shown["data"]] == [
        ("gpt", False),
        ("m", True),
    ]
    assert "sk-upstream-canary" not in str(shown)
    assert "HOME" not in str(shown)
    group = (await api.done("/model_group/info"))["data"][0]
    assert (group["model_group"], group["providers"], group["rpm"]) == ("gpt", ["openai"], 10)
    await api.done("/model/delete", {"id": "i"})


async def test_changes_are_written_down_without_secrets(api: Api) -> None:
    made = await api.done("/key/generate", {"metadata": {"logging": "sk-canary"}, "tpm_limit": 1})
    await api.done("/key/update", {"key": made["key"], "tpm_limit": 2})
    rows = await api.store.fetch("SELECT * FROM audit_log ORDER BY id")
    assert [row["action"] for row in rows] == ["created", "updated"]
    assert rows[1]["before_values"]["tpm_limit"] == 1
    assert rows[1]["after_values"]["tpm_limit"] == 2
    assert rows[1]["object_id"] == made["token"]
    assert "sk-canary" not in str(rows)
    assert made["key"] not in str(rows)


# who may what


async def test_others_objects_are_not_ones_own(api: Api) -> None:
    alice, alices = await api.user()
    _, bobs = await api.user()
    team = (await api.done("/team/new", {}))["team_id"]
    token = hashlib.sha256(alices.encode()).hexdigest()
    for method, path, body in (
        ("GET", f"/key/info?key={token}", None),
        ("POST", "/key/update", {"key": token, "key_alias": "mine"}),
        ("POST", "/key/delete", {"keys": [token]}),
        ("POST", "/key/block", {"key": token}),
        ("POST", "/key/regenerate", {"key": token}),
        ("POST", f"/key/{token}/regenerate", {}),
        ("GET", f"/user/info?user_id={alice}", None),
        ("POST", "/user/update", {"user_id": alice, "user_alias": "x"}),
        ("GET", f"/team/info?team_id={team}", None),
        ("POST", "/team/update", {"team_id": team, "team_alias": "x"}),
        ("POST", "/team/member_add", {"team_id": team, "member": {"user_id": "bob"}}),
        ("POST", "/key/generate", {"team_id": team}),
        ("POST", "/key/generate", {"user_id": alice}),
        ("GET", f"/user/daily/activity?user_id={alice}", None),
        ("GET", f"/team/daily/activity?team_ids={team}", None),
        ("GET", f"/team/list?user_id={alice}", None),
    ):
        status, answer = await api.ask(method, path, body, bobs)
        assert status == 403, (path, answer)
    many = await api.done("/v2/key/info", {"keys": [token]}, bobs)
    assert many["info"] == []
    assert alice not in json.dumps(await api.done("/key/list?return_full_object=true", key=bobs))


async def test_an_owner_cannot_raise_what_a_key_may(api: Api) -> None:
    user_id, key = await api.user(max_budget=10, models=["gpt"])
    await api.done("/key/update", {"key": key, "max_budget": 5, "rpm_limit": 10, "models": ["gpt"]})
    for field, value in (
        *(("max_budget", 6), ("max_budget", None), ("rpm_limit", 11), ("rpm_limit", None)),
        *(("models", []), ("models", ["gpt", "b"]), ("models", None), ("spend", 0)),
        *(("blocked", False), ("duration", "9d"), ("team_id", "t"), ("user_id", "x")),
        *(("allowed_routes", []), ("budget_id", "b"), ("temp_budget_increase", 5), ("tags", [])),
    ):
        status, answer = await api.ask("POST", "/key/update", {"key": key, field: value}, key)
        assert status == 403, (field, value, answer)
    kept = await api.done("/key/update", {"key": key, "max_budget": 4, "key_alias": "mine"}, key)
    assert (kept["max_budget"], kept["key_alias"]) == (4.0, "mine")
    for body in ({"max_budget": 11}, {"models": ["b"]}, {"spend": 0}, {"allowed_routes": ["/x"]}):
        assert (await api.ask("POST", "/key/generate", body, key))[0] == 403, body
    assert (await api.done("/key/generate", {"max_budget": 9}, key))["user_id"] == user_id
    for body in ({"user_role": "proxy_admin"}, {"max_budget": 99}, {"spend": 0}):
        assert (await api.ask("POST", "/user/update", {"user_id": user_id, **body}, key))[0] == 403


async def test_a_teams_admin_runs_the_team_but_not_its_budget(api: Api) -> None:
    lead, key = await api.user()
    members = [{"role": "admin", "user_id": lead}]
    team = await api.done("/team/new", {"members_with_roles": members, "models": ["gpt"]})
    team_id = team["team_id"]
    made = await api.done("/key/generate", {"team_id": team_id}, key)
    await api.done("/key/update", {"key": made["token"], "max_budget": 5}, key)
    await api.done("/key/block", {"key": made["token"]}, key)
    await api.done("/team/member_add", {"team_id": team_id, "member": {"user_id": "new"}}, key)
    await api.done("/team/update", {"team_id": team_id, "team_alias": "mine"}, key)
    assert (await api.done("/team/info?team_id=" + team_id, key=key))["keys"]
    for body in ({"max_budget": 9}, {"models": []}, {"blocked": False}):
        status, _ = await api.ask("POST", "/team/update", {"team_id": team_id, **body}, key)
        assert status == 403, body
    assert (await api.ask("POST", "/key/generate", {"team_id": team_id, "models": ["b"]}, key))[
        0
    ] == 403


async def test_a_teams_admin_never_holds_a_key_that_acts_as_another(api: Api) -> None:
    root, _ = await api.user("proxy_admin", metadata={"home": "secret of root"})
    lead, key = await api.user()
    team = await api.done("/team/new", {"members_with_roles": [{"role": "admin", "user_id": lead}]})
    team_id = team["team_id"]
    added = await api.done(
        "/team/member_add", {"team_id": team_id, "member": {"user_id": root}}, key
    )
    assert added["updated_users"] == [{"user_id": root, "user_email": None}]
    theirs = await api.done("/key/generate", {"team_id": team_id, "user_id": root})
    for path, body in (
        ("/key/generate", {"team_id": team_id, "user_id": root}),
        ("/key/generate", {"team_id": team_id, "user_id": "who-comes-later"}),
        ("/key/regenerate", {"key": theirs["token"]}),
        (f"/key/{theirs['token']}/regenerate", {}),
        ("/key/update", {"key": theirs["token"], "user_id": lead}),
    ):
        status, answer = await api.ask("POST", path, body, key)
        assert status == 403, (path, answer)
    assert "secret of root" not in str(await api.done(f"/team/info?team_id={team_id}", key=key))
    await api.done("/key/block", {"key": theirs["token"]}, key)
    own = await api.done("/key/generate", {"team_id": team_id, "user_id": lead}, key)
    await api.done("/key/regenerate", {"key": own["token"]}, key)


async def test_a_restricted_key_makes_none_that_may_do_more(api: Api) -> None:
    user_id, key = await api.user()
    routes = ["/key/generate", "/key/regenerate", "llm_api_routes"]
    small = await api.done("/key/generate", {"user_id": user_id, "allowed_routes": routes})
    made = await api.done("/key/generate", {}, small["key"])
    assert made["allowed_routes"] == routes
    token = hashlib.sha256(key.encode()).hexdigest()
    assert (await api.ask("POST", "/key/regenerate", {"key": token}, small["key"]))[0] == 403
    await api.done("/key/regenerate", {"key": small["token"]}, small["key"])


async def test_a_key_without_a_user_sees_only_its_own_rows_of_spend(api: Api) -> None:
    names = ("request_id", "call_type", "key_hash", "user_id", "stream", "status", "usage_source")
    counts = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens")
    columns = [*names, *counts, "reasoning_tokens", "total_tokens", "cache_hit", "attempts"]
    keys = [(await api.done("/key/generate", {}))["key"] for _ in range(2)]
    for number, key in enumerate(keys):
        digest = hashlib.sha256(key.encode()).hexdigest()
        values = [f"r{number}", "chat", digest, "", False, "success", "provider"]
        values += [0] * 6 + [False, 1, datetime.now(UTC)]
        holders = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        await api.store.execute(
            f"INSERT INTO spend_logs ({', '.join(columns)}, start_time) VALUES ({holders})", *values
        )
    assert [row["request_id"] for row in await api.done("/spend/logs", key=keys[0])] == ["r0"]
    assert (await api.done("/spend/logs/v2", key=keys[1]))["total"] == 1


async def test_a_blocked_or_restricted_key_manages_nothing(api: Api) -> None:
    _, key = await api.user("proxy_admin")
    assert (await api.ask("GET", "/key/list", key=key))[0] == 200
    await api.done("/key/update", {"key": key, "key_type": "llm_api"})
    assert (await api.ask("GET", "/key/list", key=key))[0] == 403
    await api.done("/key/update", {"key": key, "allowed_routes": ["info_routes"]})
    assert (await api.ask("GET", "/key/list", key=key))[0] == 200
    assert (await api.ask("POST", "/key/generate", {}, key))[0] == 403
    await api.done("/key/block", {"key": key})
    assert (await api.ask("GET", "/key/list", key=key))[0] == 401
