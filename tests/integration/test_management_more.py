"""Tags, members of organizations, bulk updates over the management API, on both stores."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

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


async def test_tags_have_models_and_a_budget(api: Api) -> None:
    made = await api.done(
        "/tag/new",
        {"name": "batch", "description": "at night", "models": ["gpt"], "max_budget": 5},
    )
    assert made["message"] == "Tag batch created successfully"
    assert made["tag"]["litellm_budget_table"]["max_budget"] == 5.0
    assert (await api.ask("POST", "/tag/new", {"name": "batch"}))[0] == 400
    changed = await api.done("/tag/update", {"name": "batch", "max_budget": 7, "description": "x"})
    assert changed["tag"]["budget_id"] == made["tag"]["budget_id"]
    shown = await api.done("/tag/info", {"names": ["batch", "none"]})
    assert shown.keys() == {"batch"}
    assert shown["batch"]["litellm_budget_table"]["max_budget"] == 7.0
    assert (shown["batch"]["models"], shown["batch"]["description"]) == (["gpt"], "x")
    assert [tag["name"] for tag in await api.done("/tag/list")] == ["batch"]
    await api.done("/tag/delete", {"name": "batch"})
    assert await api.done("/tag/list") == []
    for path in ("update", "delete"):
        assert (await api.ask("POST", f"/tag/{path}", {"name": "batch"}))[0] == 404
    assert ("tag", ["batch"]) in api.changes


async def test_an_organization_has_members(api: Api) -> None:
    name = (await api.done("/organization/new", {"organization_alias": "o"}))["organization_id"]
    user_id, _ = await api.user()
    body = {
        "organization_id": name,
        "member": [{"user_id": user_id, "role": "org_admin"}, {"user_email": "new@x"}],
    }
    added = await api.done("/organization/member_add", body)
    roles = [each["user_role"] for each in added["updated_organization_memberships"]]
    assert roles == ["org_admin", "internal_user"]
    assert added["updated_users"][1]["user_email"] == "new@x"
    assert (await api.ask("POST", "/organization/member_add", body))[0] == 400
    change = {"organization_id": name, "user_email": "new@x", "role": "internal_user_viewer"}
    status, changed = await api.ask("PATCH", "/organization/member_update", change)
    assert (status, changed["user_role"]) == (200, "internal_user_viewer")
    for more in ({"max_budget_in_organization": 5}, {"user_email": None}):
        status, _ = await api.ask("PATCH", "/organization/member_update", {**change, **more})
        assert status == 400
    shown = await api.done(f"/organization/info?organization_id={name}")
    assert len(shown["members"]) == 2
    gone = {"organization_id": name, "user_id": user_id}
    assert (await api.ask("DELETE", "/organization/member_delete", gone))[0] == 200
    assert (await api.ask("DELETE", "/organization/member_delete", gone))[0] == 404
    assert len((await api.done(f"/organization/info?organization_id={name}"))["members"]) == 1
    audited = await api.store.fetch(
        "SELECT action FROM audit_log WHERE table_name = 'organization_members' ORDER BY id"
    )
    assert [row["action"] for row in audited] == ["created", "created", "updated", "deleted"]


async def test_keys_are_changed_in_bulk_each_by_itself(api: Api) -> None:
    keys = [(await api.done("/key/generate", {}))["key"] for _ in range(2)]
    changes = [
        {"key": keys[0], "max_budget": 5, "tags": ["a"]},
        {"key": "sk-none", "max_budget": 5},
        {"key": keys[1], "budget_duration": "nonsense"},
    ]
    answer = await api.done("/key/bulk_update", {"keys": changes})
    assert answer["total_requested"] == 3
    assert [each["key"] for each in answer["successful_updates"]] == [keys[0]]
    assert answer["successful_updates"][0]["key_info"]["max_budget"] == 5.0
    reasons = [each["failed_reason"] for each in answer["failed_updates"]]
    assert "not found" in reasons[0]
    assert "expected a duration" in reasons[1]
    assert (await api.ask("POST", "/key/bulk_update", {"keys": []}))[0] == 422
    assert (await api.ask("POST", "/key/bulk_update", {"keys": [changes[0]] * 501}))[0] == 422
    _, own = await api.user()
    answer = await api.done("/key/bulk_update", {"keys": [changes[0]]}, own)
    assert answer["successful_updates"] == []
    assert "not allowed to be changed" in answer["failed_updates"][0]["failed_reason"]


async def test_users_are_changed_in_bulk(api: Api) -> None:
    ids = [(await api.user(user_email=f"{n}@x"))[0] for n in range(3)]
    answer = await api.done(
        "/user/bulk_update",
        {"users": [{"user_id": ids[0], "max_budget": 1}, {"user_email": "1@x", "rpm_limit": 9}]},
    )
    assert (answer["successful_updates"], answer["failed_updates"]) == (2, 0)
    assert answer["results"][1]["user_id"] == ids[1]
    assert answer["results"][1]["updated_user"]["rpm_limit"] == 9
    answer = await api.done("/user/bulk_update", {"users": [{"user_id": "none", "rpm_limit": 1}]})
    assert "not found" in answer["results"][0]["error"]
    answer = await api.done(
        "/user/bulk_update", {"all_users": True, "user_updates": {"tpm_limit": 7}}
    )
    assert answer["total_requested"] == answer["successful_updates"] == 3
    rows = await api.store.fetch("SELECT tpm_limit FROM users")
    assert [row["tpm_limit"] for row in rows] == [7, 7, 7]
    for body in ({}, {"all_users": True, "users": [{"user_id": ids[0]}]}):
        assert (await api.ask("POST", "/user/bulk_update", body))[0] == 422
