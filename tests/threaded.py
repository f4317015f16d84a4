"""The management API on a loop and thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from aiohttp import web

from fastgate.observe import memory as shared_memory
from fastgate.store import open_store
from tests.managing import Api, identity

__all__ = ["Threaded"]


class Threaded:
    """A context: `url` is the base of a served API."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.url = ""
        self.api: Any = None

    def __enter__(self) -> Threaded:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        self._store = await open_store(self._database)
        self._fd = shared_memory.create(2)
        memory = shared_memory.open(self._fd, shared_memory.CONTROL)
        self.api = Api(memory, self._store)
        self.api.client.app.middlewares.insert(0, _worker)
        await self.api.client.start_server()
        self.url = str(self.api.client.make_url("")).rstrip("/")

    async def _stop(self) -> None:
        await asyncio.gather(*self.api.seen)
        await self.api.client.close()
        await self._store.close()
        os.close(self._fd)


@web.middleware
async def _worker(request: web.Request, handler: Any) -> web.StreamResponse:
    """Stand in for the worker that relays: say who has the key."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer":
        return await handler(request)
    headers = {**request.headers, **identity(key)}
    return await handler(request.clone(headers=headers))
