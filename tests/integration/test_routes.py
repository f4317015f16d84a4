"""Every route of the running gateway under each of its spellings."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fastgate import __version__
from tests.served import KEY, MASTER_KEY, Stand, chat, config, deployment, stand

NARROW_KEY = "sk-a-key-for-two-models"
MODEL = "org/model-1"
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": chat(MODEL),
    "completions": {"model": MODEL, "prompt": "hi"},
    "embeddings": {"model": MODEL, "input": "hi"},
    "responses": {"model": MODEL, "input": "hi"},
    "messages": {**chat("claude"), "max_tokens": 4},
    "moderations": {"model": MODEL, "input": "hi"},
    "rerank": {"model": MODEL, "query": "hi", "documents": ["a", "b"]},
    "images/generations": {"model": MODEL, "prompt": "hi"},
    "audio/speech": {"model": MODEL, "input": "hi", "voice": "alloy"},
}
SPELLINGS = (
    "/v1/{route}",
    "/{route}",
    "/engines/{model}/{route}",
    "/openai/deployments/{model}/{route}",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        base = engines[0].url
        return config(
            [
                deployment(MODEL, base, id="model-1"),
                deployment("claude", base, "anthropic/sim", "claude-1"),
                deployment("wild/*", base, "openai/*", "wild-1"),
                deployment("elsewhere", f"{base}/deeper/", id="elsewhere-1"),
            ],
            keys=[
                {"key": KEY, "alias": "tester"},
                {"key": NARROW_KEY, "alias": "narrow", "models": ["claude"]},
            ],
            router={
                "num_retries": 0,
                "model_group_alias": {
                    "nick": MODEL,
                    "secret": {"model": MODEL, "hidden": True},
                },
            },
        )

    with stand(tmp_path_factory, [["--models", "*"]], configure) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(served: Stand) -> None:
    served.reset()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("route", BODIES)
def test_each_route_under_each_spelling(served: Stand, route: str, spelling: str) -> None:
    body = BODIES[route]
    path = spelling.format(route=route, model=body["model"])
    reply = served.ask("POST", path, body)
    assert reply.status == 200, reply
    direct = served.engine.call
    assert reply.body
    (request,) = served.received()
    assert request["target"] == f"/v1/{route}"
    assert json.loads(request["body"]) == {**body, "model": "sim"}
    if route != "audio/speech":
        assert reply.json() == direct("POST", f"/v1/{route}", {**body, "model": "sim"})


@pytest.mark.parametrize("route", BODIES)
def test_the_model_in_the_path_is_put_into_the_body(served: Stand, route: str) -> None:
    body = {name: value for name, value in BODIES[route].items() if name != "model"}
    model = BODIES[route]["model"].replace("/", "%2F")
    reply = served.ask("POST", f"/openai/deployments/{model}/{route}?api-version=1", body)
    assert reply.status == 200, reply
    assert json.loads(served.received()[0]["body"]) == {**body, "model": "sim"}


def test_names_that_lead_to_a_model(served: Stand) -> None:
    for name, sent in [("nick", "sim"), ("secret", "sim"), ("wild/x", "x"), (MODEL, "sim")]:
        assert served.chat(name).status == 200
        assert json.loads(served.received()[-1]["body"])["model"] == sent


def test_a_base_with_a_path_keeps_it(served: Stand) -> None:
    assert served.chat("elsewhere").status == 404
    assert served.received()[0]["target"] == "/v1/deeper/chat/completions"


def test_only_what_is_listed_of_a_client_s_fields_goes_upstream(served: Stand) -> None:
    fields = {
        **{"Cookie": "a=b", "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"},
        **{"X-Admin": "1", "Te": "trailers", "Connection": "x-hop", "x-hop": "1"},
        **{"Accept-Encoding": "gzip, br", "User-Agent": "tester/1", "OpenAI-Beta": "b=1"},
        **{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    }
    assert served.chat(MODEL, fields=fields).status == 200
    sent = dict(served.received()[0]["headers"])
    assert sent.keys() == {
        *("host", "accept-encoding", "authorization", "content-type", "content-length"),
        *("x-request-id", "user-agent", "openai-beta", "traceparent"),
    }
    assert sent["accept-encoding"] == "identity"
    assert sent["host"] == f"127.0.0.1:{served.engine.port}"
    assert sent["user-agent"] == "tester/1"


# what the gateway answers by itself


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_models_are_listed_by_key(served: Stand, path: str) -> None:
    listed = served.ask("GET", path)
    assert listed.status == 200
    answer = listed.json()
    assert answer["object"] == "list"
    ids = [model["id"] for model in answer["data"]]
    assert {MODEL, "claude", "nick"} <= set(ids)
    assert "secret" not in ids
    assert len(ids) == len(set(ids))
    for model in answer["data"]:
        assert model == {
            "id": model["id"],
            "object": "model",
            "created": 1677610602,
            "owned_by": "openai",
        }
    narrow = served.ask("GET", path, key=NARROW_KEY).json()["data"]
    assert [model["id"] for model in narrow] == ["claude"]
    assert served.ask("GET", path, key=None).status == 401
    assert served.received() == []


@pytest.mark.parametrize("prefix", ["/v1/models/", "/models/"])
def test_one_model(served: Stand, prefix: str) -> None:
    for name in (MODEL, MODEL.replace("/", "%2F"), "claude", "wild/any"):
        reply = served.ask("GET", prefix + name)
        assert reply.status == 200, name
        assert reply.json()["id"] == name.replace("%2F", "/")
    for name, key in [("no-such", KEY), (MODEL, NARROW_KEY), ("%ff", KEY), ("a%0d%0ab", KEY)]:
        reply = served.ask("GET", prefix + name, key=key)
        assert reply.status == 404 or (
            reply.status == 400 and "model name" in reply.error["message"]
        )


def test_health_and_the_front_page(served: Stand) -> None:
    for path in ("/health/liveliness", "/health/liveness"):
        reply = served.ask("GET", path, key=None)
        assert (reply.status, reply.body) == (200, b'"I\'m alive!"')
    ready = served.ask("GET", "/health/readiness", key=None)
    assert ready.json() == {"status": "healthy", "fastgate_version": __version__}
    front = served.ask("GET", "/", key=None)
    assert front.json()["name"] == "fastgate"
    health = served.ask("GET", "/health", key=MASTER_KEY)
    assert health.status == 200
    assert health.fields["content-type"].startswith("application/json")
    assert "healthy_endpoints" in health.json()


def test_queries_and_fragments_change_no_route(served: Stand) -> None:
    assert served.ask("GET", "/health/liveness?x=/v1/models", key=None).status == 200
    assert served.ask("POST", "/v1/chat/completions?a=b&c", chat(MODEL)).status == 200
    assert served.received()[0]["target"] == "/v1/chat/completions"


def test_many_requests_of_all_kinds_on_one_connection(served: Stand) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    fields = {"Authorization": f"Bearer {KEY}"}
    plan: list[tuple[str, str, Any, int]] = [
        ("GET", "/v1/models", None, 200),
        ("POST", "/v1/chat/completions", chat(MODEL), 200),
        ("POST", "/v1/chat/completions", chat(MODEL, stream=True), 200),
        ("POST", "/v1/chat/completions", chat("no-such"), 400),
        ("GET", "/nowhere", None, 404),
        ("POST", "/nowhere", {"a": "b" * 10_000}, 404),
        ("POST", "/v1/models", {}, 405),
        ("GET", "/metrics", None, 200),
        ("POST", "/v1/embeddings", BODIES["embeddings"], 200),
    ]
    sockets = set()
    for method, path, body, status in plan * 3:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, fields)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, path
        sockets.add(connection.sock)
    assert len(sockets) == 1
    assert None not in sockets
    connection.close()
