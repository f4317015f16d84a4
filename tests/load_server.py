"""A server that says exactly what a test tells it to, and a stage of the load client against it."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable

from bench.load.options import Options
from bench.load.results import Results
from bench.load.run import Run
from bench.load.workload import plan

__all__ = ["DONE", "PLAIN", "STREAM_HEAD", "Answer", "chunks", "load", "stage", "stream"]

Answer = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]
"""(number of the request, its body, where the answer goes)"""

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
DONE = b"data: [DONE]\n\n"


def chunks(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def delta(number: int) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"w%d"}}]}\n\n' % number


def stream(tokens: int, sent: range | list[int] | None = None) -> bytes:
    """A stream that says it has `tokens` tokens, and sends those numbered in `sent`."""
    numbers = range(tokens) if sent is None else sent
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n' % tokens
    events = [*map(delta, numbers), usage, DONE]
    return STREAM_HEAD + chunks(*events) + b"0\r\n\r\n"


async def stage(options: Options, share: tuple[int, int] = (0, 1)) -> Results:
    """Run the first stage, or one process's share of it, on this loop."""
    first = options.stages[0]
    results = Results(*first, options.duration_s)
    run = Run(options, first, plan(options, *share), results.add, share=share)
    await run.connect()
    await run.go(time.monotonic_ns())
    results.end(
        {
            **dict.fromkeys(("cpu_s", "waited_s"), 0.0),
            "busy_s": 1.0,
            "elapsed_s": run.elapsed_s,
            "unsent": run.unsent,
            "abandoned": run.abandoned,
        }
    )
    return results


async def load(answer: Answer, **given: object) -> Results:
    """Run a stage against a server that calls `answer` for each request."""
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                assert length is not None
                body = await reader.readexactly(int(length[1]))
                await answer(next(numbers), body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options: dict[str, object] = {"url": f"http://127.0.0.1:{port}", "duration_s": 30.0}
        return await stage(Options(**(options | given)))  # type: ignore[arg-type]
