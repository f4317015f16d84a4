"""What a connection looks up for each request, in a compiled class: no dictionary look-ups.

`Worker` is its one subclass; connections see it as this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import ssl

    from fastgate.config.schema import Limits

__all__ = ["Shared"]


class Shared:
    """Settings in the units that connections work with, set by `Worker.apply`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.limits: Any = None
        self.tls: ssl.SSLContext | None = None
        self.draining = False

    def apply_limits(self, limits: Limits) -> None:
        """Take over what clients may take."""
        self.limits = limits
        self.head_timeout_ns = int(limits.head_timeout_s * 1e9)
        self.body_idle_ns = int(limits.body_idle_timeout_s * 1e9)
        self.body_timeout_ns = int(limits.body_timeout_s * 1e9)
        self.keepalive_ns = int(limits.keepalive_timeout_s * 1e9)
        self.send_timeout_ns = int(limits.send_timeout_s * 1e9)
        self.max_body_bytes = limits.max_body_bytes
        self.max_upload_bytes = limits.max_upload_bytes
        self.high_water_bytes = limits.high_water_bytes
