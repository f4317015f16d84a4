"""Keys of the store as workers want them: one at a time, when a worker first meets it.

Of a million keys a worker asks for the few that it is shown. So starting costs nothing per key, and
a change goes out as the id of what changed, not as a new list.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from fastgate.config.schema import Budget
from fastgate.config.stored import NamedScopes, Scope, StoredKey
from fastgate.management.money import to_nano
from fastgate.spend.windows import balance

if TYPE_CHECKING:
    from fastgate.store import Row, Store

__all__ = ["stored_key"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ALL_TEAM_MODELS = "all-team-models"

_FIND = """
SELECT virtual_keys.*, NULL AS revoke_at FROM virtual_keys WHERE key_hash = $1
"""
_FIND_REPLACED = """
SELECT virtual_keys.*, replaced_keys.revoke_at FROM replaced_keys
JOIN virtual_keys ON virtual_keys.key_hash = replaced_keys.active_key_hash
WHERE replaced_keys.key_hash = $1 AND replaced_keys.revoke_at > $2
"""


async def stored_key(store: Store, digest: str) -> StoredKey | None:
    """Return the key with this SHA-256 in hex; None: there is none, or it was replaced."""
    if not _DIGEST.fullmatch(digest):
        return None
    now = datetime.now(UTC)
    key = await store.fetch_one(_FIND, digest)
    if key is None:
        key = await store.fetch_one(_FIND_REPLACED, digest, now)
    if key is None:
        return None
    team = await _row(store, "teams", "team_id", key["team_id"])
    user = await _row(store, "users", "user_id", key["user_id"])
    organization_id = key["organization_id"] or (team["organization_id"] if team else None)
    organization = await _row(store, "organizations", "organization_id", organization_id)
    scopes = await _scopes(store, now, key, team, user, organization)
    return StoredKey(
        key_hash=key["key_hash"],
        alias=key["key_alias"] or "",
        team=key["team_id"] or "",
        models=_models(key, team),
        rpm=_limit(key["rpm_limit"]),
        tpm=_limit(key["tpm_limit"]),
        max_parallel=_limit(key["max_parallel_requests"]),
        user_id=key["user_id"] or "",
        organization_id=organization_id or "",
        role=user["user_role"] if user else "",
        blocked="key" if key["blocked"] else "team" if team and team["blocked"] else "",
        expires_unix_s=_earliest(key["expires"], key["revoke_at"]),
        team_models=team["models"] if team else [],
        # LiteLLM: what a user may use holds for personal keys, not for a team's.
        user_models=user["models"] if user and not team else [],
        organization_models=organization["models"] if organization else [],
        aliases={**(team["model_aliases"] if team else {}), **key["aliases"]},
        tags=sorted({*key["tags"], *(team["tags"] if team else ())}),
        allowed_routes=key["allowed_routes"],
        scopes=scopes,
        budgets=await _budgets(store, scopes, key),
    )


_NAMED = {"customer": ("customers", "customer_id"), "tag": ("tags", "name")}


async def named_scopes(store: Store, kind: str, name: str) -> NamedScopes | None:
    """Return what a customer or tag is held to; None: nobody has said anything of it."""
    if kind not in _NAMED or not name or "\0" in name:
        return None
    row = await _row(store, *_NAMED[kind], name)
    if row is None:
        return None
    scope = _scope(kind, name, await _with_budget(store, row))
    return NamedScopes(
        blocked=bool(row.get("blocked")),
        scopes=[scope],
        budgets=await _budgets(store, [scope], None),
    )


def _models(key: Row, team: Row | None) -> list[str]:
    models: list[str] = key["models"]
    if team is not None and _ALL_TEAM_MODELS in models:
        # The team's own list narrows it in any case.
        return []
    return models


async def _row(store: Store, table: str, column: str, value: str | None) -> Row | None:
    if value is None:
        return None
    return await store.fetch_one(
        f"SELECT * FROM {table} WHERE {column} = $1",  # noqa: S608  names of ours
        value,
    )


async def _scopes(
    store: Store,
    now: datetime,
    key: Row,
    team: Row | None,
    user: Row | None,
    organization: Row | None,
) -> list[Scope]:
    own = await _with_budget(store, key)
    increase = key["temp_budget_increase_nano_usd"]
    if increase and own["max_budget_nano_usd"] is not None:
        until = key["temp_budget_expiry"]
        if until is None or until > now:
            own["max_budget_nano_usd"] += increase
    scopes = [_scope("key", key["key_hash"], own)]
    if team is not None:
        scopes.append(_scope("team", team["team_id"], team))
        member = await store.fetch_one(
            "SELECT * FROM team_members WHERE team_id = $1 AND user_id = $2",
            team["team_id"],
            key["user_id"] or "",
        )
        if member is not None:
            member_id = f"{team['team_id']}/{key['user_id']}"
            scopes.append(_scope("team_member", member_id, member))
    # LiteLLM: a user's budget does not apply to keys of a team.
    elif user is not None:
        scopes.append(_scope("user", user["user_id"], user))
    if organization is not None:
        merged = await _with_budget(store, organization)
        scopes.append(_scope("organization", organization["organization_id"], merged))
    return scopes


async def _budgets(store: Store, scopes: list[Scope], key: Row | None) -> list[Budget]:
    """Return everything with a cap that requests are charged to; `key`: whose they are."""
    found = [
        Budget(
            kind=scope.kind,
            id=scope.id,
            cap_nano_usd=scope.max_budget_nano_usd,
            soft_nano_usd=scope.soft_budget_nano_usd,
            spent_nano_usd=scope.spend_nano_usd,
            resets_unix_s=scope.budget_reset_unix_s,
        )
        for scope in scopes
        if max(scope.max_budget_nano_usd, scope.soft_budget_nano_usd) >= 0
    ]
    windows = [
        Budget(
            kind=f"{scope.kind}_model",
            id=f"{scope.id}/{model}",
            duration=duration,
            cap_nano_usd=cap_nano_usd,
            model=model,
        )
        for scope in scopes
        for model, given in scope.model_max_budget.items()
        for cap_nano_usd, duration in [_model_budget(given)]
    ]
    for window in (key["budget_limits"] or ()) if key is not None else ():
        duration, cap = window.get("budget_duration"), window.get("max_budget")
        if duration and cap is not None:
            cap_nano_usd = to_nano(cap)
            windows.append(
                Budget(kind="key", id=scopes[0].id, duration=duration, cap_nano_usd=cap_nano_usd)
            )
    for window in windows:
        spent = await balance(store, (window.kind, window.id, window.duration))
        found.append(msgspec.structs.replace(window, spent_nano_usd=spent))
    return found


def _model_budget(given: object) -> tuple[int, str]:
    """Return a model's budget in nano-dollars, and its duration: `total` has no end."""
    if isinstance(given, dict):
        cap = given.get("budget_limit", given.get("max_budget"))
        duration = given.get("time_period") or given.get("budget_duration") or "total"
        return (-1 if cap is None else to_nano(float(cap))), duration
    return to_nano(float(str(given))), "total"


async def _with_budget(store: Store, row: Row) -> Row:
    """Return the row with the values of the budget it refers to, where it has none of its own."""
    budget = await _row(store, "budgets", "budget_id", row["budget_id"])
    merged = dict(row)
    for name, value in (budget or {}).items():
        if merged.get(name) in (None, {}):
            merged[name] = value
    return merged


def _scope(kind: str, scope_id: str, row: Row) -> Scope:
    reset = row.get("budget_reset_at")
    return Scope(
        kind=kind,
        id=scope_id,
        rpm=_limit(row.get("rpm_limit")),
        tpm=_limit(row.get("tpm_limit")),
        tpd=_limit(row.get("tpd_limit")),
        max_parallel=_limit(row.get("max_parallel_requests")),
        max_budget_nano_usd=_limit(row.get("max_budget_nano_usd")),
        soft_budget_nano_usd=_limit(row.get("soft_budget_nano_usd")),
        spend_nano_usd=row["spend_nano_usd"],
        budget_reset_unix_s=reset.timestamp() if reset else 0.0,
        model_rpm=row.get("model_rpm_limit") or {},
        model_tpm=row.get("model_tpm_limit") or {},
        model_max_budget=row.get("model_max_budget") or {},
    )


def _limit(value: int | None) -> int:
    return -1 if value is None else value


def _earliest(*times: datetime | None) -> float:
    return min((time.timestamp() for time in times if time is not None), default=0.0)
