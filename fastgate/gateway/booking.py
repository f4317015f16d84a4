"""What the rows of requests alike share: key, model, deployment, endpoint, price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from fastgate._core.journal import Columns

if TYPE_CHECKING:
    from fastgate._core.cost import Rates
    from fastgate.gateway.context import Context

__all__ = ["Booking", "booking"]


class Booking:
    """Constant columns of spend_logs, written once per journal segment, and the price they name."""

    def __init__(self, columns: Columns, rates: Rates | None, version: int) -> None:
        self.columns = columns
        self.rates = rates
        """None: no price is known."""
        self.version = version


def booking(context: Context, version: int) -> Booking:
    """Return where requests like this one are booked. `version`: of the price that holds now."""
    principal, choice, scoped = context.principal, context.choice, context.scoped
    rates = choice.rates
    deployment = choice.target.deployment
    values: dict[str, Any] = {
        "key_hash": principal.key_hash.hex(),
        "key_alias": principal.alias,
        "team_id": principal.team,
        "user_id": principal.user_id,
        "organization_id": principal.organization_id,
        "model_group": context.plan.group,
        "model": choice.model,
        "deployment_id": deployment.id,
        "provider": deployment.provider,
        "api_base": deployment.api_base,
        "call_type": context.endpoint.call_type,
        "price_version": "" if rates is None else f"{version:016x}",
        # What is charged in shared memory, for the drain to take over.
        "budgets": [] if scoped is None else [[b.kind, b.id, b.duration] for b in scoped.budgets],
    }
    present = {name: value for name, value in values.items() if value}
    return Booking(Columns(orjson.dumps(present)), rates, version)
