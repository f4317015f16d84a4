"""Budgets that keys, customers, organizations and tags refer to by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import NotFound
from fastgate.management import rows
from fastgate.management.bodies import Budgeted
from fastgate.management.call import need
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row, Store

__all__ = ["delete", "info", "inline", "list_budgets", "new", "settings", "update"]


async def new(call: Call) -> Any:
    """Make a budget."""
    async with call.store.transaction() as store:
        return rows.shown(await _make(store, call, call.body.given()))


async def _make(store: Store, call: Call, given: dict[str, Any]) -> Row:
    given["budget_id"] = given.get("budget_id") or rows.new_id()
    try:
        return await rows.insert(store, call, "budgets", rows.columns(given, call.now))
    except Conflict:
        raise rows.conflict(f"Budget with budget_id={given['budget_id']} exists") from None


async def inline(store: Store, call: Call, current: str | None) -> str | None:
    """Return the budget_id for a body that may hold a budget's fields itself: the one it names,
    or `current` changed accordingly, or a new one.
    """
    names = set(Budgeted.__struct_fields__)
    given = {name: value for name, value in call.body.given().items() if name in names}
    named: str | None = call.body.given().get("budget_id", current)
    if named is not None and named != current:
        await call.one("budgets", "budget_id", named, lock=store)
    if not given:
        return named
    if named is None:
        return str((await _make(store, call, given))["budget_id"])
    values = rows.columns(given, call.now)
    await rows.update(store, call, "budgets", {"budget_id": named}, values)
    call.changed("budget", [named])
    return named


async def update(call: Call) -> Any:
    """Change a budget, for all that refer to it."""
    budget_id = need(call.body.budget_id or None, "budget_id")
    async with call.store.transaction() as store:
        values = rows.columns(call.body.given("budget_id"), call.now)
        budget = await rows.update(store, call, "budgets", {"budget_id": budget_id}, values)
    if budget is None:
        raise NotFound(f"Budget not found, passed budget_id={budget_id}", param="budget_id")
    call.changed("budget", [budget_id])
    return rows.shown(budget)


async def delete(call: Call) -> Any:
    """Remove a budget that nothing refers to any more."""
    try:
        async with call.store.transaction() as store:
            budget = await rows.delete(store, call, "budgets", {"budget_id": call.body.id})
    except Conflict:
        raise rows.conflict(
            f"budget_id={call.body.id} is in use: take it from its keys, customers, organizations "
            "and tags first"
        ) from None
    if budget is None:
        raise NotFound(f"Budget not found, passed id={call.body.id}", param="id")
    return rows.shown(budget)


async def info(call: Call) -> Any:
    """Show the budgets with these ids."""
    where, values = rows.one_of("budget_id", call.body.budgets)
    found = await call.store.fetch(
        f"SELECT * FROM budgets WHERE {where} ORDER BY budget_id",  # noqa: S608
        *values,
    )
    return [rows.shown(row) for row in found]


async def list_budgets(call: Call) -> Any:
    """List all budgets."""
    found = await call.store.fetch("SELECT * FROM budgets ORDER BY created_at, budget_id")
    return [rows.shown(row) for row in found]


async def settings(call: Call) -> Any:
    """Show a budget as a list of its fields."""
    budget = rows.shown(await call.one("budgets", "budget_id", call.query.budget_id))
    return [
        {"field_name": name, "field_value": budget[name], "stored_in_db": True}
        for name in Budgeted.__struct_fields__
    ]
