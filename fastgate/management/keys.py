"""Virtual keys. One is shown once, when it is made; after that only its SHA-256 is known."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest, NotFound
from fastgate.management import rows
from fastgate.management.call import Invalid, digest_of, need
from fastgate.management.money import parse_duration
from fastgate.management.paging import page_of
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.bodies import KeyUpdate
    from fastgate.management.call import Call
    from fastgate.store import Row, Store

__all__ = [
    *("block", "delete", "generate", "health", "info", "info_many", "list_keys", "make_key"),
    *("regenerate", "reset_spend", "unblock", "update", "update_one"),
]

# For an admin to give; a key's owner and a team's admin get them refused, not passed over.
_ADMIN_FIELDS = {"spend", "organization_id", "budget_id", "permissions", "allowed_routes"}
_ADMIN_FIELDS |= {"budget_limits", "temp_budget_increase", "temp_budget_expiry", "key_type"}
# A team's admin may set these on its keys; an owner would escape by them.
_TEAM_FIELDS = {"blocked", "duration", "tags", "model_max_budget"}
_TEAM_FIELDS |= {"model_rpm_limit", "model_tpm_limit", "budget_duration"}
_CEILINGS = ("max_budget", "tpm_limit", "rpm_limit", "tpd_limit", "max_parallel_requests")

_ROUTES = {
    "llm_api": ["llm_api_routes"],
    "management": ["management_routes"],
    "read_only": ["info_routes"],
    "default": [],
}
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# 62 ** 43 > 256 ** 32: as hard to guess as 32 random bytes.
_KEY_CHARS = 43


def new_key() -> str:
    """Return a key: letters and digits, so that a double click takes the whole of it."""
    return "sk-" + "".join(secrets.choice(_ALPHABET) for _ in range(_KEY_CHARS))


def key_object(row: Row) -> dict[str, Any]:
    return {"token": row["key_hash"], **rows.shown(row, "key_hash")}


async def generate(call: Call) -> Any:
    """Make a key."""
    given = call.body.given()
    await _check_new(call, given)
    async with call.store.transaction() as store:
        return await make_key(store, call, given)


async def make_key(store: Store, call: Call, given: dict[str, Any]) -> dict[str, Any]:
    """Add a key with these fields of the API, and return it as the client sees it this once."""
    key = given.pop("key", None) or new_key()
    await _check_references(store, given)
    values = _columns(call, given)
    values["key_hash"] = hashlib.sha256(key.encode()).hexdigest()
    values["key_name"] = f"sk-...{key[-4:]}"
    try:
        made = await rows.insert(store, call, "virtual_keys", values)
    except Conflict:
        raise _taken(given.get("key_alias")) from None
    call.changed("key", [made["key_hash"]])
    token = made["key_hash"]
    return {**key_object(made), "key": key, "token_id": token, "litellm_budget_table": None}


def _columns(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    given = dict(given)
    duration = given.pop("duration", None)
    key_type = given.pop("key_type", None)
    values = rows.columns(given, call.now)
    if duration is not None:
        try:
            values["expires"] = parse_duration(duration, call.now)
        except ValueError as error:
            raise Invalid(str(error), "body", "duration") from None
    if key_type is not None and "allowed_routes" not in given:
        values["allowed_routes"] = _ROUTES[key_type]
    return values


def _taken(alias: str | None) -> BadRequest:
    message = f"Key with alias '{alias}' already exists" if alias else "Key already exists"
    return rows.conflict(message)


async def _check_references(store: Store, given: dict[str, Any]) -> None:
    for name, table in (
        ("team_id", "teams"),
        ("organization_id", "organizations"),
        ("budget_id", "budgets"),
    ):
        value = given.get(name)
        if value is not None and not await store.fetch(
            f"SELECT 1 AS there FROM {table} WHERE {name} = $1",  # noqa: S608  names of ours
            value,
        ):
            raise NotFound(f"{name} {value!r} not found in database", param=name)


# who may give what


async def _check_new(call: Call, given: dict[str, Any]) -> None:
    """See that the caller gives a new key no more than their own: the team's, or the user's."""
    caller = call.caller
    if caller.is_admin:
        return
    team_id = given.get("team_id")
    if team_id is not None:
        if not caller.may_change_team(team_id):
            raise call.refuse("Only a team's admin can make keys for it")
        ceiling = await call.one("teams", "team_id", team_id)
    else:
        given.setdefault("user_id", caller.user_id)
        ceiling = await call.one("users", "user_id", need(caller.user_id, "a user"))
    if given.get("user_id") not in (None, caller.user_id):
        # Whoever shows it would be that user everywhere: one who leads other teams, or an admin.
        raise call.refuse("Only proxy admin can make keys for others")
    _refuse_fields(call, given, _ADMIN_FIELDS)
    if caller.routes:
        given["allowed_routes"] = list(caller.routes)
    for_new = dict.fromkeys([*_CEILINGS, "models"]) | given
    _check_ceiling(call, for_new, ceiling, absent_is_none=False)


def _check_change(call: Call, given: dict[str, Any], row: Row) -> None:
    """See that a change is the caller's to make: what was given once can't be taken more of."""
    caller = call.caller
    if not caller.may_change_key(row):
        raise call.refuse("Key not allowed to be changed by this user")
    if caller.is_admin:
        return
    moved = {name for name in ("user_id", "team_id") if name in given and given[name] != row[name]}
    _refuse_fields(call, given, _ADMIN_FIELDS | moved)
    if caller.teams.get(row["team_id"]) != "admin":
        _refuse_fields(call, given, _TEAM_FIELDS)
        _check_ceiling(call, given, row, absent_is_none=True)


def _refuse_fields(call: Call, given: dict[str, Any], fields: set[str]) -> None:
    refused = sorted(fields & given.keys())
    if refused:
        raise call.refuse(f"Only proxy admin can set {', '.join(refused)}")


def _check_ceiling(
    call: Call, given: dict[str, Any], ceiling: Row, *, absent_is_none: bool
) -> None:
    bounds = rows.shown(ceiling)
    for name in _CEILINGS:
        bound = bounds.get(name)
        value = given.get(name)
        # For a new key "none" is fine: the user's or team's own limit goes on to hold.
        unbounded = name in given and value is None and absent_is_none
        if bound is not None and (unbounded or (value is not None and value > bound)):
            raise call.refuse(f"{name} can't be more than {bound}")
    allowed, asked = set(bounds["models"] or []), given.get("models")
    if allowed and "models" in given and (absent_is_none or asked):
        more = sorted(set(asked or ["every model"]) - allowed)
        if more:
            raise call.refuse(f"models can't be more than {sorted(allowed)}, got {more}")


# the other routes


async def _key(call: Call, store: Store, key: str) -> Row:
    row = await store.fetch_one("SELECT * FROM virtual_keys WHERE key_hash = $1", digest_of(key))
    if row is None:
        raise NotFound("Key not found in database", param="key")
    return row


async def update(call: Call) -> Any:
    """Change a key."""
    return await update_one(call, call.body)


async def update_one(call: Call, body: KeyUpdate) -> dict[str, Any]:
    """Change the key that `body` names."""
    given = body.given("key")
    async with call.store.transaction() as store:
        row = await _key(call, store, body.key)
        _check_change(call, given, row)
        await _check_references(store, given)
        try:
            changed = await rows.update(
                store,
                call,
                "virtual_keys",
                {"key_hash": row["key_hash"]},
                _columns(call, given),
            )
        except Conflict:
            raise _taken(given.get("key_alias")) from None
    assert changed is not None
    call.changed("key", [row["key_hash"]])
    return {"key": body.key, **key_object(changed)}


async def regenerate(call: Call) -> Any:
    """Replace a key by a new one that goes on with its limits, its budget and its spend."""
    given = call.body.given("key", "new_key", "grace_period", "duration")
    if call.body.duration:
        given["duration"] = call.body.duration
    asked = call.path.get("key") or call.body.key or None
    key = call.body.new_key or new_key()
    token = hashlib.sha256(key.encode()).hexdigest()
    try:
        grace = call.body.grace_period
        revoke_at = parse_duration(grace, call.now) if grace else call.now
    except ValueError as error:
        raise Invalid(str(error), "body", "grace_period") from None
    async with call.store.transaction() as store:
        row = await _key(call, store, need(asked, "key"))
        _check_change(call, given, row)
        if not call.caller.may_hold_key(row):
            raise call.refuse("Only proxy admin can make a new secret for the key of another")
        await _check_references(store, given)
        old = row["key_hash"]
        values = {**_columns(call, given), "key_hash": token, "key_name": f"sk-...{key[-4:]}"}
        try:
            changed = await rows.update(store, call, "virtual_keys", {"key_hash": old}, values)
        except Conflict:
            raise _taken(given.get("key_alias")) from None
        await store.execute(
            "UPDATE replaced_keys SET active_key_hash = $1 WHERE active_key_hash = $2", token, old
        )
        await store.execute(
            "INSERT INTO replaced_keys (key_hash, active_key_hash, revoke_at) VALUES ($1, $2, $3)",
            old,
            token,
            revoke_at,
        )
    assert changed is not None
    call.changed("key", [old, token])
    return {**key_object(changed), "key": key, "token_id": token, "litellm_budget_table": None}


async def delete(call: Call) -> Any:
    """Remove keys for good. Their rows of spend stay."""
    keys, aliases = call.body.keys or [], call.body.key_aliases or []
    if not keys and not aliases:
        raise Invalid("expected keys or key_aliases", "body", "keys")
    in_keys, hashes = rows.one_of("key_hash", map(digest_of, keys))
    in_aliases, names = rows.one_of("key_alias", aliases, len(hashes) + 1)
    async with call.store.transaction() as store:
        found = await store.fetch(
            f"SELECT * FROM virtual_keys WHERE {in_keys} OR {in_aliases}",  # noqa: S608
            *hashes,
            *names,
        )
        if not found:
            raise NotFound("No keys found", param="keys")
        for row in found:
            if not call.caller.may_change_key(row):
                raise call.refuse("Key not allowed to be deleted by this user")
        for row in found:
            await rows.delete(store, call, "virtual_keys", {"key_hash": row["key_hash"]})
    deleted = [row["key_hash"] for row in found]
    call.changed("key", deleted)
    return {"deleted_keys": deleted}


async def block(call: Call) -> Any:
    """Refuse a key until it is unblocked."""
    return await _set_blocked(call, True)


async def unblock(call: Call) -> Any:
    """Accept a blocked key again."""
    return await _set_blocked(call, False)


async def _set_blocked(call: Call, blocked: bool) -> dict[str, Any]:
    async with call.store.transaction() as store:
        row = await _key(call, store, call.body.key)
        _check_change(call, {"blocked": blocked}, row)
        changed = await rows.update(
            store, call, "virtual_keys", {"key_hash": row["key_hash"]}, {"blocked": blocked}
        )
    assert changed is not None
    call.changed("key", [row["key_hash"]])
    return key_object(changed)


async def reset_spend(call: Call) -> Any:
    """Set what the budget counts as spent. The rows of spend stay as they are."""
    async with call.store.transaction() as store:
        row = await _key(call, store, call.path["key"])
        changed = await rows.update(
            store,
            call,
            "virtual_keys",
            {"key_hash": row["key_hash"]},
            rows.columns({"spend": call.body.reset_to}, call.now),
        )
    assert changed is not None
    call.changed("key", [row["key_hash"]])
    return key_object(changed)


async def info(call: Call) -> Any:
    """Show a key; without one named, the caller's own."""
    asked = call.query.key or call.caller.key_hash
    row = await _key(call, call.store, need(asked, "key"))
    if not call.caller.may_see_key(row):
        raise call.refuse("Key not allowed to be seen by this user")
    return {"key": asked, "info": await _info(call, row)}


async def info_many(call: Call) -> Any:
    """Show several keys; those that aren't there, or aren't the caller's, are left out."""
    where, values = rows.one_of("key_hash", map(digest_of, call.body.keys))
    found = await call.store.fetch(
        f"SELECT * FROM virtual_keys WHERE {where}",  # noqa: S608
        *values,
    )
    seen = [row for row in found if call.caller.may_see_key(row)]
    return {"key": call.body.keys, "info": [key_object(row) for row in seen]}


async def _info(call: Call, row: Row) -> dict[str, Any]:
    budget = None
    if row["budget_id"] is not None:
        budget = rows.shown(await call.one("budgets", "budget_id", row["budget_id"]))
    expired = row["expires"] is not None and row["expires"] <= call.now
    status = "expired" if expired else "revoked" if row["blocked"] else "active"
    return {**rows.shown(row, "key_hash"), "litellm_budget_table": budget, "status": status}


async def list_keys(call: Call) -> Any:
    """List keys, newest first: an admin's all, another's own and those of teams they lead."""
    query = call.query
    where, values = ["1 = 1"], []
    for name in ("user_id", "team_id", "organization_id", "key_hash", "key_alias"):
        if getattr(query, name):
            values.append(getattr(query, name))
            where.append(f"{name} = ${len(values)}")
    if not call.caller.sees_all:
        led = [team for team, role in call.caller.teams.items() if role == "admin"]
        in_led, teams = rows.one_of("team_id", led, len(values) + 3)
        values += [call.caller.user_id or "", call.caller.key_hash, *teams]
        own = len(values) - len(teams)
        where.append(f"(user_id = ${own - 1} OR key_hash = ${own} OR {in_led})")
    page = await page_of(call, "virtual_keys", where, values, "created_at DESC, key_hash")
    shape = key_object if query.return_full_object else lambda row: row["key_hash"]
    return {
        "keys": [shape(row) for row in page.rows],
        "total_count": page.total,
        "current_page": page.page,
        "total_pages": page.pages,
    }


async def health(call: Call) -> Any:
    """Say that the calling key works: it came this far."""
    return {"key": "healthy", "logging_callbacks": None}
