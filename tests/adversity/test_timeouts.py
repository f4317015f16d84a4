"""Every time limit, set small: who is late is cut off then, and told where that is possible."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from tests.front import MASTER_KEY, OK, Front
from tests.raw_peers import Client, Upstream, chunked, request, sse_answer

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
LATE_S = 1.0
"""The sweeper comes four times a second; the rest is for a loaded machine."""


@pytest.fixture(scope="module")
def limits() -> dict[str, object]:
    return {
        "head_timeout_s": 0.5,
        "body_idle_timeout_s": 0.5,
        "body_timeout_s": 1.5,
        "keepalive_timeout_s": 0.5,
        "send_timeout_s": 1,
    }


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, object]:
    return {
        "connect_timeout_s": 0.5,
        "timeout_s": 0.6,
        "stream_timeout_s": 0.6,
        "stall_timeout_s": 0.6,
        "ping_timeout_s": 1.5,
        "idle_timeout_s": 0.5,
        "max_connections": 1,
        "max_wait_s": 0.5,
    }


@contextmanager
def within(least_s: float) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_s
    assert least_s <= took_s < least_s + LATE_S


async def ended(client: Client) -> bytes:
    """Return what still comes before the gateway closes."""
    return await client.read_rest()


async def test_a_connection_that_says_nothing_is_closed_without_a_word(front: Front) -> None:
    client = await front.connect()
    with within(0.5):
        assert await ended(client) == b""


async def test_a_head_must_arrive_as_a_whole(front: Front) -> None:
    client = await front.connect()
    with within(0.5):
        # A byte now and then doesn't help: the limit is for all of it.
        for byte in b"GET / HTTP/1.1\r\n":
            client.send(bytes([byte]))
            await asyncio.sleep(0.05)
        answer = await client.answer()
    assert answer.status == 408
    assert answer.json()["error"]["code"] == "408"
    assert await ended(client) == b""


async def test_a_body_that_stops_is_cut_off(front: Front, upstream: Upstream) -> None:
    client = await front.connect()
    client.send(front.chat()[:-3])
    with within(0.5):
        answer = await client.answer()
    assert answer.status == 408
    assert await ended(client) == b""
    assert not upstream.connections


async def test_a_body_that_trickles_is_cut_off_in_the_end(front: Front, upstream: Upstream) -> None:
    client = await front.connect()
    head = front.chat(user="x" * 100)
    client.send(head[:-100])

    async def trickle() -> None:
        for byte in head[-100:]:
            client.send(bytes([byte]))
            await asyncio.sleep(0.1)

    with within(1.5):
        sender = asyncio.create_task(trickle())
        answer = await client.answer()
    sender.cancel()
    assert answer.status == 408
    assert not upstream.connections


async def test_a_body_that_is_only_slow_is_taken(front: Front, upstream: Upstream) -> None:
    upstream.on_call = lambda call: call.send(OK)
    client = await front.connect()
    asked = front.chat()
    for at in range(0, len(asked), 60):
        client.send(asked[at : at + 60])
        await asyncio.sleep(0.2)
    assert (await client.answer()).status == 200


async def test_an_idle_kept_alive_connection_is_closed(front: Front, upstream: Upstream) -> None:
    client = await front.connect()
    client.send(request(path="/health/liveliness"))
    assert (await client.answer()).status == 200
    with within(0.5):
        assert await ended(client) == b""


@pytest.mark.parametrize("stream", [False, True])
async def test_no_first_byte(front: Front, upstream: Upstream, stream: bool) -> None:
    client = await front.connect()
    client.send(front.chat(stream=stream))
    call = await upstream.call()
    with within(0.5):
        answer = await client.answer()
    assert answer.status == 504
    assert "in time" in answer.json()["error"]["message"]
    await call.gone()


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 O", OK[:-3], sse_answer(last=False)])
async def test_an_answer_that_stops_before_its_first_content(
    front: Front, upstream: Upstream, sent: bytes
) -> None:
    client = await front.connect()
    client.send(front.chat())
    call = await upstream.call()
    call.send(sent)
    with within(0.5):
        answer = await client.answer()
    await call.gone()
    assert answer.status == 504 or not answer.complete


async def test_a_stream_that_stalls_ends_with_an_error_event_and_broken(
    front: Front, upstream: Upstream
) -> None:
    client = await front.connect()
    client.send(front.chat(stream=True))
    call = await upstream.call()
    call.send(sse_answer(EVENT, last=False))
    await client.read_until(b"\n\n\r\n")
    with within(0.5):
        rest = await ended(client)
    await call.gone()
    assert b'data: {"error"' in rest
    assert not rest.endswith(b"0\r\n\r\n")


async def test_pings_keep_a_stream_for_a_while_but_are_no_progress(
    front: Front, upstream: Upstream
) -> None:
    client = await front.connect()
    client.send(front.chat(stream=True))
    call = await upstream.call()
    call.send(sse_answer(EVENT, last=False))
    await client.read_until(b"\n\n\r\n")

    async def ping() -> None:
        while True:
            call.send(chunked(b": ping\n\n", last=False))
            await asyncio.sleep(0.1)

    with within(1.4):
        pinging = asyncio.create_task(ping())
        rest = await ended(client)
    pinging.cancel()
    assert rest.count(b": ping") > 8
    assert b'data: {"error"' in rest


async def test_events_at_any_pace_above_the_stall_limit_are_a_stream(
    front: Front, upstream: Upstream
) -> None:
    client = await front.connect()
    client.send(front.chat(stream=True))
    call = await upstream.call()
    call.send(sse_answer(last=False))
    for _ in range(8):
        call.send(chunked(EVENT, last=False))
        await asyncio.sleep(0.3)
    call.send(b"0\r\n\r\n")
    answer = await client.answer()
    assert (answer.body, answer.complete) == (8 * EVENT, True)


async def test_a_client_that_reads_nothing_is_cut_off(front: Front, upstream: Upstream) -> None:
    client = await front.connect(receive_buffer_bytes=4096)
    client.writer.transport.pause_reading()
    client.send(front.chat(stream=True))
    call = await upstream.call()
    call.send(sse_answer(last=False))
    with within(0.9):
        for _ in range(200):
            call.send(chunked(64 * 1024 * b"x", last=False))
        await call.gone()


@pytest.fixture
async def full_listener(front: Front) -> AsyncIterator[None]:
    """On the spare port, a listener whose queue is full: a connection to it comes about never."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", front.spare_port))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", front.spare_port))
        fillers.append(filler)
    await asyncio.sleep(0.05)
    yield
    for each in (listener, *fillers):
        each.close()


async def test_an_upstream_that_does_not_accept(front: Front, full_listener: None) -> None:
    client = await front.connect()
    client.send(front.chat(model="spare", key=MASTER_KEY))
    with within(0.5):
        answer = await client.answer()
    assert answer.status == 504
    assert "accept a connection in time" in answer.json()["error"]["message"]


async def test_waiting_for_a_connection_ends(front: Front, upstream: Upstream) -> None:
    busy, waiting = await front.connect(), await front.connect()
    busy.send(front.chat(model="many", key=MASTER_KEY, stream=True))
    call = await upstream.call()
    call.send(sse_answer(EVENT, last=False))
    waiting.send(front.chat(model="many", key=MASTER_KEY))

    async def go_on() -> None:
        while True:
            call.send(chunked(EVENT, last=False))
            await asyncio.sleep(0.1)

    going = asyncio.create_task(go_on())
    with within(0.5):
        answer = await waiting.answer()
    going.cancel()
    assert answer.status == 503
    assert "no connection" in answer.json()["error"]["message"]


async def test_idle_upstream_connections_are_closed(front: Front, upstream: Upstream) -> None:
    upstream.on_call = lambda call: call.send(OK)
    client = await front.connect()
    client.send(front.chat())
    assert (await client.answer()).status == 200
    with within(0.4):
        await asyncio.wait_for(upstream.connections[0].ended.wait(), 5)


async def test_nothing_is_left_of_all_this(front: Front, upstream: Upstream) -> None:
    await front.assert_settled(upstream, front.fds())
