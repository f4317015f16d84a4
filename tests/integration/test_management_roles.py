"""Every route of the gateway by every standing, over HTTP on the public port.

Whoever asks belongs to another tenant than what is asked about: team A with its people and keys is
the victim, and everything of it carries MARK. No answer to others may hold it, and nothing of it
may have changed at the end.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from fastgate.config.schema import Config
from fastgate.control.app import ROUTES as OWN_ROUTES
from fastgate.control.app import State, create_app
from fastgate.management.routes import ANY, OWN, ROUTES, STANDINGS, Route
from fastgate.observe import memory as shared_memory
from tests.served import MASTER_KEY, Reply, Stand, config, deployment, stand

MARK = "only-for-tenant-a"
ANSWERS_PER_KEY = ("/v2/key/info", "/key/bulk_update")

# Valid requests for what is tenant A's: filled with its ids. A GET's are its query.
ATTACKS: dict[str, dict[str, Any]] = {
    "POST /key/generate": {"team_id": "{team}", "user_id": "{user}"},
    "POST /key/update": {"key": "{token}", "max_budget": 9},
    "POST /key/bulk_update": {"keys": [{"key": "{token}", "max_budget": 9}]},
    "POST /key/delete": {"keys": ["{token}"]},
    "POST /key/block": {"key": "{token}"},
    "POST /key/unblock": {"key": "{token}"},
    "POST /key/regenerate": {"key": "{token}"},
    "POST /key/{key}/regenerate": {},
    "POST /key/{key}/reset_spend": {"reset_to": 0},
    "POST /key/health": {},
    "GET /key/info": {"key": "{token}"},
    "POST /v2/key/info": {"keys": ["{token}"]},
    "GET /key/list": {"team_id": "{team}", "user_id": "{user}", "return_full_object": "true"},
    "POST /team/new": {"team_id": "mine"},
    "POST /team/update": {"team_id": "{team}", "team_alias": "mine"},
    "POST /team/delete": {"team_ids": ["{team}"]},
    "POST /team/block": {"team_id": "{team}"},
    "POST /team/unblock": {"team_id": "{team}"},
    "POST /team/member_add": {"team_id": "{team}", "member": {"user_id": "{caller}"}},
    "POST /team/member_update": {"team_id": "{team}", "user_id": "{user}", "role": "user"},
    "POST /team/member_delete": {"team_id": "{team}", "user_id": "{user}"},
    "POST /team/model/add": {"team_id": "{team}", "models": ["sim"]},
    "POST /team/model/delete": {"team_id": "{team}", "models": ["sim"]},
    "GET /team/info": {"team_id": "{team}"},
    "GET /team/list": {"user_id": "{user}"},
    "GET /v2/team/list": {"user_id": "{user}"},
    "GET /team/daily/activity": {"team_ids": "{team}"},
    "POST /user/new": {"user_id": "new", "user_role": "proxy_admin"},
    "POST /user/update": {"user_id": "{user}", "user_alias": "x"},
    "POST /user/bulk_update": {"users": [{"user_id": "{user}", "user_role": "proxy_admin"}]},
    "POST /user/delete": {"user_ids": ["{user}"]},
    "GET /user/info": {"user_id": "{user}"},
    "GET /user/list": {"role": "internal_user"},
    "GET /user/daily/activity": {"user_id": "{user}"},
    "POST /budget/new": {"budget_id": "mine"},
    "POST /budget/update": {"budget_id": "{budget}", "max_budget": 1},
    "POST /budget/delete": {"id": "{budget}"},
    "POST /budget/info": {"budgets": ["{budget}"]},
    "GET /budget/list": {},
    "GET /budget/settings": {"budget_id": "{budget}"},
    **{
        f"{method} /{prefix}/{name}": body
        for prefix in ("customer", "end_user")
        for method, name, body in (
            ("POST", "new", {"user_id": "new"}),
            ("POST", "update", {"user_id": "{customer}", "alias": "x"}),
            ("POST", "delete", {"user_ids": ["{customer}"]}),
            ("POST", "block", {"user_ids": ["{customer}"]}),
            ("POST", "unblock", {"user_ids": ["{customer}"]}),
            ("GET", "info", {"end_user_id": "{customer}"}),
            ("GET", "list", {}),
        )
    },
    "POST /organization/new": {"organization_id": "mine"},
    "PATCH /organization/update": {"organization_id": "{organization}", "models": []},
    "DELETE /organization/delete": {"organization_ids": ["{organization}"]},
    "GET /organization/info": {"organization_id": "{organization}"},
    "GET /organization/list": {},
    "POST /organization/member_add": {
        "organization_id": "{organization}",
        "member": {"user_id": "{caller}"},
    },
    "PATCH /organization/member_update": {
        "organization_id": "{organization}",
        "user_id": "{user}",
        "role": "org_admin",
    },
    "DELETE /organization/member_delete": {
        "organization_id": "{organization}",
        "user_id": "{user}",
    },
    "POST /tag/new": {"name": "mine"},
    "POST /tag/update": {"name": "{tag}", "description": "x"},
    "POST /tag/delete": {"name": "{tag}"},
    "POST /tag/info": {"names": ["{tag}"]},
    "GET /tag/list": {},
    "POST /model/new": {"model_name": "m", "litellm_params": {"model": "openai/m"}},
    "POST /model/update": {"model_info": {"id": "{model}"}, "model_name": "x"},
    "PATCH /model/{model_id}/update": {"model_name": "x"},
    "POST /model/delete": {"id": "{model}"},
    "GET /model/info": {},
    "GET /v1/model/info": {},
    "GET /model_group/info": {},
    "GET /spend/logs": {"user_id": "{user}"},
    "GET /spend/logs/v2": {"api_key": "{token}"},
    "GET /spend/tags": {},
    "POST /spend/calculate": {"model": "sim", "completion_response": {"usage": {}}},
    "GET /global/spend": {},
    "GET /global/spend/report": {"team_id": "{team}"},
    "GET /global/spend/keys": {},
    "GET /global/spend/teams": {},
    "GET /global/spend/models": {},
    "GET /global/spend/tags": {},
    "GET /tag/daily/activity": {},
    "POST /utils/token_counter": {"model": "gpt-4o", "prompt": "x"},
}


class World(NamedTuple):
    """The gateway, who asks, and what they are after."""

    served: Stand
    keys: dict[str, str]
    """Standing -> a key with it."""
    out: dict[str, str | None]
    """What is no key, or no longer -> the key."""
    users: dict[str, str]
    names: dict[str, str]
    """Of tenant A."""

    def master(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.served.ask(method, path, body, key=MASTER_KEY)
        assert reply.status == 200, (path, reply.body)
        return reply.json()

    def attack(self, route: Route, standing: str, key: str | None) -> Reply:
        names = {**self.names, "caller": self.users.get(standing, "nobody")}
        path = route.path.format(key=names["token"], model_id=names["model"])
        body = _filled(ATTACKS[f"{route.method} {route.path}"], names)
        if route.method == "GET":
            return self.served.ask("GET", f"{path}?{urlencode(body)}", key=key)
        return self.served.ask(route.method, path, body, key=key)

    def victims(self) -> Any:
        """Return all there is to see of tenant A."""
        asked = (
            "/key/info?key={token}",
            "/team/info?team_id={team}",
            "/user/info?user_id={user}",
            "/organization/info?organization_id={organization}",
            "/customer/info?end_user_id={customer}",
            "/budget/settings?budget_id={budget}",
            "/model/info?litellm_model_id={model}",
        )
        return [self.master("GET", path.format(**self.names)) for path in asked]


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, list):
        return [_filled(each, names) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, names) for name, each in value.items()}
    return value


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        return config([deployment("sim", engines[0].url)])

    with stand(tmp_path_factory, [[]], configure) as served:
        yield _populated(World(served, {}, {}, {}, {}))


def _populated(world: World) -> World:
    def make(path: str, **fields: Any) -> Any:
        return world.master("POST", path, fields)

    def user(standing: str, role: str) -> dict[str, Any]:
        made: dict[str, Any] = make("/user/new", user_role=role, user_alias=standing)
        world.users[standing], world.keys[standing] = made["user_id"], made["key"]
        return made

    make("/budget/new", budget_id=f"b-{MARK}", max_budget=5)
    make("/organization/new", organization_id=f"o-{MARK}", organization_alias=MARK)
    make("/customer/new", user_id=f"c-{MARK}", alias=MARK)
    make("/tag/new", name=f"t-{MARK}", description=MARK)
    team_a = make("/team/new", team_alias=MARK, metadata={"of": MARK}, models=["sim"])["team_id"]
    victim = make("/user/new", user_alias=MARK, user_email=f"{MARK}@example.com")
    member = {"role": "admin", "user_id": victim["user_id"]}
    make("/team/member_add", team_id=team_a, member=member)
    key = make("/key/generate", team_id=team_a, user_id=victim["user_id"], key_alias=MARK)
    params = {"model": "openai/m", "api_base": f"http://{MARK}.invalid/v1"}
    model = make("/model/new", model_name="sim", litellm_params=params)["model_info"]["id"]
    world.names.update(
        budget=f"b-{MARK}",
        organization=f"o-{MARK}",
        customer=f"c-{MARK}",
        tag=f"t-{MARK}",
        team=team_a,
        user=victim["user_id"],
        token=key["token"],
        model=model,
    )
    for role in STANDINGS:
        if role not in ("team_admin", "key_owner"):
            user(role, role)
    lead = user("team_admin", "internal_user")
    member = {"role": "admin", "user_id": lead["user_id"]}
    make("/team/new", team_id="team-b", members_with_roles=[member])
    world.keys["key_owner"] = make("/key/generate")["key"]
    world.out.update(_keys_that_are_none(make, user))
    return world


def _keys_that_are_none(make: Any, user: Any) -> dict[str, str | None]:
    """Return keys of an admin's that were taken from him, one way or another."""
    blocked, gone = user("blocked", "proxy_admin"), user("deleted", "proxy_admin")
    make("/key/block", key=blocked["key"])
    make("/key/delete", keys=[gone["key"]])
    expired = make("/key/generate", user_id=blocked["user_id"], duration="1s")
    team = make("/team/new")["team_id"]
    of_team = make("/key/generate", user_id=blocked["user_id"], team_id=team)
    make("/team/block", team_id=team)
    return {
        "no key": None,
        "unknown": "sk-nobody-was-given-this-one",
        "blocked": blocked["key"],
        "deleted": gone["key"],
        "expired": expired["key"],
        "blocked team": of_team["key"],
        "key's hash": blocked["token"],
        "hash as a key": f"sk-{expired['token']}",
    }


def routes_of_control() -> set[tuple[str, str]]:
    """Return method and path of all that control answers."""
    fd = shared_memory.create(1)
    try:
        state = State(shared_memory.open(fd, shared_memory.CONTROL), Config())
        return {
            (route.method, route.resource.canonical)
            for route in create_app(state).router.routes()
            if route.method != "HEAD" and route.resource is not None
        }
    finally:
        os.close(fd)


def test_the_table_is_whole() -> None:
    """A route of control that no table names would be one that nobody checks."""
    known = {(route.method, route.path) for route in ROUTES}
    known |= {("GET", path) for path, _, _ in OWN_ROUTES} | {("GET", "/openapi.json")}
    # Those for workers have no way in from outside: see below.
    assert {each for each in routes_of_control() if not each[1].startswith("/internal/")} == known
    assert {f"{route.method} {route.path}" for route in ROUTES} == ATTACKS.keys()
    for route in ROUTES:
        assert route.rule.get("proxy_admin") == ANY, route
        assert route.rule.keys() <= set(STANDINGS), route
        assert set(route.rule.values()) <= {ANY, OWN}, route


def test_no_standing_gets_what_its_rule_does_not_give(world: World) -> None:
    assert world.keys.keys() >= set(STANDINGS)
    before = world.victims()
    assert json.dumps(before).count(MARK) > 10
    for route in ROUTES:
        for standing in STANDINGS:
            rule = route.rule.get(standing)
            if (
                rule == ANY
                and route.method != "GET"
                and route.rule != dict.fromkeys(STANDINGS, ANY)
            ):
                # They may: what it does is for other tests. Without a body, nothing.
                path = route.path.format(key="none", model_id="none")
                reply = world.served.ask(route.method, path, b"[]", key=world.keys[standing])
                assert reply.status not in (401, 403), (route, standing, reply.body)
                continue
            reply = world.attack(route, standing, world.keys[standing])
            where = (route.method, route.path, standing, reply.status, reply.body)
            if rule == ANY:
                assert reply.status not in (401, 403), where
            elif rule is None:
                assert reply.status == 403, where
                assert "Only proxy admin can be used" in reply.error["message"], where
            else:
                # Lists answer 200 with what is theirs; nothing else has an answer.
                listed = route.method == "GET" or route.path in ANSWERS_PER_KEY
                assert reply.status == 403 or (listed and reply.status in (200, 404)), where
                assert MARK.encode() not in reply.body, where
    assert world.victims() == before


def test_what_is_no_key_opens_nothing(world: World) -> None:
    before = world.victims()
    deadline = time.monotonic() + 10
    while world.served.ask("GET", "/key/info", key=world.out["expired"]).status != 401:
        assert time.monotonic() < deadline
    for route in ROUTES:
        for name, key in world.out.items():
            reply = world.attack(route, name, key)
            assert reply.status == 401, (name, route.method, route.path, reply.body)
    assert world.victims() == before


def test_what_is_the_admins_alone_is_the_master_keys(world: World) -> None:
    for path, who, _ in OWN_ROUTES:
        for standing in (*STANDINGS, *world.out):
            key = world.keys.get(standing, world.out.get(standing))
            reply = world.served.ask("GET", path, key=key)
            # Probes of readiness are the worker's own, and the details have no public path.
            if who == "everybody" or path == "/health/readiness":
                assert reply.status == 200, (path, standing)
            else:
                assert reply.status in (401, 403, 404), (path, standing, reply.body)


def test_what_is_for_workers_has_no_way_in(world: World) -> None:
    internal = [path for _, path in routes_of_control() if path.startswith("/internal/")]
    assert internal
    for path in internal:
        for asked in (re.sub(r"{\w+}", world.names["token"], path), path.replace("{", "%7B")):
            for key in (MASTER_KEY, *world.keys.values(), None):
                reply = world.served.ask("GET", asked, key=key)
                assert reply.status == 404, (asked, reply.body)
                assert reply.error["message"].startswith("Not Found"), asked


def test_a_members_view_of_the_team_ends_with_the_membership(world: World) -> None:
    made = world.master("POST", "/user/new", {})
    member = {"team_id": "team-b", "member": {"user_id": made["user_id"]}}
    world.master("POST", "/team/member_add", member)
    assert world.served.ask("GET", "/team/info?team_id=team-b", key=made["key"]).status == 200
    gone = {"team_id": "team-b", "user_id": made["user_id"]}
    world.master("POST", "/team/member_delete", gone)
    assert world.served.ask("GET", "/team/info?team_id=team-b", key=made["key"]).status == 403
