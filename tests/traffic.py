"""What tests of a whole gateway share: streams held open, a steady load, the log's events."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.front import MASTER_KEY
from tests.processes import STOP_S, Gateway
from tests.raw_peers import (
    Answer,
    Call,
    Client,
    Upstream,
    chunked,
    plain_answer,
    request,
    sse_answer,
)

__all__ = [
    "EVENT",
    "LOADED",
    "REFUSED",
    "Load",
    "answer_all",
    "ask",
    "begin_streams",
    "chat",
    "events_of",
    "exit_status",
    "finish_streams",
    "logged",
]

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'

# Events in the gateway's log.
LOADED = "configuration loaded"
REFUSED = "configuration refused, the old one stays"


def chat(stream: bool = False, model: str = "many", fields: str = "") -> bytes:
    """Return a request to a model without limits."""
    body = {"model": model, "messages": [], "stream": stream}
    return request(body, key=MASTER_KEY, fields=fields)


def events_of(gateway: Gateway, event: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the log's records of that name, and with those fields."""
    wanted = {"event": event, **fields}
    return [record for record in gateway.records() if wanted.items() <= record.items()]


async def logged(gateway: Gateway, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
    """Return the `count`-th record of that name, once it is there."""
    async with asyncio.timeout(STOP_S):
        while len(found := events_of(gateway, event, **fields)) < count:
            await asyncio.sleep(0.01)
    return found[count - 1]


async def exit_status(gateway: Gateway) -> int:
    """Return how it ended, once it has."""
    assert gateway.child is not None
    child = gateway.child
    async with asyncio.timeout(STOP_S):
        while (status := child.poll()) is None:
            await asyncio.sleep(0.01)
    return status


async def begin_streams(
    gateway: Gateway, upstream: Upstream, count: int
) -> list[tuple[Client, Call]]:
    """Return so many streams with their first event passed on."""
    streams = []
    for _ in range(count):
        client = await Client.connect(gateway.port)
        client.send(chat(stream=True))
        call = await upstream.call()
        call.send(sse_answer(EVENT, last=False))
        await client.read_until(b"\n\n\r\n")
        streams.append((client, call))
    return streams


async def finish_streams(streams: list[tuple[Client, Call]]) -> None:
    """End them all; each must end as a stream does."""
    for client, call in streams:
        call.send(chunked(EVENT))
        assert await client.read_until(b"0\r\n\r\n") == chunked(EVENT)
        client.close()


class Load:
    """Clients that ask all the time, half of them on kept connections, and count what they get."""

    def __init__(self, gateway: Gateway) -> None:
        self.port = gateway.port
        self.results: Counter[str] = Counter()
        self.ended = False
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        for n in range(8):
            self.tasks.append(asyncio.create_task(self._ask(keep=bool(n % 2))))
        await self.served(50)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.ended = True
        await asyncio.gather(*self.tasks)

    async def served(self, more: int) -> None:
        """Return when so many more have been answered."""
        goal = self.results["200"] + more
        async with asyncio.timeout(STOP_S):
            while self.results["200"] < goal:
                await asyncio.sleep(0.01)

    @property
    def failures(self) -> dict[str, int]:
        """What was not answered, by what came instead, and how often."""
        fine = ("200", "reopened")
        return {result: n for result, n in self.results.items() if result not in fine}

    async def _ask(self, keep: bool) -> None:
        client: Client | None = None
        fields = "" if keep else "Connection: close\r\n"
        while not self.ended:
            fresh = client is None
            try:
                if client is None:
                    client = await Client.connect(self.port)
                client.send(chat(fields=fields))
                answer = await client.answer()
            except (OSError, AssertionError) as error:
                # What every HTTP client does: a kept-alive connection may be closed between two
                # requests (RFC 9112 9.3.1), and then the request goes out once more. On a new one
                # that is a failure.
                self.results[f"{type(error).__name__}: {error}"[:80] if fresh else "reopened"] += 1
                if client is not None:
                    client.writer.transport.abort()
                client = None
                continue
            self.results[str(answer.status)] += 1
            if answer.fields.get("connection") == "close":
                client.close()
                client = None
            await asyncio.sleep(0.001)
        if client is not None:
            client.close()


def answer_all(upstream: Upstream) -> None:
    """Have every request answered at once."""
    upstream.on_call = lambda call: call.send(plain_answer(b"{}"))


async def ask(gateway: Gateway, asked: bytes) -> Answer:
    """Return the answer to one request on a connection of its own."""
    client = await Client.connect(gateway.port)
    client.send(asked)
    answer = await client.answer()
    client.close()
    return answer
