"""Slow peers: those that go on are served to the end; those that only hold a place lose it."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.front import MASTER_KEY, OK, Front
from tests.raw_peers import Client, Upstream, plain_answer, request, sse_answer

SMALL_BUFFER_BYTES = 4096
WAITING_BYTES = 3_000_000
"""More than the sockets between gateway and client hold, so that some waits in the gateway."""


@pytest.fixture(scope="module")
def limits() -> dict[str, object]:
    return {"head_timeout_s": 1, "send_timeout_s": 1, "keepalive_timeout_s": 1}


async def read_slowly(client: Client, total_bytes: int) -> bytes:
    """Read an answer's body in 30 portions, a tenth of a second apart."""
    got = b""
    while len(got) < total_bytes:
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            data = client.kept or await client.reader.read(total_bytes // 30)
        client.kept = b""
        assert data, f"cut after {len(got)} bytes"
        got += data
    return got


@pytest.mark.parametrize("fields", ["", "Connection: close\r\n"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_slow_reader_gets_all_of_its_answer(
    front: Front, upstream: Upstream, fields: str, version: str
) -> None:
    body = bytes(range(256)) * (WAITING_BYTES // 256)
    upstream.on_call = lambda call: call.send(plain_answer(body))
    client = await front.connect(receive_buffer_bytes=SMALL_BUFFER_BYTES)
    client.writer.transport.pause_reading()
    client.send(request({"model": "many"}, key=MASTER_KEY, fields=fields, version=version))
    await asyncio.sleep(0.5)
    client.writer.transport.resume_reading()
    # It takes longer than send_timeout_s, and than the 2 s that the gateway reads on behind the
    # last answer of a connection; but it never stops.
    head = await client.read_until(b"\r\n\r\n")
    assert b" 200 OK\r\n" in head
    began_s = time.monotonic()
    assert await read_slowly(client, len(body)) == body
    assert time.monotonic() - began_s > 2.5


async def test_an_answer_that_nobody_takes_is_dropped_with_its_connection(
    front: Front, upstream: Upstream
) -> None:
    """Also one that is complete, and whose connection would close after it."""
    fds = front.fds()
    upstream.on_call = lambda call: call.send(plain_answer(WAITING_BYTES * b"x"))
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
        call.send(sse_answer(WAITING_BYTES // 40 * b"x") if not _ else b"")
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
