"""Signals and sudden deaths under load, with real processes: who is affected, and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.front import MASTER_KEY, config_of
from tests.processes import Gateway
from tests.raw_peers import Client, Upstream, plain_answer, request
from tests.traffic import (
    LOADED,
    REFUSED,
    Load,
    answer_all,
    ask,
    begin_streams,
    chat,
    events_of,
    exit_status,
    finish_streams,
    logged,
)

STREAMS = 200
RELOADS = 10


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream.listen()
    yield upstream
    await upstream.close()


@pytest.fixture(autouse=True)
async def clients(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Break what a failing test leaves open: its gateway would drain for as long as that lives."""
    opened: list[Client] = []
    connect = Client.connect

    async def remembered(port: int) -> Client:
        opened.append(await connect(port))
        return opened[-1]

    monkeypatch.setattr(Client, "connect", remembered)
    yield
    for client in opened:
        client.writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
def start(upstream: Upstream, gateway: Callable[..., Gateway]) -> Callable[..., Gateway]:
    """Return a factory of gateways in front of `upstream`."""

    def started(workers: int = 1, **limits: Any) -> Gateway:
        return gateway(config_of(upstream.port, limits=limits), "--workers", str(workers))

    return started


async def test_sigterm_cuts_no_stream_and_refuses_nobody(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start(2)
    streams = await begin_streams(gateway, upstream, STREAMS)
    os.kill(gateway.pid, signal.SIGTERM)
    await logged(gateway, "draining")
    async with asyncio.timeout(1):
        # From each of the two workers; the kernel chooses which is asked.
        for _ in range(10):
            while (await ask(gateway, request(path="/health/readiness"))).status != 503:
                await asyncio.sleep(0.01)
    # Whoever comes while it drains is served.
    for _ in range(50):
        client = await Client.connect(gateway.port)
        client.send(chat())
        call = await upstream.call()
        call.send(plain_answer(b"{}"))
        answer = await client.answer()
        assert answer.status == 200
        assert answer.fields["connection"] == "close"
        client.close()
    late = await begin_streams(gateway, upstream, 5)
    await finish_streams(streams)
    await finish_streams(late)
    assert await exit_status(gateway) == 0
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(gateway.port)


async def test_a_second_sigterm_gives_streams_a_few_seconds_only(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start(hasten_grace_s=0.5)
    ((client, call),) = await begin_streams(gateway, upstream, 1)
    os.kill(gateway.pid, signal.SIGTERM)
    await logged(gateway, "draining")
    began_s = time.monotonic()
    os.kill(gateway.pid, signal.SIGTERM)
    rest = await client.read_rest()
    assert 0.4 < time.monotonic() - began_s < 3
    assert not rest.endswith(b"0\r\n\r\n")
    await call.gone()
    assert await exit_status(gateway) == 0
    client.close()


async def test_reloads_under_load_fail_nobody(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start(2)
    streams = await begin_streams(gateway, upstream, 10)
    answer_all(upstream)
    good = config_of(upstream.port)
    async with Load(gateway) as load:
        for n in range(RELOADS):
            if n % 2:
                gateway.write_config({"model_list": "not a list", "general_settings": {}})
            else:
                good["model_list"][-1]["model_name"] = f"renamed-{n}"
                gateway.write_config(good)
            os.kill(gateway.pid, signal.SIGHUP)
            await logged(gateway, REFUSED if n % 2 else LOADED, 1 + n // 2)
            await load.served(20)
    assert load.failures == {}
    assert load.results["reopened"] == 0
    listed = (await ask(gateway, request(path="/v1/models", key=MASTER_KEY))).json()
    assert f"renamed-{RELOADS - 2}" in [model["id"] for model in listed["data"]]
    await finish_streams(streams)


async def test_a_running_stream_keeps_the_deployment_that_a_reload_took_away(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start()
    streams = await begin_streams(gateway, upstream, 3)
    config = config_of(upstream.port)
    config["model_list"] = [
        entry for entry in config["model_list"] if entry["model_name"] != "many"
    ]
    gateway.write_config(config)
    os.kill(gateway.pid, signal.SIGHUP)
    await logged(gateway, LOADED)
    answer = await ask(gateway, chat())
    assert answer.status == 400
    await finish_streams(streams)


async def test_a_killed_worker_fails_only_what_it_carried(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start(2)
    streams = await begin_streams(gateway, upstream, 40)
    victim = (await logged(gateway, "ready", name="worker 0"))["pid"]
    carried = [pid_of_peer(victim, client) for client, _ in streams]
    assert 0 < sum(carried) < 40
    answer_all(upstream)
    os.kill(victim, signal.SIGKILL)
    lost = [stream for stream, was_its in zip(streams, carried, strict=True) if was_its]
    kept = [stream for stream, was_its in zip(streams, carried, strict=True) if not was_its]
    for client, call in lost:
        assert not (await client.read_rest()).endswith(b"0\r\n\r\n")
        await call.gone()
        client.close()
    # New connections: those that the dead one's listener would have got wait for its successor.
    for _ in range(20):
        assert (await ask(gateway, chat())).status == 200
    await logged(gateway, "ready", 2, name="worker 0")
    await finish_streams(kept)


def pid_of_peer(pid: int, client: Client) -> bool:
    """Return whether the process holds the other end of the client's connection."""
    host, port = client.writer.get_extra_info("sockname")
    theirs = bytes(map(int, host.split(".")))[::-1].hex().upper() + f":{port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    inodes = {row[9] for row in rows if row[2] == theirs}
    return any(target.removeprefix("socket:[").removesuffix("]") in inodes for target in links(pid))


def links(pid: int) -> list[str]:
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
    return found


async def test_a_killed_control_process_is_not_noticed(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start()
    streams = await begin_streams(gateway, upstream, 10)
    answer_all(upstream)
    async with Load(gateway) as load:
        for n in range(3):
            ready = await logged(gateway, "ready", 1 + n, name="control")
            os.kill(ready["pid"], signal.SIGKILL)
            await load.served(50)
        await logged(gateway, "ready", 4, name="control")
    assert load.failures == {}
    assert load.results["reopened"] == 0
    await finish_streams(streams)
    assert (await ask(gateway, request(path="/metrics", key=MASTER_KEY))).status == 200


async def test_a_rolling_restart_under_load_fails_nobody(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start(2)
    streams = await begin_streams(gateway, upstream, 20)
    answer_all(upstream)
    async with Load(gateway) as load:
        os.kill(gateway.pid, signal.SIGUSR2)
        # Control has said that it is ready, too.
        await logged(gateway, "ready", 5)
        await load.served(100)
    assert load.failures == {}
    await finish_streams(streams)
    for pid in [record["pid"] for record in events_of(gateway, "ready")][:2]:
        await logged(gateway, "ended", pid=pid, status=0)


async def test_every_record_of_the_access_log_is_one_line_of_json(
    start: Callable[..., Gateway], upstream: Upstream
) -> None:
    gateway = start()
    answer_all(upstream)
    for _ in range(10):
        await ask(gateway, chat())
    assert gateway.stop() == 0
    lines = [line for line in gateway.log().splitlines() if '"endpoint"' in line]
    assert [json.loads(line)["status"] for line in lines] == 10 * [200]
