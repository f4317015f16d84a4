"""Simulated engines and a gateway that the tests of a module share, and a plain client for them.

A module writes a fixture with scope="module" around `stand(...)`. The client is http.client with a
connection for each call: it knows nothing of the gateway's own code.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.processes import Engine, Gateway

__all__ = [
    "KEY",
    "MASTER_KEY",
    "Reply",
    "Stand",
    "chat",
    "config",
    "deployment",
    "free_port",
    "stand",
]

MASTER_KEY = "sk-the-master-key-of-these-tests"
KEY = "sk-an-ordinary-key-of-these-tests"
TIMEOUT_S = 20.0


class Reply(NamedTuple):
    """One response; the names of its fields are in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json()["error"]
        return found


class Stand:
    """Engines and the gateway in front of them."""

    def __init__(self, engines: Sequence[Engine], gateway: Gateway) -> None:
        self.engines = list(engines)
        self.gateway = gateway
        self.port = gateway.port

    @property
    def engine(self) -> Engine:
        return self.engines[0]

    def reset(self) -> None:
        """Let the engines forget what was asked and armed."""
        for engine in self.engines:
            engine.call("POST", "/sim/reset")

    def arm(self, faults: str, *, engine: int = 0, **more: Any) -> None:
        """Let an engine misbehave: until it is reset, or for `requests=N`, or of `model=M`."""
        self.engines[engine].call("POST", "/sim/faults", {"faults": faults, **more})

    def received(self, engine: int = 0) -> list[dict[str, Any]]:
        """Return the requests that an engine has received since it was reset."""
        found: list[dict[str, Any]] = self.engines[engine].call("GET", "/sim/log")["requests"]
        return found

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = KEY,
        fields: Mapping[str, str] | None = None,
    ) -> Reply:
        """Return the answer to one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        sent = dict(fields or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, names, answer.read())
        finally:
            connection.close()

    def chat(self, model: str = "sim", **options: Any) -> Reply:
        """Return the answer to a chat request."""
        call = {name: options.pop(name) for name in ("key", "fields") if name in options}
        return self.ask("POST", "/v1/chat/completions", chat(model, **options), **call)

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by its full name."""
        page = self.ask("GET", "/metrics", key=None).body.decode()
        samples = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def chat(model: str = "sim", **options: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hi there"}], **options}


def deployment(
    group: str, base: str, model: str = "openai/sim", id: str = "", **parameters: Any
) -> dict[str, Any]:
    """Return an entry of `model_list`; parameters of None are left out."""
    given = {"model": model, "api_base": base, "api_key": "sk-upstream", **parameters}
    entry: dict[str, Any] = {
        "model_name": group,
        "litellm_params": {name: value for name, value in given.items() if value is not None},
    }
    if id:
        entry["model_info"] = {"id": id}
    return entry


def config(
    model_list: list[dict[str, Any]],
    *,
    keys: Sequence[Mapping[str, Any]] = ({"key": KEY, "alias": "tester"},),
    router: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return a configuration; `settings` are sections of `fastgate_settings`."""
    return {
        "model_list": model_list,
        "general_settings": {"master_key": MASTER_KEY},
        "router_settings": dict(router or {}),
        "fastgate_settings": {"keys": [dict(key) for key in keys], **settings},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def stand(
    folders: pytest.TempPathFactory,
    engines: Sequence[Sequence[str]],
    configure: Callable[[list[Engine]], Mapping[str, Any]],
    *options: str,
) -> Iterator[Stand]:
    """Start an engine for each list of options, and a gateway that `configure` configures."""
    folder: Path = folders.mktemp("stand")
    with ExitStack() as stack:
        started = []
        for number, engine_options in enumerate(engines):
            engine = Engine(folder / f"engine-{number}.log", *engine_options)
            stack.callback(engine.stop)
            engine.start()
            started.append(engine)
        gateway = Gateway(folder / "gateway", configure(started), free_port(), options, {})
        stack.callback(gateway.assert_clean)
        stack.callback(gateway.stop)
        gateway.start()
        yield Stand(started, gateway)
