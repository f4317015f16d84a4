"""Deployments of the database: merged into every Snapshot that control sends.

Of all Snapshots since control started, the newest is what it sent last, whatever the supervisor's
echo of it is: so that a reload and a change of models that cross don't undo each other.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

from msgspec import structs

from fastgate.config import snapshot as snapshots
from fastgate.config.added import read_added
from fastgate.errors import ConfigError
from fastgate.management.models import opened
from fastgate.processes import configuration
from fastgate.spend.prices import configured
from fastgate.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastgate.config.schema import Config, Deployment
    from fastgate.management.call import Service
    from fastgate.store import Row

__all__ = ["StoredModels"]

_log = logging.getLogger("fastgate.control")


class StoredModels:
    """`service` returns None while there is no database: then what was merged last stays."""

    def __init__(
        self,
        service: Callable[[], Service | None],
        send: Callable[[str, Mapping[str, Any], bytes], None],
    ) -> None:
        self._service = service
        self._send = send
        self._newest: Config | None = None
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, config: Config) -> None:
        """Know the Snapshot that is in use when control starts; later ones are our own."""
        if self._newest is None:
            self._newest = config

    async def publish(self, config: Config) -> None:
        """Send `config` with the database's models in it to the supervisor, as a reload does."""
        async with self._sending:
            merged = await self._merged(config)
            self._newest = merged
            settings = configuration.settings_of(merged)
            self._send("snapshot", settings._asdict(), snapshots.encode(merged))

    def request(self) -> None:
        """Look at the database soon, and publish if its models have changed. Called on the loop."""
        task = asyncio.create_task(self._refresh())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh(self) -> None:
        newest = self._newest
        if newest is None:
            return
        if (await self._merged(newest)).deployments != newest.deployments:
            assert self._newest is not None
            await self.publish(self._newest)

    async def _merged(self, config: Config) -> Config:
        own = [each for each in config.deployments if not each.stored]
        stored = [
            structs.replace(each, rates=configured(each, config.prices))
            for each in await self._stored(own)
        ]
        return structs.replace(config, deployments=[*own, *stored])

    async def _stored(self, own: list[Deployment]) -> list[Deployment]:
        service = self._service()
        try:
            if service is None:
                return self._last()
            rows = await service.store.fetch("SELECT * FROM models ORDER BY created_at, model_id")
        except StoreError as error:
            _log.warning("models of the database can't be read", {"error": str(error)})
            return self._last()
        taken = {each.id for each in own}
        return [each for row in rows if (each := _deployment(row, service, taken)) is not None]

    def _last(self) -> list[Deployment]:
        known = self._newest.deployments if self._newest is not None else []
        return [each for each in known if each.stored]


def _deployment(row: Row, service: Service, taken: set[str]) -> Deployment | None:
    model_id = row["model_id"]
    try:
        if model_id in taken:
            raise ValueError("the configuration file has a deployment with this id")
        found = read_added(opened(row, service.sealer), os.environ)
    except (ConfigError, ValueError) as error:
        faults = [str(error)] if isinstance(error, ValueError) else list(map(repr, error.faults))
        _log.error("a model of the database is left out", {"model_id": model_id, "faults": faults})
        return None
    return found
