"""Customers: the end users that requests name in `user`. Their budgets stand in `budgets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.errors import NotFound
from fastgate.management import budgets, rows
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.management.bodies import CustomerFields
    from fastgate.management.call import Call
    from fastgate.store import Row

__all__ = ["block", "delete", "info", "list_customers", "new", "unblock", "update"]


def _values(body: CustomerFields, budget_id: str | None) -> dict[str, Any]:
    names = ("alias", "blocked", "allowed_model_region", "default_model", "models")
    given = {name: value for name, value in body.given().items() if name in names}
    return {**given, "budget_id": budget_id}


async def _shown(call: Call, row: Row) -> dict[str, Any]:
    budget = None
    if row["budget_id"] is not None:
        budget = rows.shown(await call.one("budgets", "budget_id", row["budget_id"]))
    shown = rows.shown(row, "customer_id")
    return {"user_id": row["customer_id"], **shown, "litellm_budget_table": budget}


async def new(call: Call) -> Any:
    """Make a customer, with limits where given."""
    async with call.store.transaction() as store:
        values = rows.columns(_values(call.body, await budgets.inline(store, call, None)), call.now)
        values["customer_id"] = call.body.user_id
        try:
            row = await rows.insert(store, call, "customers", values)
        except Conflict:
            raise rows.conflict(
                f"Customer already exists, passed user_id={call.body.user_id}"
            ) from None
    call.changed("customer", [call.body.user_id])
    return await _shown(call, row)


async def update(call: Call) -> Any:
    """Change a customer; who isn't there yet is made."""
    customer_id = call.body.user_id
    async with call.store.transaction() as store:
        row = await store.fetch_one("SELECT * FROM customers WHERE customer_id = $1", customer_id)
        if row is None:
            raise NotFound(f"Customer not found, passed user_id={customer_id}", param="user_id")
        budget_id = await budgets.inline(store, call, row["budget_id"])
        values = rows.columns(_values(call.body, budget_id), call.now)
        changed = await rows.update(store, call, "customers", {"customer_id": customer_id}, values)
    assert changed is not None
    call.changed("customer", [customer_id])
    return await _shown(call, changed)


async def delete(call: Call) -> Any:
    """Remove customers. Rows of spend stay."""
    count = 0
    async with call.store.transaction() as store:
        for customer_id in call.body.user_ids:
            gone = await rows.delete(store, call, "customers", {"customer_id": customer_id})
            count += gone is not None
        if not count:
            raise NotFound("No customers found", param="user_ids")
    call.changed("customer", call.body.user_ids)
    return {"deleted_customers": count, "message": f"Successfully deleted {count} customers"}


async def block(call: Call) -> Any:
    """Refuse customers; who isn't known yet is made, and refused from the first request on."""
    blocked = await _set_blocked(call, True)
    return {"blocked_users": blocked}


async def unblock(call: Call) -> Any:
    """Accept them again."""
    await _set_blocked(call, False)
    found = await call.store.fetch(
        "SELECT customer_id FROM customers WHERE blocked = TRUE ORDER BY customer_id"
    )
    return {"blocked_users": [row["customer_id"] for row in found]}


async def _set_blocked(call: Call, blocked: bool) -> list[dict[str, Any]]:
    changed = []
    async with call.store.transaction() as store:
        for customer_id in call.body.user_ids:
            key = {"customer_id": customer_id}
            row = await rows.update(store, call, "customers", key, {"blocked": blocked})
            if row is None and blocked:
                row = await rows.insert(store, call, "customers", {**key, "blocked": True})
            if row is not None:
                changed.append(rows.shown(row, "customer_id") | {"user_id": customer_id})
    call.changed("customer", call.body.user_ids)
    return changed


async def info(call: Call) -> Any:
    """Show a customer."""
    customer_id = call.query.end_user_id
    row = await call.store.fetch_one("SELECT * FROM customers WHERE customer_id = $1", customer_id)
    if row is None:
        raise NotFound(f"End User Id={customer_id} does not exist in db", param="end_user_id")
    return await _shown(call, row)


async def list_customers(call: Call) -> Any:
    """List all customers."""
    found = await call.store.fetch("SELECT * FROM customers ORDER BY customer_id")
    return [rows.shown(row, "customer_id") | {"user_id": row["customer_id"]} for row in found]
