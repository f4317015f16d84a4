"""Model name patterns: `*` stands for any text, also none. Nothing here backtracks."""

from __future__ import annotations

import re

__all__ = ["expand", "is_plain", "literal_length", "matches", "star"]

_PLAIN = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}")


def is_plain(name: str) -> bool:
    """Return whether `name` may stand in URLs, headers, logs and metrics as it is.

    What only a wildcard matches is made up by the client, so it must be plain.
    """
    return _PLAIN.fullmatch(name) is not None and ".." not in name


def star(pattern: str, name: str) -> str | None:
    """Return what the one `*` of `pattern` stands for in `name`; None: they don't match."""
    before, _, after = pattern.partition("*")
    if len(name) < len(before) + len(after):
        return None
    if not name.startswith(before) or not name.endswith(after):
        return None
    return name[len(before) : len(name) - len(after)]


def expand(pattern: str, matched: str) -> str:
    """Return `pattern` with its `*` replaced."""
    return pattern.replace("*", matched, 1)


def matches(pattern: str, name: str) -> bool:
    """Return whether `name` is one of those that `pattern`, with any number of `*`, stands for."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    last = rest.pop()
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at = len(first)
    end = len(name) - len(last)
    for piece in rest:
        # Leftmost is best: it leaves the most room for the pieces after it.
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def literal_length(pattern: str) -> int:
    """Return how many characters of `pattern` stand for themselves."""
    return len(pattern) - pattern.count("*")
