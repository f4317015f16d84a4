"""The management API as clients reach it: on the public port, through a worker."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.served import KEY, MASTER_KEY, Stand, chat, config, deployment, stand


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


def test_a_key_that_was_made_asks_models_at_once_until_it_is_revoked(served: Stand) -> None:
    made = json.loads(served.ask("POST", "/key/generate", {}, key=MASTER_KEY).body)
    key, token = made["key"], {"key": made["token"]}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)

    def ask() -> int:
        """On one connection: what it remembers of the key must not outlive a change."""
        body = json.dumps(chat())
        head = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, head)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    assert [ask(), ask()] == [200, 200]
    for change, status in (("block", 401), ("unblock", 200), ("delete", 401)):
        given = {"keys": [made["token"]]} if change == "delete" else token
        assert served.ask("POST", f"/key/{change}", given, key=MASTER_KEY).status == 200
        until = time.monotonic() + 1
        while ask() != status:
            assert time.monotonic() < until, change
    connection.close()


def test_a_large_body_waits_until_it_is_known_who_asks(served: Stand) -> None:
    made = json.loads(served.ask("POST", "/key/generate", {}, key=MASTER_KEY).body)
    body = chat(messages=[{"role": "user", "content": "many words " * 100_000}])
    reply = served.ask("POST", "/v1/chat/completions", body, key=made["key"])
    assert reply.status == 200
    refused = served.ask("POST", "/v1/chat/completions", body, key="sk-that-nobody-was-given")
    assert refused.status == 401


def test_pipelined_requests_of_a_new_key_are_answered_in_order(served: Stand) -> None:
    made = json.loads(served.ask("POST", "/key/generate", {}, key=MASTER_KEY).body)
    request = f"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {made['key']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as plug:
        plug.sendall(request.encode() * 3 + request.replace("/models", "/nothing").encode())
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 4:
            answers += plug.recv(65536)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"200", b"404"]


def test_what_a_key_of_the_store_may_do(served: Stand) -> None:
    team = {"team_id": "narrow", "models": ["other"]}
    assert served.ask("POST", "/team/new", team, key=MASTER_KEY).status == 200

    def made(**given: Any) -> str:
        reply = served.ask("POST", "/key/generate", given, key=MASTER_KEY)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["key"])

    assert served.chat(key=made(team_id="narrow")).status in (401, 403)
    assert served.chat(key=made(models=["other"])).status in (401, 403)
    assert served.chat("nick", key=made(aliases={"nick": "sim"})).status == 200
    assert served.chat(key=made(allowed_routes=["management_routes"])).status == 403
    assert served.chat(key=made(allowed_routes=["/v1/chat/completions"])).status == 200
    short = made(duration="1s")
    assert served.chat(key=short).status == 200
    until = time.monotonic() + 5
    while (reply := served.chat(key=short)).status == 200:
        assert time.monotonic() < until
    assert reply.error["type"] == "expired_key"
    limited = made(rpm_limit=2)
    assert [served.chat(key=limited).status for _ in range(3)] == [200, 200, 429]


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


def test_keys_are_accepted_from_listed_addresses_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def configure(engines: list[Any]) -> dict[str, Any]:
        made = config([deployment("sim", engines[0].url)])
        made["general_settings"]["allowed_ips"] = ["10.0.0.0/8"]
        return made

    with stand(tmp_path_factory, [[]], configure) as served:
        for path in ("/v1/models", "/key/list", "/health"):
            reply = served.ask("GET", path, key=MASTER_KEY)
            assert reply.status == 403, path
            assert reply.error["message"] == "Access forbidden: IP address 127.0.0.1 not allowed."
        assert served.chat().status == 403
        # Probes show no key.
        assert served.ask("GET", "/health/readiness", key=None).status == 200
        made = configure(served.engines)
        made["general_settings"]["allowed_ips"] = ["127.0.0.1"]
        served.gateway.write_config(made)
        os.kill(served.gateway.pid, signal.SIGHUP)
        served.gateway.wait_for("configuration loaded")
        until = time.monotonic() + 10
        while served.chat().status != 200:
            assert time.monotonic() < until
