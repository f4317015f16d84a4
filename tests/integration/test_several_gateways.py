"""Two gateways on one PostgreSQL: what one changes, the other knows within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastgate.store import open_store
from tests.postgres import Postgres
from tests.processes import Engine, Gateway
from tests.served import MASTER_KEY, Stand, config, deployment, free_port

WITHIN_S = 1.0


class Pair(NamedTuple):
    here: Stand
    there: Stand
    url: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("pair")
    url = postgres.database()
    with ExitStack() as stack:
        engine = Engine(folder / "engine.log")
        stack.callback(engine.stop)
        engine.start()
        stands = []
        for name in ("here", "there"):
            settings = config([deployment("sim", engine.url)])
            env = {"DATABASE_URL": url}
            gateway = Gateway(folder / name, settings, free_port(), (), env)
            stack.callback(gateway.assert_clean)
            stack.callback(gateway.stop)
            gateway.start()
            stands.append(Stand([engine], gateway))
        yield Pair(*stands, url)


def done(stand: Stand, path: str, body: Any) -> Any:
    reply = stand.ask("POST", path, body, key=MASTER_KEY)
    assert reply.status == 200, reply.body
    return reply.json()


def soon(check: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "the other gateway does not know yet"


def test_keys_changed_here_are_changed_there(pair: Pair) -> None:
    here, there, _ = pair
    # The listener's first words are that something may have been missed: from then on it listens.
    soon(lambda: listening(pair.url) == 2, 10)
    team = done(here, "/team/new", {})["team_id"]
    made = done(here, "/key/generate", {"team_id": team})
    key, token = made["key"], made["token"]

    def status() -> int:
        return there.chat(key=key).status

    assert status() == 200
    for path, body, wanted in (
        ("/key/block", {"key": token}, 401),
        ("/key/unblock", {"key": token}, 200),
        ("/key/update", {"key": token, "models": ["other"]}, 401),
        ("/key/update", {"key": token, "models": []}, 200),
        ("/team/block", {"team_id": team}, 401),
        ("/team/unblock", {"team_id": team}, 200),
    ):
        done(here, path, body)
        soon(lambda wanted=wanted: status() == wanted)
    new = done(here, "/key/regenerate", {"key": token})
    soon(lambda: status() == 401)
    assert there.chat(key=new["key"]).status == 200
    done(there, "/key/delete", {"keys": [new["token"]]})
    soon(lambda: here.chat(key=new["key"]).status == 401)


def test_models_added_here_are_served_there(pair: Pair) -> None:
    here, there, _ = pair
    params = {"model": "openai/sim", "api_base": here.engine.url}
    made = done(here, "/model/new", {"model_name": "both", "litellm_params": params})
    soon(lambda: there.chat("both", key=MASTER_KEY).status == 200)
    done(here, "/model/delete", {"id": made["model_info"]["id"]})
    soon(lambda: there.chat("both", key=MASTER_KEY).status == 400)


def test_what_changed_while_nobody_listened_is_looked_up_again(pair: Pair) -> None:
    here, there, url = pair
    made = done(here, "/key/generate", {})
    assert there.chat(key=made["key"]).status == 200
    soon(lambda: listening(url) == 2, 10)
    # As a change that was made while both were deaf: no notice of it ever comes.
    asyncio.run(_deafen_and_block(url, made["token"]))
    soon(lambda: there.chat(key=made["key"]).status == 401, 10)
    assert here.chat(key=made["key"]).status == 401
    soon(lambda: listening(url) == 2, 10)


_LISTENERS = (
    "FROM pg_stat_activity WHERE datname = current_database() "
    "AND (query LIKE 'LISTEN%' OR query = 'SELECT 1') AND pid <> pg_backend_pid()"
)


def listening(url: str) -> int:
    async def count() -> int:
        store = await open_store(url)
        found = await store.fetch_one(f"SELECT count(*) AS n {_LISTENERS}")
        await store.close()
        assert found is not None
        return int(found["n"])

    return asyncio.run(count())


async def _deafen_and_block(url: str, token: str) -> None:
    store = await open_store(url)
    async with store.transaction() as within:
        await within.fetch(f"SELECT pg_terminate_backend(pid) {_LISTENERS}")
        await within.execute("UPDATE virtual_keys SET blocked = TRUE WHERE key_hash = $1", token)
    await store.close()
