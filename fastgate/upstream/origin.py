"""Where a pool connects to, and with which TLS: the pool's key, as a value."""

from __future__ import annotations

import ssl
from typing import NamedTuple

__all__ = ["Origin", "tls_context"]


class Origin(NamedTuple):
    """Deployments with an equal origin share one pool of connections."""

    scheme: str
    host: str
    port: int
    unix_socket: str = ""
    ca_file: str = ""
    tls_verify: bool = True
    server_name: str = ""

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    def __str__(self) -> str:
        return self.unix_socket or f"{self.scheme}://{self.host}:{self.port}"


def tls_context(origin: Origin) -> ssl.SSLContext | None:
    """Return the client context for `origin`, None for a plain one. Raises OSError or ssl.SSLError
    on a bad CA file.
    """
    if not origin.tls:
        return None
    context = ssl.create_default_context(cafile=origin.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not origin.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
