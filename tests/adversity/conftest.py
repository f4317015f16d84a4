"""The fixtures of tests/front.py."""

from tests.front import (
    front,
    limits,
    router_settings,
    running_front,
    upstream,
    upstream_settings,
)

__all__ = [
    "front",
    "limits",
    "router_settings",
    "running_front",
    "upstream",
    "upstream_settings",
]
