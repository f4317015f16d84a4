"""The retry budget: a fifth of the requests, and three, over the last 10 to 20 s."""

from __future__ import annotations

import random

from fastgate.gateway.retry_budget import (
    BUDGET_LEAST,
    BUDGET_RATIO,
    BUDGET_WINDOW_NS,
    RetryBudget,
)

SECOND = 1_000_000_000
START_NS = 5 * SECOND


def spend(budget: RetryBudget, now_ns: int) -> int:
    """Retry as often as is allowed; return how often."""
    retries = 0
    while budget.allows(now_ns):
        budget.on_retry(now_ns)
        retries += 1
        assert retries < 10_000
    return retries


def test_a_few_are_allowed_before_any_request() -> None:
    assert spend(RetryBudget(), START_NS) == BUDGET_LEAST == 3


def test_a_fifth_of_the_requests_more() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.on_request(START_NS)
    assert spend(budget, START_NS) == 23
    budget.on_request(START_NS)
    assert spend(budget, START_NS) == 0
    for _ in range(4):
        budget.on_request(START_NS)
    assert spend(budget, START_NS) == 1


def test_the_window_before_still_counts() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.on_request(START_NS)
    assert spend(budget, START_NS + BUDGET_WINDOW_NS) == 23
    assert spend(budget, START_NS + BUDGET_WINDOW_NS + SECOND) == 0


def test_two_windows_on_nothing_is_left_of_it() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.on_request(START_NS)
    assert spend(budget, START_NS) == 23
    assert spend(budget, START_NS + 2 * BUDGET_WINDOW_NS) == 3


def test_an_old_storm_does_not_forbid_new_retries() -> None:
    budget = RetryBudget()
    assert spend(budget, START_NS) == 3
    later_ns = START_NS + 3600 * SECOND
    assert budget.allows(later_ns)


def test_any_run_of_requests_is_amplified_by_a_fifth_at_most() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        budget = RetryBudget()
        now_ns = START_NS
        requests = retries = 0
        for _ in range(2000):
            now_ns += chance.randrange(0, 20_000_000)
            budget.on_request(now_ns)
            requests += 1
            while budget.allows(now_ns) and chance.random() < 0.9:
                budget.on_retry(now_ns)
                retries += 1
        # The least is given anew for each window, as it is for a gateway that has few requests.
        windows = (now_ns - START_NS) // BUDGET_WINDOW_NS + 1
        assert retries <= BUDGET_RATIO * requests + BUDGET_LEAST * windows
