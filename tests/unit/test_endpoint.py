"""Paths: each spelling that is known, and no other."""

from __future__ import annotations

import pytest

from fastgate.gateway.endpoint import CONTROL, FORM, JSON, LOCAL, match

ROUTES = {
    "chat/completions": JSON,
    "completions": JSON,
    "embeddings": JSON,
    "responses": JSON,
    "messages": JSON,
    "moderations": JSON,
    "rerank": JSON,
    "images/generations": JSON,
    "audio/speech": JSON,
    "audio/transcriptions": FORM,
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("pattern", "model"),
    [
        ("/v1/{}", None),
        ("/{}", None),
        ("/engines/m/{}", "m"),
        ("/openai/deployments/m/{}", "m"),
        ("/engines/org/m-1/{}", "org/m-1"),
        ("/openai/deployments/org%2Fm%3A1/{}", "org/m:1"),
        # The end of the path decides, whatever stands in the model's name.
        ("/engines/chat/completions/{}", "chat/completions"),
    ],
)
def test_spellings(route: str, pattern: str, model: str | None) -> None:
    found = match(pattern.format(route).encode())
    assert found is not None
    assert found.endpoint.name == route
    assert found.endpoint.suffix == f"/{route}"
    assert found.endpoint.kind == ROUTES[route]
    assert found.endpoint.method == b"POST"
    assert not found.endpoint.public
    assert found.model == model


@pytest.mark.parametrize(
    ("path", "name", "kind", "public"),
    [
        ("/", "index", LOCAL, True),
        ("/v1/models", "models", LOCAL, False),
        ("/models", "models", LOCAL, False),
        ("/health/liveliness", "live", LOCAL, True),
        ("/health/liveness", "live", LOCAL, True),
        ("/health/readiness", "ready", LOCAL, True),
        ("/health", "health", CONTROL, False),
        ("/fastgate/status", "status", CONTROL, False),
        ("/metrics", "metrics", CONTROL, True),
    ],
)
def test_what_is_read(path: str, name: str, kind: int, public: bool) -> None:
    found = match(path.encode())
    assert found is not None
    endpoint = found.endpoint
    assert (endpoint.name, endpoint.kind, endpoint.public) == (name, kind, public)
    assert endpoint.method == b"GET"


@pytest.mark.parametrize("prefix", ["/v1/models/", "/models/"])
@pytest.mark.parametrize(("raw", "model"), [("m", "m"), ("a/b", "a/b"), ("a%2Fb", "a/b")])
def test_one_model(prefix: str, raw: str, model: str) -> None:
    found = match((prefix + raw).encode())
    assert found is not None
    assert (found.endpoint.name, found.model) == ("model", model)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "pattern",
    [
        *("//v1/{}", "/v1//{}", "/v1/{}/", "/V1/{}", "/v2/{}", "v1/{}", "/v1/v1/{}", "/v1/./{}"),
        *("/%761/{}", "/v1%2F{}", "/v1/{} ", "/v1/{}\0", "/v1/{};a", "/v1/x/../{}", "/api/v1/{}"),
        *("/engines/{}", "/engines//{}", "/openai/deployments/{}", "/openai/deployments//{}"),
        *("/openai/m/{}", "/engine/m/{}", "/engines/m/{}/", "/engines/%ff/{}", "/engines/m/x{}"),
    ],
)
def test_other_spellings(route: str, pattern: str) -> None:
    found = match(pattern.format(route).encode())
    if found is not None:
        # What ends in `chat/completions` ends in `completions` too: those of a model called "chat".
        assert route == "chat/completions"
        assert found.endpoint.name == "completions"
        assert found.model in ("chat", "m/xchat")


@pytest.mark.parametrize(
    "path", ["", "/v1", "/v1/", "*", "/v1/models/", "/models/", "/v1/files", "/v1/models/%ff"]
)
def test_unknown(path: str) -> None:
    assert match(path.encode()) is None


def test_usage_is_asked_for_where_it_can_be() -> None:
    asked = {route for route in ROUTES if match(f"/v1/{route}".encode()).endpoint.injects_usage}  # type: ignore[union-attr]
    assert asked == {"chat/completions", "completions"}
    protocols = {r for r in ROUTES if match(f"/{r}".encode()).endpoint.protocol == "anthropic"}  # type: ignore[union-attr]
    assert protocols == {"messages"}
