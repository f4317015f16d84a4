"""Keys of the store, as this worker knows them: asked of control once, and remembered.

Both answers are remembered, of bounded number, until control says that something changed
(docs/keys.md). A worker never waits for this: the request does, with a callback; and a key that is
known costs one look-up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from fastgate._core.http1 import ProtocolError
from fastgate.config import stored
from fastgate.errors import GatewayError, Unavailable
from fastgate.gateway.asking import ask_control

if TYPE_CHECKING:
    from fastgate.config.principal import Principal

__all__ = ["ASK", "Keys"]

_log = logging.getLogger("fastgate.keys")

ASK = object()
"""What `find` says of a key that control must be asked for."""

# A principal has some 1.5 KB, so that they take 150 MB at most; a digest of nobody's, 100 bytes.
_MAX_KNOWN = 100_000
_MAX_UNKNOWN = 100_000

_ANSWER_S = 5.0
_AT_ONCE = 32
_MAX_ASKING = 4096

Answer = Callable[[GatewayError | None], None]


class Keys:
    """Belongs to one worker and its loop."""

    def __init__(self, control_socket: str) -> None:
        self._control = control_socket
        self._compile: Callable[[stored.StoredKey], Principal] | None = None
        self._known: dict[bytes, Principal] = {}
        self._unknown: dict[bytes, None] = {}
        self._asking: dict[bytes, list[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes = 0
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def apply(self, compile_key: Callable[[stored.StoredKey], Principal]) -> None:
        """A new Snapshot: what a key's models mean may have changed."""
        self._compile = compile_key
        self.forget("all", [])

    def find(self, digest: bytes) -> Any:
        """Return the key's Principal, None when there is no such key, or ASK."""
        found = self._known.get(digest)
        if found is not None:
            return found
        return None if digest in self._unknown else ASK

    def ask(self, digest: bytes, then: Answer) -> None:
        """Ask control, then call `then`, from the loop: with None, `find` knows; or with an
        error. Raises Unavailable.
        """
        waiting = self._asking.get(digest)
        if waiting is not None:
            waiting.append(then)
            return
        if len(self._asking) >= _MAX_ASKING:
            raise Unavailable("too many unknown keys are being looked up")
        self._asking[digest] = [then]
        task = asyncio.get_running_loop().create_task(self._ask(digest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, kind: str, ids: list[str]) -> None:
        """Something changed: of a key, forget it; of anything else, every key."""
        self._changes += 1
        if kind == "key":
            digests = {bytes.fromhex(name) for name in ids}
            for digest in digests:
                self._unknown.pop(digest, None)
            # A regenerated key's old digest leads to the new one's principal.
            gone = [d for d, p in self._known.items() if d in digests or p.key_hash in digests]
        else:
            gone = list(self._known)
            self._unknown.clear()
        for digest in gone:
            # Connections remember principals, too.
            self._known.pop(digest).revoked = True

    async def _ask(self, digest: bytes) -> None:
        error: GatewayError | None = None
        try:
            async with self._gate, asyncio.timeout(_ANSWER_S):
                status, body, changes = 0, b"", -1
                while changes != self._changes:
                    # What changes while the answer is on its way may not be in it.
                    changes = self._changes
                    path = f"/internal/keys/{digest.hex()}"
                    status, body = await ask_control(self._control, path)
            if status == 200:
                assert self._compile is not None
                self._remember(digest, self._compile(stored.decode(body)))
            elif status == 404:
                self._remember(digest, None)
            else:
                error = Unavailable("the key can't be looked up: the database is not available")
        except (OSError, TimeoutError, ProtocolError, msgspec.ValidationError) as fault:
            _log.warning("a key could not be looked up", {"error": str(fault) or "no answer"})
            error = Unavailable("the key can't be looked up now")
        for then in self._asking.pop(digest):
            then(error)

    def _remember(self, digest: bytes, principal: Principal | None) -> None:
        if principal is None:
            if len(self._unknown) >= _MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            self._unknown[digest] = None
            return
        if len(self._known) >= _MAX_KNOWN:
            self._known.pop(next(iter(self._known))).revoked = True
        self._known[digest] = principal
