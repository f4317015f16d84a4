"""The management API as its callers see it: control's application in front of a real store."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from fastgate.config.schema import Config, Deployment
from fastgate.config.stored import StoredKey
from fastgate.control.app import State, create_app
from fastgate.control.principals import stored_key
from fastgate.management.call import Service
from fastgate.store import Store

__all__ = ["MASTER", "Api"]

MASTER = "sk-master-of-the-management-tests"
DEPLOYMENT = Deployment(
    id="d1",
    group="gpt",
    provider="openai",
    model="gpt-real",
    host="h",
    port=80,
    api_base="http://h/v1",
    auth_value=b"Bearer sk-upstream-canary",
    rpm=10,
)


def identity(key: str) -> dict[str, str]:
    """Return what a worker says of the holder of `key`."""
    if key == MASTER:
        return {"x-fastgate-role": "admin"}
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"x-fastgate-role": "none", "x-fastgate-key-hash": digest}


class Api:
    """One gateway's API; `changes` is what workers were told."""

    def __init__(self, memory: Any, store: Store) -> None:
        self.store = store
        self.changes: list[tuple[str, list[str]]] = []
        self.seen: list[asyncio.Future[StoredKey | None]] = []
        state = State(memory, Config(deployments=[DEPLOYMENT]))
        state.service = Service(store, lambda: state.config, self._changed)
        self.state = state
        self.client: TestClient[Any, Any] = TestClient(TestServer(create_app(state)))

    def _changed(self, kind: str, ids: list[str]) -> None:
        self.changes.append((kind, ids))
        # What a worker would be told that asks at once.
        if kind == "key":
            self.seen.append(asyncio.ensure_future(stored_key(self.store, ids[-1])))

    async def ask(
        self, method: str, path: str, body: Any = None, key: str = MASTER, **more: Any
    ) -> tuple[int, Any]:
        """Return status and answer."""
        answer = await self.client.request(method, path, json=body, headers=identity(key), **more)
        return answer.status, await answer.json()

    async def done(self, path: str, body: Any = None, key: str = MASTER) -> Any:
        """POST, or GET without a body, and return the answer; anything but 200 fails."""
        method = "GET" if body is None else "POST"
        status, answer = await self.ask(method, path, body, key)
        assert status == 200, (path, answer)
        return answer

    async def user(self, role: str = "internal_user", **more: Any) -> tuple[str, str]:
        """Make a user; return id and key."""
        made = await self.done("/user/new", {"user_role": role, **more})
        return made["user_id"], made["key"]
