"""What control tells a worker about a key from the store: the principal with everything above it.

It travels as msgpack, in answer to `GET /internal/keys/{digest}`, and is remembered by the worker
until control says that something in it changed.
"""

from __future__ import annotations

import msgspec

from fastgate.config.schema import Budget, VirtualKey

__all__ = ["Budget", "NamedScopes", "Scope", "StoredKey", "decode", "encode"]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that limits and a budget may be set on. A request must fit all of its scopes."""

    kind: str
    """key | team | team_member | user | organization"""
    id: str
    """Of a member: `TEAM/USER`."""
    rpm: int = -1
    """This and the next three: -1 is none."""
    tpm: int = -1
    tpd: int = -1
    max_parallel: int = -1
    max_budget_nano_usd: int = -1
    """-1: none. A temporary increase is in it."""
    soft_budget_nano_usd: int = -1
    spend_nano_usd: int = 0
    """Since the budget's last reset, as far as it is in the store."""
    budget_reset_unix_s: float = 0.0
    """0: never."""
    model_rpm: dict[str, int] = {}
    model_tpm: dict[str, int] = {}
    model_max_budget: dict[str, object] = {}


class StoredKey(VirtualKey, frozen=True, kw_only=True):
    """A key of the store. `key_hash` is the one to book under: for a key that was regenerated and
    is still in its grace period, the hash of its successor.
    """

    user_id: str = ""
    organization_id: str = ""
    role: str = ""
    """Of the user; empty: the key has none."""
    blocked: str = ""
    """What is blocked: key | team; empty: nothing."""
    expires_unix_s: float = 0.0
    """0: never. Of a regenerated key: when its grace period ends."""
    team_models: list[str] = []
    """These three narrow `models`, each by itself; empty: they don't."""
    user_models: list[str] = []
    organization_models: list[str] = []
    aliases: dict[str, str] = {}
    """Model names of the key's own, then the team's."""
    tags: list[str] = []
    allowed_routes: list[str] = []
    scopes: list[Scope] = []
    budgets: list[Budget] = []


class NamedScopes(msgspec.Struct, frozen=True, kw_only=True):
    """A customer or a tag that a request names: an answer to `GET /internal/scopes/{kind}?id=`."""

    blocked: bool = False
    scopes: list[Scope] = []
    budgets: list[Budget] = []


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(StoredKey)


def encode(key: StoredKey) -> bytes:
    """Return `key` as it travels."""
    return _ENCODER.encode(key)


def decode(data: bytes) -> StoredKey:
    """Return the key that `encode` was given. Raises msgspec.ValidationError."""
    return _DECODER.decode(data)
