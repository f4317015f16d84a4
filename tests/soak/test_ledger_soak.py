"""tests/adversity/test_ledger.py at size; each prints what it counted: `make soak ARGS=-s`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ledger.stand import FAULTS, stand
from tests.ledger.troubles import Trouble, at_parts, kill_loop, killed

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

REQUESTS = 200_000
TROUBLES = 60
KILLS = 2_000
CONTROL_AWAY_S = 60.0


async def test_the_books_are_the_engines(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    dice = random.Random(11)
    with stand(tmp_path, new_database("sqlite"), segment_bytes=4 << 20) as running:
        running.arm(FAULTS)
        kinds: list[Trouble] = [
            killed(running, "worker", dice),
            killed(running, "control", dice),
            lambda: running.lock_database(3.0),
            lambda: running.kill_for("control", 2.0, dice),
        ]
        troubles = [((n + 1) / (TROUBLES + 2), kinds[n % len(kinds)]) for n in range(TROUBLES)]
        await at_parts(running.load(seed=11), REQUESTS, troubles)
        checked = await running.check()
    checked.assert_exact()
    assert checked.counts["requests"] == REQUESTS


async def test_two_thousand_kills(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with stand(tmp_path, url, workers=4, hooks="impatient") as running:
        await kill_loop(running, running.load(seed=12), KILLS, seed=12)
        checked = await running.check()
    checked.assert_exact()
    assert checked.counts["kills"] == KILLS


async def test_a_minute_without_control(tmp_path: Path) -> None:
    dice = random.Random(13)
    with stand(tmp_path, f"sqlite:///{tmp_path}/store.db") as running:
        load = running.load(seed=13, leaving=False)

        async def no_control() -> None:
            await running.kill_for("control", CONTROL_AWAY_S, dice)
            load.stop()

        await at_parts(load, 1 << 40, [(200 / (1 << 40), no_control)])
        checked = await running.check()
    checked.assert_exact()
    counts = checked.counts
    assert counts["requests"] == counts["clients complete 200"] == counts["rows success"]
