"""Stages `limit` and `settle`: what a request may take of its scopes.

Requests, tokens, places in flight and money are reserved in all scopes together or not at all; a
refused request takes nothing. Tokens and money are reserved by estimate and corrected to what the
provider counted when that is known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastgate._core.scopes import Held
from fastgate._core.scopes import reserve as take
from fastgate._core.scopes import settle as true_up
from fastgate.errors import BudgetExceeded, LimitExceeded
from fastgate.gateway.clock import unix_us

if TYPE_CHECKING:
    from fastgate._core.bucket import LimitTable
    from fastgate._core.budget import BudgetTable
    from fastgate.config.scopes import Scoped
    from fastgate.gateway.context import Context

__all__ = ["is_stale", "reserve", "settle"]

SEED_NS = 60_000_000_000
"""What control said of money spent is used to begin an entry with no later than that."""

DAY_US = 86_400_000_000

# Of _core.scopes.reserve().
REQUESTS, TOKENS, PARALLEL, TOKENS_DAY, BUDGET, LEASE = 1, 2, 3, 4, 5, 6

_KINDS = {
    REQUESTS: "requests",
    TOKENS: "tokens",
    PARALLEL: "max_parallel_requests",
    TOKENS_DAY: "tokens",
}

# Whose refusals LiteLLM words otherwise than the others'.
_OVER = {"user": "User", "customer": "End User"}


def is_stale(scoped: Scoped, budgets: BudgetTable, now_ns: int) -> bool:
    """Return whether control must be asked anew what was spent: it said so long ago, and nobody has
    kept count since.
    """
    if now_ns - scoped.made_ns < SEED_NS:
        return False
    for key in scoped.budget_keys:  # noqa: SIM110  a generator is an object more
        if budgets.find(key) < 0:
            return True
    return False


def reserve(
    context: Context, scoped: Scoped, limits: LimitTable, budgets: BudgetTable, now_ns: int
) -> None:
    """Take what the request needs of its scopes. Raises LimitExceeded or BudgetExceeded."""
    plan = context.plan
    estimate = plan.estimate
    tokens = estimate.prompt(context.body_end - context.body_start)
    wall_us = unix_us()
    most = -1
    if scoped.budgets:
        most = plan.most_nano(wall_us, tokens, estimate.most_output(context.max_tokens), context.n)
    held = Held()
    refusal = take(limits, budgets, scoped.scopes, held, now_ns, wall_us // DAY_US, tokens, most)
    if refusal:
        raise _refusal(scoped, limits, budgets, held, refusal, now_ns, tokens)
    context.held_scopes = held
    context.scoped = scoped


def settle(
    context: Context, limits: LimitTable, budgets: BudgetTable, now_ns: int, tokens: int
) -> None:
    """Give back the place in flight and what was not used. `tokens`: as the provider counted, -1:
    it did not say.
    """
    held = context.held_scopes
    if held is None:
        return
    context.held_scopes = None
    day = unix_us() // DAY_US
    if tokens < 0 and context.status >= 400:
        # It was refused, or nothing came of it.
        tokens = 0
    true_up(limits, budgets, held, now_ns, day, tokens, context.spend_nano)


def _refusal(
    scoped: Scoped,
    limits: LimitTable,
    budgets: BudgetTable,
    held: Held,
    refusal: int,
    now_ns: int,
    tokens: int,
) -> Exception:
    if refusal == BUDGET:
        return _over_budget(scoped, budgets, held.refused)
    if refusal > TOKENS_DAY:
        return LimitExceeded(
            "too much is in use at once for its limits to be kept; try again",
            detail="leases" if refusal == LEASE else "entries",
            fields=b"retry-after: 1\r\n",
        )
    return _over_limit(scoped, limits, held.refused, refusal, now_ns, tokens)


def _over_limit(
    scoped: Scoped, limits: LimitTable, index: int, refusal: int, now_ns: int, tokens: int
) -> LimitExceeded:
    name = scoped.limits[index]
    entry = limits.find(scoped.limit_keys[index])
    limit = {
        REQUESTS: name.rpm,
        TOKENS: name.tpm,
        PARALLEL: name.max_parallel,
        TOKENS_DAY: name.tpd,
    }[refusal]
    requests_used = limits.requests_used(entry, now_ns)
    tokens_used = limits.tokens_used(entry, now_ns)
    now = datetime.now(UTC)
    if refusal == TOKENS_DAY:
        left = 0
        wait_s = 86_400 - int(now.timestamp()) % 86_400
    else:
        used = (requests_used, tokens_used, limits.in_flight(entry))[refusal - 1]
        left = max(0, limit - used)
        wait_ns = limits.wait_ns(entry, now_ns, refusal, limit, tokens)
        wait_s = max(1, -(-wait_ns // 1_000_000_000))
    resets = f"{datetime.fromtimestamp(now.timestamp() + wait_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    kind = _KINDS[refusal]
    lines = "".join(
        f"x-ratelimit-limit-{what}: {of}\r\nx-ratelimit-remaining-{what}: {max(0, of - used)}\r\n"
        for what, of, used in (
            ("requests", name.rpm, requests_used),
            ("tokens", name.tpm, tokens_used),
        )
        if of >= 0
    )
    return LimitExceeded(
        f"Rate limit exceeded for {name.kind}: {name.value}. Limit type: {kind}. "
        f"Current limit: {limit}, Remaining: {left}. Limit resets at: {resets}",
        detail=kind,
        fields=(
            f"retry-after: {wait_s}\r\nrate_limit_type: {kind}\r\nreset_at: {resets}\r\n{lines}"
        ).encode(),
    )


def _over_budget(scoped: Scoped, budgets: BudgetTable, index: int) -> BudgetExceeded:
    budget = scoped.budgets[index]
    spent_nano = budgets.spent_nano(budgets.find(scoped.budget_keys[index]))
    spent, cap = spent_nano / 1e9, budget.cap_nano_usd / 1e9
    if budget.kind in _OVER:
        text = f"ExceededBudget: {_OVER[budget.kind]}={budget.id} over budget. Spend={spent}, "
        return BudgetExceeded(f"{text}Budget={cap}", detail=budget.kind)
    return BudgetExceeded(
        f"Budget has been exceeded! Current cost: {spent}, Max budget: {cap}", detail=budget.kind
    )
