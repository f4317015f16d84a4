"""Kill writers and drainers of the spend journal at any moment, and audit what comes of it.

`python -m tests.adversity.journal_kills HOME --kills N --seed S [--sabotage buffer|ids]` forks
worker-like writers and drainers, ends each with SIGKILL after some milliseconds, lets one drainer
finish, and prints what it found as JSON. The truth is what the writers said through a pipe: a line
once a request is reserved, and one once it is settled, as a client would have its answer. So:

    every settled request is one row, at its price
    every reserved one is one row, settled or orphaned
    no other is a row, but for those whose line did not get out (one at most a kill)
    the sum of the rows = the balance of the key = the roll-up

Two sabotaged builds must be caught: `buffer` keeps 50 records in the process before it writes them
(what a logger would do); `ids` posts without looking whether a request is a row already, and moves
the checkpoint in a transaction of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fastgate.store.sqlite  # noqa: F401  loaded before forking, not in each child
from fastgate._core.fields import request_id
from fastgate._core.journal import Columns, Outcome
from fastgate.spend import ledger
from fastgate.spend.drain import Drain
from fastgate.spend.segments import SpendJournal
from fastgate.spend.verify import verify
from fastgate.store import Store, open_store

# Small, so that every writer rolls over several times.
SEGMENT_BYTES = 16 * 1024
COLUMNS = b'{"key_hash":"key","team_id":"team","user_id":"user","call_type":"chat","model":"m"}'
NOTE = b'{"provider_response_id":"x","tags":["a","b"]}'
ESTIMATE_NANO = 1_000_000_007


def price_of(sequence: int) -> int:
    return 1_000 + sequence % 997


def write(home: Path, epoch: int, said: int, buffered: bool) -> None:
    """Record requests for ever, several at a time under way, and say so."""
    spend = SpendJournal(home, epoch, segment_bytes=SEGMENT_BYTES, call_in_loop=lambda call: call())
    journal, columns, outcome = spend.journal, Columns(COLUMNS), Outcome()
    kept: list[Callable[[], bool]] = []

    def append(call: Callable[[], bool]) -> None:
        kept.append(call)
        if buffered and len(kept) < 50:
            return
        for record in kept:
            while not record():
                if not spend.roll():
                    time.sleep(0.0005)
        kept.clear()

    sequence = 0
    while True:
        ids = [request_id(1_790_000_000_000, epoch, sequence + i) for i in range(3)]
        for id in ids:
            append(lambda id=id: journal.reserve(id, columns, 1, 10**12, ESTIMATE_NANO, 7))
            os.write(said, b"R %b\n" % id)
        append(lambda id=ids[1]: journal.progress(id, 5, 500))
        append(lambda id=ids[2]: journal.note(id, NOTE))
        # The engine thinks. Most kills come now; and what counts are kills, not rows.
        time.sleep(0.0005)
        for i, id in enumerate(ids):
            outcome.clear()
            outcome.start_us = 1_790_000_000_000_000
            outcome.spend_nano = price_of(sequence + i)
            if buffered:
                fixed = Outcome()
                fixed.start_us, fixed.spend_nano = outcome.start_us, outcome.spend_nano
                append(lambda id=id, o=fixed: journal.settle(id, columns, o))
            else:
                append(lambda id=id: journal.settle(id, columns, outcome))
            os.write(said, b"S %b\n" % id)
        sequence += 3


async def drain(home: Path, sabotaged: bool, to_the_end: bool) -> None:
    store = await open_store(f"sqlite:///{home.parent}/spend.db")
    if sabotaged:
        post_carelessly()
    draining = Drain(store, home, batch=50, interval_s=0.001)
    while not to_the_end or any(home.glob("*/*.segment")):
        await draining.step()
        if not to_the_end:
            await asyncio.sleep(0.001)
    draining.close()
    await store.close()


def post_carelessly() -> None:
    """Sabotage: no unique ids, and the checkpoint apart from the rows."""
    careful = ledger.post

    async def nothing_is_known(transaction: Store, ids: list[str]) -> dict[str, str]:
        return {}

    async def post(store: Store, entries: list[Any], moves: Iterable[Any]) -> Any:
        posted = await careful(store, entries, [])
        await asyncio.sleep(0.005)
        await careful(store, [], moves)
        return posted

    ledger._known = nothing_is_known
    ledger.post = post


def fork(child: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        child()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


class History:
    """What the writers said."""

    def __init__(self) -> None:
        self.reserved: set[str] = set()
        self.settled: set[str] = set()
        self._pipes: dict[int, bytes] = {}

    def listen(self, fd: int) -> None:
        self._pipes[fd] = b""

    def hear(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for fd in select.select(list(self._pipes), [], [], left)[0]:
                self._read(fd)

    def hear_out(self, fd: int) -> None:
        """The writer is dead: read what is left."""
        while self._read(fd):
            pass

    def _read(self, fd: int) -> bool:
        data = os.read(fd, 1 << 16)
        if not data:
            os.close(fd)
            del self._pipes[fd]
            return False
        *lines, self._pipes[fd] = (self._pipes[fd] + data).split(b"\n")
        for line in lines:
            (self.reserved if line[:1] == b"R" else self.settled).add(line[2:].decode())
        return True


def kill_loop(home: Path, kills: int, seed: int, sabotage: str) -> History:
    """Kill that many processes, a writer or a drainer each time, while the other kind goes on."""
    dice, history = random.Random(seed), History()
    epochs = iter(range(1, kills + 2))

    def new_writer() -> tuple[int, int]:
        ours, theirs = os.pipe()
        history.listen(ours)
        epoch = next(epochs)
        pid = fork(lambda: write(home, epoch, theirs, sabotage == "buffer"))
        os.close(theirs)
        return pid, ours

    def new_drainer() -> int:
        return fork(lambda: asyncio.run(drain(home, sabotage == "ids", False)))

    writer, drainer = new_writer(), new_drainer()
    for _ in range(kills):
        history.hear(dice.uniform(0.002, 0.05))
        if dice.random() < 0.6:
            end(writer[0])
            history.hear_out(writer[1])
            writer = new_writer()
        else:
            end(drainer)
            drainer = new_drainer()
    end(writer[0])
    history.hear_out(writer[1])
    end(drainer)
    last = fork(lambda: asyncio.run(drain(home, sabotage == "ids", True)))
    if os.waitpid(last, 0)[1]:
        raise SystemExit("the last drainer failed")
    return history


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if not os.WIFSIGNALED(status):
        raise SystemExit(f"a process ended by itself: {status}")


async def audit(home: Path, history: History, kills: int) -> dict[str, int]:
    """Return the counts of what is wrong, all 0 at best, and how much there was."""
    store = await open_store(f"sqlite:///{home.parent}/spend.db")
    rows = await store.fetch("SELECT request_id, status, spend_nano_usd FROM spend_logs")
    total = await store.fetch_one("SELECT total_spend_nano_usd AS nano FROM virtual_keys")
    books = await verify(store, home)
    await store.close()
    by_id = {row["request_id"]: row for row in rows}
    assert total is not None

    def is_right(request_id: str) -> bool:
        row = by_id.get(request_id)
        price = price_of(int(request_id[-10:], 16))
        return row is not None and (row["status"], row["spend_nano_usd"]) == ("success", price)

    orphans = [row for row in rows if row["status"] == "orphaned"]
    unsaid = len(by_id.keys() - history.reserved)
    return {
        "lost": sum(not is_right(request_id) for request_id in history.settled),
        "lost_reservations": len(history.reserved - by_id.keys()),
        "invented": max(0, unsaid - kills - 1),
        "doubled": len(rows) - len(by_id),
        "misbilled_orphans": sum(
            row["spend_nano_usd"] not in (ESTIMATE_NANO, 500) for row in orphans
        ),
        "unbalanced": abs(sum(row["spend_nano_usd"] for row in rows) - total["nano"]),
        "findings": len(books.findings) + books.waiting + books.open,
        "rows": len(rows),
        "settled": len(history.settled),
        "orphans": len(orphans),
    }


async def prepare(home: Path) -> None:
    store = await open_store(f"sqlite:///{home.parent}/spend.db")
    await store.execute(
        "INSERT INTO virtual_keys (key_hash, key_name, models, aliases, tags, allowed_routes,"
        " permissions, metadata, budget_limits, model_max_budget, model_rpm_limit,"
        " model_tpm_limit, created_at, created_by, updated_at, updated_by)"
        " VALUES ('key', 'key', '[]', '{}', '[]', '[]', '{}', '{}', '[]', '{}', '{}', '{}',"
        " '2026-01-01', 'test', '2026-01-01', 'test')"
    )
    await store.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.adversity.journal_kills")
    parser.add_argument("home", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sabotage", choices=["buffer", "ids"], default="")
    arguments = parser.parse_args()
    home = arguments.home / "journal"
    asyncio.run(prepare(home))
    history = kill_loop(home, arguments.kills, arguments.seed, arguments.sabotage)
    print(json.dumps(asyncio.run(audit(home, history, arguments.kills))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
