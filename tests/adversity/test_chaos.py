"""Bad networks on both sides: an answer is right and whole, or visibly not; nothing hangs.

Each request carries a number, and its answer is made from it: bytes that belong to another request
would show.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from tests.adversity.chaos import ChaosProxy, Weather
from tests.front import MASTER_KEY, Front
from tests.raw_peers import Answer, Call, Client, Upstream, plain_answer, sse_answer

REQUESTS = 120
AT_ONCE = 10
EVENTS = 20
SEED = 20_26
STALLED_S = 2
"""More than any time limit of this gateway."""


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, object]:
    # Stalled connections end soon.
    return {"timeout_s": 0.5, "stream_timeout_s": 0.5, "stall_timeout_s": 0.5}


@pytest.fixture(scope="module")
def limits() -> dict[str, object]:
    return {"head_timeout_s": 1, "body_idle_timeout_s": 1, "send_timeout_s": 1}


def event(user: str, n: int) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b-%d"}}]}\n\n' % (user.encode(), n)


def answer_to(call: Call) -> bytes:
    """Return an answer that could be to no other request."""
    asked = call.json()
    user = asked["user"]
    if not asked.get("stream"):
        return plain_answer(b'{"for":"%b"}' % (user.encode() * 50))
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    events = [event(user, n) for n in range(EVENTS)]
    return sse_answer(*events, usage, b"data: [DONE]\n\n")


def expected(user: str, stream: bool) -> bytes:
    if not stream:
        return b'{"for":"%b"}' % (user.encode() * 50)
    return b"".join(event(user, n) for n in range(EVENTS)) + b"data: [DONE]\n\n"


def random_weather(dice: random.Random, upward: bool) -> Weather:
    """Return one of: only splitting, a stall, a cut, a reset; the last three at any byte."""
    kind = dice.choice(["split", "split", "stall", "cut", "reset"])
    at = dice.randrange(1, 2500)
    return Weather(
        piece_bytes=dice.choice([0, 1, 7, 100]),
        stall_after_bytes=at if kind == "stall" else -1,
        cut_after_bytes=at if kind in ("cut", "reset") else -1,
        reset=kind == "reset",
        hit_upward=upward and dice.random() < 0.5,
    )


@pytest.fixture
async def spare_upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream.listen()
    upstream.on_call = lambda call: call.send(answer_to(call))
    yield upstream
    await upstream.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Callable[..., ChaosProxy]]:
    made: list[ChaosProxy] = []

    def make(target_port: int, weather: Callable[[], Weather]) -> ChaosProxy:
        made.append(ChaosProxy(target_port, weather, SEED))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def one(client: Client, front: Front, user: str, stream: bool) -> Answer | None:
    """Return what the client gets; None: the connection broke before a head."""
    client.send(front.chat(model="spare", key=MASTER_KEY, user=user, stream=stream))
    try:
        return await client.answer()
    except AssertionError as error:
        assert str(error).startswith("closed before"), error
        return None


def judge(answer: Answer | None, user: str, stream: bool) -> str:
    wanted = expected(user, stream)
    if answer is None:
        return "broken"
    if answer.status != 200:
        assert answer.status in (408, 502, 503, 504), answer
        assert answer.complete
        return "refused"
    if answer.complete:
        assert answer.body == wanted, user
        return "whole"
    assert wanted.startswith(answer.body.partition(b'data: {"error"')[0]), user
    return "cut"


@pytest.mark.parametrize("stream", [False, True])
async def test_between_gateway_and_upstream(
    front: Front,
    spare_upstream: Upstream,
    proxy: Callable[..., ChaosProxy],
    stream: bool,
) -> None:
    dice = random.Random(SEED)
    chaos = proxy(spare_upstream.port, lambda: random_weather(dice, upward=True))
    await chaos.listen(front.spare_port)
    seen = await storm(front, lambda: front.connect(), stream)
    # The weather is bad, not hopeless: every outcome must have occurred for the test to mean
    # anything.
    assert seen["whole"] > REQUESTS // 10
    assert seen["refused"] > 0
    assert not stream or seen["cut"] > 0
    assert seen["broken"] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_between_client_and_gateway(
    front: Front,
    spare_upstream: Upstream,
    proxy: Callable[..., ChaosProxy],
    stream: bool,
) -> None:
    dice = random.Random(SEED + 1)
    calm = proxy(spare_upstream.port, Weather)
    await calm.listen(front.spare_port)
    chaos = proxy(front.port, lambda: random_weather(dice, upward=True))
    await chaos.listen()

    async def connect() -> Client:
        client = await Client.connect(chaos.port)
        front.clients.append(client)
        return client

    fds = front.fds()
    seen = await storm(front, connect, stream)
    assert seen["whole"] > REQUESTS // 10
    assert seen["cut"] + seen["broken"] > 0
    await chaos.close()
    await front.until(lambda: front.fds() <= fds + spare_upstream.open, "all are closed")


async def storm(front: Front, connect: Callable[[], object], stream: bool) -> dict[str, int]:
    """Send REQUESTS, AT_ONCE at a time; return how often each outcome came."""
    seen = dict.fromkeys(("whole", "refused", "cut", "broken"), 0)
    numbers = iter(range(REQUESTS))

    async def ask() -> None:
        for number in numbers:
            client: Client = await connect()  # type: ignore[misc]
            user = f"user{number:04}"
            # A second request on the same connection: it must not get what is left of the first.
            for each in (user, user + "b"):
                try:
                    async with asyncio.timeout(STALLED_S):
                        answer = await one(client, front, each, stream)
                except TimeoutError:
                    # A stalled client network: the gateway can't be blamed for it, only be free of
                    # it.
                    seen["broken"] += 1
                    break
                seen[judge(answer, each, stream)] += 1
                if answer is None or not answer.complete or "connection" in answer.fields:
                    break
            client.writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(ask())
    return seen


@pytest.mark.parametrize("piece_bytes", [1, 3])
async def test_any_splitting_is_harmless(
    front: Front,
    spare_upstream: Upstream,
    proxy: Callable[..., ChaosProxy],
    piece_bytes: int,
) -> None:
    weather = Weather(piece_bytes=piece_bytes)
    behind = proxy(spare_upstream.port, lambda: weather)
    await behind.listen(front.spare_port)
    before = proxy(front.port, lambda: weather)
    await before.listen()
    client = await Client.connect(before.port)
    front.clients.append(client)
    for n in range(6):
        answer = await one(client, front, f"user{n}", stream=bool(n % 2))
        assert judge(answer, f"user{n}", stream=bool(n % 2)) == "whole"
