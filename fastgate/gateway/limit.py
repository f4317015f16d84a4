"""Stages `limit` and `settle`: what a key may take, reserved before, trued up after.

Requests, tokens and places in flight are reserved together or not at all; a refused request takes
nothing. Tokens are reserved by estimate (a quarter of the prompt's bytes) and corrected to the
engine's own usage when that is known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastgate._core.bucket import LimitTable
from fastgate.errors import LimitExceeded

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["reserve", "settle"]

# OpenAI's rule of thumb: four bytes of English a token.
BYTES_PER_TOKEN = 4

KINDS = {1: "requests", 2: "tokens", 3: "max_parallel_requests"}


def reserve(context: Context, limits: LimitTable, now_ns: int) -> None:
    """Take what the request needs from its principal's limits. Raises LimitExceeded."""
    principal = context.principal
    if not principal.limited:
        return
    entry = limits.entry(principal.limit_key, now_ns)
    if entry < 0:
        raise LimitExceeded("too many keys are active at once", detail="keys")
    tokens = 0
    if principal.tpm >= 0:
        tokens = (context.body_end - context.body_start) // BYTES_PER_TOKEN
    refusal = limits.reserve(
        entry, now_ns, principal.rpm, principal.tpm, principal.max_parallel, tokens
    )
    if refusal:
        raise _refusal(principal, limits, entry, now_ns, refusal, tokens)
    context.limit_entry = entry
    context.reserved_ns = now_ns
    context.reserved_tokens = tokens


def settle(context: Context, limits: LimitTable, now_ns: int, tokens: int) -> None:
    """Give back the place in flight; `tokens`: what the engine counted, -1 when it did not say."""
    if context.limit_entry < 0:
        return
    used = tokens if tokens >= 0 else context.reserved_tokens
    limits.settle(context.limit_entry, now_ns, context.reserved_ns, used - context.reserved_tokens)
    context.limit_entry = -1


def _refusal(
    principal: Any, limits: LimitTable, entry: int, now_ns: int, refusal: int, tokens: int
) -> LimitExceeded:
    limit = (principal.rpm, principal.tpm, principal.max_parallel)[refusal - 1]
    amount = (1, tokens, 1)[refusal - 1]
    wait_s = max(1, -(-limits.wait_ns(entry, now_ns, refusal, limit, amount) // 1_000_000_000))
    used = (
        limits.requests_used(entry, now_ns),
        limits.tokens_used(entry, now_ns),
        limits.in_flight(entry),
    )[refusal - 1]
    kind = KINDS[refusal]
    left_of = "".join(
        f"x-ratelimit-limit-{name}: {limit_of}\r\n"
        f"x-ratelimit-remaining-{name}: {max(0, limit_of - used_of)}\r\n"
        for name, limit_of, used_of in (
            ("requests", principal.rpm, limits.requests_used(entry, now_ns)),
            ("tokens", principal.tpm, limits.tokens_used(entry, now_ns)),
        )
        if limit_of >= 0
    )
    resets = datetime.fromtimestamp(datetime.now(UTC).timestamp() + wait_s, UTC)
    return LimitExceeded(
        f"Rate limit exceeded for api_key: {principal.shown}. Limit type: {kind}. "
        f"Current limit: {limit}, Remaining: {max(0, limit - used)}. "
        f"Limit resets at: {resets:%Y-%m-%d %H:%M:%S} UTC",
        detail=kind,
        fields=(
            f"retry-after: {wait_s}\r\nrate_limit_type: {kind}\r\n"
            f"reset_at: {resets:%Y-%m-%d %H:%M:%S} UTC\r\n{left_of}"
        ).encode(),
    )
