"""Takes our own credentials out of what an upstream says when it fails.

Some servers, and debugging pages of proxies before them, quote the request's head in their errors.
The key in it is the operator's, and the error goes to a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastgate.config.schema import Deployment

__all__ = ["scrubbed"]

# Shorter values are no secrets but versions and flags, which an error may well have to name.
_SECRET_BYTES = 12
_HIDDEN = b"[redacted]"


def scrubbed(content: bytes, deployment: Deployment) -> bytes:
    """Return an error's body without the key and the header values that `deployment` is sent."""
    values = [value.encode("latin-1") for value in deployment.headers.values()]
    # "Bearer KEY": the key by itself is as secret.
    for value in (deployment.auth_value.rpartition(b" ")[2], *values):
        if len(value) >= _SECRET_BYTES:
            content = content.replace(value, _HIDDEN)
    return content
