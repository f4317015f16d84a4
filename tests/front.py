"""A gateway in front of one upstream whose port stays, and which each test plays by itself."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Gateway
from tests.raw_peers import WAIT_S, Client, Upstream, plain_answer, request

__all__ = [
    "KEY",
    "MASTER_KEY",
    "MODEL",
    "OK",
    "Front",
    "config_of",
    "front",
    "limits",
    "router_settings",
    "running_front",
    "unused_port",
    "upstream",
    "upstream_settings",
]

KEY = "sk-a-key-of-these-tests"
MASTER_KEY = "sk-the-master-key-of-these-tests"
MODEL = "m"
OK = plain_answer(b'{"ok":true}')


class Front:
    """A running gateway, and what a test wants to know of it."""

    def __init__(self, gateway: Gateway, upstream_port: int, spare_port: int) -> None:
        self.gateway = gateway
        self.port = gateway.port
        self.upstream_port = upstream_port
        self.spare_port = spare_port
        """Of the model `spare`; nobody listens there unless a test does."""
        self.clients: list[Client] = []

    async def connect(self, **options: Any) -> Client:
        """Return a new client; it is gone when the test ends, however that goes."""
        client = await Client.connect(self.port, **options)
        self.clients.append(client)
        return client

    def chat(
        self, *, stream: bool = False, key: str = KEY, model: str = MODEL, **more: Any
    ) -> bytes:
        """Return a chat request."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        return request({**body, "stream": True} if stream else body, key=key)

    @property
    def worker_pids(self) -> list[int]:
        """The processes that serve now, by slot."""
        ready = [
            record
            for record in self.gateway.records()
            if record.get("event") == "ready" and record["name"].startswith("worker")
        ]
        return list({record["name"]: record["pid"] for record in ready}.values())

    def fds(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.worker_pids)

    def rss_bytes(self) -> int:
        """Resident memory of the workers."""
        total = 0
        for pid in self.worker_pids:
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert found is not None
            total += int(found[1]) * 1024
        return total

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by its full name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {MASTER_KEY}"})
        page = connection.getresponse().read().decode()
        connection.close()
        samples = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def in_flight_at_rest(self) -> float:
        """Return how many requests never end. The gauge is set four times a second."""
        deadline = time.monotonic() + WAIT_S
        time.sleep(0.5)
        while (found := self.metrics()["fastgate_in_flight"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once `condition()` holds. For what the gateway gives no event of."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
            await asyncio.sleep(0.01)

    async def assert_settled(self, upstream: Upstream, fds_before: int) -> None:
        """Nothing is left of what went on: no place in flight, no connection, no file descriptor.

        The key and the deployment allow one request at a time, so a leaked place would refuse the
        next one.
        """
        upstream.on_call = lambda call: call.send(OK)
        client = await self.connect()
        client.send(self.chat())
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b'{"ok":true}'), answer
        client.close()
        for connection in upstream.connections:
            connection.transport.abort()
        loop = asyncio.get_running_loop()
        await self.until(lambda: self.fds() <= fds_before, "as many descriptors as before")
        while (await loop.run_in_executor(None, self.metrics))["fastgate_in_flight"]:
            await asyncio.sleep(0.05)


def config_of(
    port: int,
    spare_port: int = 9,
    limits: Mapping[str, Any] | None = None,
    upstream: Mapping[str, Any] | None = None,
    router: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a configuration with `m` served on `port`, tight wherever a leak would show."""
    return {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"http://127.0.0.1:{port}/v1",
                    "api_key": "none",
                    "max_parallel_requests": 1,
                },
                "model_info": {"id": "the-one"},
            },
            {
                # The same server without limits, for many requests at a time.
                "model_name": "many",
                "litellm_params": {
                    "model": "openai/many",
                    "api_base": f"http://127.0.0.1:{port}/v1",
                    "api_key": "none",
                },
                "model_info": {"id": "the-many"},
            },
            {
                "model_name": "spare",
                "litellm_params": {
                    "model": "openai/spare",
                    "api_base": f"http://127.0.0.1:{spare_port}/v1",
                    "api_key": "none",
                },
                "model_info": {"id": "the-spare"},
            },
        ],
        "general_settings": {"master_key": MASTER_KEY},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True, **(router or {})},
        "fastgate_settings": {
            "keys": [{"key": KEY, "alias": "one-at-a-time", "max_parallel": 1}],
            "limits": dict(limits or {}),
            "upstream": dict(upstream or {}),
        },
    }


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    """`fastgate_settings.limits` of the module's gateway: a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    """`fastgate_settings.upstream`, likewise."""
    return {}


@pytest.fixture(scope="module")
def router_settings() -> dict[str, Any]:
    """`router_settings`, likewise: what is added to no retries and no cooldowns."""
    return {}


@pytest.fixture(scope="module")
def running_front(
    tmp_path_factory: pytest.TempPathFactory,
    limits: dict[str, Any],
    upstream_settings: dict[str, Any],
    router_settings: dict[str, Any],
) -> Iterator[Front]:
    """Return the module's gateway."""
    upstream_port, spare_port = unused_port(), unused_port()
    gateway = Gateway(
        tmp_path_factory.mktemp("front") / "gateway",
        config_of(upstream_port, spare_port, limits, upstream_settings, router_settings),
        unused_port(),
        (),
        {},
    )
    gateway.start()
    # A worker serves a moment before its supervisor has said so, which `worker_pids` is read from.
    gateway.wait_for('"event": "serving"')
    front = Front(gateway, upstream_port, spare_port)
    yield front
    in_flight = front.in_flight_at_rest()
    gateway.stop()
    assert in_flight == 0
    gateway.assert_clean()


@pytest.fixture
async def front(running_front: Front) -> AsyncIterator[Front]:
    """Return the module's gateway; what a test connects to it is gone when the test ends."""
    yield running_front
    for client in running_front.clients:
        client.writer.transport.abort()
    running_front.clients.clear()
    await asyncio.sleep(0)


@pytest.fixture
async def upstream(front: Front) -> AsyncIterator[Upstream]:
    """Return the server behind the module's gateway, fresh for each test."""
    upstream = await Upstream.listen(front.upstream_port)
    yield upstream
    await upstream.close()
