"""What other gateways on the same database changed, for this one's workers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastgate.store import Store

__all__ = ["Notices"]


class Notices:
    """`changed(kind, ids)` is called for them; with `all` and no ids when some were missed."""

    def __init__(self, changed: Callable[[str, list[str]], None]) -> None:
        self._changed = changed
        self._heard: dict[str, list[str]] = {}

    @asynccontextmanager
    async def listening(self, store: Store) -> AsyncIterator[None]:
        """Listen as long as the context lasts."""
        task = asyncio.create_task(store.listen(self._notice, self._gap))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _notice(self, kind: str, changed_id: str) -> None:
        # Of many changes at once (a team with its keys is deleted) workers are told once.
        if not self._heard:
            asyncio.get_running_loop().call_soon(self._tell)
        self._heard.setdefault(kind, []).append(changed_id)

    def _tell(self) -> None:
        heard, self._heard = self._heard, {}
        for kind, ids in heard.items():
            self._changed(kind, ids)

    def _gap(self) -> None:
        self._changed("all", [])
