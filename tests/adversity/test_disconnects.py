"""Clients that leave, at every point of a request: the upstream is let go, and nothing is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.front import MASTER_KEY, Front
from tests.raw_peers import Call, Client, Upstream, sse_answer

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
LET_GO_S = 0.1
"""From the client's leaving to the end of the upstream's connection, 99 of 100 times."""

LEAVE: list[Callable[[Client], None]] = [Client.close, Client.reset]


@pytest.fixture
async def fds(front: Front) -> AsyncIterator[int]:
    yield front.fds()


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, object]:
    # The models of one connection each: a second request has to wait for it.
    return {"max_connections": 1, "idle_timeout_s": 60}


@pytest.fixture(scope="module")
def router_settings() -> dict[str, object]:
    # A single failure that counted against the deployment would cool it down, and the next request
    # be refused.
    return {"disable_cooldowns": False, "allowed_fails": 0, "cooldown_time": 60}


async def streaming(front: Front, upstream: Upstream) -> tuple[Client, Call]:
    """Return a client and its call, with the first event passed on."""
    client = await front.connect()
    client.send(front.chat(stream=True))
    call = await upstream.call()
    call.send(sse_answer(EVENT, last=False))
    await client.read_until(b"\n\n\r\n")
    return client, call


@pytest.mark.parametrize("leave", LEAVE)
async def test_before_the_body_s_end_nothing_is_called(
    front: Front, upstream: Upstream, fds: int, leave: Callable[[Client], None]
) -> None:
    client = await front.connect()
    client.send(front.chat()[:-5])
    await client.writer.drain()
    await asyncio.sleep(0.02)
    leave(client)
    await front.assert_settled(upstream, fds)
    assert upstream.queue.empty()
    assert sum(connection.calls for connection in upstream.connections) == 1


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_byte_the_call_is_broken_off(
    front: Front, upstream: Upstream, fds: int, leave: Callable[[Client], None], stream: bool
) -> None:
    client = await front.connect()
    client.send(front.chat(stream=stream))
    call = await upstream.call()
    left_s = time.monotonic()
    leave(client)
    assert await call.gone() - left_s < LET_GO_S
    await front.assert_settled(upstream, fds)


@pytest.mark.parametrize("leave", LEAVE)
async def test_between_head_and_body_of_the_answer(
    front: Front, upstream: Upstream, fds: int, leave: Callable[[Client], None]
) -> None:
    client = await front.connect()
    client.send(front.chat())
    call = await upstream.call()
    call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
    left_s = time.monotonic()
    leave(client)
    assert await call.gone() - left_s < LET_GO_S
    await front.assert_settled(upstream, fds)


@pytest.mark.parametrize("leave", LEAVE)
async def test_mid_stream_the_upstream_is_let_go_within_100_ms(
    front: Front, upstream: Upstream, fds: int, leave: Callable[[Client], None]
) -> None:
    took_s = []
    for _ in range(100):
        client, call = await streaming(front, upstream)
        left_s = time.monotonic()
        leave(client)
        took_s.append(await call.gone() - left_s)
    assert sorted(took_s)[98] < LET_GO_S, sorted(took_s)[-5:]
    await front.assert_settled(upstream, fds)


async def test_while_an_error_answer_is_collected(
    front: Front, upstream: Upstream, fds: int
) -> None:
    client = await front.connect()
    client.send(front.chat())
    call = await upstream.call()
    call.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\npart of it")
    await asyncio.sleep(0.02)
    client.close()
    await call.gone()
    await front.assert_settled(upstream, fds)


async def test_while_waiting_for_a_connection_the_others_are_served(
    front: Front, upstream: Upstream, fds: int
) -> None:
    first = await front.connect()
    first.send(front.chat(model="many", key=MASTER_KEY))
    call = await upstream.call()
    leaving, staying = await front.connect(), await front.connect()
    leaving.send(front.chat(model="many", key=MASTER_KEY, user="leaves"))
    await asyncio.sleep(0.02)
    staying.send(front.chat(model="many", key=MASTER_KEY, user="stays"))
    await asyncio.sleep(0.02)
    leaving.close()
    await asyncio.sleep(0.02)
    call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    assert (await first.answer()).status == 200
    call = await upstream.call()
    assert call.json()["user"] == "stays"
    call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    assert (await staying.answer()).status == 200
    first.close()
    staying.close()
    assert len(upstream.connections) == 1
    await front.assert_settled(upstream, fds)


async def test_a_half_closed_connection_is_a_client_that_left(
    front: Front, upstream: Upstream, fds: int
) -> None:
    client, call = await streaming(front, upstream)
    client.writer.write_eof()
    await call.gone()
    await client.read_rest()
    client.close()
    await front.assert_settled(upstream, fds)


async def test_what_was_pipelined_behind_is_not_called(
    front: Front, upstream: Upstream, fds: int
) -> None:
    client = await front.connect()
    client.send(front.chat(user="first") + front.chat(user="second"))
    call = await upstream.call()
    assert call.json()["user"] == "first"
    client.close()
    await call.gone()
    await front.assert_settled(upstream, fds)
    assert upstream.queue.empty()


async def test_a_client_s_leaving_is_no_fault_of_the_deployment(
    front: Front, upstream: Upstream, fds: int
) -> None:
    before = front.metrics()
    for _ in range(20):
        client, call = await streaming(front, upstream)
        client.close()
        await call.gone()
    after = front.metrics()
    name = 'fastgate_errors_total{source="downstream",kind="client_gone"}'
    assert after[name] - before.get(name, 0) == 20
    assert not any(name.startswith("fastgate_cooldowns_total") for name in after)
    await front.assert_settled(upstream, fds)
