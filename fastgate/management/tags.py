"""Tags: names that requests and keys carry, each with a description, models and a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import NotFound
from fastgate.management import budgets, rows
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row

__all__ = ["delete", "info", "list_tags", "new", "update"]


def _values(call: Call, budget_id: str | None) -> dict[str, Any]:
    names = ("description", "models")
    given = {name: value for name, value in call.body.given().items() if name in names}
    return rows.columns({**given, "budget_id": budget_id}, call.now)


async def _shown(call: Call, row: Row) -> dict[str, Any]:
    budget = None
    if row["budget_id"] is not None:
        budget = rows.shown(await call.one("budgets", "budget_id", row["budget_id"]))
    return {**rows.shown(row), "litellm_budget_table": budget}


async def new(call: Call) -> Any:
    """Make a tag."""
    name = call.body.name
    async with call.store.transaction() as store:
        values = {"name": name, **_values(call, await budgets.inline(store, call, None))}
        try:
            row = await rows.insert(store, call, "tags", values)
        except Conflict:
            raise rows.conflict(f"Tag {name} already exists") from None
    call.changed("tag", [name])
    return {"message": f"Tag {name} created successfully", "tag": await _shown(call, row)}


async def update(call: Call) -> Any:
    """Change a tag."""
    name = call.body.name
    async with call.store.transaction() as store:
        row = await store.fetch_one("SELECT * FROM tags WHERE name = $1", name)
        if row is None:
            raise _unknown(name)
        values = _values(call, await budgets.inline(store, call, row["budget_id"]))
        changed = await rows.update(store, call, "tags", {"name": name}, values)
    assert changed is not None
    call.changed("tag", [name])
    return {"message": f"Tag {name} updated successfully", "tag": await _shown(call, changed)}


async def delete(call: Call) -> Any:
    """Remove a tag. Rows of spend stay."""
    name = call.body.name
    async with call.store.transaction() as store:
        if await rows.delete(store, call, "tags", {"name": name}) is None:
            raise _unknown(name)
    call.changed("tag", [name])
    return {"message": f"Tag {name} deleted successfully"}


async def info(call: Call) -> Any:
    """Show the tags with these names; those that aren't there are left out."""
    where, values = rows.one_of("name", call.body.names)
    found = await call.store.fetch(
        f"SELECT * FROM tags WHERE {where} ORDER BY name",  # noqa: S608
        *values,
    )
    return {row["name"]: await _shown(call, row) for row in found}


async def list_tags(call: Call) -> Any:
    """List all tags."""
    found = await call.store.fetch("SELECT * FROM tags ORDER BY name")
    return [await _shown(call, row) for row in found]


def _unknown(name: str) -> NotFound:
    return NotFound(f"Tag {name} not found", param="name")
