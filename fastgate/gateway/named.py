"""Customers and tags that requests name, as this worker knows them: asked of control once.

Clients make names up, so what is remembered is bounded, and most of it is that there is nothing to
be held to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from fastgate._core.http1 import ProtocolError
from fastgate.config.scopes import Scoped, of_named
from fastgate.config.stored import NamedScopes
from fastgate.errors import AuthenticationError, GatewayError, Unavailable
from fastgate.gateway.asking import ask_control

if TYPE_CHECKING:
    Name = tuple[str, str]
    """Kind (customer | tag), id."""

__all__ = ["Named"]

_log = logging.getLogger("fastgate.keys")

MAX_KNOWN = 100_000
MAX_JOINED = 10_000
MAX_ASKING = 4096
_ANSWER_S = 5.0
_AT_ONCE = 32

_decode = msgspec.msgpack.Decoder(NamedScopes).decode


class Named:
    """Belongs to one worker and its loop."""

    def __init__(self, control_socket: str) -> None:
        self._control = control_socket
        self._known: dict[Name, NamedScopes | None] = {}
        self._joined: dict[object, Scoped | None] = {}
        self._asking = 0
        self._changes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def knows(self, names: tuple[Name, ...]) -> bool:
        """Return whether nothing need be asked for these."""
        return all(name in self._known for name in names)

    def ask(self, names: tuple[Name, ...], then: Callable[[GatewayError | None], None]) -> None:
        """Ask control, then call `then`, from the loop: with None, or what is wrong. Raises
        Unavailable.
        """
        if self._asking >= MAX_ASKING:
            raise Unavailable("too many unknown customers and tags are being looked up")
        self._asking += 1
        task = asyncio.get_running_loop().create_task(self._ask(names, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def joined(self, scoped: Scoped | None, names: tuple[Name, ...], group: str) -> Scoped | None:
        """Return `scoped` with what these names are held to in requests for the model group
        `group`. Raises AuthenticationError when one of them is blocked.
        """
        key = (scoped, names, group)
        if key not in self._joined:
            if len(self._joined) >= MAX_JOINED:
                self._joined.clear()
            found = scoped
            for name in names:
                named = self._known.get(name)
                if named is None:
                    continue
                if named.blocked:
                    raise AuthenticationError(f"User blocked: {name[0]}={name[1]}")
                more = of_named(named, group)
                if more is not None:
                    found = more if found is None else found.joined(more)
            self._joined[key] = found
        return self._joined[key]

    def forget(self, kind: str, ids: Iterable[str]) -> None:
        """Something changed: of a customer or tag, forget it; of anything else, all of them."""
        self._changes += 1
        if kind in ("customer", "tag"):
            for name in ids:
                self._known.pop((kind, name), None)
        else:
            self._known.clear()
        self._joined.clear()

    async def _ask(
        self, names: tuple[Name, ...], then: Callable[[GatewayError | None], None]
    ) -> None:
        error: GatewayError | None = None
        try:
            async with self._gate, asyncio.timeout(_ANSWER_S):
                for name in names:
                    if name not in self._known:
                        await self._look_up(name)
        except (OSError, TimeoutError, ProtocolError, msgspec.ValidationError) as fault:
            _log.warning("a name could not be looked up", {"error": str(fault) or "no answer"})
            error = Unavailable("the customer or a tag can't be looked up now")
        except GatewayError as fault:
            error = fault
        self._asking -= 1
        then(error)

    async def _look_up(self, name: Name) -> None:
        kind, named = name
        changes = -1
        while changes != self._changes:
            # What changes while the answer is on its way may not be in it.
            changes = self._changes
            path = f"/internal/scopes/{kind}?id={quote(named, safe='')}"
            status, body = await ask_control(self._control, path)
        if status not in (200, 404):
            raise Unavailable("the database is not available")
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
            self._joined.clear()
        self._known[name] = _decode(body) if status == 200 else None
