"""What a row of `spend_logs` is, and how one is made from what the journal says of a request.

The journal holds codes where the tables hold words: positions in the tuples below. These only grow
at their end, since a journal may be read by a later version than wrote it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from fastgate._core.journal import OUTCOME_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ABORTED",
    "ATTEMPT_COLUMNS",
    "COLUMNS",
    "CONSTANT_AT",
    "COUNTED",
    "ESTIMATED",
    "FAILURE",
    "NO_USAGE",
    "ORPHANED",
    "OUTCOME_AT",
    "PROVIDER",
    "SUCCESS",
    "TIMES",
    "Budget",
    "Constant",
    "Entry",
    "Outcome",
    "attempt_row",
    "budgets_of",
    "charged_nano",
    "constant_of",
    "error_kind_code",
    "orphan",
    "row",
]

_STATUSES = ("success", "failure", "aborted", "orphaned")
SUCCESS, FAILURE, ABORTED, ORPHANED = range(4)

_USAGE_SOURCES = ("none", "provider", "counted", "estimated")
NO_USAGE, PROVIDER, COUNTED, ESTIMATED = range(4)

# What a request can fail of. "status" is an upstream's own error status.
_ERROR_KINDS = (
    *("", "other", "status", "internal", "bad_request", "too_large", "request_timeout"),
    *("not_found", "auth", "model_denied", "limited", "unavailable", "upstream_broken"),
    *("upstream_timeout", "client_gone", "stream_error", "stalled", "broken", "no_answer"),
    *("error_event", "timeout", "connect", "dns", "tls", "killed", "upstream_cut", "budget"),
)
_CODES = {kind: code for code, kind in enumerate(_ERROR_KINDS)}
_OTHER, _STATUS, _KILLED = _CODES["other"], _CODES["status"], _CODES["killed"]

# Columns that the JSON of `Columns` may have, and those of a note.
_CONSTANT = (
    *("key_hash", "key_alias", "team_id", "user_id", "organization_id", "model_group", "model"),
    *("deployment_id", "provider", "api_base", "call_type", "price_version"),
)
_NOTED = (
    *("client_request_id", "provider_response_id", "customer_id", "tags", "session_id"),
    *("trace_id", "metadata"),
)
_TOKENS = (
    *("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens"),
    *("reasoning_tokens", "total_tokens"),
)
COLUMNS = (
    "request_id",
    *_CONSTANT,
    *_NOTED,
    *_TOKENS,
    *("stream", "status", "error_kind", "http_status", "usage_source", "spend_nano_usd"),
    *("cache_hit", "attempts", "start_time", "first_byte_time", "end_time", "ttft_ms"),
    "overhead_us",
)
ATTEMPT_COLUMNS = (
    *("request_id", "attempt", "model", "deployment_id", "provider", "api_base", "price_version"),
    *_TOKENS,
    *("error_kind", "http_status", "usage_source", "spend_nano_usd", "start_time", "end_time"),
)

_SPEND_AT = OUTCOME_FIELDS.index("spend_nano")
CONSTANT_AT = {name: i for i, name in enumerate(_CONSTANT)}
"""Where in a Constant a column stands."""
OUTCOME_AT = {name: i for i, name in enumerate(OUTCOME_FIELDS)}

_NO_NOTE = (None,) * len(_NOTED)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Budget = tuple[str, str, str]
"""What a budget is set on, its id, and the window's duration: see config/stored.py."""
Constant = tuple[Any, ...]
"""Values of the constant columns, in the order of a row."""
Outcome = tuple[Any, ...]
"""OUTCOME_FIELDS of `_core.journal`."""


class Entry(NamedTuple):
    """A request that is over, as the journal tells it."""

    request_id: str
    constant: Constant
    notes: list[bytes]
    """JSON objects; a later one's members win."""
    outcome: Outcome
    attempts: list[tuple[Constant, Outcome]]
    """Those that failed and are billed."""
    budgets: tuple[Budget, ...] = ()
    charged_nano: int = 0
    """What its worker added to these in shared memory."""


def error_kind_code(kind: str) -> int:
    """Return the code of an error kind, for an Outcome; `status_429` has that of `status`."""
    if kind.startswith("status_"):
        return _STATUS
    return _CODES.get(kind, _OTHER)


def constant_of(columns: bytes) -> Constant:
    """Return the values of the JSON of a `Columns`. What it lacks is NULL, or "" where that can't
    be. Raises ValueError for what is no JSON object.
    """
    values = _object(columns)
    values.setdefault("key_hash", "")
    values.setdefault("call_type", "")
    return tuple(map(values.get, _CONSTANT))


def budgets_of(columns: bytes) -> tuple[Budget, ...]:
    """Return the budgets that the JSON of a `Columns` names. Raises ValueError."""
    found = _object(columns).get("budgets", [])
    return tuple((kind, scope, duration) for kind, scope, duration in found)


def charged_nano(outcome: Outcome | None, attempts: list[tuple[Constant, Outcome]]) -> int:
    """Return what was added to budgets in shared memory for a request; `outcome` None: it was not
    settled.
    """
    costs = [each[_SPEND_AT] for _, each in attempts]
    if outcome is not None:
        costs.append(outcome[_SPEND_AT])
    return sum(cost for cost in costs if cost > 0)


def orphan(
    request_id: str,
    constant: Constant,
    notes: list[bytes],
    reservation: tuple[int, ...],
    progress: tuple[int, ...] | None,
    attempts: list[tuple[Constant, Outcome]],
) -> Entry:
    """Return what is billed for a request whose worker died before it was settled: what had passed
    when it last said so, else what the request was expected to cost.
    """
    at_us, _, estimate_nano, input_tokens = reservation
    output_tokens, cost_nano = progress or (0, estimate_nano)
    total = max(0, input_tokens) + max(0, output_tokens)
    outcome = (
        *(at_us, 0, 0, -1, -1, cost_nano),
        *(input_tokens, 0, 0, output_tokens, 0, total),
        *(0, len(attempts) + 1, ORPHANED, _KILLED, ESTIMATED, False, False),
    )
    return Entry(request_id, constant, notes, outcome, attempts)


def row(entry: Entry, time: Callable[[int], Any]) -> tuple[Any, ...]:
    """Return the COLUMNS of a request; `time` is one of TIMES."""
    start_us, first_byte_us, end_us, ttft_us, overhead_us, spend_nano = entry.outcome[:6]
    prompt, cached, cache_write, completion, reasoning, total = entry.outcome[6:12]
    http_status, attempts, status, error_kind, usage_source, stream, cache_hit = entry.outcome[12:]
    return (
        entry.request_id,
        *entry.constant,
        *(_noted(entry.notes) if entry.notes else _NO_NOTE),
        prompt if prompt > 0 else 0,
        cached if cached > 0 else 0,
        cache_write if cache_write > 0 else 0,
        completion if completion > 0 else 0,
        reasoning if reasoning > 0 else 0,
        total if total > 0 else 0,
        stream,
        _STATUSES[status],
        _error_kind(error_kind, http_status) if error_kind else None,
        http_status or None,
        _USAGE_SOURCES[usage_source],
        spend_nano if spend_nano >= 0 else None,
        cache_hit,
        attempts,
        time(start_us),
        time(first_byte_us) if first_byte_us else None,
        time(end_us) if end_us else None,
        ttft_us / 1000 if ttft_us >= 0 else None,
        overhead_us if overhead_us >= 0 else None,
    )


def attempt_row(
    request_id: str, constant: Constant, outcome: Outcome, time: Callable[[int], Any]
) -> tuple[Any, ...]:
    """Return the ATTEMPT_COLUMNS of an attempt that failed and is billed."""
    start_us, _, end_us, _, _, spend_nano, *tokens = outcome[:12]
    http_status, attempt, _, error_kind, usage_source = outcome[12:17]
    of = dict(zip(_CONSTANT, constant, strict=True))
    return (
        request_id,
        attempt,
        *(of[name] for name in ATTEMPT_COLUMNS[2:7]),
        *(max(0, count) for count in tokens),
        _error_kind(error_kind, http_status) if error_kind else None,
        http_status or None,
        _USAGE_SOURCES[usage_source],
        spend_nano if spend_nano >= 0 else None,
        time(start_us),
        time(end_us) if end_us else None,
    )


def _noted(notes: list[bytes]) -> tuple[Any, ...]:
    values: dict[str, Any] = {}
    for note in notes:
        values |= _object(note)
    if any(b"\\u0000" in note for note in notes):
        values = {name: _without_nul(value) for name, value in values.items()}
    return tuple(map(values.get, _NOTED))


def _object(json: bytes) -> dict[str, Any]:
    values = orjson.loads(json)
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object, got {json[:80]!r}")
    return values


def _without_nul(value: Any) -> Any:
    # The one character that PostgreSQL has no room for.
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


def _error_kind(code: int, http_status: int) -> str:
    if code == _STATUS:
        return f"status_{http_status}"
    return _ERROR_KINDS[code] if code < len(_ERROR_KINDS) else _ERROR_KINDS[_OTHER]


def _datetime(us: int) -> datetime:
    # Exact, where a float of seconds would be a rounding to argue about.
    return _EPOCH + timedelta(microseconds=us)


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return _datetime(second * 1_000_000).isoformat()[:19]


def _text(us: int) -> str:
    return f"{_second(us // 1_000_000)}.{us % 1_000_000:06}+00:00"


TIMES: dict[str, Callable[[int], Any]] = {"sqlite": _text, "postgresql": _datetime}
"""By dialect: how times since the epoch, in us, are handed to a store. SQLite is given the text
that it keeps: making a datetime of each and then text of that had 10 of 46 us a row.
"""
