"""The load client against a server whose delays, framing and faults are known."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bench.load import Options, Results, run
from bench.load.schedule import parse_rate

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: x\n\n\r\n"
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
MS = 1000


async def measure(answer: Answer, **options: object) -> Results:
    """Run the load client against a server that calls `answer(number, writer)` per request."""
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                assert length is not None
                body = await reader.readexactly(int(length[1]))
                if isinstance(answer, Recorder):
                    answer.bodies.append(body)
                await answer(next(numbers), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        return await run(Options(url=url, duration_s=30, **options))  # type: ignore[arg-type]


def values_us(tally: Any) -> list[int]:
    """What a Tally holds, in order; exact below 131 ms."""
    return [us for us, count in enumerate(tally.fine) for _ in range(count)]


async def test_a_closed_loop_sends_so_many_and_times_each() -> None:
    delays_ms = [2, 4, 6, 8, 30]

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delays_ms[number % 5] / 1000)
        writer.write(PLAIN)

    results = await measure(answer, concurrency=(2,), requests=10)
    assert (results.started, results.finished, dict(results.errors)) == (10, 10, {})
    # A timer may fire a millisecond early; nothing is faster than the delay it had.
    pairs = zip(values_us(results.latency), sorted(delays_ms * 2), strict=True)
    assert all(latency >= delay_ms * MS - MS for latency, delay_ms in pairs)
    assert results.opened == 2


async def test_an_open_loop_measures_from_the_scheduled_time() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)

    results = await measure(answer, rate=parse_rate("500"), requests=20)
    assert (results.finished, results.late.count) == (20, 20)
    assert results.elapsed_s >= 19 / 500
    assert results.latency.largest_us >= results.late.largest_us


async def test_an_open_loop_shows_the_queue_that_a_closed_loop_hides() -> None:
    stall_s = 0.4

    async def stalls_once(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 10:
            stalled.append(asyncio.get_running_loop().time() + stall_s)
        if stalled:
            # The whole server stands still, as one does that collects garbage.
            await asyncio.sleep(max(0.0, stalled[0] - asyncio.get_running_loop().time()))
        writer.write(PLAIN)

    def over_half_the_stall(results: Results) -> int:
        return sum(results.latency.coarse[int(stall_s * 500_000) >> 10 :])

    stalled: list[float] = []
    closed = await measure(stalls_once, requests=100)
    assert over_half_the_stall(closed) == 1
    stalled = []
    opened = await measure(stalls_once, rate=parse_rate("100"), requests=100)
    # Of the 40 that were due meanwhile, half waited for more than half of it.
    assert 18 <= over_half_the_stall(opened) <= 23


async def test_a_stream_is_counted_by_events_however_it_is_cut() -> None:
    whole = STREAM_HEAD + EVENT * 5 + END

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        size = (1, 7, len(whole))[number]
        for start in range(0, len(whole), size):
            writer.write(whole[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)

    results = await measure(answer, stream=True, requests=3)
    assert (results.finished, results.events, dict(results.errors)) == (3, 18, {})
    assert results.ttft.count == 3
    assert results.ttft.sum_us <= results.latency.sum_us


async def test_gaps_between_events_are_times_between_segments() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + EVENT)
        for _ in range(3):
            await asyncio.sleep(0.01)
            writer.write(EVENT)
        writer.write(END)

    results = await measure(answer, stream=True, requests=1)
    assert sum(us >= 8 * MS for us in values_us(results.gap)) == 3


def token_stream(contents: int, billed: int) -> bytes:
    """An answer of one token an event, and what its usage says they were."""
    events = [b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'] * contents
    events.append(b'data: {"choices":[],"usage":{"completion_tokens":%d}}\n\n' % billed)
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    return STREAM_HEAD + b"".join(chunks) + END


@pytest.mark.parametrize(
    ("came", "kind"), [(4, None), (3, "lost events"), (5, "duplicated events")]
)
async def test_events_that_are_lost_or_come_twice_are_errors(came: int, kind: str | None) -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(token_stream(came if number == 1 else 4, 4))

    results = await measure(answer, stream=True, verify=True, requests=3)
    assert dict(results.errors) == ({kind: 1} if kind else {})
    assert results.finished == (2 if kind else 3)


@pytest.mark.parametrize(
    ("answer_bytes", "kind"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "truncated"),
        (STREAM_HEAD + EVENT, "truncated"),
        (b"", "disconnected"),
        (STREAM_HEAD + b'14\r\ndata: {"error": 1}\n\n\r\n0\r\n\r\n', "error event"),
        (STREAM_HEAD + EVENT + b"0\r\n\r\n", "no [DONE]"),
        (PLAIN + b"HTTP/1.1 200 OK\r\n\r\n", "surplus bytes"),
    ],
)
async def test_errors_are_counted_by_kind(answer_bytes: bytes, kind: str) -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_bytes)
        writer.close()

    results = await measure(answer, stream=True, requests=1)
    assert dict(results.errors) == {kind: 1}


async def test_what_is_no_http_is_said_to_be_malformed() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    results = await measure(answer, requests=1)
    [kind] = results.errors
    assert kind.startswith("malformed: ")


async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\ndata: [DONE]\n\n")
        writer.close()

    results = await measure(answer, stream=True, requests=3)
    assert (results.finished, results.events, dict(results.errors)) == (3, 6, {})


async def test_nobody_listening_is_an_error_and_an_end(free_port: Callable[[], int]) -> None:
    results = await run(Options(url=f"http://127.0.0.1:{free_port()}", concurrency=(3,)))
    assert dict(results.errors) == {"connect: Connection refused": 3}
    rate = parse_rate("100")
    results = await run(Options(url=f"http://127.0.0.1:{free_port()}", rate=rate, requests=2))
    assert (results.finished, results.missed) == (0, 2)


async def test_a_request_without_an_answer_is_given_up() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        return

    results = await measure(answer, requests=1, timeout_s=0.01)
    assert dict(results.errors) == {"timeout": 1}


async def test_requests_of_the_warm_up_are_not_counted() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(PLAIN)

    results = await measure(answer, requests=40, warmup_s=0.2)
    assert 10 <= results.finished <= 25
    assert results.latency.count == results.finished


async def test_the_turns_of_a_conversation_follow_each_other() -> None:
    results = await measure(recorded := Recorder(), requests=6, turns=3, distinct=2)
    assert results.finished == 6
    told = [json.loads(body)["messages"] for body in recorded.bodies]
    assert [len(messages) for messages in told] == [1, 3, 5] * 2
    assert told[1][:1] == told[0]
    assert told[2][:3] == told[1]


async def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    jumped = itertools.count()

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumped) * 86_400)
        writer.write(PLAIN)

    results = await measure(answer, requests=20)
    assert results.finished == results.latency.count == 20
    assert results.latency.largest_us < 5_000_000
    assert results.elapsed_s < 5


class Recorder:
    """Answers every request, and keeps its body."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)
