"""The fixtures of tests/front.py."""

from tests.front import front, limits, upstream, upstream_settings

__all__ = ["front", "limits", "upstream", "upstream_settings"]
