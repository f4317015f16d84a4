"""Prices of models that only a pattern names: asked of control when such a model is first used.

What a configured model costs comes with the Snapshot. Requests do not wait for this: it is there
before the first answer ends, or the row has no cost and is counted as unpriced.
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
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_AT_ONCE = 8


class RatesLookup:
    """Belongs to one worker and its loop."""

    def __init__(self, control_socket: str) -> None:
        self._control = control_socket
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def ask(self, choice: Any) -> None:
        """Set `choice.rates`, a Choice's, as soon as control says what it costs."""
        task = asyncio.get_running_loop().create_task(self._ask(choice))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()

    async def _ask(self, choice: Any) -> None:
        path = f"/internal/rates/{quote(choice.target.id, safe='')}?model={quote(choice.model)}"
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with self._gate, asyncio.timeout(_ANSWER_S):
                    status, body = await ask_control(self._control, path)
                if status == 200:
                    choice.rates = Rates(body)
                if status in (200, 404):
                    return
            except (OSError, TimeoutError, ProtocolError, ValueError) as error:
                if pause_s == _FIRST_PAUSE_S:
                    _log.warning("a price could not be looked up", {"error": str(error)})
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
