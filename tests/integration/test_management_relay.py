"""The management API as clients reach it: on the public port, through a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.served import KEY, MASTER_KEY, Stand, config, deployment, stand


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        return config([deployment("sim", engines[0].url)], keys=[{"key": KEY, "alias": "tester"}])

    with stand(tmp_path_factory, [[]], configure) as running:
        yield running


def test_keys_are_made_seen_and_deleted(served: Stand) -> None:
    made = served.ask("POST", "/key/generate", {"key_alias": "made-here"}, key=MASTER_KEY)
    assert made.status == 200, made.body
    key = json.loads(made.body)
    assert key["key"].startswith("sk-")
    info = served.ask("GET", f"/key/info?key={key['token']}", key=MASTER_KEY)
    assert json.loads(info.body)["info"]["key_alias"] == "made-here"
    gone = served.ask("POST", "/key/delete", {"keys": [key["token"]]}, key=MASTER_KEY)
    assert gone.status == 200
    assert served.ask("GET", f"/key/info?key={key['token']}", key=MASTER_KEY).status == 404


def test_other_methods_pass(served: Stand) -> None:
    made = served.ask("POST", "/organization/new", {"organization_alias": "o"}, key=MASTER_KEY)
    assert made.status == 200, made.body
    name = json.loads(made.body)["organization_id"]
    body = {"organization_id": name, "organization_alias": "p"}
    assert served.ask("PATCH", "/organization/update", body, key=MASTER_KEY).status == 200
    gone = {"organization_ids": [name]}
    assert served.ask("DELETE", "/organization/delete", gone, key=MASTER_KEY).status == 200
    assert served.ask("PUT", "/key/generate", {}, key=MASTER_KEY).status == 405


def test_who_asks_is_for_the_worker_to_say(served: Stand) -> None:
    assert served.ask("POST", "/key/generate", {}, key=None).status == 401
    assert served.ask("POST", "/key/generate", {}, key="sk-nobody-knows-this-one").status == 401
    forged = {"x-fastgate-role": "admin", "x-fastgate-key-hash": "0" * 64}
    for fields in ({}, forged):
        reply = served.ask("POST", "/key/generate", {}, fields=fields)
        assert reply.status == 403
        assert "Only proxy admin" in reply.error["message"]
    assert served.ask("POST", "/key/health", {}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/internal/keys/" + "0" * 64,
        "/key/../internal/keys/" + "0" * 64,
        "/key//generate",
        "/key/%67enerate",
        "/v3/key/info",
        "/key",
        "/key/",
        "/keys/generate",
    ],
)
def test_only_the_api_s_own_paths_reach_control(served: Stand, path: str) -> None:
    reply = served.ask("POST", path, {}, key=MASTER_KEY)
    assert reply.status == 404
    assert reply.error["message"].startswith("Not Found")


def test_a_path_of_its_shape_that_it_does_not_have(served: Stand) -> None:
    assert served.ask("POST", "/key/nothing-there", {}, key=MASTER_KEY).status == 404


def test_the_openapi_document_is_for_everybody(served: Stand) -> None:
    document = json.loads(served.ask("GET", "/openapi.json", key=None).body)
    assert "/key/generate" in document["paths"]
