"""The contract of a peer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Direct", "Peer", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: its port, its upstream's port on 127.0.0.1, a folder of its own."""

    port: int
    upstream_port: int
    folder: Path


class Peer:
    """One thing that requests can be sent through."""

    name = ""
    key = ""
    """The bearer token that its clients send."""

    def missing(self) -> str:
        """Return what must be installed, or "" when the peer can run."""
        return ""

    def command(self, place: Place) -> list[str]:
        """Write what the peer needs into its folder; return how to start it in the foreground.

        Empty: there is no process to start.
        """
        return []

    def environment(self, place: Place) -> dict[str, str]:
        """What to add to the environment."""
        return {}


class Direct(Peer):
    """No process at all: clients talk to the engine."""

    name = "direct"
