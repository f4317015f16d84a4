"""A million keys in the store: the figures of `python -m bench keys`, held to what we promise.

`make soak ARGS=-s` shows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.keys import Figures, fill, measure

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

KEYS = 1_000_000
LOOK_UPS = 100_000
MIB = 1 << 20

START_S = 5.0
WORKER_BYTES = 150 * MIB
CACHED_NS = 1_000


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_million_keys(kind: str, tmp_path: Path, new_database: Callable[[str], str]) -> None:
    url = new_database(kind)
    asyncio.run(fill(url, KEYS))
    found: Figures = measure(tmp_path, url, KEYS, LOOK_UPS)
    grown = found.worker_after_bytes - found.worker_before_bytes
    print(
        f"\n{kind}: start {found.start_s:.2f} s, worker {found.worker_before_bytes / MIB:.0f} "
        f"+ {grown / MIB:.0f} MiB, {found.look_ups_per_s:.0f} look-ups/s, "
        f"cached {found.cached_ns:.0f} ns"
    )
    assert found.start_s <= START_S
    assert grown <= WORKER_BYTES
    assert found.cached_ns <= CACHED_NS
