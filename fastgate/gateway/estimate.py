"""What a request will come to, as far as one can tell before: learnt from what its model answered.

Prompts are estimated by their bytes (tokens/ratio.py). Where the client sets no limit to an answer,
it is taken to be no longer than the mean and four mean deviations of those seen, recent ones
weighing more: how TCP bounds round trips (RFC 6298), a bound that few answers pass.
"""

from __future__ import annotations

from fastgate.tokens.ratio import Ratio

__all__ = ["Estimate"]

FIRST_OUTPUT = 4096
"""Reserved for an answer of which nothing is known."""
LEAST_OUTPUT = 64


class Estimate:
    """Of one model, in one worker. O(1) in time and space."""

    def __init__(self) -> None:
        self.ratio = Ratio()
        self._mean = 0.0
        self._deviation = 0.0
        self._seen = False

    def prompt(self, size_bytes: int) -> int:
        """Return about how many tokens a prompt of that size has."""
        return self.ratio.estimate(size_bytes)

    def output(self) -> int:
        """Return the tokens of a usual answer."""
        return int(self._mean)

    def most_output(self, max_tokens: int) -> int:
        """Return the tokens to reserve for an answer. `max_tokens`: its limit, -1: none."""
        if max_tokens >= 0:
            return max_tokens
        if not self._seen:
            return FIRST_OUTPUT
        return max(LEAST_OUTPUT, int(self._mean + 4 * self._deviation))

    def learn(self, size_bytes: int, prompt: int, output: int) -> None:
        """Take in what the provider counted, in tokens."""
        self.ratio.learn(size_bytes, prompt)
        if output < 0:
            return
        if not self._seen:
            self._seen = True
            self._mean = output
            self._deviation = output / 2
            return
        error = output - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4
