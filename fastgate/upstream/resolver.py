"""Names to addresses, remembered for `ttl_s`; while look-ups fail, the last good answer is used on.

The look-up itself runs in the loop's thread pool. TTLs of the DNS are not visible through
getaddrinfo, so one cap (30 s unless set) stands for all of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from time import monotonic

__all__ = ["Resolver"]


class Resolver:
    """Shared by all pools of a worker."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self._known: dict[tuple[str, int], tuple[float, list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the host's addresses, in the resolver's order. Raises OSError when there never
        were any.
        """
        if _is_address(host):
            return [host]
        key = (host, port)
        known = self._known.get(key)
        if known is not None and monotonic() - known[0] < self.ttl_s:
            return known[1]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except OSError:
            if known is None:
                raise
            # Asked again after another ttl_s, not for each connection.
            self._known[key] = (monotonic(), known[1])
            return known[1]
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        self._known[key] = (monotonic(), addresses)
        return addresses


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
