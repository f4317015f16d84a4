"""Stage `authenticate`: a key field -> the principal it stands for.

Keys are known by their SHA-256 only; the look-up is by digest, so its timing tells nothing of a
key. A connection remembers the field it saw last: most clients send the same one on and on, and
comparing them is cheaper than hashing (0.01 against 0.34 us, measured).
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from fastgate.errors import AuthenticationError

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["authenticate", "key_in"]

# In LiteLLM's order; `authorization` stands before them all.
_KEY_FIELDS = (
    b"api-key",
    b"x-api-key",
    b"x-goog-api-key",
    b"ocp-apim-subscription-key",
    b"x-litellm-api-key",
)
_SHOWN_CHARS = 4


def authenticate(context: Context, downstream: Any) -> None:
    """Set the context's principal. Raises AuthenticationError."""
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
    if field is not None and snapshot is downstream.key_snapshot and field == downstream.key_field:
        context.principal = downstream.key_principal
        return
    principal = _look_up(snapshot, field, reader.value(b"authorization"))
    downstream.key_field = field
    downstream.key_principal = principal
    downstream.key_snapshot = snapshot
    context.principal = principal


def key_in(field: bytes) -> bytes:
    """Return the key in a field's value: behind `Bearer `, or the whole of it."""
    return field[7:].strip() if field[:7].lower() == b"bearer " else field


def _look_up(snapshot: Any, field: bytes | None, authorization: bytes | None) -> Any:
    if snapshot.is_open:
        return snapshot.anyone
    if not field:
        raise AuthenticationError("Authentication Error, No api key passed in.")
    key = key_in(field)
    digest = sha256(key).digest()
    principal = snapshot.principal(digest)
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
    raise AuthenticationError(
        "Authentication Error, Invalid proxy server token passed. Received API Key = "
        f"sk-...{_masked(key[-_SHOWN_CHARS:])}, Key Hash (Token) ={digest.hex()}. "
        "Unable to find token in cache or `LiteLLM_VerificationTokenTable`",
        type="token_not_found_in_db",
        param="key",
    )


def _masked(piece: bytes) -> str:
    return "".join(chr(byte) if 0x21 <= byte < 0x7F else "?" for byte in piece)
