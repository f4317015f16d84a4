"""What to do when an attempt failed: one pure function over plain facts.

    failed attempt -> SAME_FRESH   once more on a new connection (the pooled one was stale)
                   -> OTHER        another deployment of the group, at once
                   -> WAIT         the same group again after wait_s (nothing else is there)
                   -> FALLBACK     the next group
                   -> GIVE_UP      tell the client

Rules, in order: never after a byte of the answer went to the client; a client's own fault is told
to the client; connect errors are retried freely, everything else within the retry budget (20 % of
requests + 3, as Finagle and Linkerd have it); Retry-After is obeyed up to 60 s; then the fallback
groups.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

__all__ = ["Action", "Decision", "Facts", "cools_down", "decide", "retry_after_s"]

MAX_RETRY_AFTER_S = 60.0
RETRIED_STATUSES = frozenset({408, 429})
"""And all from 500 on."""
DEPLOYMENT_STATUSES = frozenset({401, 402, 403, 404})
"""Our key or name is wrong there: asking again mends nothing, another deployment may serve."""
COOLED_AT_ONCE = frozenset({401, 404})
"""LiteLLM cools these even for a single deployment."""
SHARE_FAILED = 0.5
SHARE_LEAST = 5
"""LiteLLM's DEFAULT_FAILURE_THRESHOLD_PERCENT and _MINIMUM_REQUESTS: over 50 % of at least 5 in a
minute.
"""


class Action(Enum):
    SAME_FRESH = "same_fresh"
    OTHER = "other"
    WAIT = "wait"
    FALLBACK = "fallback"
    GIVE_UP = "give_up"


class Decision(NamedTuple):
    action: Action
    wait_s: float = 0.0


class Facts(NamedTuple):
    """All that a decision rests on."""

    status: int = 0
    """The upstream's; 0: there was no answer."""
    connect: bool = False
    """No connection came about."""
    stale: bool = False
    """A reused connection ended before any byte of the answer."""
    retried_fresh: bool = False
    answered: bool = False
    """A byte of the answer has gone to the client."""
    replayable: bool = True
    """The request's body is still there as a whole."""
    retries_left: int = 0
    within_budget: bool = True
    others: bool = False
    """Another deployment of the group can be tried."""
    fallback: bool = False
    """There is a group to fall back to."""
    retry_after_s: float | None = None
    least_wait_s: float = 0.0


def decide(facts: Facts) -> Decision:
    """Return what to do next. Pure."""
    if facts.answered or not facts.replayable:
        return Decision(Action.GIVE_UP)
    if facts.stale and not facts.retried_fresh:
        return Decision(Action.SAME_FRESH)
    status = facts.status
    if status and status < 500 and status not in RETRIED_STATUSES | DEPLOYMENT_STATUSES:
        return Decision(Action.GIVE_UP)
    if facts.retries_left > 0:
        if facts.others and (facts.connect or facts.within_budget):
            return Decision(Action.OTHER)
        if not facts.fallback and facts.within_budget and status not in DEPLOYMENT_STATUSES:
            return Decision(Action.WAIT, _wait_s(facts))
    if facts.fallback:
        return Decision(Action.FALLBACK)
    return Decision(Action.GIVE_UP)


def _wait_s(facts: Facts) -> float:
    asked = facts.retry_after_s
    return min(MAX_RETRY_AFTER_S, max(facts.least_wait_s, 0.0 if asked is None else asked))


def retry_after_s(field: bytes | None, field_ms: bytes | None, now_s: float) -> float | None:
    """Return the seconds that Retry-After (or retry-after-ms) asks for, capped; None: junk.

    `now_s` is wall-clock time, for the date form.
    """
    if field_ms is not None and field_ms.isdigit():
        return min(MAX_RETRY_AFTER_S, int(field_ms[:12]) / 1000)
    if field is None:
        return None
    if field.isdigit():
        return MAX_RETRY_AFTER_S if len(field) > 4 else min(MAX_RETRY_AFTER_S, float(field))
    try:
        wait_s = parsedate_to_datetime(field.decode("latin-1")).timestamp() - now_s
    except (TypeError, ValueError, OverflowError):
        return None
    return min(MAX_RETRY_AFTER_S, wait_s) if wait_s >= 0 else None


def cools_down(
    *,
    status: int,
    connect: bool,
    deployments: int,
    failures: int,
    successes: int,
    allowed_fails: int,
) -> bool:
    """Does this failure put the deployment into cooldown? `failures` (of the last minute) includes
    it. Pure.
    """
    if status in COOLED_AT_ONCE:
        return True
    if status == 503:
        # An engine's "queue is full": try another now, but it is not dead.
        return False
    if status and status not in (402, 408, 429) and status < 500:
        return False
    if allowed_fails >= 0:
        return failures > allowed_fails
    if deployments == 1:
        return False
    if status == 429 or connect:
        return True
    total = failures + successes
    return total >= SHARE_LEAST and failures / total > SHARE_FAILED
