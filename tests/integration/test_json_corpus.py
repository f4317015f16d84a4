"""Bodies that attack a gateway: refused, or what was authorised is what the engine reads.

Every model is served, and the engine knows each by another name (`up-...`), so that the gateway has
to write it into the body: whichever reader the engine uses, that is the name it must find, and the
rest must be as the client sent it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_json_corpus import READERS
from tests.corpus import corpus
from tests.differential.json_rules import authorise
from tests.front import MASTER_KEY, config_of
from tests.raw_peers import request
from tests.wired import Wired, snapshot_of, wired

pytestmark = pytest.mark.corpus

CHEAP_KEY = "sk-a-key-for-the-cheap-model-alone"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def snapshot(tmp_path: Path) -> bytes:
    config = config_of(9)
    deployment = {"model": "openai/up-*", "api_base": "http://127.0.0.1:9/v1", "api_key": "none"}
    config["model_list"] = [{"model_name": "*", "litellm_params": deployment}]
    config["fastgate_settings"]["keys"] = [{"key": CHEAP_KEY, "models": ["cheap"]}]
    return snapshot_of(tmp_path, config)


@pytest.fixture
async def worker(snapshot: bytes) -> AsyncIterator[Wired]:
    with wired(snapshot) as found:
        yield found


def rows() -> list[tuple[str, str, bytes]]:
    lines = (corpus("json-corpus") / "llm-body.jsonl").read_text("utf-8").splitlines()
    found = map(json.loads, lines)
    return [(row["id"], row["verdict"], base64.b64decode(row["raw_b64"])) for row in found]


def ask(worker: Wired, raw: bytes, key: str, **more: Any) -> tuple[int, bytes]:
    """Return the client's status and what reached the engine."""
    connection, engine = worker.upstream()
    client, wire = worker.client()
    client.data_received(request(raw, key=key, **more))
    reached = engine.take()
    if connection.context is not None:
        connection.data_received(ANSWER)
    got = wire.take()
    client.connection_lost(None)
    connection.pool.idle.remove(connection)
    connection.abort()
    connection.connection_lost(None)
    return int(got[9:12]), reached


def body_of(reached: bytes) -> bytes:
    head, _, body = reached.partition(b"\r\n\r\n")
    found = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    assert found is not None
    assert len(body) == int(found[1])
    return body


async def test_what_is_authorised_is_what_the_engine_reads(worker: Wired) -> None:
    pools = set(worker.worker.pools)
    for name, verdict, raw in rows():
        authorised = authorise(raw)
        status, reached = ask(worker, raw, MASTER_KEY)
        if status == 400:
            assert reached == b"", name
            assert verdict != "accept", name
            continue
        assert (status, verdict != "reject") == (200, True), name
        assert authorised is not None
        body = body_of(reached)
        for reader in READERS:
            assert reader(body)["model"] == "up-" + authorised["model"], (name, reader)
        sent, original = json.loads(body), json.loads(raw)
        sent.pop("model")
        original.pop("model")
        if original.get("stream"):
            options = sent.pop("stream_options")
            assert options.pop("include_usage") is True, name
            assert options == {
                key: value
                for key, value in (original.pop("stream_options", None) or {}).items()
                if key != "include_usage"
            }
        assert sent == original, name
    # Whatever a body asks for, there is nobody else to be connected to.
    assert set(worker.worker.pools) == pools


async def test_a_key_for_one_model_never_gets_another(worker: Wired) -> None:
    allowed = 0
    for name, _verdict, raw in rows():
        status, reached = ask(worker, raw, CHEAP_KEY)
        if reached:
            allowed += 1
            for reader in READERS:
                assert reader(body_of(reached))["model"] == "up-cheap", (name, reader)
        else:
            assert status in (400, 401, 403), (name, status)
    assert allowed > 20


async def test_the_model_in_the_path_decides_only_when_the_body_names_none(worker: Wired) -> None:
    path = "/openai/deployments/cheap/chat/completions"
    for name, _verdict, raw in rows():
        status, reached = ask(worker, raw, CHEAP_KEY, path=path)
        assert bool(reached) == (status == 200), name
        if reached:
            for reader in READERS:
                assert reader(body_of(reached))["model"] == "up-cheap", (name, reader)


async def test_forwarded_heads_hold_nothing_of_the_client_s_key(worker: Wired) -> None:
    fields = f"x-api-key: {MASTER_KEY}\r\nCookie: session=1\r\nX-Forwarded-For: 1.2.3.4\r\n"
    status, reached = ask(
        worker, b'{"model":"cheap","messages":[]}', MASTER_KEY, fields=fields + "Foo: bar\r\n"
    )
    assert status == 200
    for secret in (MASTER_KEY.encode(), b"session=1", b"1.2.3.4", b"bar"):
        assert secret not in reached
    assert b"\r\naccept-encoding: identity\r\n" in reached.lower()
