"""Requests that parsers disagree on, at the gateway: judged as listed, no hang, no 500.

A message that the gateway's parser let through gets the status of whatever it asked for (200, 401,
404, 405); one that it refused gets one of REFUSED, or its connection is closed without a word.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_http1_corpus import STRICTER, requests
from tests.corpus import corpus
from tests.front import Front, config_of
from tests.raw_peers import Upstream, request
from tests.wired import Wired, snapshot_of, wired

pytestmark = pytest.mark.corpus

REFUSED = {400, 408, 411, 413, 414, 417, 421, 426, 431, 501, 505}
AT_ONCE = 32
"""Connections that are tried at the same time."""
QUIET_S = 0.1
"""So long nothing must come for a request that is not complete: its own time limit is 10 s."""
BYTEWISE_BYTES = 70_000

_STATUS = re.compile(rb"(?:\A|(?<=[\n}\"]))HTTP/1\.1 (\d{3}) ")


@dataclass
class Case:
    name: str
    raw: bytes
    verdict: str
    n: int
    """Complete requests before the end, or before the bad one."""


def cases() -> Iterator[Case]:
    for name, raw, verdict, n in requests():
        if raw and name not in STRICTER:
            yield Case(name, raw, verdict, n if n is not None else int(verdict == "accept"))


def statuses_of(got: bytes) -> list[int]:
    """Return the final statuses in what a connection sent."""
    found = [int(status) for status in _STATUS.findall(got)]
    return [status for status in found if status >= 200]


def assert_judged(case: Case, got: bytes, closed: bool) -> None:
    statuses = statuses_of(got)
    note = (case.name, case.verdict, case.n, statuses, closed, case.raw[:300])
    assert 500 not in statuses, note
    refused = [status for status in statuses if status in REFUSED]
    if case.verdict == "reject":
        assert closed, note
        assert statuses[len(statuses) - len(refused) :] == refused, note
        assert len(refused) <= 1, note
        assert len(statuses) - len(refused) <= case.n, note
    elif case.verdict == "accept":
        assert not refused, note
        assert len(statuses) == max(1, case.n), note
    else:
        # What can't become valid any more, and what is refused by its head, need not be waited for.
        assert len(statuses) <= case.n or closed, note


@pytest.fixture
def snapshot(tmp_path: Path) -> bytes:
    return snapshot_of(tmp_path, config_of(9))


@pytest.fixture
async def worker(snapshot: bytes) -> AsyncIterator[Wired]:
    with wired(snapshot) as found:
        yield found


async def feed(worker: Wired, segments: list[bytes]) -> tuple[bytes, bool]:
    """Return what a connection answered to `segments`, and whether it was closed."""
    client, wire = worker.client()
    for segment in segments:
        if wire.closed:
            break
        client.data_received(segment)
        while client.pending is not None and client.state != 3:
            await asyncio.sleep(0)
    got, closed = wire.take(), wire.closed
    client.connection_lost(None)
    return got, closed


async def test_every_firm_case_whole_and_byte_by_byte(worker: Wired) -> None:
    count = 0
    for case in cases():
        whole = await feed(worker, [case.raw])
        assert_judged(case, *whole)
        if len(case.raw) <= BYTEWISE_BYTES:
            bytewise = await feed(worker, [bytes([byte]) for byte in case.raw])
            assert_judged(case, *bytewise)
            assert statuses_of(bytewise[0]) == statuses_of(whole[0]), case.name
        count += 1
    assert count > 4000


async def test_every_firm_case_over_sockets(front: Front) -> None:
    tries = asyncio.Semaphore(AT_ONCE)

    async def shoot(case: Case) -> None:
        async with tries:
            client = await front.connect()
            client.send(case.raw)
            got, closed = await judged_by(case, client.read, client.writer.write_eof)
            client.writer.transport.abort()
            assert_judged(case, got, closed)

    async with asyncio.TaskGroup() as group:
        for case in cases():
            group.create_task(shoot(case))


async def judged_by(
    case: Case, read: Callable[[], Any], leave: Callable[[], None]
) -> tuple[bytes, bool]:
    """Read until there is enough to judge by."""
    got = b""
    try:
        while True:
            async with asyncio.timeout(QUIET_S if case.verdict == "incomplete" else 10):
                data = await read()
            if not data:
                return got, True
            got += data
            if case.verdict == "accept" and len(statuses_of(got)) >= max(1, case.n):
                # Whatever else it has to say, it says before it sees that the client has left.
                leave()
    except TimeoutError:
        return got, False


def sequences() -> Iterator[tuple[str, list[bytes]]]:
    for line in (corpus("http-corpus") / "http11probe.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "steps_b64" in row:
            yield row["id"], [base64.b64decode(step) for step in row["steps_b64"]]


async def test_after_an_attack_in_steps_everybody_gets_the_own_answer(
    front: Front, upstream: Upstream
) -> None:
    count = 0
    victim = request(path="/health/liveliness", fields="X-Request-Id: victim\r\n")
    for name, steps in sequences():
        attacker, other = await front.connect(), await front.connect()
        got = b""
        for step in steps:
            attacker.send(step)
            got += await whatever_comes(attacker.read)
        statuses = statuses_of(got)
        assert len(statuses) <= len(steps), (name, statuses)
        assert 500 not in statuses, name
        attacker.send(victim)
        assert_victim(name, await whatever_comes(attacker.read), closed_is_fine=True)
        other.send(victim)
        assert_victim(name, await whatever_comes(other.read), closed_is_fine=False)
        attacker.close()
        other.close()
        count += 1
    assert count > 20
    assert not upstream.connections


async def whatever_comes(read: Callable[[], Any]) -> bytes:
    got = b""
    try:
        while True:
            async with asyncio.timeout(QUIET_S / 2):
                data = await read()
            if not data:
                return got
            got += data
    except TimeoutError:
        return got


def assert_victim(name: str, got: bytes, closed_is_fine: bool) -> None:
    if closed_is_fine and not got:
        return
    statuses = statuses_of(got)
    if closed_is_fine and statuses and statuses[0] in REFUSED:
        # The attack wanted a body, and the victim's request was taken for it: refused and closed,
        # no answer lost.
        return
    assert statuses == [200], (name, got)
    assert b"x-request-id: victim\r\n" in got, (name, got)
