"""PostgreSQL's LISTEN: what other gateways on the same database changed.

A notice is sent inside the transaction of the change, so that there is one exactly when there was a
change. What was sent while nobody listened is lost: after each connect the caller is told of a gap,
and must take everything for changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CHANNEL", "listen"]

_log = logging.getLogger("fastgate.store")

CHANNEL = "fastgate_changes"

# A server that went away without a word (no FIN) is noticed after one of these, and a timeout.
_PROBE_S = 5.0
_PROBE_TIMEOUT_S = 5.0
_RETRY_S = 0.5

_PASSING = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def listen(
    connect: Callable[[], Awaitable[Any]],
    origin: str,
    on_notice: Callable[[str, str], None],
    on_gap: Callable[[], None],
) -> None:
    """Call `on_notice(kind, id)` for each change of another origin, until cancelled.

    `on_gap` is called whenever something may have been missed, the first connect included.
    """
    heard = True
    while True:
        try:
            await _listen_once(connect, origin, on_notice, on_gap)
        except _PASSING as error:
            if heard:
                _log.warning(
                    "changes of other gateways are not heard", {"error": type(error).__name__}
                )
            heard = False
        else:
            heard = True
        await asyncio.sleep(_RETRY_S)


async def _listen_once(
    connect: Callable[[], Awaitable[Any]],
    origin: str,
    on_notice: Callable[[str, str], None],
    on_gap: Callable[[], None],
) -> None:
    connection = await connect()
    ended = asyncio.Event()

    def on_message(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
        sender, kind, changed = payload.split(" ", 2)
        if sender != origin:
            on_notice(kind, changed)

    try:
        connection.add_termination_listener(lambda _: ended.set())
        await connection.add_listener(CHANNEL, on_message)
        on_gap()
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _PROBE_S)
            if not ended.is_set():
                await connection.execute("SELECT 1", timeout=_PROBE_TIMEOUT_S)
        _log.warning("changes of other gateways are not heard", {"error": "connection lost"})
    finally:
        # Without a farewell: the server may be away, and control on its way out.
        connection.terminate()
