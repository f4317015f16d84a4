"""Who a key stands for. Compiled: its limits are read for every request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastgate.config.scopes import Scoped, of_key, of_stored

if TYPE_CHECKING:
    from fastgate.config.schema import Budget, VirtualKey
    from fastgate.config.stored import StoredKey

__all__ = ["ALL_MODELS", "Principal"]

ALL_MODELS = frozenset({"*", "all-proxy-models"})
"""Entries of a key's `models` that stand for every model."""

MAX_GROUPS = 1_000
"""Remembered by a key; wildcards have any number of them."""


class Principal:
    """Who a key stands for, and what it may do."""

    def __init__(
        self, key: VirtualKey, *, is_admin: bool = False, everywhere: list[Budget] | None = None
    ) -> None:
        self.alias = key.alias
        self.team = key.team
        self.key_hash = bytes.fromhex(key.key_hash)
        """SHA-256 of the key; empty for the caller of an open gateway."""
        self.is_admin = is_admin
        self.models = list(key.models)
        """As configured, for error messages."""
        self.all_models = is_admin or not key.models or not ALL_MODELS.isdisjoint(key.models)
        self.names: frozenset[str] = frozenset()
        """Model names it may ask for, access groups and aliases resolved."""
        self.patterns: tuple[str, ...] = ()
        self.shown = key.alias or f"sk-...{key.key_hash[-4:]}"
        """What stands for it in messages."""
        self.scoped: Scoped | None = of_key(key, self.shown, everywhere or [])
        """What its requests must fit; None: nothing limits them."""
        self.by_group: dict[str, Scoped | None] | None = None
        """The same by model group, where that makes a difference; made when first asked for."""
        self.stored: StoredKey | None = None
        """As control told; None: a key of the configuration."""
        self.everywhere: list[Budget] = everywhere or []
        """Budgets that hold for every key."""
        self.narrowed: list[Principal] | None = None
        """When set, a model must be allowed by each of these: the key, its team, its user, ..."""
        self.aliases: dict[str, str] = {}
        """Model names of its own."""
        self.user_id = ""
        self.organization_id = ""
        self.tags: list[str] = []
        """Of the key and its team: on every row of theirs."""
        self.bookings: dict[object, object] = {}
        """Where its requests are booked; the data plane's own."""
        self.routes: list[str] = []
        """What it may ask for; empty: everything."""
        self.blocked = ""
        """key | team: what of it is blocked."""
        self.expires_unix_ms = 0
        """0: never."""
        self.revoked = False
        """Its key changed: to be looked up again."""
        self.log_members = _log_members(self.alias or key.key_hash[:16], self.team)
        """Its part of an access log line: JSON members, each with a comma behind it."""

    def scoped_for(self, group: str) -> Scoped | None:
        """Return what requests for the model group `group` must fit; None: nothing."""
        if self.by_group is None:
            return self.scoped
        if group not in self.by_group:
            if len(self.by_group) >= MAX_GROUPS:
                self.by_group.clear()
            assert self.stored is not None
            self.by_group[group] = of_stored(self.stored, self.shown, group, self.everywhere)
        return self.by_group[group]

    def __repr__(self) -> str:
        return f"Principal({self.shown!r})"


def _log_members(name: str, team: str) -> bytes:
    members = {"key": name, "team": team} if team else {"key": name}
    return json.dumps(members, separators=(",", ":"))[1:-1].encode() + b","
