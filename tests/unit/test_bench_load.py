"""A stage of the load client against a server whose delays, framing and faults are known."""

from __future__ import annotations

import ast
import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench.load.client
from bench.load.client import Client
from bench.load.options import Options
from bench.load.run import Run
from bench.load.slo import Slo
from bench.load.tally import Tally
from bench.load.workload import Request
from tests.load_server import PLAIN, STREAM_HEAD, chunks, delta, load, stage, stream

LOAD = Path(bench.load.client.__file__).parent
MS = 1_000_000


# ---- one connection, with a clock of our own


class Stand:
    """What a Client asks of its Run, with time standing still."""

    def __init__(self) -> None:
        self.now = 5_000 * MS
        self.tally = Tally()
        self.slo = Slo("ttft:10ms,itl:5ms")
        self.verify = False
        self.sent = b""

    def clock(self) -> int:
        return self.now

    def on_connected(self, client: Client) -> None: ...
    def on_answer(self, client: Client, request: Request) -> None: ...
    def get_extra_info(self, name: str) -> None: ...
    def close(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.sent += data


def connected() -> tuple[Stand, Client]:
    stand = Stand()
    client = Client(stand)
    client.connection_made(stand)  # type: ignore[arg-type]
    return stand, client


def test_the_client_is_compiled() -> None:
    assert bench.load.client.__file__.endswith(".so"), "run `make build`"


def test_percentiles_are_those_of_the_distribution() -> None:
    stand, client = connected()
    chance = random.Random(7)
    latencies = [round(chance.lognormvariate(3, 1) * MS) for _ in range(1000)]
    for latency in latencies:
        client.send(Request(b"x", "chat", False), 0 or stand.now, stand.tally)
        stand.now += latency
        client.data_received(PLAIN)
    ordered = sorted(latencies)
    counts = stand.tally.latency
    for q in (0.5, 0.9, 0.99, 0.999):
        assert counts.quantile(q) == pytest.approx(ordered[round(q * 1000) - 1], rel=0.002)
    assert (counts.count, counts.largest) == (1000, ordered[-1])


def test_a_stream_has_a_first_token_gaps_and_time_per_token() -> None:
    stand, client = connected()
    head, _, rest = stream(4).partition(b"\r\n\r\n")
    client.send(Request(b"x", "chat", True), stand.now, stand.tally)
    stand.now += 8 * MS
    client.data_received(head + b"\r\n\r\n")  # no token yet: TTFT goes on
    for at, gap in zip(range(4), (1, 2, 3, 4), strict=True):
        stand.now += gap * MS
        client.data_received(chunks(delta(at)))
    client.data_received(rest[len(chunks(*map(delta, range(4)))) :])
    tally = stand.tally
    assert (tally.finished, tally.errors, tally.good) == (1, {}, 1)
    assert tally.ttft.total == 9 * MS
    assert (tally.itl.count, tally.itl.total, tally.itl.largest) == (3, 9 * MS, 4 * MS)
    assert tally.tpot.total == 3 * MS
    assert (tally.events, tally.content_events, tally.output_tokens) == (6, 4, 4)


def test_events_that_come_at_once_are_one_gap() -> None:
    stand, client = connected()
    client.send(Request(b"x", "chat", True), stand.now, stand.tally)
    client.data_received(STREAM_HEAD + chunks(delta(0)))
    stand.now += 50 * MS
    client.data_received(chunks(*map(delta, range(1, 9))))
    assert (stand.tally.itl.count, stand.tally.itl.total) == (1, 50 * MS)
    assert (stand.tally.content_events, stand.tally.content_segments) == (9, 2)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_is_counted_by_events_however_it_is_cut(size: int) -> None:
    stand, client = connected()
    whole = stream(5)
    client.send(Request(b"x", "chat", True), stand.now, stand.tally)
    for start in range(0, len(whole), size):
        client.data_received(whole[start : start + size])
    assert (stand.tally.finished, stand.tally.events, stand.tally.errors) == (1, 7, {})
    assert stand.tally.ttft.count == 1


def test_a_bound_missed_by_one_gap_is_no_good_request() -> None:
    for gap_ms, good in ((5, 1), (6, 0)):
        stand, client = connected()
        whole = stream(3)
        end = whole.index(delta(1))
        client.send(Request(b"x", "chat", True), stand.now, stand.tally)
        client.data_received(whole[:end])
        stand.now += gap_ms * MS
        client.data_received(whole[end:])
        assert (stand.tally.finished, stand.tally.good) == (1, good)


def test_no_time_is_taken_from_a_clock_that_people_set() -> None:
    """The report's date is for people; nothing else may know the wall clock."""
    forbidden = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}
    found = {
        path.name
        for path in LOAD.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and (getattr(node.value, "id", getattr(node.value, "attr", "")), node.attr) in forbidden
    }
    assert found == {"report.py"}
    assert Run.__init__.__kwdefaults__["clock"] is time.monotonic_ns


# ---- stages


async def test_measured_percentiles_are_the_servers_within_two_percent() -> None:
    chance = random.Random(1)
    delays_s = [chance.lognormvariate(0, 0.4) * 0.05 for _ in range(1000)]
    really_ns: list[int] = []

    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        begun = time.monotonic_ns()
        await asyncio.sleep(delays_s[number])
        writer.write(PLAIN)
        really_ns.append(time.monotonic_ns() - begun)

    results = await load(answer, concurrency="40", requests=1000)
    ordered = sorted(really_ns)
    assert results.tally.finished == 1000
    for q in (0.5, 0.9, 0.99):
        assert results.tally.latency.quantile(q) == pytest.approx(
            ordered[round(q * 1000) - 1], rel=0.02
        )


async def test_an_open_loop_shows_the_queue_that_a_closed_loop_hides() -> None:
    async def run(**given: object) -> list[float]:
        start = time.monotonic()
        turn = asyncio.Lock()
        stalled = False

        async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal stalled
            async with turn:
                if not stalled and time.monotonic() - start > 0.12:
                    stalled = True
                    await asyncio.sleep(0.24)
            writer.write(PLAIN)

        results = await load(answer, duration_s=0.6, **given)
        latency = results.tally.latency
        assert latency.largest >= 235 * MS
        return [latency.quantile(q) / MS for q in (0.5, 0.8, 0.9)]

    _, p80, p90 = await run(rate="200")
    # 40 % of all arrivals met the stall, their waits spread evenly from 240 ms down to 0.
    assert p80 == pytest.approx(120, abs=50)
    assert p90 == pytest.approx(180, abs=50)
    # One request of a closed loop met it, and the others were never sent.
    assert (await run(concurrency="1"))[-1] < 50


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ([0, 1, 3, 4, 5], "events lost"),
        ([0, 1, 2, 2, 3, 4, 5], "events duplicated"),
        ([0, 1, 2, 3, 4, 5], None),
    ],
)
async def test_lost_and_duplicated_events_are_found(sent: list[int], kind: str | None) -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        assert b"include_usage" in body
        writer.write(stream(6, sent if number == 3 else None))

    results = await load(answer, stream=True, include_usage=True, verify=True, requests=8)
    assert results.tally.errors == ({kind: 1} if kind else {})
    assert results.tally.finished == (7 if kind else 8)


ERROR_EVENT = b'data: {"error":{"message":"no"}}\n\n'


@pytest.mark.parametrize(
    ("answer_bytes", "kind"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 302 No\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "truncated"),
        (STREAM_HEAD + chunks(delta(0)), "truncated"),
        (STREAM_HEAD + chunks(delta(0)) + b"0\r\n\r\n", "stream without its end"),
        (STREAM_HEAD + chunks(ERROR_EVENT) + b"0\r\n\r\n", "error event"),
        (b"", "disconnected"),
        (PLAIN, "no event stream"),
        (PLAIN + b"!", "surplus bytes"),
    ],
)
async def test_errors_are_counted_by_kind(answer_bytes: bytes, kind: str) -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_bytes)
        writer.close()

    results = await load(answer, requests=1, stream=True)
    assert (results.tally.errors, results.tally.finished) == ({kind: 1}, 0)


async def test_bytes_that_are_no_answer_are_said() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n")

    results = await load(answer, requests=1)
    (kind,) = results.tally.errors
    assert kind.startswith("malformed answer: expected")


async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    results = await load(answer, requests=3)
    assert (results.tally.finished, results.tally.errors) == (3, {})
    assert results.tally.opened >= 3


async def test_an_open_loop_keeps_its_schedule() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)

    results = await load(answer, rate="500", requests=20)
    tally = results.tally
    assert (tally.finished, tally.late.count, results.unsent) == (20, 20, 0)
    assert results.elapsed_s >= 19 / 500
    assert tally.latency.largest >= tally.late.largest


async def test_a_rate_beyond_the_client_ends_in_time_and_says_so() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)

    options = {"rate": "1000000", "duration_s": 0.1, "grace_s": 0.5}
    results = await load(answer, **options)
    assert results.tally.started + results.unsent == 100_000
    assert results.unsent > 0
    assert 0 < results.elapsed_s < 5


async def test_the_warm_up_is_sent_and_not_counted() -> None:
    seen = 0

    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(PLAIN)

    results = await load(answer, rate="100", warmup_s=0.2, duration_s=0.2)
    assert (results.tally.started, results.tally.finished, seen) == (20, 20, 40)
    assert results.window["finished"] <= 20


async def test_a_conversation_carries_the_servers_own_words() -> None:
    bodies: list[dict[str, Any]] = []

    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        bodies.append(json.loads(body))
        writer.write(stream(2))

    results = await load(answer, stream=True, turns=3, prompt="hm?", requests=4)
    assert results.tally.errors == {}
    said = [[m["content"] for m in body["messages"]] for body in bodies]
    turn = ["hm?", "w0w1"]
    assert said == [["hm?"], [*turn, "hm?"], [*turn, *turn, "hm?"], ["hm?"]]


async def test_nobody_listening_is_an_error_and_an_end(free_port: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    results = await stage(Options(url=url, concurrency="3"))
    assert results.tally.errors == {"connect: Connection refused": 3}
    results = await stage(Options(url=url, rate="100", requests=2))
    assert results.tally.errors == {"connect: Connection refused": 2}


async def test_a_process_without_a_share_sends_nothing(free_port: Callable[[], int]) -> None:
    options = Options(url=f"http://127.0.0.1:{free_port()}", rate="100", requests=1, processes=2)
    assert [(await stage(options, (i, 2))).tally.started for i in range(2)] == [1, 0]


async def test_a_request_without_an_answer_is_given_up() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(PLAIN)

    results = await load(answer, requests=2, timeout_s=0.1)
    assert (results.tally.errors, results.tally.finished) == ({"timeout": 1}, 1)


async def test_what_is_in_flight_after_the_grace_is_unfinished() -> None:
    async def answer(number: int, body: bytes, writer: asyncio.StreamWriter) -> None: ...

    results = await load(answer, concurrency="2", duration_s=0.1, grace_s=0.1)
    assert results.tally.errors == {"unfinished": 2}
