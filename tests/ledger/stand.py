"""A gateway of several processes with a database, an engine that keeps books, and what befalls
them: kills, a database that is away, a table that is locked.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ledger.books import check_balances, read_books
from tests.ledger.checker import Checked, check, read_lines
from tests.ledger.clients import Load, Seen
from tests.ledger.prices import price_fields
from tests.ledger.wishes import Wish, wish
from tests.processes import FASTGATE, ROOT, START_S, Engine, Gateway
from tests.served import MASTER_KEY, config, deployment, free_port

__all__ = ["FAULTS", "Stand", "stand"]

HOOKS = Path(__file__).parent / "hooks"

FAULTS = {
    "status=429": 0.03,
    "status=503": 0.03,
    "status=500": 0.02,
    "cut=3": 0.02,
    "cut=6;reset": 0.02,
    "cut=0": 0.01,
    "error-first": 0.015,
    "error-event=1": 0.01,
    "error-event=5": 0.01,
    "no-usage": 0.01,
    "hangup": 0.015,
    "close": 0.01,
    "stall=4": 0.002,
    "stall=head": 0.002,
}
"""A fifth of all attempts, by what goes wrong."""

TIMEOUT_S = 4.0
"""For a stalled engine; much longer than anything that is only slow."""


class Stand:
    """What runs, and what clients saw of it."""

    def __init__(self, engine: Engine, ledger: Path, gateway: Gateway, url: str) -> None:
        self.engine = engine
        self.ledger = ledger
        self.gateway = gateway
        self.url = url
        self.keys: list[str] = []
        self.seen: list[Seen] = []
        self._killed: set[int] = set()

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return len(self._killed)

    @property
    def home(self) -> Path:
        return self.gateway.config_path.parent

    def load(self, seed: int, *, leaving: bool = True) -> Load:
        """Return clients with these wishes."""

        def nth(number: int) -> Wish:
            return wish(number, seed, len(self.keys), leaving=leaving)

        made = Load(self.gateway.port, self.keys, nth)
        self.seen = made.seen
        return made

    def arm(self, faults: dict[str, float]) -> None:
        """Have these shares of the engine's attempts go wrong."""
        left = 1.0
        for text, share in faults.items():
            # Each is drawn among the attempts that those before it have left.
            order = {"faults": text, "share": share / left}
            self.engine.call("POST", "/sim/faults", order)
            left -= share

    async def check(self) -> Checked:
        """Compare all books, when all is in them."""
        await asyncio.to_thread(self._until_the_engine_rests)
        books = await read_books(self.url, self.home)
        checked = check(read_lines(self.ledger), books.rows, books.attempts, self.seen)
        check_balances(checked, books)
        await asyncio.to_thread(self._verify, checked)
        checked.counts["kills"] = self.kills
        return checked

    def _verify(self, checked: Checked) -> None:
        """Have the gateway's own check look, as an operator would."""
        options = ["spend", "verify", "--database", self.url, "--home", str(self.home)]
        done = subprocess.run([*FASTGATE, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            checked.find("fastgate spend verify", done.returncode, done.stdout, done.stderr)

    def _until_the_engine_rests(self) -> None:
        """It learns of clients that left a moment after they did."""
        deadline = time.monotonic() + START_S
        while self.engine.call("GET", "/sim/log")["counters"]["running"]:
            assert time.monotonic() < deadline, "the gateway keeps requests open at the engine"
            time.sleep(0.05)

    # what befalls it

    def children(self, title: str) -> list[int]:
        """Return the pids of the supervisor's children that are called so."""
        path = f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children"
        found = []
        for pid in Path(path).read_text().split():
            try:
                named = Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if named.startswith(b"fastgate: " + title.encode()):
                found.append(int(pid))
        return found

    def kill(self, title: str, dice: random.Random) -> bool:
        """Kill one of them; False: there is none now."""
        # One that is dead is still a child until its supervisor has looked.
        pids = [pid for pid in self.children(title) if pid not in self._killed]
        if not pids:
            return False
        pid = dice.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._killed.add(pid)
        return True

    async def kill_for(self, title: str, seconds: float, dice: random.Random) -> None:
        """Kill them again and again: there is none for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.kill(title, dice)
            await asyncio.sleep(0.02)

    async def lock_database(self, seconds: float) -> None:
        """Keep SQLite's only place for a writer, as another process would."""
        path = self.url.removeprefix("sqlite:///")

        def hold() -> None:
            other = sqlite3.connect(path, timeout=10, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")
            other.close()

        await asyncio.to_thread(hold)


@contextmanager
def stand(
    folder: Path, url: str, *, workers: int = 2, hooks: str = "", segment_bytes: int = 1 << 20
) -> Iterator[Stand]:
    """Start all of it, with keys of every kind of owner; stop it, and judge the gateway's log."""
    ledger = folder / "ledger"
    engine = Engine(
        folder / "engine.log",
        *("--ledger", str(ledger), "--models", "*", "--kv-tokens", "40000", "--seed", "7"),
        *("--ttft-ms", "3", "--itl-ms", "1.5", "--distribution", "lognormal:0.6"),
        *("--log-requests", "1"),
    )
    env = {"DATABASE_URL": url}
    if hooks:
        path = f"{HOOKS}{os.pathsep}{os.environ.get('PYTHONPATH', ROOT)}"
        env |= {"FASTGATE_TEST_HOOKS": hooks, "PYTHONPATH": path}
    engine.start()
    try:
        gateway = Gateway(
            folder / "gateway",
            configuration(engine, segment_bytes),
            free_port(),
            ("--workers", str(workers)),
            env,
        )
        try:
            gateway.start()
            running = Stand(engine, ledger, gateway, url)
            make_owners(running)
            yield running
        finally:
            gateway.stop()
        gateway.assert_clean()
    finally:
        engine.stop()


def configuration(engine: Engine, segment_bytes: int) -> dict[str, Any]:
    """Return two deployments that share their requests, one to fall back to, one for each other
    kind, and one that is not there.
    """

    def at(group: str, model: str, base: str = engine.url, **more: Any) -> dict[str, Any]:
        provider = "anthropic" if model == "sim-m" else "openai"
        named = f"{provider}/{model}"
        return deployment(group, base, named, f"{model}-1", **price_fields(model), **more)

    closed = f"http://127.0.0.1:{free_port()}/v1"
    return config(
        [
            at("chat", "sim-a"),
            at("chat", "sim-b"),
            at("chat", "sim-down", closed, weight=0.1),
            at("spare", "sim-spare"),
            at("embed", "sim-e"),
            at("claude", "sim-m"),
        ],
        keys=[],
        router={
            "num_retries": 2,
            "disable_cooldowns": True,
            "fallbacks": [{"chat": ["spare"]}],
        },
        upstream={
            "timeout_s": TIMEOUT_S,
            "stream_timeout_s": TIMEOUT_S,
            "stall_timeout_s": TIMEOUT_S,
        },
    )


def make_owners(running: Stand) -> None:
    """Make teams, users, an organization, and keys of them."""

    def done(path: str, body: Any) -> Any:
        deadline = time.monotonic() + START_S
        while (answer := asked(path, body))[0] == 503 and time.monotonic() < deadline:
            time.sleep(0.05)  # control opens the database
        assert answer[0] == 200, (path, *answer)
        return json.loads(answer[1])

    def asked(path: str, body: Any) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=10)
        fields = {"Authorization": f"Bearer {MASTER_KEY}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), fields)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    done("/organization/new", {"organization_id": "org", "organization_alias": "org"})
    for team in ("team-1", "team-2"):
        of = {"organization_id": "org"} if team == "team-2" else {}
        done("/team/new", {"team_id": team, "team_alias": team, **of})
    for user in ("user-1", "user-2"):
        done("/user/new", {"user_id": user, "auto_create_key": False})
        for team in ("team-1", "team-2"):
            done("/team/member_add", {"team_id": team, "member": {"role": "user", "user_id": user}})
    for owners in (
        {},
        {"team_id": "team-1", "user_id": "user-1"},
        {"team_id": "team-2", "user_id": "user-1"},
        {"team_id": "team-2", "user_id": "user-2", "tags": ["of-the-key"]},
        {"user_id": "user-2"},
    ):
        running.keys.append(done("/key/generate", owners)["key"])
