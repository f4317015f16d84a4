"""Slow peers: those that go on are served to the end, however slowly; those that only hold a place lose it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.front import MASTER_KEY, OK, Front
from tests.raw_peers import Client, Upstream, plain_answer, request, sse_answer

SMALL_BUFFER_BYTES = 4096
LOW = 300_000
"""Of an answer: more than the sockets between gateway and client hold, so that some waits in the gateway."""


@pytest.fixture(scope="module")
def limits() -> dict[str, object]:
    return {"head_timeout_s": 1, "send_timeout_s": 1, "keepalive_timeout_s": 1}


async def read_slowly(client: Client, pause_s: float, total_bytes: int) -> bytes:
    """Read a little after each pause until `total_bytes` or the end are there."""
    got = b""
    while len(got) < total_bytes:
        await asyncio.sleep(pause_s)
        data = await client.read()
        if not data:
            break
        got += data
    return got


@pytest.mark.parametrize("fields", ["", "Connection: close\r\n"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_slow_reader_gets_all_of_its_answer(
    front: Front, upstream: Upstream, fields: str, version: str
) -> None:
    body = bytes(range(256)) * (LOW // 256)
    upstream.on_call = lambda call: call.send(plain_answer(body))
    client = await front.connect(receive_buffer_bytes=SMALL_BUFFER_BYTES)
    client.writer.transport.pause_reading()
    client.send(
        request({"model": "many"}, key=MASTER_KEY, fields=fields, version=version)
    )
    # Longer than the gateway reads on behind an answer that ends the connection (2 s), for which it must not take
    # the time that its own sending needs.
    await asyncio.sleep(0.9)
    got = await client.reader.read(1000)
    client.writer.transport.resume_reading()
    got += await read_slowly(client, 0.05, len(body))
    assert got.endswith(body[-1000:]) or body in got + await client.read()


async def test_an_answer_that_nobody_takes_is_dropped_with_its_connection(
    front: Front, upstream: Upstream
) -> None:
    """Also one that is complete, so small that nobody was paused for it, and whose connection would close then."""
    fds = front.fds()
    upstream.on_call = lambda call: call.send(plain_answer(LOW * b"x"))
    stuck = []
    for fields in ("", "Connection: close\r\n"):
        client = await front.connect(receive_buffer_bytes=SMALL_BUFFER_BYTES)
        client.writer.transport.pause_reading()
        client.send(request({"model": "many"}, key=MASTER_KEY, fields=fields))
        stuck.append(client)
    await front.until(lambda: front.fds() > fds + 1, "two connections")
    for connection in upstream.connections:
        connection.transport.abort()
    await front.until(lambda: front.fds() <= fds, "both dropped")


async def test_a_client_that_half_closes_and_reads_nothing_is_dropped(
    front: Front, upstream: Upstream
) -> None:
    fds = front.fds()
    client = await front.connect(receive_buffer_bytes=SMALL_BUFFER_BYTES)
    client.writer.transport.pause_reading()
    client.send(front.chat(model="many", key=MASTER_KEY, stream=True))
    call = await upstream.call()
    for _ in range(40):
        call.send(sse_answer(LOW // 40 * b"x") if not _ else b"")
    await asyncio.sleep(0.05)
    client.writer.write_eof()
    await front.until(lambda: front.fds() <= fds + upstream.open, "it is dropped")


async def test_500_slow_heads_are_cut_on_time_while_others_are_served(
    front: Front, upstream: Upstream
) -> None:
    upstream.on_call = lambda call: call.send(OK)
    began_s = time.monotonic()
    slow = [await front.connect() for _ in range(500)]
    ends_s: list[float] = []

    async def crawl(client: Client) -> None:
        for byte in b"POST /v1/chat/completions HTTP/1.1\r\n":
            client.send(bytes([byte]))
            await asyncio.sleep(0.2)
            if client.reader.at_eof() or client.reader._buffer:  # type: ignore[attr-defined]
                break
        got = await client.read_rest()
        ends_s.append(time.monotonic() - began_s)
        assert got.startswith(b"HTTP/1.1 408 ") or not got

    took_s = []
    async with asyncio.TaskGroup() as group:
        for client in slow:
            group.create_task(crawl(client))
        while len(ends_s) < 500:
            client = await front.connect()
            asked_s = time.monotonic()
            client.send(front.chat(model="many", key=MASTER_KEY))
            assert (await client.answer()).status == 200
            took_s.append(time.monotonic() - asked_s)
            client.close()
            await asyncio.sleep(0.02)
    assert max(ends_s) < 4
    assert sorted(took_s)[len(took_s) * 9 // 10] < 0.25, sorted(took_s)[-5:]


async def test_a_slow_writer_that_goes_on_is_served(front: Front, upstream: Upstream) -> None:
    upstream.on_call = lambda call: call.send(plain_answer(call.body))
    client = await front.connect()
    asked = front.chat(user="x" * 2000)
    for at in range(0, len(asked), 200):
        client.send(asked[at : at + 200])
        await asyncio.sleep(0.05)
    assert (await client.answer()).json()["user"] == "x" * 2000
