"""A client that leaves wherever its request waits: pools, limits and counts are as before.

The worker runs inside the test, so that all its books can be looked into; its upstreams are real
sockets.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fastgate.gateway.context import (
    PHASE_BODY,
    PHASE_CONNECT,
    PHASE_ERROR_BODY,
    PHASE_HEAD,
    PHASE_WAIT,
)
from fastgate.gateway.downstream import Downstream
from tests.front import KEY, config_of, unused_port
from tests.raw_peers import WAIT_S, Upstream, request, sse_answer
from tests.wired import Wired, snapshot_of, wired

ASKED = request({"model": "m", "messages": [], "stream": True}, key=KEY)
NAMED = request({"model": "named", "messages": []}, key=KEY)
SECURE = request({"model": "secure", "messages": []}, key=KEY)
UPLOAD = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %b\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n' % KEY.encode()
)


@pytest.fixture
def port() -> int:
    return unused_port()


@pytest.fixture
def snapshot(tmp_path: Path, port: int) -> bytes:
    config = config_of(port, upstream={"max_connections": 1}, router={"num_retries": 1})
    for name, base in (
        ("named", f"http://engine.invalid:{port}/v1"),
        ("secure", f"https://127.0.0.1:{port}/v1"),
    ):
        params = {"model": f"openai/{name}", "api_base": base, "api_key": "none"}
        config["model_list"].append(
            {"model_name": name, "litellm_params": {**params, "max_parallel_requests": 1}}
        )
    return snapshot_of(tmp_path, config)


@pytest.fixture
async def worker(snapshot: bytes) -> AsyncIterator[Wired]:
    with wired(snapshot) as found:
        yield found
        for pool in found.worker.pools.values():
            pool.close()
            for task in list(pool.tasks):
                task.cancel()
            for member in list(pool.members):
                member.abort()
        await asyncio.sleep(0)


@pytest.fixture
async def upstream(port: int) -> AsyncIterator[Upstream]:
    upstream = await Upstream.listen(port)
    yield upstream
    await upstream.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


def books(worker: Wired) -> dict[str, Any]:
    """Return everything that a request may take and has to give back."""
    inner = worker.worker
    pipeline = inner.pipeline
    now_ns = inner.now_ns()
    found: dict[str, Any] = {"active": len(pipeline.active)}
    for name, target in pipeline.catalog.targets.items():
        found[f"{name} in flight"] = pipeline.router.deployments.in_flight(target.entry)
        found[f"{name} waiting"] = len(target.pool.waiting)
        entry = inner.memory.limits.entry(target.limit_key, now_ns)
        found[f"{name} reserved"] = inner.memory.limits.in_flight(entry)
    principal = pipeline.snapshot.principal(hashlib.sha256(KEY.encode()).digest())
    entry = inner.memory.limits.entry(principal.scoped.limit_keys[0], now_ns)
    found["key in flight"] = inner.memory.limits.in_flight(entry)
    return found


def begin(worker: Wired, asked: bytes) -> Downstream:
    client, _ = worker.client()
    client.data_received(asked)
    return client


def leave(client: Downstream) -> None:
    client.eof_received()
    client.connection_lost(None)


def phase_of(client: Downstream) -> int:
    return client.context.phase if client.context is not None else -1


async def test_while_the_body_comes(worker: Wired) -> None:
    before = books(worker)
    client = begin(worker, ASKED[:-5])
    leave(client)
    assert books(worker) == before


async def test_while_a_name_is_looked_up(worker: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    async def addresses(host: str, port: int) -> list[str]:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(worker.worker.resolver, "addresses", addresses)
    before = books(worker)
    client = begin(worker, NAMED)
    async with asyncio.timeout(WAIT_S):
        await asked.wait()
    assert phase_of(client) == PHASE_CONNECT
    leave(client)
    assert books(worker) == before


async def test_while_a_connection_is_made(worker: Wired, port: int) -> None:
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        filler.connect(("127.0.0.1", port))
        before = books(worker)
        client = begin(worker, ASKED)
        await asyncio.sleep(0.02)
        assert phase_of(client) == PHASE_CONNECT
        leave(client)
        assert books(worker) == before


async def test_while_tls_is_agreed_on(worker: Wired, upstream: Upstream) -> None:
    upstream.reads_requests = False
    before = books(worker)
    client = begin(worker, SECURE)
    await until(lambda: upstream.connections and upstream.connections[0].received)
    assert phase_of(client) == PHASE_CONNECT
    leave(client)
    assert books(worker) == before


async def test_a_connection_that_comes_too_late_serves_the_next(
    worker: Wired, upstream: Upstream
) -> None:
    before = books(worker)
    first = begin(worker, ASKED)
    assert phase_of(first) == PHASE_CONNECT
    leave(first)
    assert books(worker) == before
    second = begin(worker, ASKED)
    call = await upstream.call()
    assert phase_of(second) == PHASE_HEAD
    assert len(upstream.connections) == 1
    leave(second)
    await call.gone()
    assert books(worker) == before


async def test_while_waiting_for_a_busy_pool(worker: Wired, upstream: Upstream) -> None:
    many = request({"model": "many", "messages": []}, key="sk-the-master-key-of-these-tests")
    busy = begin(worker, many)
    call = await upstream.call()
    before = books(worker)
    waiting = begin(worker, many)
    assert phase_of(waiting) == PHASE_CONNECT
    leave(waiting)
    assert books(worker) == before
    leave(busy)
    await call.gone()


async def test_while_the_head_is_awaited(worker: Wired, upstream: Upstream) -> None:
    before = books(worker)
    client = begin(worker, ASKED)
    call = await upstream.call()
    assert phase_of(client) == PHASE_HEAD
    leave(client)
    await call.gone()
    assert books(worker) == before


async def test_while_the_body_of_the_answer_comes(worker: Wired, upstream: Upstream) -> None:
    before = books(worker)
    client = begin(worker, ASKED)
    call = await upstream.call()
    call.send(sse_answer(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', last=False))
    await until(lambda: phase_of(client) == PHASE_BODY)
    leave(client)
    await call.gone()
    assert books(worker) == before


async def test_while_an_error_is_collected(worker: Wired, upstream: Upstream) -> None:
    before = books(worker)
    client = begin(worker, ASKED)
    call = await upstream.call()
    call.send(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n")
    await until(lambda: phase_of(client) == PHASE_ERROR_BODY)
    leave(client)
    await call.gone()
    assert books(worker) == before


async def test_while_a_retry_is_waited_for(worker: Wired, upstream: Upstream) -> None:
    before = books(worker)
    client = begin(worker, ASKED)
    call = await upstream.call()
    call.send(b"HTTP/1.1 500 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
    await until(lambda: phase_of(client) == PHASE_WAIT)
    context = client.context
    assert context is not None
    timer = context.timer
    leave(client)
    assert timer.cancelled()
    assert books(worker) == before


async def test_in_the_middle_of_an_upload(worker: Wired, upstream: Upstream) -> None:
    upstream.reads_requests = False
    before = books(worker)
    client = begin(worker, UPLOAD)
    await until(lambda: upstream.connections and b"--b\r\n" in upstream.connections[0].received)
    assert phase_of(client) == PHASE_HEAD
    leave(client)
    async with asyncio.timeout(WAIT_S):
        await upstream.connections[0].ended.wait()
    assert books(worker) == before


async def test_before_an_upload_names_its_model(worker: Wired, upstream: Upstream) -> None:
    before = books(worker)
    client = begin(worker, UPLOAD[:-20])
    leave(client)
    assert books(worker) == before
    assert not upstream.connections
