"""Who a key stands for. Compiled: its limits are read for every request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgate.config.schema import VirtualKey

__all__ = ["ALL_MODELS", "Principal"]

ALL_MODELS = frozenset({"*", "all-proxy-models"})
"""Entries of a key's `models` that stand for every model."""


class Principal:
    """Who a key stands for, and what it may do. Limits of -1 are none."""

    def __init__(self, key: VirtualKey, *, is_admin: bool = False) -> None:
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
        self.rpm = key.rpm
        self.tpm = key.tpm
        self.max_parallel = key.max_parallel
        self.limited = max(self.rpm, self.tpm, self.max_parallel) >= 0
        self.limit_key = int.from_bytes(self.key_hash[:8], "big")
        """64 bits of the hash: the entry of this key in the shared limit table."""
        self.shown = key.alias or f"sk-...{key.key_hash[-4:]}"
        """What stands for it in messages."""
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

    def __repr__(self) -> str:
        return f"Principal({self.shown!r})"


def _log_members(name: str, team: str) -> bytes:
    members = {"key": name, "team": team} if team else {"key": name}
    return json.dumps(members, separators=(",", ":"))[1:-1].encode() + b","
