"""Tokens from bytes, for a model whose vocabulary is not public: learnt from the usage it reports.

The ratio is that of two sums, all bytes by all tokens, the recent ones weighing more so that a
change of traffic is followed. So what is wrong with single estimates (a prompt of code among prose)
cancels out over many requests, which is what limits and budgets add up. Averaging the requests'
own ratios would be a little nearer for each and 4 % too low in sum.
"""

from __future__ import annotations

__all__ = ["Ratio"]

_KEPT = 0.98
"""Of the sums, at each answer: about the last 50 count."""
_FIRST_TOKENS = 200.0
"""A guess to begin with, worth one short prompt: 4 bytes a token, as English in o200k."""
_FIRST_BYTES = 4 * _FIRST_TOKENS


class Ratio:
    """What one model has shown so far. O(1) in time and space."""

    def __init__(self) -> None:
        self._bytes = _FIRST_BYTES
        self._tokens = _FIRST_TOKENS

    @property
    def bytes_per_token(self) -> float:
        return self._bytes / self._tokens

    def estimate(self, size_bytes: int) -> int:
        """Return about how many tokens a prompt of that size has, rounded up."""
        return -int(-size_bytes * self._tokens // self._bytes)

    def learn(self, size_bytes: int, tokens: int) -> None:
        """Take in what the provider counted for a prompt; nothing where either is not positive."""
        if size_bytes > 0 and tokens > 0:
            self._bytes = self._bytes * _KEPT + size_bytes
            self._tokens = self._tokens * _KEPT + tokens
