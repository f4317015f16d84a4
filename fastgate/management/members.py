"""Who belongs to an organization. A role in it is shown, and gives no right: those are given by the
user's own role and by teams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest, NotFound
from fastgate.management import rows
from fastgate.management.teams import user_id_of
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row, Store

__all__ = ["add", "change", "remove"]


async def add(call: Call) -> Any:
    """Add one user or several; who isn't known yet is made."""
    body = call.body
    _refuse_budget(call)
    members = body.member if isinstance(body.member, list) else [body.member]
    added, users = [], []
    async with call.store.transaction() as store:
        await call.one("organizations", "organization_id", body.organization_id, lock=store)
        for member in members:
            user_id = await user_id_of(store, call, member)
            values = {
                "organization_id": body.organization_id,
                "user_id": user_id,
                "user_role": member.role,
            }
            try:
                added.append(await rows.insert(store, call, "organization_members", values))
            except Conflict:
                raise rows.conflict(
                    f"User {user_id} is already in organization {body.organization_id}"
                ) from None
            users.append(await call.one("users", "user_id", user_id, lock=store))
    call.changed("organization", [body.organization_id])
    return {
        "organization_id": body.organization_id,
        "updated_users": [rows.shown(user) for user in users],
        "updated_organization_memberships": [rows.shown(row) for row in added],
    }


async def change(call: Call) -> Any:
    """Change a member's role."""
    _refuse_budget(call)
    async with call.store.transaction() as store:
        row = await _member(store, call)
        key = {"organization_id": row["organization_id"], "user_id": row["user_id"]}
        values = {"user_role": call.body.role} if call.body.role else {}
        changed = await rows.update(store, call, "organization_members", key, values)
    assert changed is not None
    call.changed("organization", [changed["organization_id"]])
    return rows.shown(changed)


async def remove(call: Call) -> Any:
    """Take a user out of an organization. Their keys are their own, and stay."""
    async with call.store.transaction() as store:
        row = await _member(store, call)
        key = {"organization_id": row["organization_id"], "user_id": row["user_id"]}
        await rows.delete(store, call, "organization_members", key)
    call.changed("organization", [row["organization_id"]])
    return rows.shown(row)


def _refuse_budget(call: Call) -> None:
    if call.body.given().get("max_budget_in_organization") is not None:
        raise BadRequest(
            "expected no max_budget_in_organization: a member's budget there is not kept; give the "
            "user, the team or the key one",
            param="max_budget_in_organization",
        )


async def _member(store: Store, call: Call) -> Row:
    body = call.body
    if not body.user_id and not body.user_email:
        raise BadRequest("expected user_id or user_email, got neither", param="user_id")
    column = "organization_members.user_id" if body.user_id else "user_email"
    row = await store.fetch_one(
        "SELECT organization_members.* FROM organization_members "  # noqa: S608  names of ours
        "JOIN users ON users.user_id = organization_members.user_id "
        f"WHERE organization_id = $1 AND {column} = $2",
        body.organization_id,
        body.user_id or body.user_email,
    )
    if row is None:
        raise NotFound(f"User not found in organization={body.organization_id}", param="user_id")
    return row
