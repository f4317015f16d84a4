"""Money is exact: the engine's own books, the gateway's, and what clients saw, id for id.

A real gateway (supervisor, workers, control, a database) in front of the simulated engine, of whose
attempts a fifth goes wrong, while processes are killed and the database is away. docs/spend.md says
what must hold; tests/ledger says how it is compared.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.stand import FAULTS, Stand, stand
from tests.ledger.troubles import at_parts, kill_loop, killed

pytestmark = pytest.mark.timeout(120)

REQUESTS = 3_000
KILLS = 16
AWAY_S = 2.0
CONTROL_AWAY_S = 3.0


async def away(running: Stand, postgres: Any) -> None:
    """Take the database away for a while."""
    if postgres is None:
        await running.lock_database(AWAY_S)
    else:
        await asyncio.to_thread(postgres.stop_server)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(postgres.start_server)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_books_are_the_engines(
    tmp_path: Path,
    new_database: Callable[[str], str],
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    dice = random.Random(1)
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    with stand(tmp_path, new_database(kind)) as running:
        running.arm(FAULTS)
        troubles = [
            (0.1, killed(running, "worker", dice)),
            (0.2, killed(running, "control", dice)),
            (0.3, lambda: away(running, postgres)),
            (0.6, killed(running, "worker", dice)),
            (0.7, lambda: running.kill_for("control", 1.0, dice)),
            (0.8, killed(running, "worker", dice)),
        ]
        await at_parts(running.load(seed=1), REQUESTS, troubles)
        checked = await running.check()
    checked.assert_exact()
    counts = checked.counts
    assert counts["requests"] == REQUESTS
    # It must have been what it says.
    assert counts["kills"] >= 5
    for what in ("billed attempts", "rows failure", "rows aborted", "estimated charges"):
        assert counts[what] > 0, what
    assert counts["exact charges"] > REQUESTS * 0.7


async def test_kills_at_any_moment(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with stand(tmp_path, url, workers=4, hooks="impatient") as running:
        await kill_loop(running, running.load(seed=2), KILLS, seed=2)
        checked = await running.check()
    checked.assert_exact()
    assert checked.counts["kills"] == KILLS
    assert checked.counts["rows orphaned"] > 0


@pytest.mark.parametrize(
    ("sabotage", "wrong"),
    [
        ("buffered", ("went upstream, and is no row", "answered, and no row")),
        ("careless", ("a balance is not the sum of its rows", "the roll-up's spend_nano_usd")),
    ],
)
async def test_sabotage_is_found(tmp_path: Path, sabotage: str, wrong: tuple[str, str]) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    with stand(tmp_path, url, workers=4, hooks=f"impatient,{sabotage}") as running:
        await kill_loop(running, running.load(seed=3), 12, seed=3)
        checked = await running.check()
    found = {finding.partition(" | ")[0] for finding in checked.findings}
    assert set(wrong) <= found


async def test_nothing_fails_while_there_is_no_control(tmp_path: Path) -> None:
    dice = random.Random(4)
    with stand(tmp_path, f"sqlite:///{tmp_path}/store.db") as running:
        load = running.load(seed=4, leaving=False)

        async def no_control() -> None:
            await running.kill_for("control", CONTROL_AWAY_S, dice)
            load.stop()

        await at_parts(load, 1 << 40, [(200 / (1 << 40), no_control)])
        checked = await running.check()
    checked.assert_exact()
    counts = checked.counts
    assert counts["requests"] == counts["clients complete 200"] == counts["rows success"] > 500
