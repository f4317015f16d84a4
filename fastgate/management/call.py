"""One call of the API: who asks, what for, and what they may touch.

A route's rule (`routes.py`) lets a role in or not. For those let in for what is theirs, the
handlers ask here, object by object: the methods of Caller that begin with `may_`.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgate.errors import AuthenticationError, BadRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastgate.config.schema import Config
    from fastgate.store import Row, Store
    from fastgate.store.sealing import Sealer

__all__ = ["MASTER", "Call", "Caller", "Invalid", "Service", "digest_of", "identify"]

MASTER = "default_user_id"
"""LiteLLM's name for whoever has the master key."""


class Invalid(Exception):
    """A body or query that does not fit: 422, with FastAPI's `detail`."""

    def __init__(self, message: str, *where: str) -> None:
        super().__init__(message)
        self.detail = [{"type": "value_error", "loc": list(where or ("body",)), "msg": message}]


class Caller(NamedTuple):
    """Who asks."""

    role: str
    """proxy_admin, proxy_admin_viewer, internal_user, internal_user_viewer, or key_owner: a key
    that belongs to no user, or to one we don't know."""
    user_id: str | None
    key_hash: str | None
    """None: the master key."""
    key_team_id: str | None = None
    teams: dict[str, str] = {}
    """Team id -> admin | user."""
    routes: tuple[str, ...] = ()
    """The key's `allowed_routes`; none: every one."""

    @property
    def is_admin(self) -> bool:
        return self.role == "proxy_admin"

    @property
    def standing(self) -> str:
        """Whose column of the table of routes is theirs: a user's who leads a team, or the role."""
        leads = self.role == "internal_user" and "admin" in self.teams.values()
        return "team_admin" if leads else self.role

    @property
    def sees_all(self) -> bool:
        return self.role in ("proxy_admin", "proxy_admin_viewer")

    @property
    def name(self) -> str:
        return self.user_id or self.key_hash or MASTER

    def may_see_key(self, key: Row) -> bool:
        return (
            self.sees_all
            or key["key_hash"] == self.key_hash
            or (self.user_id is not None and key["user_id"] == self.user_id)
            or self.teams.get(key["team_id"]) == "admin"
        )

    def may_hold_key(self, key: Row) -> bool:
        """May the caller know the secret of this key? Who shows a key is its user: a team's admin
        with a member's key would be that member everywhere.
        """
        if self.is_admin:
            return True
        # A key for some things must not become one for more.
        within = not self.routes or key["key_hash"] == self.key_hash
        return within and (key["user_id"] is None or self.owns(key))

    def may_change_key(self, key: Row) -> bool:
        if self.is_admin:
            return True
        if self.role != "internal_user":
            return False
        return self.owns(key) or self.teams.get(key["team_id"]) == "admin"

    def owns(self, key: Row) -> bool:
        return self.user_id is not None and key["user_id"] == self.user_id

    def may_see_team(self, team_id: str) -> bool:
        return self.sees_all or team_id in self.teams or team_id == self.key_team_id

    def may_change_team(self, team_id: str) -> bool:
        return self.is_admin or (
            self.role == "internal_user" and self.teams.get(team_id) == "admin"
        )

    def may_see_user(self, user_id: str | None) -> bool:
        return self.sees_all or (user_id is not None and user_id == self.user_id)


class Service(NamedTuple):
    """What all calls share."""

    store: Store
    config: Callable[[], Config]
    changed: Callable[[str, list[str]], None]
    """Told after each change: what kind of thing (`key`, `team`, ...), and which ids."""
    sealer: Sealer | None = None
    """Seals secrets before they are stored; None: they are refused."""


class Call:
    """What a handler gets."""

    def __init__(
        self, service: Service, caller: Caller, body: Any, query: Any, path: dict[str, str]
    ) -> None:
        self.service = service
        self.store = service.store
        self.caller = caller
        self.body = body
        """The route's struct; None where it takes none."""
        self.query = query
        self.path = path
        """What stands in the path's braces."""
        self.now = datetime.now(UTC)
        self.changes: list[tuple[str, list[str]]] = []

    def refuse(self, what: str) -> AuthenticationError:
        """Return the error for an object that isn't the caller's."""
        return AuthenticationError(
            f"Authentication Error, {what}. Your role={self.caller.role}", status=403
        )

    async def one(self, table: str, column: str, value: str, *, lock: Any = None) -> Row:
        """Return the row, or raise NotFound. The names are ours, never the client's."""
        row = await (lock or self.store).fetch_one(
            f"SELECT * FROM {table} WHERE {column} = $1",  # noqa: S608  see above
            value,
        )
        if row is None:
            what = column.removesuffix("_id").removesuffix("_hash")
            raise NotFound(f"{what.capitalize()} not found in database", param=what)
        return row

    def changed(self, kind: str, ids: Iterable[str]) -> None:
        """Have workers told when the handler is done: not before its transaction is, or they would
        ask again too early and remember what was.
        """
        listed = list(ids)
        if listed:
            self.changes.append((kind, listed))


def digest_of(key: str) -> str:
    """Return the SHA-256 that a key is known by. What does not look like a key is a digest."""
    if key.startswith("sk-"):
        return hashlib.sha256(key.encode()).hexdigest()
    return key


async def identify(store: Store, role: str, key_hash: str) -> Caller:
    """Return who the worker says it is: the admin, or the holder of the key with this digest.

    Raises AuthenticationError, BadRequest.
    """
    if role == "admin":
        return Caller("proxy_admin", MASTER, None)
    if not key_hash:
        raise AuthenticationError("Authentication Error, No api key passed in.")
    key = await store.fetch_one("SELECT * FROM virtual_keys WHERE key_hash = $1", key_hash)
    if key is None:
        # A key from the configuration: it has no rows, so nothing is its own.
        return Caller("key_owner", None, key_hash)
    if key["blocked"] or (key["expires"] is not None and key["expires"].timestamp() < time.time()):
        raise AuthenticationError("Authentication Error, Key is blocked or expired.")
    routes = tuple(key["allowed_routes"])
    user = None
    if key["user_id"] is not None:
        user = await store.fetch_one("SELECT * FROM users WHERE user_id = $1", key["user_id"])
    if user is None:
        return Caller("key_owner", None, key_hash, key["team_id"], {}, routes)
    rows = await store.fetch(
        "SELECT team_id, role FROM team_members WHERE user_id = $1", user["user_id"]
    )
    teams = {row["team_id"]: row["role"] for row in rows}
    return Caller(user["user_role"], user["user_id"], key_hash, key["team_id"], teams, routes)


def need(value: str | None, name: str) -> str:
    """Return a value that a route can't do without. Raises BadRequest."""
    if not value:
        raise BadRequest(f"expected {name}, got none", param=name)
    return value
