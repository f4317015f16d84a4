"""Secrets at rest: AES-256-GCM under a key that is derived from a secret the database has not.

A sealed value is text, `sealed:v1:` and base64 of nonce, ciphertext and tag. It is bound to its
place (`where`), so that one copied to another row or field can't be opened there.
"""

from __future__ import annotations

import base64
import binascii
import os

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "secrets in the database need pip install fastgate[sealing]", name="cryptography"
    ) from None

__all__ = ["PREFIX", "Sealer", "Unsealable"]

PREFIX = "sealed:v1:"
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2: 96 bits, random; fine up to 2**32 values a key.


class Unsealable(ValueError):
    """The value was sealed under another secret, for another place, or was changed."""


class Sealer:
    """Seals and opens under one secret: LITELLM_SALT_KEY, or the master key."""

    def __init__(self, secret: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"fastgate secrets at rest v1")
        self._cipher = AESGCM(derived.derive(secret.encode()))

    def seal(self, text: str, where: str) -> str:
        """Return `text` sealed for the place `where`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), where.encode())
        return PREFIX + base64.urlsafe_b64encode(sealed).decode()

    def open(self, sealed: str, where: str) -> str:
        """Return what was sealed. Raises Unsealable."""
        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(PREFIX))
            nonce, content = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, content, where.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise Unsealable(
                "it can't be opened: LITELLM_SALT_KEY, or without one the master key, is not what "
                "it was when the value was stored"
            ) from None
