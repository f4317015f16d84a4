"""`general_settings.allowed_ips`: from where keys are accepted at all.

Asked once per address and then remembered. Routes without a key (probes, metrics) stay open to
whoever reaches the port; a Unix socket is of this machine.
"""

from __future__ import annotations

import ipaddress

from fastgate.errors import AuthenticationError

__all__ = ["Addresses"]

# Addresses that were judged; one takes some 200 bytes.
_MAX_KNOWN = 10_000


class Addresses:
    """The networks that may ask."""

    def __init__(self, networks: list[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._known: dict[str, bool] = {"unix": True}

    def check(self, peer: str) -> None:
        """Return if who connected from `peer` may ask. Raises AuthenticationError."""
        allowed = self._known.get(peer)
        if allowed is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known = {"unix": True}
            allowed = self._known[peer] = self._judge(peer)
        if not allowed:
            raise AuthenticationError(
                f"Access forbidden: IP address {peer} not allowed.", status=403
            )

    def _judge(self, peer: str) -> bool:
        # fe80::1%eth0: the zone is ours to know, not part of the address.
        address = ipaddress.ip_address(peer.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            # What a socket for both families says of an IPv4 client.
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
