"""Teams and who belongs to them. A team's admin runs it; its limits and budget stay the proxy
admin's to set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest, NotFound
from fastgate.management import rows
from fastgate.management.bodies import Member
from fastgate.management.call import MASTER
from fastgate.management.keys import key_object
from fastgate.management.paging import page_of
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row, Store

__all__ = [
    *("add_members", "add_models", "block", "change_member", "delete", "delete_models", "info"),
    *("list_pages", "list_teams", "new", "remove_member", "unblock", "update", "user_id_of"),
]

# What a team's admin may change of it.
_TEAM_ADMIN_FIELDS = {"team_alias", "metadata", "tags", "model_aliases"}


async def _team(store: Store, team_id: str) -> Row:
    row = await store.fetch_one("SELECT * FROM teams WHERE team_id = $1", team_id)
    if row is None:
        raise NotFound(f"Team not found, passed team_id={team_id}", param="team_id")
    return row


async def _object(store: Store, team: Row) -> dict[str, Any]:
    members = await store.fetch(
        "SELECT team_members.*, user_email FROM team_members JOIN users USING (user_id) "
        "WHERE team_id = $1 ORDER BY user_id",
        team["team_id"],
    )
    with_roles = [
        {name: row[name] for name in ("role", "user_id", "user_email")} for row in members
    ]
    admins = [row["user_id"] for row in members if row["role"] == "admin"]
    return {
        **rows.shown(team),
        "admins": admins,
        "members": [row["user_id"] for row in members],
        "members_with_roles": with_roles,
    }


async def new(call: Call) -> Any:
    """Make a team; a caller with a user of their own leads it."""
    given = call.body.given("members_with_roles")
    given["team_id"] = given.get("team_id") or rows.new_id()
    members = list(call.body.members_with_roles or [])
    async with call.store.transaction() as store:
        if given.get("organization_id"):
            await call.one("organizations", "organization_id", given["organization_id"], lock=store)
        try:
            team = await rows.insert(store, call, "teams", rows.columns(given, call.now))
        except Conflict:
            raise rows.conflict(f"Team id = {given['team_id']} already exists") from None
        if call.caller.user_id not in (None, MASTER):
            members.insert(0, Member(role="admin", user_id=call.caller.user_id))
        for member in members:
            await _add(store, call, team, member, {})
        made = await _object(store, team)
    call.changed("team", [team["team_id"]])
    return made


async def update(call: Call) -> Any:
    """Change a team."""
    given = call.body.given("team_id")
    _check(call, call.body.team_id)
    refused = sorted(given.keys() - _TEAM_ADMIN_FIELDS)
    if refused and not call.caller.is_admin:
        raise call.refuse(f"Only proxy admin can set {', '.join(refused)}")
    async with call.store.transaction() as store:
        if given.get("organization_id"):
            await call.one("organizations", "organization_id", given["organization_id"], lock=store)
        return {"data": await _change(store, call, call.body.team_id, given)}


async def _change(store: Store, call: Call, team_id: str, given: dict[str, Any]) -> dict[str, Any]:
    await _team(store, team_id)
    values = rows.columns(given, call.now)
    team = await rows.update(store, call, "teams", {"team_id": team_id}, values)
    assert team is not None
    call.changed("team", [team_id])
    return {"team_id": team_id, **await _object(store, team)}


def _check(call: Call, team_id: str) -> None:
    if not call.caller.may_change_team(team_id):
        raise call.refuse(f"Only proxy admin or the team's admin can change team={team_id}")


async def delete(call: Call) -> Any:
    """Remove teams with their keys. Rows of spend stay."""
    removed: list[str] = []
    async with call.store.transaction() as store:
        for team_id in call.body.team_ids:
            await _team(store, team_id)
            keys = await store.fetch(
                "SELECT key_hash FROM virtual_keys WHERE team_id = $1", team_id
            )
            for key in keys:
                await rows.delete(store, call, "virtual_keys", key)
            removed += [key["key_hash"] for key in keys]
            await rows.delete(store, call, "teams", {"team_id": team_id})
    call.changed("key", removed)
    call.changed("team", call.body.team_ids)
    return {"deleted_teams": call.body.team_ids}


async def block(call: Call) -> Any:
    """Refuse all keys of a team."""
    async with call.store.transaction() as store:
        return await _change(store, call, call.body.team_id, {"blocked": True})


async def unblock(call: Call) -> Any:
    """Accept them again."""
    async with call.store.transaction() as store:
        return await _change(store, call, call.body.team_id, {"blocked": False})


async def info(call: Call) -> Any:
    """Show a team with its members; its keys to those who may see them."""
    team_id = call.query.team_id
    if not call.caller.may_see_team(team_id):
        raise call.refuse(f"Not a member of team={team_id}")
    team = await _team(call.store, team_id)
    keys = await call.store.fetch("SELECT * FROM virtual_keys WHERE team_id = $1", team_id)
    members = await call.store.fetch(
        "SELECT * FROM team_members WHERE team_id = $1 ORDER BY user_id", team_id
    )
    return {
        "team_id": team_id,
        "team_info": await _object(call.store, team),
        "keys": [key_object(key) for key in keys if call.caller.may_see_key(key)],
        "team_memberships": [rows.shown(row) for row in members],
    }


def _filter(call: Call) -> tuple[list[str], list[object]]:
    query, caller = call.query, call.caller
    where, values = ["1 = 1"], []
    user_id = query.user_id
    if not caller.sees_all:
        if user_id not in (None, caller.user_id):
            raise call.refuse("Only proxy admin can list the teams of others")
        user_id = caller.user_id or ""
    if user_id is not None:
        values.append(user_id)
        where.append("team_id IN (SELECT team_id FROM team_members WHERE user_id = $1)")
    for name in ("organization_id", "team_alias"):
        if getattr(query, name, None):
            values.append(getattr(query, name))
            where.append(f"{name} = ${len(values)}")
    return where, values


async def list_teams(call: Call) -> Any:
    """List all teams that the caller may see."""
    where, values = _filter(call)
    found = await call.store.fetch(
        f"SELECT * FROM teams WHERE {' AND '.join(where)} ORDER BY team_id",  # noqa: S608
        *values,
    )
    return [await _object(call.store, team) for team in found]


async def list_pages(call: Call) -> Any:
    """List a page of them."""
    page = await page_of(call, "teams", *_filter(call), "team_id")
    return {
        "teams": [await _object(call.store, team) for team in page.rows],
        "total": page.total,
        "page": page.page,
        "page_size": call.query.page_size,
        "total_pages": page.pages,
    }


# members


async def user_id_of(store: Store, call: Call, member: Any) -> str:
    """Return the id of the user that a body names; who isn't there yet is made."""
    if member.user_id:
        user = await store.fetch_one("SELECT * FROM users WHERE user_id = $1", member.user_id)
    elif member.user_email:
        user = await store.fetch_one("SELECT * FROM users WHERE user_email = $1", member.user_email)
    else:
        raise BadRequest("expected user_id or user_email, got neither", param="member")
    if user is None:
        values = {
            "user_id": member.user_id or rows.new_id(),
            "user_email": member.user_email or None,
            "user_role": "internal_user",
        }
        try:
            user = await rows.insert(store, call, "users", values)
        except Conflict:
            raise rows.conflict("another user has this user_email") from None
    return str(user["user_id"])


async def _add(
    store: Store, call: Call, team: Row, member: Member, given: dict[str, Any]
) -> tuple[str, Row]:
    user_id = await user_id_of(store, call, member)
    values = {
        "team_id": team["team_id"],
        "user_id": user_id,
        "role": member.role,
        "max_budget_nano_usd": team["member_max_budget_nano_usd"],
        "rpm_limit": team["member_rpm_limit"],
        "tpm_limit": team["member_tpm_limit"],
        **rows.columns({"budget_duration": team["member_budget_duration"], **given}, call.now),
    }
    try:
        return user_id, await rows.insert(store, call, "team_members", values)
    except Conflict:
        raise BadRequest(
            f"User {user_id} is already in team {team['team_id']}",
            type="team_member_already_in_team",
        ) from None


async def add_members(call: Call) -> Any:
    """Add one user or several."""
    body = call.body
    _check(call, body.team_id)
    given = body.given("team_id", "member")
    if given.keys() & {"max_budget_in_team"} and not call.caller.is_admin:
        raise call.refuse("Only proxy admin can set max_budget_in_team")
    members = body.member if isinstance(body.member, list) else [body.member]
    async with call.store.transaction() as store:
        team = await _team(store, body.team_id)
        added = [await _add(store, call, team, member, given) for member in members]
        shown = await _object(store, team)
        where, ids = rows.one_of("user_id", [user_id for user_id, _ in added])
        users = await store.fetch(f"SELECT * FROM users WHERE {where}", *ids)  # noqa: S608
    call.changed("team", [body.team_id])
    return {
        **shown,
        "updated_users": [_seen(call, user) for user in users],
        "updated_team_memberships": [rows.shown(row) for _, row in added],
    }


def _seen(call: Call, user: Row) -> dict[str, Any]:
    """Return of a user what the caller may see: who leads a team may add anybody to it."""
    shown = rows.shown(user)
    if call.caller.may_see_user(user["user_id"]):
        return shown
    return {name: shown[name] for name in ("user_id", "user_email")}


async def _member(store: Store, call: Call) -> Row:
    body = call.body
    await _team(store, body.team_id)
    if not body.user_id and not body.user_email:
        raise BadRequest("expected user_id or user_email, got neither", param="user_id")
    column = "team_members.user_id" if body.user_id else "user_email"
    row = await store.fetch_one(
        "SELECT team_members.* FROM team_members "  # noqa: S608  names of ours
        "JOIN users ON users.user_id = team_members.user_id "
        f"WHERE team_id = $1 AND {column} = $2",
        body.team_id,
        body.user_id or body.user_email,
    )
    if row is None:
        raise NotFound(f"User not found in team={body.team_id}", param="user_id")
    return row


async def change_member(call: Call) -> Any:
    """Change a member's role, budget or limits."""
    _check(call, call.body.team_id)
    given = call.body.given("team_id", "user_id", "user_email")
    if given.keys() - {"role"} and not call.caller.is_admin:
        raise call.refuse("Only proxy admin can set a member's budget and limits")
    if given.get("role", "") is None:
        del given["role"]
    async with call.store.transaction() as store:
        row = await _member(store, call)
        key = {"team_id": row["team_id"], "user_id": row["user_id"]}
        changed = await rows.update(store, call, "team_members", key, rows.columns(given, call.now))
    assert changed is not None
    call.changed("team", [call.body.team_id])
    return rows.shown(changed)


async def remove_member(call: Call) -> Any:
    """Take a user out of a team. The keys they have in it are removed: they'd go on spending."""
    _check(call, call.body.team_id)
    async with call.store.transaction() as store:
        row = await _member(store, call)
        key = {"team_id": row["team_id"], "user_id": row["user_id"]}
        keys = await store.fetch(
            "SELECT key_hash FROM virtual_keys WHERE team_id = $1 AND user_id = $2", *key.values()
        )
        for each in keys:
            await rows.delete(store, call, "virtual_keys", each)
        await rows.delete(store, call, "team_members", key)
        shown = await _object(store, await _team(store, call.body.team_id))
    call.changed("key", [each["key_hash"] for each in keys])
    call.changed("team", [call.body.team_id])
    return shown


async def add_models(call: Call) -> Any:
    """Let a team use more models."""
    async with call.store.transaction() as store:
        team = await _team(store, call.body.team_id)
        models = list(dict.fromkeys([*team["models"], *call.body.models]))
        return await _change(store, call, call.body.team_id, {"models": models})


async def delete_models(call: Call) -> Any:
    """Take models from a team. The last one can't be taken: no models means all of them."""
    async with call.store.transaction() as store:
        team = await _team(store, call.body.team_id)
        models = [model for model in team["models"] if model not in call.body.models]
        if team["models"] and not models:
            raise BadRequest(
                "a team without models may use every model: block it, or give it no-default-models",
                param="models",
            )
        return await _change(store, call, call.body.team_id, {"models": models})
