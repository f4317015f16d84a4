"""What rows of `spend_logs` and `spend_attempts` would cost at the prices known now.

Tokens are what is stored, dollars are derived: when a price was wrong or missing, rows are priced
again, each at its own time. This yields what has to change and writes nothing; whoever writes adds
`delta_nano_usd` to the balances and the roll-up in the transaction that changes the row.

A cost once known never becomes unknown, and a row is left alone where what it was charged for has
no column (seconds, images): both are counted as `left`.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fastgate.config.schema import Deployment, PriceEntry
from fastgate.spend.price import Price
from fastgate.spend.prices import periods, unix_us

__all__ = ["Correction", "Repricer"]


class Correction(NamedTuple):
    """What a row should say."""

    request_id: str
    attempt: int
    """0: the row of the request; else that of its failed attempt."""
    spend_nano_usd: int
    price_version: str
    delta_nano_usd: int
    """What its balances change by."""
    was_unknown: bool
    """It had no cost: the roll-up has one unpriced request less."""


class Repricer:
    """One run over the rows that began from `start` to `end`, which have time zones."""

    def __init__(
        self,
        deployments: Iterable[Deployment],
        entries: Sequence[PriceEntry],
        start: datetime,
        end: datetime,
    ) -> None:
        self.examined = 0
        self.left = 0
        """Rows whose cost is unknown now, or can't be told from their columns."""
        self._deployments = {deployment.id: deployment for deployment in deployments}
        self._entries = entries
        self._start = start
        self._end = end
        self._periods: dict[tuple[str, str, str], list[tuple[int, Price | None]]] = {}

    def corrections(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Correction]:
        """Yield what to change, in the order of `rows`, which are read as they are needed."""
        for row in rows:
            self.examined += 1
            found = self._correction(row)
            if found is not None:
                yield found

    def _correction(self, row: Mapping[str, Any]) -> Correction | None:
        if row.get("cache_hit") or not row["deployment_id"]:
            # No provider was asked.
            return None
        # A request that failed without a token never got as far as to be charged.
        failed = row.get("status", "failure") == "failure" and not row["total_tokens"]
        price = self._price_of(row)
        cost = None
        if price is not None and not price.by_more_than_tokens:
            cost = price.cost_nano(
                row["prompt_tokens"],
                row["cached_tokens"],
                row["cache_write_tokens"],
                row["completion_tokens"],
                row["reasoning_tokens"],
                requests=0 if failed else 1,
            )
        if price is None or cost is None:
            self.left += 1
            return None
        known = row["spend_nano_usd"]
        if known == cost and row["price_version"] == price.version:
            return None
        return Correction(
            row["request_id"],
            row.get("attempt", 0),
            cost,
            price.version,
            cost - (known or 0),
            known is None,
        )

    def _price_of(self, row: Mapping[str, Any]) -> Price | None:
        key = (row["deployment_id"] or "", row["provider"] or "", row["model"] or "")
        if key not in self._periods:
            self._periods[key] = periods(
                self._deployment(*key), key[2], self._start, self._end, self._entries
            )
        known = self._periods[key]
        at = bisect.bisect(known, unix_us(row["start_time"]), key=lambda period: period[0])
        return known[at - 1][1]

    def _deployment(self, deployment_id: str, provider: str, model: str) -> Deployment:
        known = self._deployments.get(deployment_id)
        if known is not None:
            return known
        # It is no longer configured: what is known of its provider still holds.
        return Deployment(
            id=deployment_id,
            group="",
            provider=provider,
            model=model,
            host="",
            port=0,
            api_base="",
        )
