"""Stage `authenticate`: a key field -> the principal it stands for.

Keys are known by their SHA-256 only; the look-up is by digest, so its timing tells nothing of a
key. A connection remembers the field it saw last: most clients send the same one on and on, and
comparing them is cheaper than hashing (0.01 against 0.34 us, measured).
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from fastgate.errors import AuthenticationError
from fastgate.gateway.clock import unix_ms
from fastgate.gateway.keys import ASK

if TYPE_CHECKING:
    from fastgate.config.principal import Principal
    from fastgate.gateway.context import Context
    from fastgate.gateway.keys import Keys

__all__ = ["allowed", "authenticate", "key_in"]

# In LiteLLM's order; `authorization` stands before them all.
_KEY_FIELDS = (
    b"api-key",
    b"x-api-key",
    b"x-goog-api-key",
    b"ocp-apim-subscription-key",
    b"x-litellm-api-key",
)
_SHOWN_CHARS = 4

# LiteLLM's names for groups of routes that ask models.
_MODEL_ROUTES = ("llm_api_routes", "openai_routes", "anthropic_routes")


def authenticate(context: Context, downstream: Any, keys: Keys | None) -> bytes | None:
    """Set the context's principal; or return the digest of a key that `keys` must ask for. Raises
    AuthenticationError.
    """
    snapshot = context.snapshot
    reader = context.reader
    field = None
    if context.catalog.key_header:
        field = reader.value(context.catalog.key_header)
    if field is None:
        field = reader.value(b"authorization")
    if field is None:
        for name in _KEY_FIELDS:
            field = reader.value(name)
            if field is not None:
                break
    if (
        field is not None
        and snapshot is downstream.key_snapshot
        and field == downstream.key_field
        and not downstream.key_principal.revoked
        and not downstream.key_principal.expires_unix_ms
    ):
        context.principal = downstream.key_principal
        return None
    principal = _look_up(snapshot, field, reader.value(b"authorization"), keys)
    if isinstance(principal, bytes):
        return principal
    downstream.key_field = field
    downstream.key_principal = principal
    downstream.key_snapshot = snapshot
    context.principal = principal
    return None


def key_in(field: bytes) -> bytes:
    """Return the key in a field's value: behind `Bearer `, or the whole of it."""
    return field[7:].strip() if field[:7].lower() == b"bearer " else field


def allowed(principal: Principal, path: bytes) -> bool:
    """May the key be used for a model, at this path? Raises nothing."""
    shown = path.decode("ascii", "replace")
    return not principal.routes or any(
        route in _MODEL_ROUTES
        or route == shown
        or (route.endswith("/*") and shown.startswith(route[:-1]))
        for route in principal.routes
    )


def _valid(principal: Principal) -> Principal:
    """Return the principal of a key of the store, if it may be used. Raises AuthenticationError."""
    if principal.blocked == "team":
        raise AuthenticationError(
            f"Authentication Error, Team={principal.team} is blocked. Update via `/team/unblock` "
            "if you're an admin."
        )
    if principal.blocked:
        raise AuthenticationError(
            "Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin."
        )
    now_ms = unix_ms()
    if 0 < principal.expires_unix_ms <= now_ms:
        expiry, now = (
            datetime.fromtimestamp(ms / 1000, UTC) for ms in (principal.expires_unix_ms, now_ms)
        )
        raise AuthenticationError(
            f"Authentication Error - Expired Key. Key Expiry time {expiry} and current time {now}",
            type="expired_key",
        )
    return principal


def _look_up(
    snapshot: Any, field: bytes | None, authorization: bytes | None, keys: Keys | None
) -> Principal | bytes:
    """Return the principal, or the digest of a key to be asked for."""
    if snapshot.is_open:
        anyone: Principal = snapshot.anyone
        return anyone
    if not field:
        raise AuthenticationError("Authentication Error, No api key passed in.")
    key = key_in(field)
    digest = sha256(key).digest()
    principal: Principal | None = snapshot.principal(digest)
    if principal is not None:
        return principal
    if field == authorization and field[:7].lower() != b"bearer ":
        raise AuthenticationError(
            "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix."
        )
    if not key.startswith((b"sk-", b"fg-")):
        raise AuthenticationError(
            "Authentication Error, LiteLLM Virtual Key expected. "
            f"Received={_masked(key[:2])}**, expected to start with 'sk-'."
        )
    found = None if keys is None else keys.find(digest)
    if found is ASK:
        return digest
    if found is not None:
        return _valid(found)
    raise AuthenticationError(
        "Authentication Error, Invalid proxy server token passed. Received API Key = "
        f"sk-...{_masked(key[-_SHOWN_CHARS:])}, Key Hash (Token) ={digest.hex()}. "
        "Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
        type="token_not_found_in_db",
        param="key",
    )


def _masked(piece: bytes) -> str:
    return "".join(chr(byte) if 0x21 <= byte < 0x7F else "?" for byte in piece)
