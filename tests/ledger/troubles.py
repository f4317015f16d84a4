"""What befalls a gateway while it serves, in an order that a run can be repeated with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.ledger.clients import Load
from tests.ledger.stand import Stand

__all__ = ["Trouble", "at_parts", "kill_loop", "killed"]

Trouble = Callable[[], Awaitable[None]]

AT_ONCE = 48
"""Clients: enough to keep two workers busy, and few enough for each to be served at once."""

KILL_EVERY = 30
"""Requests, on average: so there is always something under way, and not always the first."""

CONTROL_LIVES_S = 1.2
"""At most, until it is killed: it posts five times a second."""


def killed(stand: Stand, title: str, dice: random.Random) -> Trouble:
    """Return the trouble that one of those processes is killed."""

    async def kill() -> None:
        while not stand.kill(title, dice):
            await asyncio.sleep(0.01)

    return kill


async def at_parts(load: Load, most: int, troubles: list[tuple[float, Trouble]]) -> None:
    """Serve `most` requests; each trouble begins when that part of them has ended."""

    async def befall() -> None:
        for part, trouble in troubles:
            await load.reach(int(part * most))
            await trouble()

    load.most = most
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(most, AT_ONCE))
        group.create_task(befall())


async def kill_loop(stand: Stand, load: Load, kills: int, seed: int) -> None:
    """Serve until that many processes were killed: three workers for two of control."""
    dice = random.Random(seed)
    of_control = kills * 2 // 5

    async def kill_workers() -> None:
        for _ in range(kills - of_control):
            await load.reach(len(load.seen) + dice.randrange(1, 2 * KILL_EVERY))
            await killed(stand, "worker", dice)()

    async def kill_control() -> None:
        for _ in range(of_control):
            while not stand.children("control"):
                await asyncio.sleep(0.01)
            # Starting, opening the database, posting, between two batches.
            await asyncio.sleep(dice.uniform(0, CONTROL_LIVES_S))
            await killed(stand, "control", dice)()

    async def kill_on() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kill_workers())
            group.create_task(kill_control())
        load.stop()

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(1 << 40, AT_ONCE))
        group.create_task(kill_on())
