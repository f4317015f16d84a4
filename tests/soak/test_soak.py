"""What must hold at size, each with its figure printed: `make soak ARGS=-s` shows them.

One worker, as everywhere in the figures; RSS is the sum over all of the gateway's processes.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.front import MASTER_KEY, config_of
from tests.processes import START_S, Gateway
from tests.raw_peers import Call, Client, Upstream, chunked, plain_answer, request, sse_answer
from tests.traffic import (
    EVENT,
    LOADED,
    REFUSED,
    Load,
    answer_all,
    ask,
    begin_streams,
    chat,
    exit_status,
    finish_streams,
    logged,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

KIB, MIB = 1 << 10, 1 << 20

DISCONNECTS = 10_000
SLOW_READERS = 1_000
OPEN_STREAMS = 2_000
IDLE_CONNECTIONS = 10_000
DRAINED_STREAMS = 500
RELOADS = 50


@pytest.fixture(scope="module", autouse=True)
def many_descriptors() -> Iterator[None]:
    """The gateway inherits the limit, of which its connections get 60 %."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20_000:
        pytest.skip(f"needs 20,000 file descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream.listen()
    yield upstream
    await upstream.close()


@pytest.fixture(autouse=True)
async def clients(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Client]]:
    """Return all clients of the test; what it leaves open is broken when it ends."""
    opened: list[Client] = []
    connect = Client.connect

    async def remembered(port: int, **options: Any) -> Client:
        opened.append(await connect(port, **options))
        return opened[-1]

    monkeypatch.setattr(Client, "connect", remembered)
    yield opened
    for client in opened:
        client.writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
def running(upstream: Upstream, gateway: Callable[..., Gateway]) -> Gateway:
    """Return a gateway with room for all that is to come."""
    most = {"max_connections": 5000, "max_waiting": 5000}
    started: Gateway = gateway(config_of(upstream.port, upstream=most))
    # Control, a third of the memory, starts when the worker serves.
    deadline = time.monotonic() + START_S
    while len(pids_of(started)) < 3:
        started.check_alive(deadline, "control")
    return started


def pids_of(running: Gateway) -> list[int]:
    """Return the supervisor, the worker and control."""
    ready = [record for record in running.records() if record.get("event") == "ready"]
    return [running.pid, *(record["pid"] for record in ready)]


def rss_bytes(running: Gateway) -> int:
    total = 0
    for pid in pids_of(running):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert found is not None
        total += int(found[1]) * KIB
    return total


def fds_of(running: Gateway) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids_of(running))


async def warm(running: Gateway, upstream: Upstream) -> None:
    """Take every path once, so that what is measured then is what the load itself needs."""
    before = upstream.on_call
    answer_all(upstream)
    for _ in range(50):
        assert (await ask(running, chat())).status == 200
    upstream.on_call = before
    await finish_streams(await begin_streams(running, upstream, 5))


async def at_rest(running: Gateway, fds: int) -> None:
    """Return once as many descriptors are open as before, and no request is in flight."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while fds_of(running) > fds or await loop.run_in_executor(None, in_flight, running):
            await asyncio.sleep(0.1)


def in_flight(running: Gateway) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r"^fastgate_in_flight (\S+)$", page, re.M)
    assert found is not None
    return float(found[1])


async def test_disconnects_mid_stream(running: Gateway, upstream: Upstream) -> None:
    await warm(running, upstream)
    for connection in upstream.connections:
        connection.transport.abort()
    await asyncio.sleep(1)
    fds = fds_of(running)
    took_s: list[float] = []

    def begin(call: Call) -> None:
        call.send(sse_answer(EVENT, last=False))
        calls[call.json()["user"]] = call

    calls: dict[str, Call] = {}
    upstream.on_call = begin
    numbers = iter(range(DISCONNECTS))

    async def leave() -> None:
        for number in numbers:
            client = await Client.connect(running.port)
            client.send(chat_of(str(number)))
            await client.read_until(b"\n\n\r\n")
            left_s = time.monotonic()
            client.reset() if number % 2 else client.close()
            took_s.append(await calls.pop(str(number)).gone() - left_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(leave())
    took_s.sort()
    p99_ms = took_s[len(took_s) * 99 // 100] * 1000
    print(f"\n{len(took_s)} disconnects: p99 {p99_ms:.1f} ms, worst {took_s[-1] * 1000:.1f} ms")
    await at_rest(running, fds)
    assert p99_ms <= 100
    assert took_s[-1] <= 1
    assert upstream.open == 0


def chat_of(user: str) -> bytes:
    body = {"model": "many", "messages": [], "stream": True, "user": user}
    return request(body, key=MASTER_KEY)


async def test_slow_readers(running: Gateway, upstream: Upstream, clients: list[Client]) -> None:
    await warm(running, upstream)
    before = rss_bytes(running)
    piece = chunked(b"data: " + 16 * KIB * b"x" + b"\n\n", last=False)
    taken: list[int] = []

    async def flood(call: Call, index: int) -> None:
        call.send(sse_answer(last=False))
        for _ in range(64 * MIB // len(piece)):
            await call.connection.writable.wait()
            if call.connection.ended.is_set():
                return
            call.send(piece)
            taken[index] += len(piece)

    async with asyncio.TaskGroup() as group:
        floods = []
        for index in range(SLOW_READERS):
            client = await Client.connect(running.port, receive_buffer_bytes=4096)
            client.writer.transport.pause_reading()
            client.send(chat(stream=True))
            taken.append(0)
            floods.append(group.create_task(flood(await upstream.call(), index)))
        await settled(taken)
        grown = rss_bytes(running) - before
        most = max(taken)
        for client in clients:
            client.writer.transport.abort()
    print(
        f"\n{SLOW_READERS} slow readers: RSS + {grown / MIB:.0f} MiB, at most {most / MIB:.1f} MiB "
        f"taken of an upstream"
    )
    assert grown <= 128 * MIB
    assert most < 16 * MIB


async def settled(taken: list[int]) -> None:
    """Return once nothing more is taken for a second."""
    async with asyncio.timeout(120):
        before = -1
        while (now := sum(taken)) != before:
            before = now
            await asyncio.sleep(1)


async def test_open_streams(running: Gateway, upstream: Upstream) -> None:
    await warm(running, upstream)
    before = rss_bytes(running)
    streams = await begin_streams(running, upstream, OPEN_STREAMS)
    each = (rss_bytes(running) - before) / OPEN_STREAMS
    print(f"\n{OPEN_STREAMS} open streams: {each / KIB:.1f} KiB each")
    await finish_streams(streams)
    assert each <= 24 * KIB


def test_idle_connections(running: Gateway) -> None:
    asked = request(path="/health/liveliness")
    idle = []
    for n in range(IDLE_CONNECTIONS):
        plug = socket.socket()
        # 28,000 ports for each address of ours.
        plug.bind((f"127.0.0.{2 + n // 5000}", 0))
        plug.connect(("127.0.0.1", running.port))
        plug.sendall(asked)
        assert plug.recv(1000).startswith(b"HTTP/1.1 200 ")
        idle.append(plug)
    total = rss_bytes(running)
    took_s = []
    for _ in range(200):
        began_s = time.perf_counter()
        idle[0].sendall(asked)
        assert idle[0].recv(1000)
        took_s.append(time.perf_counter() - began_s)
    for plug in idle:
        plug.close()
    median_us = sorted(took_s)[100] * 1e6
    print(
        f"\n{IDLE_CONNECTIONS} idle connections: {total / MIB:.0f} MiB in all; an answer among "
        f"them takes {median_us:.0f} us (median)"
    )
    assert total <= 150 * MIB


def test_idle_gateway(running: Gateway) -> None:
    total = rss_bytes(running)
    print(f"\nidle gateway: {total / MIB:.0f} MiB in {len(pids_of(running))} processes")
    assert len(pids_of(running)) == 3
    assert total <= 120 * MIB


def test_start_to_first_answer(upstream: Upstream, gateway: Callable[..., Gateway]) -> None:
    took_s = []
    for _ in range(5):
        began_s = time.monotonic()
        started = gateway(config_of(upstream.port))
        took_s.append(time.monotonic() - began_s)
        assert started.stop() == 0
    took_s.sort()
    print(f"\nstart to first answer: median {took_s[2]:.2f} s, worst {took_s[-1]:.2f} s")
    assert took_s[2] <= 1


async def test_sigterm_with_streams_in_flight(running: Gateway, upstream: Upstream) -> None:
    streams = await begin_streams(running, upstream, DRAINED_STREAMS)
    answer_all(upstream)
    os.kill(running.pid, signal.SIGTERM)
    await logged(running, "draining")
    served = 0
    for part in range(5):
        for _ in range(40):
            assert (await ask(running, chat())).status == 200
            served += 1
        tenth = DRAINED_STREAMS // 5
        await finish_streams(streams[part * tenth : (part + 1) * tenth])
    assert await exit_status(running) == 0
    print(f"\nSIGTERM: {len(streams)} streams ended whole, {served} new connections served")


async def test_reloads_under_load(running: Gateway, upstream: Upstream) -> None:
    streams = await begin_streams(running, upstream, 20)
    answer_all(upstream)
    good = config_of(upstream.port, upstream={"max_connections": 5000})
    async with Load(running) as load:
        for n in range(RELOADS):
            if n % 2:
                running.write_config({"model_list": "not a list"})
            else:
                good["model_list"][-1]["model_name"] = f"renamed-{n}"
                running.write_config(good)
            os.kill(running.pid, signal.SIGHUP)
            await logged(running, REFUSED if n % 2 else LOADED, 1 + n // 2)
            await load.served(20)
    print(f"\n{RELOADS} reloads: {load.results['200']} answers, {load.failures} failures")
    assert load.failures == {}
    assert load.results["reopened"] == 0
    await finish_streams(streams)


async def test_big_answers_stay_whole(running: Gateway, upstream: Upstream) -> None:
    body = os.urandom(8 * MIB)
    upstream.on_call = lambda call: call.send(plain_answer(body))
    for _ in range(20):
        assert (await ask(running, chat())).body == body
