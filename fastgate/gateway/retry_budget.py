"""How many retries a worker may make, whatever fails: a storm must not be multiplied."""

from __future__ import annotations

__all__ = ["RetryBudget"]

BUDGET_RATIO = 0.2
BUDGET_LEAST = 3
BUDGET_WINDOW_NS = 10_000_000_000


class RetryBudget:
    """At most 20 % of requests + 3 may be retries, over the last 10 to 20 s (Finagle's and
    Linkerd's shape).
    """

    def __init__(self) -> None:
        self.until_ns = 0
        self.requests = 0
        self.requests_before = 0
        self.retries = 0
        self.retries_before = 0

    def on_request(self, now_ns: int) -> None:
        if now_ns >= self.until_ns:
            self._turn(now_ns)
        self.requests += 1

    def on_retry(self, now_ns: int) -> None:
        if now_ns >= self.until_ns:
            self._turn(now_ns)
        self.retries += 1

    def allows(self, now_ns: int) -> bool:
        """May one more request be retried now?"""
        if now_ns >= self.until_ns:
            self._turn(now_ns)
        requests = self.requests + self.requests_before
        retries = self.retries + self.retries_before + 1
        return retries <= BUDGET_LEAST + BUDGET_RATIO * requests

    def _turn(self, now_ns: int) -> None:
        recent = now_ns < self.until_ns + BUDGET_WINDOW_NS
        self.requests_before = self.requests if recent else 0
        self.retries_before = self.retries if recent else 0
        self.requests = self.retries = 0
        self.until_ns = now_ns + BUDGET_WINDOW_NS
