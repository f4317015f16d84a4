"""Requests behind requests on one connection, in the very order that the test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.front import MASTER_KEY, config_of
from tests.raw_peers import plain_answer, request
from tests.wired import Wired, snapshot_of, wired

CHAT = request({"model": "many", "messages": []}, key=MASTER_KEY)
ALIVE = request(path="/health/liveliness", fields="X-Request-Id: second\r\n")


@pytest.fixture
def snapshot(tmp_path: Path) -> bytes:
    return snapshot_of(tmp_path, config_of(9))


@pytest.fixture
async def worker(snapshot: bytes) -> AsyncIterator[Wired]:
    with wired(snapshot) as found:
        yield found


async def test_what_arrives_as_the_answer_ends_stays_behind_what_was_kept(worker: Wired) -> None:
    for cut in range(1, len(ALIVE)):
        connection, _ = worker.upstream()
        client, wire = worker.client()
        client.data_received(CHAT)
        client.data_received(ALIVE[:cut])
        connection.data_received(plain_answer(b"{}"))
        # The same turn of the loop: what was kept has not been looked at yet.
        client.data_received(ALIVE[cut:])
        await asyncio.sleep(0)
        first, _, second = wire.take().partition(b"\r\n\r\n{}")
        assert first.startswith(b"HTTP/1.1 200 "), cut
        assert second.startswith(b"HTTP/1.1 200 "), (cut, second)
        assert b"x-request-id: second" in second
        client.connection_lost(None)


async def test_answers_that_are_not_taken_stop_the_serving(worker: Wired) -> None:
    client, wire = worker.client()
    client.data_received(ALIVE)
    one = len(wire.take())
    client.pause_writing()
    client.data_received(ALIVE * 3)
    assert wire.take() == b""
    client.data_received(ALIVE[:9])
    client.resume_writing()
    await asyncio.sleep(0)
    assert len(wire.take()) == 3 * one
    client.data_received(ALIVE[9:])
    assert len(wire.take()) == one
    client.connection_lost(None)
