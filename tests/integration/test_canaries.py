"""Secrets through every way to fail that we could think of: none turns up where it must not.

A real gateway on a real PostgreSQL, in front of an upstream that echoes all it is told. Each canary
is a value that occurs nowhere else. Afterwards no log, no row of spend, no audit log, no metric, no
command line and no file of the gateway holds one, and no answer held one that its client had not
sent itself.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fastgate.management.routes import ROUTES
from fastgate.store import StoreError, open_store
from tests.echoing import BROKEN, STATUSES, echoing
from tests.postgres import Postgres
from tests.processes import Gateway
from tests.served import Stand, config, deployment, free_port

NAMES = (
    *("master", "static-key", "stored-key", "regenerated-key", "deleted-key", "team-key"),
    *("unknown-key", "basic-auth", "cookie", "query", "field", "client-request", "path"),
    *("provider-key-in-config", "provider-key-in-env", "provider-field", "provider-key-reloaded"),
    *("db-pw", "redis-password", "salt", "system-prompt", "prompt", "picture"),
    *("tool", "broken-json", "completion", "key-metadata", "team-metadata", "user-metadata"),
    *("model-secret", "model-header", "bad-value"),
)
CANARY = {name: f"sk-canary-{n:02d}{name.replace('-', '')}4tZ9qW7x" for n, name in enumerate(NAMES)}
# The last net of the log hides what looks like a key: these don't.
for _name in NAMES:
    if not _name.endswith("key") and _name != "master":
        CANARY[_name] = CANARY[_name].removeprefix("sk-")

# Tables that must not be empty when they are looked through.
LOOKED_THROUGH = ("audit_log", "virtual_keys", "spend_logs")
# A value in one of these is there because somebody put it there to find it again.
KEPT = {"metadata", "litellm_params", "model_info"}


class Gate:
    """The gateway, and what came of each way to fail."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.paths = 0
        self.leaks: list[tuple[str, str, bytes]] = []

    def fail(
        self, path: str, *sent: str, method: str = "POST", **more: Any
    ) -> http.client.HTTPResponse | Any:
        """Ask for what must fail; `sent`: the canaries that are the client's own."""
        self.paths += 1
        key = CANARY.get(more.pop("key", "stored-key"))
        try:
            reply = self.stand.ask(method, path, key=key, **more)
        except (OSError, http.client.HTTPException) as error:
            partial = getattr(error, "partial", b"")
            self.check(path, (*sent, "completion"), partial)
            return None
        shown = json.dumps(reply.fields).encode() + reply.body
        if key == CANARY["master"]:
            sent += ("key-metadata", "team-metadata", "user-metadata")
        # What a model said is for the client who asked it.
        self.check(path, (*sent, "completion") if path.startswith("/v1/") else sent, shown)
        return reply

    def check(self, path: str, sent: tuple[str, ...], shown: bytes) -> None:
        for name in found_in(shown):
            if name not in sent:
                self.leaks.append((path, name, shown[:3000]))


def found_in(data: bytes) -> list[str]:
    return [name for name, value in CANARY.items() if value.encode() in data]


def prompt(model: str, **more: Any) -> dict[str, Any]:
    content = [
        {"type": "text", "text": CANARY["prompt"]},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CANARY['picture']}"}},
    ]
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": CANARY["system-prompt"]},
            {"role": "user", "content": content},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": CANARY["tool"]}}],
        **more,
    }


PROMPT = ("system-prompt", "prompt", "picture", "tool")
FIELDS = {
    "Cookie": f"session={CANARY['cookie']}",
    "X-Secret": CANARY["field"],
    "X-Request-Id": "a-client's-own-id",
}
FIELDS_SENT = ("cookie", "field")


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def configuration(port: int) -> dict[str, Any]:
    base = f"http://127.0.0.1:{port}/v1"
    keys = {"api_key": CANARY["provider-key-in-config"]}
    fields = {"extra_headers": {"x-provider": CANARY["provider-field"]}}
    listed = [deployment("*", base, "openai/*", "echo", **keys, **fields)]
    closed = f"http://127.0.0.1:{free_port()}/v1"
    listed += [
        deployment(
            "in-env", base, "openai/status-500-json", "env", api_key="os.environ/SECRET_KEY"
        ),
        deployment("closed", closed, "openai/x", "closed", **keys, **fields),
        deployment("no-dns", "http://no.such.host.invalid/v1", "openai/x", "no-dns", **keys),
    ]
    made = config(listed, keys=[{"key": CANARY["static-key"], "alias": "static"}])
    made["general_settings"]["master_key"] = CANARY["master"]
    made["router_settings"]["num_retries"] = 0
    made["router_settings"]["disable_cooldowns"] = True
    return made


def test_no_canary_gets_out(tmp_path: Path, database: Postgres) -> None:
    secret = f"postgres:{CANARY['db-pw']}@"
    url = database.database().replace("postgres@", secret)
    env = {
        "DATABASE_URL": url,
        "SECRET_KEY": CANARY["provider-key-in-env"],
        "REDIS_PASSWORD": CANARY["redis-password"],
        "REDIS_URL": f"redis://:{CANARY['redis-password']}@127.0.0.1:1/0",
        "LITELLM_SALT_KEY": CANARY["salt"],
    }
    with echoing(CANARY["completion"]) as port:
        gateway = Gateway(tmp_path / "gateway", configuration(port), free_port(), (), env)
        try:
            gateway.start()
            gate = Gate(Stand([], gateway))
            tokens = _populate(gate)
            _bad_requests(gate)
            _failing_upstreams(gate)
            _bad_management(gate)
            _invalid_reloads(gate, gateway)
            _dying_control(gate)
            page = gate.stand.ask("GET", "/metrics", key=None).body
            titles = _command_lines(gateway.pid)
            database.stop_server()
            _without_database(gate)
            database.start_server()
        finally:
            gateway.stop()
    assert sorted({(path, name) for path, name, _ in gate.leaks}) == [], gate.leaks[:3]
    assert gate.paths >= 200
    assert len(CANARY) >= 30
    assert found_in(page) == []
    assert found_in(titles) == []
    for file in sorted((tmp_path / "gateway").rglob("*")):
        if file.is_file() and not file.name.startswith("config"):
            assert found_in(file.read_bytes()) == [], file
    assert asyncio.run(_rows_with_canaries(url)) == []
    # What was looked through was not empty.
    log = gateway.log()
    assert log.count('"endpoint":"chat/completions"') > 50
    assert "Traceback" not in log, log
    assert tokens


async def _rows_with_canaries(url: str) -> list[Any]:
    store = await open_store(url)
    tables = await store.fetch(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    found = []
    looked_through = dict.fromkeys(LOOKED_THROUGH, 0)
    for table in tables:
        kept = set() if table["name"] in ("audit_log", "spend_logs") else KEPT
        for row in await store.fetch(f'SELECT * FROM "{table["name"]}"'):
            shown = {name: value for name, value in row.items() if name not in kept}
            found += [(table["name"], each) for each in found_in(repr(shown).encode())]
            if table["name"] in looked_through:
                looked_through[table["name"]] += 1
    await store.close()
    assert all(looked_through.values()), looked_through
    return found


def _populate(gate: Gate) -> list[str]:
    def make(path: str, **fields: Any) -> Any:
        reply = gate.stand.ask("POST", path, fields, key=CANARY["master"])
        assert reply.status == 200, reply.body
        return reply.json()

    team = make("/team/new", team_id="t", metadata={"logging": CANARY["team-metadata"]})
    user = make("/user/new", metadata={"x": CANARY["user-metadata"]}, auto_create_key=False)
    own = {"user_id": user["user_id"], "metadata": {"callback": CANARY["key-metadata"]}}
    stored = make("/key/generate", key=CANARY["stored-key"], **own)
    make("/key/generate", key=CANARY["team-key"], team_id=team["team_id"])
    gone = make("/key/generate", key=CANARY["deleted-key"])
    make("/key/delete", keys=[gone["token"]])
    old = make("/key/generate", metadata={"a": CANARY["key-metadata"]})
    make("/key/regenerate", key=old["token"], new_key=CANARY["regenerated-key"], grace_period="1h")
    make("/key/update", key=stored["token"], metadata={"b": CANARY["key-metadata"]})
    return [stored["token"]]


def _bad_requests(gate: Gate) -> None:
    chat = "/v1/chat/completions"
    cut = json.dumps(prompt("status-500-json"))[:-2].encode()
    bad = CANARY["broken-json"].encode()
    bodies: list[Any] = [
        *(cut, b'{"model": ' + bad, b'"' + bad + b'"', b"[" + bad, bad, b"", b'{"a":\xff"' + bad),
        b'{"model":"a","model":"' + bad + b'"}',
        b'{"model":["' + bad + b'"]}',
        b'{"model":"x","max_tokens":"' + bad + b'"}',
        b'{"model":"x","stream":"' + bad + b'"}',
        b"[" * 2000 + bad,
    ]
    for body, fields in product(bodies, ({}, FIELDS)):
        gate.fail(chat, *PROMPT, *FIELDS_SENT, "broken-json", body=body, fields=fields)
    for key in ("unknown-key", "deleted-key", "nobody"):
        gate.fail(chat, *PROMPT, *FIELDS_SENT, key, body=prompt("x"), key=key, fields=FIELDS)
        gate.fail("/key/info", key, key=key, method="GET")
    for scheme in ("Basic", "Digest", "Bearer  Bearer", "Token", ""):
        field = {"Authorization": f"{scheme} {CANARY['basic-auth']}"}
        gate.fail(chat, *PROMPT, "basic-auth", body=prompt("x"), key="nobody", fields=field)
    for path in ("/v1/{}", "/key/{}", "/key/info?key={}", "/v1/models/{}", "/{}", "/health?x={}"):
        for key in ("stored-key", "nobody"):
            target = path.format(CANARY["path"])
            gate.fail(target, "path", method="GET", key=key)
    raw = (
        "GET / HTTP/1.1\r\nhost: a\r\nbad field {}: 1\r\n\r\n",
        "GET /{} HTTP/9.9\r\n\r\n",
        "{}\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {}\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: {}\r\nhost: b\r\n\r\n",
    )
    for each in raw:
        gate.paths += 1
        with socket.create_connection(("127.0.0.1", gate.stand.port), timeout=10) as plug:
            plug.sendall(each.format(CANARY["field"]).encode())
            plug.shutdown(socket.SHUT_WR)
            shown = b""
            while data := plug.recv(65536):
                shown += data
        gate.check(each, ("field",), shown)


def _failing_upstreams(gate: Gate) -> None:
    ways = [f"status-{status}-{kind}" for status, kind in product(STATUSES, ("json", "text"))]
    for way in (*ways, *BROKEN, "in-env", "closed", "no-dns"):
        for stream in (False, True):
            body = prompt(way, stream=stream)
            reply = gate.fail(
                "/v1/chat/completions", *PROMPT, *FIELDS_SENT, body=body, fields=FIELDS
            )
            if way.startswith("status"):
                assert reply.status >= 400
    for path in ("/v1/embeddings", "/v1/messages", "/v1/responses"):
        gate.fail(path, *PROMPT, body=prompt("status-500-json"), key="static-key")


def _bad_management(gate: Gate) -> None:
    bad = CANARY["bad-value"]
    secret = {"model": "openai/x", "api_key": CANARY["model-secret"], "api_base": 5}
    hidden = {"model": "openai/x", "api_base": "http://h/v1", "extra_headers": {"a": "\0"}}
    for route in ROUTES:
        path = route.path.format(key=bad, model_id=bad)
        if route.method == "GET":
            query = f"?start_date={bad}&page={bad}&key={bad}&end_user_id={bad}&budget_id={bad}"
            gate.fail(path + query, "bad-value", method="GET", key="master")
            continue
        for body in (
            b'{"key": "' + bad.encode(),
            {name: {bad: [bad]} for name in route.body.__struct_fields__} if route.body else [bad],
        ):
            reply = gate.fail(path, "bad-value", method=route.method, body=body, key="master")
            assert reply is not None
    for params in (secret, {**hidden, "password": CANARY["model-secret"]}):
        body = {"model_name": "m", "litellm_params": params}
        gate.fail("/model/new", "model-secret", body=body, key="master")
    gate.fail("/key/generate", "stored-key", body={"key": CANARY["stored-key"]}, key="master")


def _invalid_reloads(gate: Gate, gateway: Gateway) -> None:
    good = gateway.config_path.read_text()
    key = CANARY["provider-key-reloaded"]
    for bad in (
        {"model_list": [{"model_name": "a", "litellm_params": {"api_key": key}}]},
        {"model_list": [deployment("a", key, api_key=key)]},
        {"model_list": [deployment("a", "http://h/v1", api_key=[key], timeout=key)]},
        {"model_list": key},
        {"general_settings": {"master_key": [key]}},
        {"fastgate_settings": {"keys": [{"key": {"a": key}}], key: key}},
        {"model_list": [deployment("a", f"http://user:{key}@h/v1")]},
    ):
        gate.paths += 1
        refused = gateway.log().count("configuration refused")
        gateway.write_config(bad)
        os.kill(gateway.pid, signal.SIGHUP)
        _until(lambda n=refused: gateway.log().count("configuration refused") > n)
    gateway.config_path.write_text(good)


def _dying_control(gate: Gate) -> None:
    status = gate.stand.ask("GET", "/health/readiness", key=None)
    assert status.status == 200
    for _ in range(2):
        gate.paths += 1
        gate.stand.gateway.log()
        control = _control_of(gate.stand.gateway.pid)
        os.kill(control, signal.SIGKILL)
        gate.fail("/key/info", method="GET", key="unknown-key")
        gate.fail(
            "/key/generate", "bad-value", body={"max_budget": CANARY["bad-value"]}, key="master"
        )


def _without_database(gate: Gate) -> None:
    for key in ("unknown-key", "master", "team-key"):
        gate.fail("/key/list", key, method="GET", key=key)
        gate.fail("/v1/chat/completions", *PROMPT, key, body=prompt("status-500-json"), key=key)
    body = {"key_alias": "a", "metadata": {"x": CANARY["key-metadata"]}}
    reply = gate.fail("/key/generate", "key-metadata", body=body, key="master")
    assert reply.status == 503
    params = {"model": "openai/x", "api_key": "os.environ/SECRET_KEY"}
    gate.fail("/model/new", body={"model_name": "m", "litellm_params": params}, key="master")


def _control_of(pid: int) -> int:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"fastgate: control" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return _until(lambda: _control_of(pid))


def _command_lines(pid: int) -> bytes:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return b" ".join(Path(f"/proc/{each}/cmdline").read_bytes() for each in [pid, *children])


def _until(done: Any) -> Any:
    deadline = time.monotonic() + 10
    while not (found := done()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


SECRET = CANARY["db-pw"]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}/x@127.0.0.1:1/db",
        f"postgresql://u:{SECRET}#@127.0.0.1:1/db",
        f"postgresql://u:x@127.0.0.1:{SECRET}/db",
        f"postgresql://u:{SECRET}@[127.0.0.1/db",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db?sslmode={SECRET}",
        f"postgresql://u:{SECRET}@127.0.0.1:1/db",
        f"postgresql:u:{SECRET}@127.0.0.1:1/db",
        f"mysql://u:{SECRET}@127.0.0.1:1/db",
        f"{SECRET}@127.0.0.1:1/db",
    ],
)
async def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as failed:
        await open_store(url)
    shown = repr(failed.value)
    # A half is too much, too.
    assert all(SECRET[at : at + 6] not in shown for at in range(0, len(SECRET) - 6, 6)), shown
