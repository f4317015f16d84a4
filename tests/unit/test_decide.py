"""What is done about a failed attempt: each rule by itself, and what holds for all facts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from fastgate.gateway.decide import (
    MAX_RETRY_AFTER_S,
    Action,
    Decision,
    Facts,
    cools_down,
    decide,
    retry_after_s,
)

NOW_S = 1_750_000_000.0
AMPLE = Facts(status=500, retries_left=2, others=True, fallback=True)
"""Every way on is open."""


def with_facts(**changes: Any) -> Facts:
    return AMPLE._replace(**changes)


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        # Nothing is done again behind the client's back.
        (with_facts(answered=True), Action.GIVE_UP),
        (with_facts(replayable=False), Action.GIVE_UP),
        (with_facts(answered=True, stale=True), Action.GIVE_UP),
        # A kept connection that ended is no failure, once.
        (with_facts(status=0, stale=True), Action.SAME_FRESH),
        (with_facts(status=0, stale=True, retried_fresh=True), Action.OTHER),
        # The client's own faults.
        *((with_facts(status=status), Action.GIVE_UP) for status in (400, 405, 409, 413, 422)),
        # What another deployment may do better, at once.
        *((with_facts(status=s), Action.OTHER) for s in (408, 429, 500, 502, 503, 504, 529, 599)),
        (with_facts(status=0), Action.OTHER),
        (with_facts(status=0, connect=True), Action.OTHER),
        # Our key or name is wrong there: elsewhere it may be right, but waiting mends nothing.
        *((with_facts(status=status), Action.OTHER) for status in (401, 402, 403, 404)),
        (with_facts(status=401, others=False), Action.FALLBACK),
        (with_facts(status=401, others=False, fallback=False), Action.GIVE_UP),
        # No other: the next group comes before waiting for the same.
        (with_facts(others=False), Action.FALLBACK),
        (with_facts(others=False, fallback=False), Action.WAIT),
        (with_facts(others=False, fallback=False, retries_left=0), Action.GIVE_UP),
        (with_facts(retries_left=0), Action.FALLBACK),
        (with_facts(retries_left=0, fallback=False), Action.GIVE_UP),
        # The budget holds for what reached an engine; a refused connection cost it nothing.
        (with_facts(within_budget=False), Action.FALLBACK),
        (with_facts(within_budget=False, fallback=False), Action.GIVE_UP),
        (with_facts(within_budget=False, status=0, connect=True), Action.OTHER),
        (
            with_facts(within_budget=False, status=0, connect=True, others=False, fallback=False),
            Action.GIVE_UP,
        ),
    ],
)
def test_rules(facts: Facts, action: Action) -> None:
    assert decide(facts).action is action


def all_facts() -> Any:
    for status, left, wait_s in itertools.product(
        (0, 400, 401, 408, 429, 500, 503), (0, 1), (None, 0.0, 7.0, 1e9)
    ):
        for flags in itertools.product((False, True), repeat=8):
            names = (
                *("connect", "stale", "retried_fresh", "answered"),
                *("replayable", "within_budget", "others", "fallback"),
            )
            yield Facts(
                status=status,
                retries_left=left,
                retry_after_s=wait_s,
                least_wait_s=0.5,
                **dict(zip(names, flags, strict=True)),
            )


def test_what_holds_for_all_facts() -> None:
    for facts in all_facts():
        action, wait_s = decide(facts)
        going_on = action is not Action.GIVE_UP
        assert not (going_on and facts.answered), facts
        assert not (going_on and not facts.replayable), facts
        assert not (action in (Action.OTHER, Action.WAIT) and not facts.retries_left), facts
        assert not (action is Action.OTHER and not facts.others), facts
        assert not (action is Action.FALLBACK and not facts.fallback), facts
        assert not (action is Action.WAIT and not facts.within_budget), facts
        assert 0 <= wait_s <= MAX_RETRY_AFTER_S
        assert (wait_s > 0) == (action is Action.WAIT), facts


@pytest.mark.parametrize(
    ("asked", "least", "expected"),
    [(None, 0.5, 0.5), (0.0, 0.5, 0.5), (7.0, 0.5, 7.0), (0.1, 8.0, 8.0), (1e9, 0.5, 60.0)],
)
def test_how_long_to_wait(asked: float | None, least: float, expected: float) -> None:
    facts = Facts(status=429, retries_left=1, retry_after_s=asked, least_wait_s=least)
    assert decide(facts) == Decision(Action.WAIT, expected)


def http_date(offset_s: float, zone: timezone = UTC) -> bytes:
    moment = datetime.fromtimestamp(NOW_S + offset_s, zone)
    return format_datetime(moment, usegmt=zone is UTC).encode()


@pytest.mark.parametrize(
    ("field", "field_ms", "expected"),
    [
        (None, None, None),
        # Seconds.
        (b"0", None, 0.0),
        (b"7", None, 7.0),
        (b"60", None, 60.0),
        (b"61", None, 60.0),
        (b"99999999999999999999", None, 60.0),
        (b"00007", None, 60.0),
        # Milliseconds, OpenAI's and Azure's; they are the finer word.
        (b"7", b"1500", 1.5),
        (None, b"0", 0.0),
        (None, b"99999999999999999999", 60.0),
        (b"7", b"soon", 7.0),
        # A date.
        (http_date(30), None, 30.0),
        (http_date(3600), None, 60.0),
        (http_date(0), None, 0.0),
        (http_date(-1), None, None),
        (http_date(30, timezone(timedelta(hours=5))), None, 30.0),
        (b"Wed, 99 Foo 2026 99:99:99 GMT", None, None),
        (b"Fri, 31 Dec 999999999 23:59:59 GMT", None, None),
        # Junk.
        (b"", None, None),
        (b"-5", None, None),
        (b"+5", None, None),
        (b"1e3", None, None),
        (b"soon", None, None),
        (b"\xff\xfe", None, None),
        (b"7, 8", None, None),
        (b"\xb2", None, None),
    ],
)
def test_retry_after(field: bytes | None, field_ms: bytes | None, expected: float | None) -> None:
    assert retry_after_s(field, field_ms, NOW_S) == expected


def cools(**facts: Any) -> bool:
    plain: dict[str, Any] = {
        "status": 500,
        "connect": False,
        "deployments": 2,
        "failures": 1,
        "successes": 0,
        "allowed_fails": -1,
    }
    return cools_down(**{**plain, **facts})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # At once, and even the only one of a group.
        *(({"status": s, "deployments": d}, True) for s in (401, 404) for d in (1, 2)),
        # At once, when there is another.
        ({"status": 429}, True),
        ({"status": 429, "deployments": 1}, False),
        ({"status": 0, "connect": True}, True),
        ({"status": 0, "connect": True, "deployments": 1}, False),
        # A full queue isn't a dead engine.
        ({"status": 503, "failures": 100}, False),
        # The client's fault.
        *(
            ({"status": s, "failures": 100, "allowed_fails": 0}, False)
            for s in (400, 403, 413, 422)
        ),
        # More than half of at least five in a minute.
        ({"failures": 4}, False),
        ({"failures": 5}, True),
        ({"failures": 3, "successes": 2}, True),
        ({"failures": 3, "successes": 3}, False),
        ({"failures": 51, "successes": 49}, True),
        ({"failures": 50, "successes": 50}, False),
        ({"status": 408, "failures": 5}, True),
        ({"status": 402, "failures": 5}, True),
        ({"status": 0, "failures": 5}, True),
        ({"failures": 1000, "deployments": 1}, False),
        # allowed_fails replaces the share.
        ({"allowed_fails": 0}, True),
        ({"allowed_fails": 3, "failures": 3}, False),
        ({"allowed_fails": 3, "failures": 4, "successes": 1000}, True),
        ({"allowed_fails": 3, "failures": 4, "deployments": 1}, True),
        ({"allowed_fails": 3, "failures": 1, "status": 429}, False),
    ],
)
def test_cooldown(facts: dict[str, Any], expected: bool) -> None:
    assert cools(**facts) is expected
