"""Published prices, asked of control for each model when it is first used, and again twice a day.

Prices that the configuration names come with the Snapshot. Requests do not wait for the others: a
row that was booked before its price was here is priced when it is posted.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

from fastgate._core.cost import Rates
from fastgate._core.http1 import ProtocolError
from fastgate.gateway.asking import ask_control

__all__ = ["RatesLookup"]

_log = logging.getLogger("fastgate.rates")

_ANSWER_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_AT_ONCE = 8
_REFRESH_S = 12 * 3600.0
"""Control tells of changes two days ahead."""

MAX_MODELS = 4096
"""Looked up at a time; the others' rows are priced when they are posted."""

Key = tuple[str, str]
"""Deployment id, model."""


class RatesLookup:
    """Belongs to one worker and its loop."""

    def __init__(self, control_socket: str) -> None:
        self._control = control_socket
        self._choices: dict[Key, list[Any]] = {}
        self._known: dict[Key, Rates] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def ask(self, choice: Any) -> None:
        """Set `choice.rates`, a Choice's, when control says what it costs, and keep it so."""
        key = (choice.target.id, choice.model)
        choice.rates = self._known.get(key)
        if key in self._choices:
            self._choices[key].append(choice)
        elif len(self._choices) < MAX_MODELS:
            self._choices[key] = [choice]
            self._tasks.append(asyncio.get_running_loop().create_task(self._keep(key)))

    def forget(self) -> None:
        """Everything may have changed."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._choices.clear()
        self._known.clear()

    async def _keep(self, key: Key) -> None:
        deployment_id, model = key
        path = f"/internal/rates/{quote(deployment_id, safe='')}?model={quote(model, safe='')}"
        while True:
            found = await self._until_answered(path)
            if found is None:
                return
            self._known[key] = found
            for choice in self._choices[key]:
                choice.rates = found
            await asyncio.sleep(_REFRESH_S)

    async def _until_answered(self, path: str) -> Rates | None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with self._gate, asyncio.timeout(_ANSWER_S):
                    status, body = await ask_control(self._control, path)
                if status == 200:
                    return Rates(body)
                if status == 404:
                    return None
            except (OSError, TimeoutError, ProtocolError, ValueError) as error:
                _log.debug("a price could not be looked up yet", {"error": str(error)})
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
