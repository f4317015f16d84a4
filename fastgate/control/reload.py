"""SIGHUP: reads the configuration again, and gives it on only when nothing is wrong with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from fastgate.config import snapshot as snapshots
from fastgate.errors import ConfigError
from fastgate.processes import configuration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fastgate.config.schema import Config
    from fastgate.observe.metrics import Registry

__all__ = ["Reloader"]

_log = logging.getLogger("fastgate.control")


class Reloader:
    """One reload at a time; asked for during one, another follows, since the file may be newer."""

    def __init__(
        self,
        path: str,
        overrides: Mapping[str, Any],
        exposed: bool,
        registry: Registry,
        publish: Callable[[Config], Awaitable[None]],
    ) -> None:
        self._path = path
        self._overrides = overrides
        self._exposed = exposed
        self._registry = registry
        self._publish = publish
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def request(self) -> None:
        """Reload soon. Called on the loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._reload())
            self._task.add_done_callback(self._on_done)
        else:
            self._again = True

    async def _reload(self) -> None:
        try:
            messages = await asyncio.to_thread(configuration.load, self._path, self._overrides)
            settings, snapshot, warnings = configuration.parse(messages)
            configuration.refuse_open(settings, self._exposed)
        except ConfigError as error:
            faults = [repr(fault) for fault in error.faults]
            _log.error("configuration refused, the old one stays", {"faults": faults})
            self._count("invalid")
            return
        for warning in warnings:
            _log.warning("configuration", warning)
        await self._publish(snapshots.decode(snapshot))
        self._count("ok")

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("reload failed, the old configuration stays", exc_info=error)
            self._count("failed")
        if self._again:
            self._again = False
            self.request()

    def _count(self, outcome: str) -> None:
        self._registry.counter("fastgate_reloads_total", outcome=outcome).add(1)
