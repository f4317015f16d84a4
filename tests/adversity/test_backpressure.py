"""Slowness is not paid for with the gateway's memory: who can't take more pauses who sends."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.front import MASTER_KEY, Front
from tests.raw_peers import Client, Upstream, chunked, plain_answer, request, sse_answer

MIB = 1 << 20
STREAM_BYTES = 50 * MIB
HIGH_WATER_BYTES = 64 * 1024
# What the kernel holds in the sockets of both sides, beside the gateway's own high-water mark:
# tcp_wmem and tcp_rmem let each grow to 4 and 6 MiB.
IN_FLIGHT_BYTES = 24 * MIB


@pytest.fixture(scope="module")
def limits() -> dict[str, object]:
    return {"send_timeout_s": 30}


async def send_all(upstream: Upstream, call: Any, pieces: int, piece: bytes) -> int:
    """Send as much of a stream as is taken; return how many bytes that was."""
    call.send(sse_answer(last=False))
    sent = 0
    for _ in range(pieces):
        try:
            async with asyncio.timeout(1):
                await call.connection.writable.wait()
        except TimeoutError:
            return sent
        call.send(chunked(piece, last=False))
        sent += len(piece)
    call.send(b"0\r\n\r\n")
    return sent


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_client_that_reads_nothing_pauses_the_upstream(
    front: Front, upstream: Upstream, include_usage: bool
) -> None:
    piece = b"data: " + random.Random(5).randbytes(32 * 1024).hex().encode() + b"\n\n"
    pieces = STREAM_BYTES // len(piece)
    client = await front.connect(receive_buffer_bytes=64 * 1024)
    more = {"stream_options": {"include_usage": True}} if include_usage else {}
    client.writer.transport.pause_reading()
    # Once warm, so that only what this stream holds is measured.
    rss_before = front.rss_bytes()
    client.send(front.chat(model="many", key=MASTER_KEY, stream=True, **more))
    call = await upstream.call()
    taken = await send_all(upstream, call, pieces, piece)
    assert taken < IN_FLIGHT_BYTES
    assert front.rss_bytes() - rss_before < 2 * MIB

    # It goes on where it stopped, byte for byte.
    rest = pieces - taken // len(piece)

    async def go_on() -> None:
        for _ in range(rest):
            await call.connection.writable.wait()
            call.send(chunked(piece, last=False))
        call.send(b"0\r\n\r\n")

    going = asyncio.create_task(go_on())
    client.writer.transport.resume_reading()
    await assert_stream(client, pieces * piece)
    await going
    assert front.rss_bytes() - rss_before < 8 * MIB


async def assert_stream(client: Client, wanted: bytes) -> None:
    """Read a chunked answer and compare it as it comes."""
    await client.read_until(b"\r\n\r\n")
    got = at = 0
    data = b""
    while True:
        end = data.find(b"\r\n", at)
        size = int(data[at:end], 16) if end > 0 else -1
        if end < 0 or len(data) < end + size + 4:
            more = await client.read()
            assert more
            data, at = data[at:] + more, 0
            continue
        if size == 0:
            assert got == len(wanted)
            return
        assert data[end + 2 : end + 2 + size] == wanted[got : got + size], got
        got += size
        at = end + size + 4


async def test_50_pipelined_requests_are_answered_in_order(
    front: Front, upstream: Upstream
) -> None:
    # Answered late and out of step, so that only the gateway keeps the order.
    upstream.on_call = lambda call: asyncio.get_running_loop().call_later(
        0.001 * (call.json()["n"] % 3), call.send, plain_answer(call.body)
    )
    asked = [front.chat(model="many", key=MASTER_KEY, n=1 + n, user=str(n)) for n in range(50)]
    for pieces in (asked, [b"".join(asked)], [bytes([b]) for b in b"".join(asked[:5])]):
        client = await front.connect()
        await client.send_slowly(pieces)
        for n in range(5 if len(pieces) > 50 else 50):
            answer = await client.answer()
            assert answer.json()["user"] == str(n)
        client.close()


async def test_a_flood_of_pipelined_requests_is_not_kept(front: Front, upstream: Upstream) -> None:
    client = await front.connect()
    client.send(front.chat(model="many", key=MASTER_KEY))
    call = await upstream.call()
    rss_before = front.rss_bytes()
    one = request(path="/health/liveliness")
    flood = one * (32 * MIB // len(one))
    client.send(flood)
    await asyncio.sleep(0.5)
    # The first is not answered, so none is looked at; what the gateway does not take stays with the
    # client.
    assert client.writer.transport.get_write_buffer_size() > 16 * MIB
    assert front.rss_bytes() - rss_before < 2 * MIB
    call.send(plain_answer(b"{}"))
    assert (await client.answer()).status == 200
    for _ in range(2000):
        assert (await client.answer()).body == b'"I\'m alive!"'


async def test_a_flood_whose_answers_are_not_read_is_not_served(
    front: Front, upstream: Upstream
) -> None:
    client = await front.connect(receive_buffer_bytes=4096)
    client.writer.transport.pause_reading()
    rss_before = front.rss_bytes()
    one = request(path="/v1/models", key=MASTER_KEY)
    client.send(one * (32 * MIB // len(one)))
    await asyncio.sleep(1)
    assert front.rss_bytes() - rss_before < 4 * MIB
    assert client.writer.transport.get_write_buffer_size() > 16 * MIB


async def test_an_upstream_that_does_not_read_pauses_an_upload(
    front: Front, upstream: Upstream
) -> None:
    upstream.reads_requests = False
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
    )
    before = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nmany\r\n'
    before += b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    size = 40 * MIB
    client = await front.connect()
    client.send(head % (MASTER_KEY.encode(), len(before) + size + 9) + before)
    await front.until(lambda: bool(upstream.connections), "the upload begins")
    connection = upstream.connections[0]
    connection.transport.pause_reading()
    rss_before = front.rss_bytes()
    client.send(size * b"x" + b"\r\n--b--\r\n")
    await asyncio.sleep(1)
    assert client.writer.transport.get_write_buffer_size() > 10 * MIB
    assert front.rss_bytes() - rss_before < 2 * MIB
    connection.transport.resume_reading()
    await front.until(lambda: connection.received.endswith(b"--b--\r\n"), "all has come")
    connection.transport.write(plain_answer(b"{}"))
    assert (await client.answer()).status == 200
