"""Figures that must hold, each with thousands of connections; printed, so that they can be quoted."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Gateway
from tests.soak.stand import Client, Upstream, config, serve_upstream, tree, tree_rss_bytes

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

MIB = 1024 * 1024
Start = Callable[..., Gateway]


@pytest.fixture(autouse=True)
def enough_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def metrics(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def source(number: int) -> str:
    """Spread clients over loopback addresses: one has 28,000 ports."""
    return f"127.0.0.{2 + number % 8}"


async def settled(port: int) -> dict[str, float]:
    """Return the metrics once nothing is in flight."""
    for _ in range(100):
        now = await asyncio.to_thread(metrics, port)
        if now["fastgate_in_flight"] == 0:
            return now
        await asyncio.sleep(0.1)
    raise AssertionError(f"still in flight: {now['fastgate_in_flight']}")


def workers(gateway: Gateway) -> list[int]:
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in tree(gateway.pid)}
    return [pid for pid, title in titles.items() if title.startswith(b"fastgate: worker")]


async def test_10000_clients_leave_mid_stream(gateway: Start) -> None:
    total, at_once = 10_000, 200
    async with serve_upstream(Upstream(0.05, 10**6)) as upstream:
        front = await asyncio.to_thread(gateway, config(upstream.port))
        (worker,) = workers(front)
        fds_before = len(os.listdir(f"/proc/{worker}/fd"))
        closed_at: dict[bytes, float] = {}
        left = iter(range(total))

        async def leave() -> None:
            for number in left:
                client = await Client.connect(front.port, source(number))
                client.ask()
                id_ = await client.first
                closed_at[id_] = time.monotonic()
                client.transport.close()
                await client.ended

        await asyncio.gather(*(leave() for _ in range(at_once)))
        await settled(front.port)
        await asyncio.sleep(0.5)
        assert len(closed_at) == total
        assert upstream.lost_at.keys() == closed_at.keys(), "an upstream stream was not closed"
        waits_ms = sorted((upstream.lost_at[id_] - at) * 1e3 for id_, at in closed_at.items())
        p99_ms = waits_ms[int(0.99 * total)]
        fds = len(os.listdir(f"/proc/{worker}/fd"))
        print(
            f"\n10,000 disconnects: upstream closed after p50 {statistics.median(waits_ms):.1f} ms, "
            f"p99 {p99_ms:.1f} ms, max {waits_ms[-1]:.1f} ms; fds {fds_before} -> {fds}"
        )
        assert p99_ms <= 100
        assert fds <= fds_before + 4
        assert not upstream.streams


async def test_1000_slow_readers(gateway: Start) -> None:
    big = b"data: " + b"x" * 16_000 + b"\n\n"
    event = b"%x\r\n%b\r\n" % (len(big), big)
    async with serve_upstream(Upstream(0.02, 625, event)) as upstream:
        front = await asyncio.to_thread(gateway, config(upstream.port))
        before = tree_rss_bytes(front.pid)
        clients = [await Client.connect(front.port, source(n)) for n in range(1000)]
        for client in clients:
            client.ask()
        await asyncio.gather(*(client.first for client in clients))
        for client in clients:
            client.transport.pause_reading()
        sent_before = -1
        # 10 MB each would be 10 GB: the upstream must stop being read long before.
        while (sent := sum(stream.sent for stream in upstream.connections)) != sent_before:
            sent_before = sent
            await asyncio.sleep(1)
        grown = tree_rss_bytes(front.pid) - before
        each_mib = sent * len(event) / 1000 / MIB
        print(
            f"\n1,000 readers that read nothing: RSS + {grown / MIB:.1f} MiB, "
            f"{each_mib:.2f} MiB taken from upstream for each (kernel buffers included)"
        )
        assert grown <= 128 * MIB
        assert each_mib < 9
        for client in clients:
            client.transport.abort()
        await settled(front.port)


async def test_2000_open_streams(gateway: Start) -> None:
    async with serve_upstream(Upstream(0.5, 10**6)) as upstream:
        front = await asyncio.to_thread(gateway, config(upstream.port))
        warm = [await Client.connect(front.port) for _ in range(20)]
        for client in warm:
            client.ask()
        await asyncio.gather(*(client.first for client in warm))
        before = tree_rss_bytes(front.pid)
        clients = []
        for number in range(2000):
            client = await Client.connect(front.port, source(number))
            client.ask()
            clients.append(client)
        await asyncio.gather(*(client.first for client in clients))
        await asyncio.sleep(3)
        each = (tree_rss_bytes(front.pid) - before) / 2000
        print(f"\n2,000 open streams: {each / 1024:.1f} KiB each; idle {before / MIB:.1f} MiB")
        assert each <= 24 * 1024
        for client in [*warm, *clients]:
            client.transport.abort()
        await settled(front.port)


async def test_10000_idle_connections(gateway: Start) -> None:
    async with serve_upstream(Upstream(0.5, 1)) as upstream:
        front = await asyncio.to_thread(gateway, config(upstream.port, keepalive_timeout_s=600))
        idle = tree_rss_bytes(front.pid)
        clients = []
        for number in range(10_000):
            client = await Client.connect(front.port, source(number))
            client.transport.write(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
            clients.append(client)
        await asyncio.gather(*(client.first for client in clients))
        await asyncio.sleep(1)
        full = tree_rss_bytes(front.pid)
        print(
            f"\n{len(clients)} idle connections: {full / MIB:.1f} MiB in all "
            f"({(full - idle) / len(clients) / 1024:.1f} KiB each)"
        )
        assert full <= 150 * MIB
        for client in clients:
            client.transport.abort()


def test_idle_memory_and_start(gateway: Start) -> None:
    begun = time.monotonic()
    front = gateway(config(1))
    started_s = time.monotonic() - begun
    deadline = time.monotonic() + 10
    while len(tree(front.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    idle = tree_rss_bytes(front.pid)
    print(f"\nidle: {idle / MIB:.1f} MiB in all; first answer after {started_s:.2f} s")
    assert idle <= 120 * MIB
    assert started_s <= 1.0


async def test_sigterm_with_500_streams(gateway: Start) -> None:
    async with serve_upstream(Upstream(0.05, 100)) as upstream:
        front = await asyncio.to_thread(gateway, config(upstream.port), "--workers", "2")
        clients = [await Client.connect(front.port) for _ in range(500)]
        for client in clients:
            client.ask()
        await asyncio.gather(*(client.first for client in clients))
        os.kill(front.pid, signal.SIGTERM)
        await asyncio.sleep(0.2)
        # New connections are still served while streams run.
        refused = 0
        late = []
        for _ in range(50):
            try:
                client = await Client.connect(front.port)
                client.ask()
                late.append(client)
            except OSError:
                refused += 1
        ended = await asyncio.gather(*(client.ended for client in [*clients, *late]))
        cut = sum(not tail.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for tail in ended)
        assert front.child is not None
        status = await asyncio.to_thread(front.child.wait, 30)
        print(f"\nSIGTERM with 500 streams: {cut} cut, {refused} of 50 refused, exit {status}")
        assert (cut, refused, status) == (0, 0, 0)


async def test_50_reloads_under_load(gateway: Start) -> None:
    async with serve_upstream(Upstream(0.01, 20)) as upstream:
        good = config(upstream.port)
        front = await asyncio.to_thread(gateway, good, "--workers", "2")
        results: dict[bool, int] = {True: 0, False: 0}
        stop = asyncio.Event()

        async def ask_on() -> None:
            while not stop.is_set():
                client = await Client.connect(front.port)
                client.ask()
                tail = await client.ended
                results[tail.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")] += 1
                client.transport.close()

        load = [asyncio.create_task(ask_on()) for _ in range(20)]
        for number in range(50):
            bad: dict[str, Any] = json.loads(json.dumps(good))
            if number % 2:
                bad["model_list"][0]["litellm_params"]["api_base"] = "not a url"
            else:
                bad["router_settings"] = {"num_retries": number % 5}
            await asyncio.to_thread(front.write_config, bad)
            os.kill(front.pid, signal.SIGHUP)
            await asyncio.sleep(0.15)
        await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*load)
        now = await asyncio.to_thread(metrics, front.port)
        reloads = {k: v for k, v in now.items() if k.startswith("fastgate_reloads_total")}
        print(f"\n50 reloads: {results[True]} answers, {results[False]} failed; {reloads}")
        assert results[False] == 0 and results[True] > 100
