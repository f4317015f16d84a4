"""A store of very many keys: what starting costs, what looking keys up costs a worker.

    python -m bench keys                     1,000,000 keys in SQLite, 100,000 of them looked up
    python -m bench keys --keys 10000 --look-ups 1000

The keys are `key_of(n)`, so that whoever asks needs no list of them. A look-up is `GET /v1/models`
with a key that the worker has not seen: it asks control, control asks the database.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.procfs import rss_bytes
from fastgate.config.schema import Config
from fastgate.config.snapshot import Snapshot
from fastgate.config.stored import Scope, StoredKey
from fastgate.gateway.keys import Keys
from fastgate.store import Store, open_store

__all__ = ["Figures", "fill", "key_of", "main", "measure"]

_BATCH = 20_000
_CONNECTIONS = 16
_START_TIMEOUT_S = 60.0
_LOOPS = 20
MASTER = "sk-the-master-key-of-the-key-bench"


class Figures(NamedTuple):
    """What was measured."""

    start_s: float
    """From the process's start to the first answer to a key of the store."""
    worker_before_bytes: int
    worker_after_bytes: int
    """Of the worker's RSS, before and after the look-ups."""
    look_ups_per_s: float
    cached_ns: float
    """One look-up of a key that the worker knows, in process."""


def key_of(number: int) -> str:
    """Return the key with this number."""
    return f"sk-{number:043d}"


async def fill(url: str, count: int) -> None:
    """Make `count` keys in a new database, a thousand to a team."""
    store = await open_store(url)
    now = datetime.now(UTC)
    try:
        teams = [f"team-{n}" for n in range(-(-count // 1000))]
        common = {"created_at": now, "created_by": "bench", "updated_at": now, "updated_by": "b"}
        empty = {name: {} for name in ("model_max_budget", "model_rpm_limit", "model_tpm_limit")}
        team = {**empty, "models": [], "model_aliases": {}, "tags": [], "metadata": {}, **common}
        await _insert(store, "teams", [{"team_id": name, **team} for name in teams])
        lists = {name: [] for name in ("models", "tags", "allowed_routes", "budget_limits")}
        maps = {name: {} for name in ("aliases", "permissions", "metadata")}
        for first in range(0, count, _BATCH):
            rows = [
                {
                    "key_hash": hashlib.sha256(key_of(n).encode()).hexdigest(),
                    "key_name": f"sk-...{key_of(n)[-4:]}",
                    "key_alias": f"alias-{n}",
                    "team_id": f"team-{n // 1000}",
                    "max_budget_nano_usd": 10**10,
                    "rpm_limit": 1000,
                    **{**empty, **lists, **maps, **common},
                }
                for n in range(first, min(first + _BATCH, count))
            ]
            await _insert(store, "virtual_keys", rows)
    finally:
        await store.close()


async def _insert(store: Store, table: str, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    holders = ", ".join(f"${n}" for n in range(1, len(names) + 1))
    await store.execute_many(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({holders})",
        [list(row.values()) for row in rows],
    )


def measure(folder: Path, url: str, keys: int, look_ups: int) -> Figures:
    """Start a gateway with one worker on the database at `url`, and look keys up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yaml"
    config.write_text(
        "model_list: [{model_name: m, litellm_params: {model: openai/m, api_base: 'http://h/v1'}}]\n"
        f"general_settings: {{master_key: {MASTER}}}\n"
        "fastgate_settings: {log: {access_log: 'off'}}\n"
    )
    started_s = time.monotonic()
    gateway = subprocess.Popen(
        [
            *(sys.executable, "-c", "import sys; from fastgate.cli import main; sys.exit(main())"),
            *("serve", "--config", str(config), "--port", str(port), "--workers", "1"),
        ],
        env={**os.environ, "DATABASE_URL": url, "FASTGATE_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until_answered(gateway, port)
        start_s = time.monotonic() - started_s
        worker = _worker_of(gateway.pid)
        before = rss_bytes(worker)
        begun_s = time.monotonic()
        # Numbers spread over the whole table, as clients' keys are.
        step = max(1, keys // look_ups)
        asyncio.run(_look_up(port, [n * step for n in range(look_ups)]))
        spent_s = time.monotonic() - begun_s
        after = rss_bytes(worker)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(15)
    return Figures(start_s, before, after, look_ups / spent_s, cached_ns())


def _until_answered(gateway: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and gateway.poll() is None:
        try:
            asyncio.run(_look_up(port, [0]))
        except (OSError, RuntimeError):
            # It does not listen yet, or control has no database yet.
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"expected an answer within {_START_TIMEOUT_S:g} s: {gateway.poll()=}")


def _worker_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    titles = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return next(child for child, title in titles.items() if b"worker" in title)


async def _look_up(port: int, numbers: list[int]) -> None:
    """Ask with each of these keys once; raise RuntimeError unless all are answered with 200."""

    async def ask(mine: list[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for number in mine:
                head = f"host: a\r\nauthorization: Bearer {key_of(number)}\r\n\r\n"
                writer.write(f"GET /v1/models HTTP/1.1\r\n{head}".encode())
                answer = await reader.readuntil(b"\r\n\r\n")
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise RuntimeError(f"expected 200, got {answer[:40]!r}")
                length = int(answer.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(length)
        finally:
            writer.close()

    shares = [numbers[n::_CONNECTIONS] for n in range(_CONNECTIONS)]
    await asyncio.gather(*(ask(share) for share in shares if share))


def cached_ns(known: int = 100_000) -> float:
    """Return what one look-up costs of as many keys as a worker remembers; the best of some
    loops over all of them.
    """
    keys = Keys("no-socket")
    snapshot = Snapshot(Config())
    digests = [hashlib.sha256(key_of(n).encode()).digest() for n in range(known)]
    for digest in digests:
        scope = Scope(kind="key", id=digest.hex(), rpm=1000)
        stored = StoredKey(key_hash=digest.hex(), alias="", team="t", rpm=1000, scopes=[scope])
        keys._remember(digest, snapshot.stored(stored))
    find, best = keys.find, float("inf")
    for _ in range(_LOOPS):
        begun_ns = time.perf_counter_ns()
        for digest in digests:
            find(digest)
        best = min(best, (time.perf_counter_ns() - begun_ns) / known)
    return best


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench keys", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--look-ups", type=int, default=100_000)
    parser.add_argument("--database", default="", help="an empty one; default: SQLite, new")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fastgate-keys-") as name:
        url = options.database or f"sqlite:///{name}/keys.db"
        begun_s = time.monotonic()
        asyncio.run(fill(url, options.keys))
        print(f"{options.keys} keys made in {time.monotonic() - begun_s:.1f} s")
        figures = measure(Path(name), url, options.keys, options.look_ups)
    grown = figures.worker_after_bytes - figures.worker_before_bytes
    print(f"start to the first answer      {figures.start_s:.2f} s")
    print(f"worker's RSS                   {figures.worker_before_bytes / 2**20:.1f} MiB")
    print(f"after {options.look_ups} look-ups, more     {grown / 2**20:.1f} MiB")
    print(f"look-ups of new keys           {figures.look_ups_per_s:.0f} /s")
    print(f"look-up of a known key         {figures.cached_ns:.0f} ns")
    return 0
