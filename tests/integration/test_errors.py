"""What a client reads when it is refused: LiteLLM's 1.83 texts, types and statuses."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.served import KEY, MASTER_KEY, Reply, Stand, chat, config, deployment, stand

NARROW_KEY = "sk-a-key-for-few-models"
UNKNOWN_KEY = "sk-a-key-that-nobody-issued"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        base = engines[0].url
        grouped = deployment("grouped", base, id="grouped-1")
        grouped["model_info"]["access_groups"] = ["a-group"]
        made = config(
            [
                deployment("sim", base, id="sim-1"),
                deployment("other", base, id="other-1"),
                deployment("wild/*", base, "openai/*", "wild-1"),
                deployment("claude", base, "anthropic/sim+status=500", "claude-1"),
                grouped,
            ],
            keys=[
                {"key": KEY, "alias": "tester"},
                {"key": NARROW_KEY, "models": ["sim", "a-group", "wild/s*"]},
            ],
            router={"num_retries": 0, "model_group_alias": {"nick": "sim"}},
        )
        made["general_settings"]["litellm_key_header_name"] = "X-Our-Key"
        return made

    with stand(tmp_path_factory, [["--models", "*"]], configure) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(served: Stand) -> None:
    served.reset()


def assert_error(reply: Reply, status: int, type_: str, message: str, param: Any = "None") -> None:
    assert reply.status == status
    assert reply.fields["content-type"] == "application/json"
    assert reply.json() == {
        "error": {"message": message, "type": type_, "param": param, "code": str(status)}
    }
    assert reply.fields["x-fastgate-request-id"] == reply.fields["x-litellm-call-id"]


# keys


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Authentication Error, No api key passed in."),
        ({"Authorization": ""}, "Authentication Error, No api key passed in."),
        (
            {"Authorization": "nothing-like-a-key"},
            "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.",
        ),
        (
            {"Authorization": f"Basic {UNKNOWN_KEY}"},
            "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.",
        ),
        (
            {"Authorization": "Bearer my-key"},
            "Authentication Error, LiteLLM Virtual Key expected. Received=my**, "
            "expected to start with 'sk-'.",
        ),
        (
            {"x-api-key": "my-key"},
            "Authentication Error, LiteLLM Virtual Key expected. Received=my**, "
            "expected to start with 'sk-'.",
        ),
    ],
)
def test_no_key_or_none_of_ours(served: Stand, fields: dict[str, str], message: str) -> None:
    reply = served.chat(key=None, fields=fields)
    assert_error(reply, 401, "auth_error", message)


def test_an_unknown_key(served: Stand) -> None:
    digest = hashlib.sha256(UNKNOWN_KEY.encode()).hexdigest()
    assert_error(
        served.chat(key=UNKNOWN_KEY),
        401,
        "token_not_found_in_db",
        "Authentication Error, Invalid proxy server token passed. Received API Key = "
        f"sk-...{UNKNOWN_KEY[-4:]}, Key Hash (Token) ={digest}. "
        "Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
        "key",
    )
    assert served.received() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"API-Key": KEY},
        {"x-api-key": KEY},
        {"x-goog-api-key": KEY},
        {"Ocp-Apim-Subscription-Key": KEY},
        {"x-litellm-api-key": KEY},
        {"X-Our-Key": KEY},
        {"X-Our-Key": f"Bearer {KEY}", "Authorization": f"Bearer {UNKNOWN_KEY}"},
        {"Authorization": f"Bearer {KEY}", "x-api-key": UNKNOWN_KEY},
        {"Authorization": f"Bearer {MASTER_KEY}"},
    ],
)
def test_every_field_that_may_hold_the_key(served: Stand, fields: dict[str, str]) -> None:
    assert served.chat(key=None, fields=fields).status == 200
    sent = dict(served.received()[0]["headers"])
    # Only the gateway's own key for the engine goes on.
    assert sent["authorization"] == hashlib.sha256(b"Bearer sk-upstream").hexdigest()
    assert not sent.keys() & {
        *("api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key"),
        *("x-litellm-api-key", "x-our-key"),
    }


def test_a_connection_does_not_remember_a_key_that_changed(served: Stand) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    body = json.dumps(chat())
    for key, status in [(KEY, 200), (UNKNOWN_KEY, 401), (KEY, 200), ("", 401), (MASTER_KEY, 200)]:
        fields = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("POST", "/v1/chat/completions", body, fields)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status, key
    connection.close()


# models


@pytest.mark.parametrize("model", ["sim", "grouped", "wild/sim"])
def test_allowed_models(served: Stand, model: str) -> None:
    assert served.chat(model, key=NARROW_KEY).status == 200


@pytest.mark.parametrize("model", ["other", "wild/other", "no-such-model", "claude"])
def test_models_out_of_bounds(served: Stand, model: str) -> None:
    assert_error(
        served.chat(model, key=NARROW_KEY),
        401,
        "key_model_access_denied",
        "key not allowed to access model. This key can only access "
        f"models=['sim', 'a-group', 'wild/s*']. Tried to access {model}",
        "model",
    )
    assert served.received() == []


def test_a_path_can_t_smuggle_a_model_past_the_list(served: Stand) -> None:
    for path in ("/engines/other/chat/completions", "/openai/deployments/other/chat/completions"):
        reply = served.ask("POST", path, chat("sim"), key=NARROW_KEY)
        assert reply.status == 401
    # What is authorised is what is sent, whatever else the body says.
    reply = served.ask("POST", "/engines/sim/chat/completions", chat("other"), key=NARROW_KEY)
    assert reply.status == 200
    assert json.loads(served.received()[0]["body"])["model"] == "sim"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/embeddings"])
def test_an_unknown_model(served: Stand, path: str) -> None:
    name = path.removeprefix("/v1")
    assert_error(
        served.ask("POST", path, chat("no-such-model")),
        400,
        "None",
        f"{name}: Invalid model name passed in model=no-such-model. "
        "Call `/v1/models` to view available models for your key.",
    )


def test_an_alias_is_a_model(served: Stand) -> None:
    assert served.chat("nick").status == 200


# bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"messages":[]}',
        b'{"model":1}',
        b'{"model":null}',
        b'{"model":""}',
        b'{"model":"sim","model":"other"}',
        b'{"model":"sim","mod\\u0065l":"other"}',
        b'{"model":"sim"} {}',
        b'\xef\xbb\xbf{"model":"sim"}',
        b'{"model":"sim\xff"}',
        b'{"model":"sim","a":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_bodies_that_can_t_be_read(served: Stand, body: bytes) -> None:
    reply = served.ask("POST", "/v1/chat/completions", body)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["code"] == "400"
    assert served.received() == []


# paths and methods


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/chat/completions", "//v1/chat/completions", "/v1/chat/completions/", "/v1"),
        *("/v1/%63hat/completions", "/V1/chat/completions", "/v1/../v1/models", "/v1/files"),
        *("/engines//chat/completions", "/openai/deployments/sim/files", "/sim/log"),
    ],
)
def test_unknown_paths(served: Stand, path: str) -> None:
    reply = served.ask("POST", path, chat())
    assert_error(reply, 404, "not_found_error", f"Not Found: POST {path}")
    assert served.received() == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/embeddings", "POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/health/readiness", "GET"),
        ("POST", "/metrics", "GET"),
    ],
)
def test_other_methods(served: Stand, method: str, path: str, allow: str) -> None:
    reply = served.ask(method, path)
    assert reply.status == 405
    assert reply.fields["allow"] == allow
    if method == "HEAD":
        assert reply.body == b""
        assert int(reply.fields["content-length"]) > 0
    else:
        assert reply.error["code"] == "405"


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/v1/models/sim", "/health/liveliness", "/health/readiness", "/metrics"],
)
def test_head_is_get_without_the_body(served: Stand, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    fields = {"Authorization": f"Bearer {MASTER_KEY}"}
    for _ in range(2):
        # A body would be taken for the second answer.
        connection.request("HEAD", path, headers=fields)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read() == b""
    connection.request("GET", "/health/liveness", headers=fields)
    assert connection.getresponse().read() == b'"I\'m alive!"'
    connection.close()


def test_admin_routes_are_for_admins(served: Stand) -> None:
    for path in ("/health", "/fastgate/status"):
        assert served.ask("GET", path, key=None).status == 401
        reply = served.ask("GET", path, key=KEY)
        assert reply.status in (401, 403)
        assert "Only proxy admin can be used to" in reply.error["message"]
        assert f"Route={path}" in reply.error["message"]
        assert served.ask("GET", path, key=MASTER_KEY).status == 200


# the other protocol


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        (chat("claude"), UNKNOWN_KEY, 401),
        (chat("no-such-model"), KEY, 400),
        (chat("sim"), KEY, 400),
        (chat("claude"), NARROW_KEY, 401),
        (chat("claude"), KEY, 500),
    ],
)
def test_errors_on_messages_are_anthropic_s(
    served: Stand, body: dict[str, Any], key: str, status: int
) -> None:
    reply = served.ask("POST", "/v1/messages", {**body, "max_tokens": 4}, key=key)
    assert reply.status == status
    answer = reply.json()
    assert answer["type"] == "error"
    assert answer["error"]["message"]
    assert answer["error"]["type"]
