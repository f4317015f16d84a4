"""Between the API's objects and the tables' rows: names, money, times; and the audit log.

Table and column names come from this package alone, values are always bound.
"""

from __future__ import annotations

import secrets
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest
from fastgate.management.call import Invalid
from fastgate.management.money import to_nano, to_usd, upcoming_reset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastgate.management.call import Call
    from fastgate.store import Row, Store

__all__ = ["audit", "columns", "delete", "insert", "new_id", "one_of", "shown", "update"]

# The API's name -> the column, where they differ. All of these but the last are dollars.
_COLUMNS = {
    "max_budget": "max_budget_nano_usd",
    "soft_budget": "soft_budget_nano_usd",
    "spend": "spend_nano_usd",
    "temp_budget_increase": "temp_budget_increase_nano_usd",
    "team_member_budget": "member_max_budget_nano_usd",
    "max_budget_in_team": "max_budget_nano_usd",
    "team_member_budget_duration": "member_budget_duration",
    "team_member_rpm_limit": "member_rpm_limit",
    "team_member_tpm_limit": "member_tpm_limit",
    "allowed_models": "models",
}
_NAMES = {
    column: name
    for name, column in _COLUMNS.items()
    if name not in ("max_budget_in_team", "allowed_models")
}

# Columns of JSON, and what stands in them for "nothing".
_EMPTY: dict[str, Any] = {
    **{name: [] for name in ("models", "tags", "allowed_routes", "budget_limits")},
    **{name: {} for name in ("model_max_budget", "model_rpm_limit", "model_tpm_limit")},
    **{name: {} for name in ("metadata", "aliases", "model_aliases", "permissions")},
}
_HAS = {
    "budgets": {"model_max_budget"},
    "organizations": {"models", "metadata"},
    "users": {"models", "metadata", "model_max_budget"},
    "teams": {
        *("models", "model_aliases", "tags", "metadata"),
        *("model_max_budget", "model_rpm_limit", "model_tpm_limit"),
    },
    "team_members": {"models"},
    "virtual_keys": {*_EMPTY} - {"model_aliases"},
    "customers": {"models"},
    "tags": {"models"},
    "models": set(),
}
_UNSIGNED = {"team_members", "organization_members"}
"""Tables that don't say who made a row: the audit log does."""

# Never in the audit log: values that clients put secrets into.
_UNLOGGED = {"metadata", "litellm_params"}


def columns(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the columns for fields of the API; with a budget's duration goes its next reset.

    Raises Invalid.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        column = _COLUMNS.get(name, name)
        if value is None:
            value = {"blocked": False, "spend_nano_usd": 0}.get(column, _EMPTY.get(column))
        elif isinstance(value, datetime) and value.tzinfo is None:
            raise Invalid("expected a time with its zone, 2026-01-31T00:00:00Z", "body", name)
        elif column.endswith("_nano_usd"):
            value = to_nano(value)
        found[column] = value
    if "budget_duration" in found:
        duration = found["budget_duration"]
        try:
            reset = upcoming_reset(duration, now) if duration else None
        except ValueError as error:
            raise Invalid(str(error), "body", "budget_duration") from None
        found.setdefault("budget_reset_at", reset)
    return found


def shown(row: Row, *without: str) -> dict[str, Any]:
    """Return a row as the API shows it: dollars, ISO times, LiteLLM's names."""
    found: dict[str, Any] = {}
    for column, value in row.items():
        name = _NAMES.get(column, column)
        if column == "total_spend_nano_usd" or name in without:
            continue
        if column.endswith("_nano_usd") and value is not None:
            value = to_usd(value)
        found[name] = value
    return found


async def insert(store: Store, call: Call, table: str, values: dict[str, Any]) -> Row:
    """Add a row and return it, audited."""
    row = {**{name: _EMPTY[name] for name in _HAS.get(table, ())}, **values}
    row["created_at"] = call.now
    if table not in _UNSIGNED:
        row.update(created_by=call.caller.name, updated_at=call.now, updated_by=call.caller.name)
    holders = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    made = await store.fetch_one(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({holders}) RETURNING *",  # noqa: S608
        *row.values(),
    )
    assert made is not None
    await audit(store, call, "created", table, _id_of(table, made), None, made)
    return made


async def update(
    store: Store, call: Call, table: str, key: Mapping[str, str], values: dict[str, Any]
) -> Row | None:
    """Change the row with these key columns and return it, audited; None: there is none."""
    where, bound = _where(key)
    before = await store.fetch_one(f"SELECT * FROM {table} WHERE {where}", *bound)  # noqa: S608
    if before is None:
        return None
    if table not in _UNSIGNED:
        values = {**values, "updated_at": call.now, "updated_by": call.caller.name}
    elif not values:
        return before
    set_to = ", ".join(f"{name} = ${n}" for n, name in enumerate(values, len(bound) + 1))
    after = await store.fetch_one(
        f"UPDATE {table} SET {set_to} WHERE {where} RETURNING *",  # noqa: S608
        *bound,
        *values.values(),
    )
    if after is not None:
        await audit(store, call, "updated", table, _id_of(table, after), before, after)
    return after


async def delete(store: Store, call: Call, table: str, key: Mapping[str, str]) -> Row | None:
    """Remove the row with these key columns and return what it was; None: there was none."""
    where, bound = _where(key)
    before = await store.fetch_one(
        f"DELETE FROM {table} WHERE {where} RETURNING *",  # noqa: S608
        *bound,
    )
    if before is not None:
        await audit(store, call, "deleted", table, _id_of(table, before), before, None)
    return before


def _where(key: Mapping[str, str]) -> tuple[str, list[str]]:
    where = " AND ".join(f"{name} = ${n}" for n, name in enumerate(key, 1))
    return where, list(key.values())


def one_of(column: str, values: Iterable[Any], first: int = 1) -> tuple[str, list[Any]]:
    """Return `column IN ($1, ...)` and its values."""
    bound = list(values)
    if not bound:
        return "1 = 0", []
    holders = ", ".join(f"${n}" for n in range(first, first + len(bound)))
    return f"{column} IN ({holders})", bound


_KEYS = {
    "virtual_keys": "key_hash",
    "organizations": "organization_id",
    "team_members": "user_id",
    "organization_members": "user_id",
}


_KINDS = {
    "virtual_keys": "key",
    "teams": "team",
    "team_members": "team",
    "users": "user",
    "organizations": "organization",
    "organization_members": "organization",
    "budgets": "budget",
    "customers": "customer",
    "tags": "tag",
    "models": "model",
}
"""What workers are told has changed, by the table."""


def _id_of(table: str, row: Row) -> str:
    column = _KEYS.get(table) or next(iter(row))
    return str(row[column])


async def audit(
    store: Store,
    call: Call,
    action: str,
    table: str,
    object_id: str,
    before: Row | None,
    after: Row | None,
) -> None:
    """Write down who changed what: only what differs, and no secrets; and tell other gateways."""
    old, new = _plain(before), _plain(after)
    if before is not None and after is not None:
        differing = [name for name in new if new[name] != old.get(name)]
        old = {name: old.get(name) for name in differing}
        new = {name: new[name] for name in differing}
    await store.execute(
        "INSERT INTO audit_log (id, at, actor, actor_key_hash, action, table_name, object_id, "
        "before_values, after_values) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new_id(),
        call.now,
        call.caller.name,
        call.caller.key_hash,
        action,
        table,
        object_id,
        old,
        new,
    )
    kind = _KINDS[table]
    for changed in {_id_of(table, row) for row in (before, after) if row is not None}:
        await store.notify(kind, changed)


def _plain(row: Row | None) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in (row or {}).items()
        if name not in _UNLOGGED
    }


def new_id() -> str:
    """Return an id of 32 hex digits that sorts by the time it was made at."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"


def conflict(message: str) -> BadRequest:
    """Return the error for what is there already. LiteLLM answers 400."""
    return BadRequest(message, type="bad_request_error")
