"""Users: people with a role, and the sum of their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest, NotFound
from fastgate.management import rows
from fastgate.management.call import need
from fastgate.management.keys import key_object, make_key
from fastgate.management.paging import page_of
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.bodies import UserUpdate
    from fastgate.management.call import Call

__all__ = ["delete", "info", "list_users", "new", "update", "update_one"]

# What users may change of themselves.
_OWN_FIELDS = {"user_alias", "metadata"}


async def new(call: Call) -> Any:
    """Make a user, and a key for them unless told not to."""
    given = call.body.given("auto_create_key", "teams", "key_alias", "duration")
    given["user_id"] = given.get("user_id") or rows.new_id()
    given["user_role"] = given.get("user_role") or "internal_user"
    made: dict[str, Any] = {}
    async with call.store.transaction() as store:
        try:
            user = await rows.insert(store, call, "users", rows.columns(given, call.now))
        except Conflict:
            raise rows.conflict("User with this user_id, user_email or sso id exists") from None
        for team_id in call.body.teams or []:
            await call.one("teams", "team_id", team_id, lock=store)
            values = {"team_id": team_id, "user_id": user["user_id"], "role": "user"}
            await rows.insert(store, call, "team_members", values)
        if call.body.auto_create_key:
            for_key = {"user_id": user["user_id"], "models": user["models"]}
            given = call.body.given()
            for_key |= {name: given[name] for name in ("key_alias", "duration") if name in given}
            made = await make_key(store, call, for_key)
    call.changed("user", [user["user_id"]])
    shown = {**rows.shown(user), "teams": call.body.teams or []}
    return {**made, **shown, "key": made.get("key"), "token": made.get("token")}


async def update(call: Call) -> Any:
    """Change a user: an admin any, others what is harmless of themselves."""
    return await update_one(call, call.body, call.body.user_id or None)


async def update_one(call: Call, body: UserUpdate, user_id: str | None) -> dict[str, Any]:
    """Change a user as `body` says: the one with this id, else with its e-mail address."""
    given = body.given("user_id")
    async with call.store.transaction() as store:
        if not user_id and body.user_email:
            found = await store.fetch_one(
                "SELECT user_id FROM users WHERE user_email = $1", body.user_email
            )
            user_id = found["user_id"] if found else None
        user_id = need(user_id, "user_id")
        if not call.caller.is_admin:
            refused = sorted(given.keys() - _OWN_FIELDS)
            if user_id != call.caller.user_id or refused:
                raise call.refuse(f"Only proxy admin can set {', '.join(refused) or 'others'}")
        if given.get("user_role", "") is None:
            raise BadRequest("expected a role, got null", param="user_role")
        values = rows.columns(given, call.now)
        try:
            user = await rows.update(store, call, "users", {"user_id": user_id}, values)
        except Conflict:
            raise rows.conflict("another user has this user_email or sso id") from None
    if user is None:
        raise NotFound(f"User not found, passed user_id={user_id}", param="user_id")
    call.changed("user", [user_id])
    return {"user_id": user_id, "data": rows.shown(user)}


async def delete(call: Call) -> Any:
    """Remove users with their keys and memberships. Rows of spend stay."""
    removed: list[str] = []
    async with call.store.transaction() as store:
        for user_id in call.body.user_ids:
            keys = await store.fetch(
                "SELECT key_hash FROM virtual_keys WHERE user_id = $1", user_id
            )
            for key in keys:
                await rows.delete(store, call, "virtual_keys", key)
            removed += [key["key_hash"] for key in keys]
            if await rows.delete(store, call, "users", {"user_id": user_id}) is None:
                raise NotFound(f"User not found, passed user_id={user_id}", param="user_ids")
    call.changed("key", removed)
    call.changed("user", call.body.user_ids)
    return {"deleted_users": call.body.user_ids}


async def info(call: Call) -> Any:
    """Show a user with their keys and teams; without an id, the caller."""
    user_id = need(call.query.user_id or call.caller.user_id, "user_id")
    if not call.caller.may_see_user(user_id):
        raise call.refuse("Only proxy admin can see other users")
    user = await call.store.fetch_one("SELECT * FROM users WHERE user_id = $1", user_id)
    if user is None:
        raise NotFound(f"User not found, passed user_id={user_id}", param="user_id")
    keys = await call.store.fetch("SELECT * FROM virtual_keys WHERE user_id = $1", user_id)
    teams = await call.store.fetch(
        "SELECT teams.* FROM teams JOIN team_members USING (team_id) WHERE user_id = $1", user_id
    )
    return {
        "user_id": user_id,
        "user_info": {**rows.shown(user), "teams": [team["team_id"] for team in teams]},
        "keys": [key_object(key) for key in keys],
        "teams": [rows.shown(team) for team in teams],
    }


async def list_users(call: Call) -> Any:
    """List a page of users."""
    where, values = ["1 = 1"], []
    for column, value in (
        ("user_role", call.query.role),
        ("user_email", call.query.user_email),
    ):
        if value:
            values.append(value)
            where.append(f"{column} = ${len(values)}")
    page = await page_of(call, "users", where, values, "created_at DESC, user_id")
    return {
        "users": [rows.shown(user) for user in page.rows],
        "total": page.total,
        "page": page.page,
        "page_size": call.query.page_size,
        "total_pages": page.pages,
    }
