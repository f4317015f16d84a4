"""What the rows of requests alike share: key, model, deployment, endpoint, price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from fastgate._core.journal import Columns

if TYPE_CHECKING:
    from fastgate._core.cost import Rates

__all__ = ["Booking", "booking"]


class Booking:
    """Constant columns of spend_logs, written once per journal segment, and the price they name."""

    def __init__(self, columns: Columns, rates: Rates | None, version: int) -> None:
        self.columns = columns
        self.rates = rates
        """None: no price is known."""
        self.version = version


def booking(principal: Any, group: str, choice: Any, endpoint: Any, version: int) -> Booking:
    """Return where requests of `principal` for `choice` of `group` are booked. `version`: of the
    price that holds now.
    """
    rates = choice.rates
    deployment = choice.target.deployment
    values = {
        "key_hash": principal.key_hash.hex(),
        "key_alias": principal.alias,
        "team_id": principal.team,
        "user_id": principal.user_id,
        "organization_id": principal.organization_id,
        "model_group": group,
        "model": choice.model,
        "deployment_id": deployment.id,
        "provider": deployment.provider,
        "api_base": deployment.api_base,
        "call_type": endpoint.call_type,
        "price_version": "" if rates is None else f"{version:016x}",
    }
    present = {name: value for name, value in values.items() if value}
    return Booking(Columns(orjson.dumps(present)), rates, version)
