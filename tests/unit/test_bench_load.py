"""The load client against a server whose delays, framing and faults are known."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable

import pytest

from bench.load import Options, Results, run

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: x\n\n\r\n"


async def measure(answer: Answer, **options: object) -> Results:
    """Run the load client against a server that calls `answer(number, writer)` per request."""
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                assert length is not None
                await reader.readexactly(int(length[1]))
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


async def test_a_closed_loop_sends_so_many_and_times_each() -> None:
    delays_s = [0.002, 0.004, 0.006, 0.008, 0.03]

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delays_s[number % 5])
        writer.write(PLAIN)

    results = await measure(answer, concurrency=2, requests=10)
    assert (results.started, results.finished, dict(results.errors)) == (10, 10, {})
    # A timer may fire a millisecond early; nothing is faster than the delay it had.
    pairs = zip(sorted(results.latency_s), sorted(delays_s * 2), strict=True)
    assert all(latency >= delay_s - 0.001 for latency, delay_s in pairs)


async def test_an_open_loop_measures_from_the_scheduled_time() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)

    results = await measure(answer, rate=500, requests=20)
    assert (results.finished, len(results.late_s)) == (20, 20)
    assert results.elapsed_s >= 19 / 500
    assert min(results.late_s) >= 0
    assert max(results.latency_s) >= max(results.late_s)


async def test_a_stream_is_counted_by_events_however_it_is_cut() -> None:
    whole = STREAM_HEAD + EVENT * 5 + b"0\r\n\r\n"

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        size = (1, 7, len(whole))[number]
        for start in range(0, len(whole), size):
            writer.write(whole[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)

    results = await measure(answer, stream=True, requests=3)
    assert (results.finished, results.events, dict(results.errors)) == (3, 15, {})
    assert len(results.ttft_s) == 3
    assert all(t <= whole_s for t, whole_s in zip(results.ttft_s, results.latency_s, strict=True))


async def test_gaps_between_events_are_times_between_segments() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + EVENT)
        for _ in range(3):
            await asyncio.sleep(0.01)
            writer.write(EVENT)
        writer.write(b"0\r\n\r\n")

    results = await measure(answer, stream=True, requests=1)
    assert len(results.gap_s) == 3
    assert min(results.gap_s) >= 0.008


@pytest.mark.parametrize(
    ("answer_bytes", "kind"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "truncated"),
        (STREAM_HEAD + EVENT, "truncated"),
        (b"", "disconnected"),
        (STREAM_HEAD + b'13\r\ndata: {"error": 1}\n\n\r\n0\r\n\r\n', "error event"),
    ],
)
async def test_errors_are_counted_by_kind(answer_bytes: bytes, kind: str) -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_bytes)
        writer.close()

    results = await measure(answer, requests=1)
    assert dict(results.errors) == {kind: 1}


async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n")
        writer.close()

    results = await measure(answer, requests=3)
    assert (results.finished, results.events, dict(results.errors)) == (3, 3, {})


async def test_nobody_listening_is_an_error_and_an_end(free_port: Callable[[], int]) -> None:
    results = await run(Options(url=f"http://127.0.0.1:{free_port()}", concurrency=3))
    assert dict(results.errors) == {"connect: Connection refused": 3}
    results = await run(Options(url=f"http://127.0.0.1:{free_port()}", rate=100, requests=2))
    assert results.finished == 0


async def test_a_request_without_an_answer_is_given_up() -> None:
    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        return

    results = await measure(answer, requests=1, timeout_s=0.01)
    assert dict(results.errors) == {"timeout": 1}
