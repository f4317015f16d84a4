"""Organizations: above teams, with a budget of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import NotFound
from fastgate.management import budgets, rows
from fastgate.management.call import need
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row

__all__ = ["delete", "info", "list_organizations", "new", "update"]


async def _shown(call: Call, row: Row) -> dict[str, Any]:
    budget = None
    if row["budget_id"] is not None:
        budget = rows.shown(await call.one("budgets", "budget_id", row["budget_id"]))
    teams = await call.store.fetch(
        "SELECT team_id, team_alias FROM teams WHERE organization_id = $1 ORDER BY team_id",
        row["organization_id"],
    )
    members = await call.store.fetch(
        "SELECT * FROM organization_members WHERE organization_id = $1 ORDER BY user_id",
        row["organization_id"],
    )
    return {
        **rows.shown(row),
        "litellm_budget_table": budget,
        "teams": teams,
        "members": [rows.shown(member) for member in members],
    }


def _values(call: Call, budget_id: str | None) -> dict[str, Any]:
    names = ("organization_alias", "models", "metadata")
    given = {name: value for name, value in call.body.given().items() if name in names}
    return rows.columns({**given, "budget_id": budget_id}, call.now)


async def new(call: Call) -> Any:
    """Make an organization."""
    organization_id = call.body.organization_id or rows.new_id()
    async with call.store.transaction() as store:
        values = _values(call, await budgets.inline(store, call, None))
        values["organization_id"] = organization_id
        try:
            row = await rows.insert(store, call, "organizations", values)
        except Conflict:
            raise rows.conflict(f"Organization id = {organization_id} already exists") from None
    return await _shown(call, row)


async def update(call: Call) -> Any:
    """Change an organization."""
    organization_id = need(call.body.organization_id or None, "organization_id")
    async with call.store.transaction() as store:
        row = await call.one("organizations", "organization_id", organization_id, lock=store)
        values = _values(call, await budgets.inline(store, call, row["budget_id"]))
        key = {"organization_id": organization_id}
        changed = await rows.update(store, call, "organizations", key, values)
    assert changed is not None
    call.changed("organization", [organization_id])
    return await _shown(call, changed)


async def delete(call: Call) -> Any:
    """Remove organizations that no team and no key belongs to any more."""
    removed = []
    try:
        async with call.store.transaction() as store:
            for organization_id in call.body.organization_ids:
                key = {"organization_id": organization_id}
                row = await rows.delete(store, call, "organizations", key)
                if row is None:
                    raise NotFound(f"Organization={organization_id} not found in database")
                removed.append(rows.shown(row))
    except Conflict:
        raise rows.conflict("it still has teams or keys: delete or move them first") from None
    return removed


async def info(call: Call) -> Any:
    """Show an organization."""
    return await _shown(
        call, await call.one("organizations", "organization_id", call.query.organization_id)
    )


async def list_organizations(call: Call) -> Any:
    """List all organizations."""
    found = await call.store.fetch("SELECT * FROM organizations ORDER BY organization_id")
    return [rows.shown(row) for row in found]
