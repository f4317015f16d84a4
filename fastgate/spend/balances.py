"""What rows add up to: the balances of keys, teams, users ..., and the roll-up by day.

All of it changes in the transaction that writes the rows, so that at any moment the sum of the
rows, the roll-up and the balances are the same to the nano-dollar.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from fastgate.spend.earlier import spent_by
from fastgate.spend.rows import ATTEMPT_COLUMNS, COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fastgate.store import Store

__all__ = ["DAILY_KEY", "DAILY_VALUES", "Balances"]

DAILY_KEY = (
    *("day", "key_hash", "team_id", "user_id", "customer_id", "organization_id", "tags"),
    *("model_group", "model", "provider"),
)
_TOKENS = (
    *("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens"),
    *("reasoning_tokens", "total_tokens"),
)
DAILY_VALUES = (
    *("requests", "successful_requests", "failed_requests"),
    *(*_TOKENS, "spend_nano_usd", "unpriced_requests"),
)

_ADD = "spend_nano_usd = spend_nano_usd + $1, total_spend_nano_usd = total_spend_nano_usd + $1"
# One statement for each kind of owner: nano-dollars, then its id. A key that was regenerated goes
# on with the balance of the one it replaced.
_OWNERS = {
    "key_hash": f"UPDATE virtual_keys SET {_ADD} WHERE key_hash = coalesce("
    "(SELECT active_key_hash FROM replaced_keys WHERE key_hash = $2), $2)",
    "team_id": f"UPDATE teams SET {_ADD} WHERE team_id = $2",
    "user_id": f"UPDATE users SET {_ADD} WHERE user_id = $2",
    "organization_id": f"UPDATE organizations SET {_ADD} WHERE organization_id = $2",
    "customer_id": f"UPDATE customers SET {_ADD} WHERE customer_id = $2",
    "tag": f"UPDATE tags SET {_ADD} WHERE name = $2",
}
_MEMBER = f"UPDATE team_members SET {_ADD} WHERE team_id = $2 AND user_id = $3"
# These need not be made before they are first named in a request.
_MADE_ON_USE = {"customer_id": ("customers", "customer_id"), "tag": ("tags", "name")}

_DAILY = (
    "INSERT INTO daily_spend ({columns}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {set}"
)
_POST_DAILY = _DAILY.format(
    columns=", ".join(DAILY_KEY + DAILY_VALUES),
    places=", ".join(f"${i + 1}" for i in range(len(DAILY_KEY + DAILY_VALUES))),
    key=", ".join(DAILY_KEY),
    set=", ".join(f"{name} = daily_spend.{name} + excluded.{name}" for name in DAILY_VALUES),
)

_AT = {name: i for i, name in enumerate(COLUMNS)}
_ATTEMPT_AT = {name: i for i, name in enumerate(ATTEMPT_COLUMNS)}
_FIRST_TOKEN, _ATTEMPT_FIRST_TOKEN = _AT["prompt_tokens"], _ATTEMPT_AT["prompt_tokens"]
_KEY, _TEAM, _USER = _AT["key_hash"], _AT["team_id"], _AT["user_id"]
_CUSTOMER, _ORGANIZATION = _AT["customer_id"], _AT["organization_id"]
_TAGS, _START, _STATUS = _AT["tags"], _AT["start_time"], _AT["status"]
_GROUP, _MODEL, _PROVIDER = _AT["model_group"], _AT["model"], _AT["provider"]
_SPEND = _AT["spend_nano_usd"]


class Balances:
    """Changes of balances and of the roll-up, to be applied together."""

    def __init__(self) -> None:
        self._owners: dict[str, dict[str, int]] = {kind: defaultdict(int) for kind in _OWNERS}
        self._members: dict[tuple[str, str], int] = defaultdict(int)
        self._daily: dict[tuple[str, ...], list[int]] = {}

    def add(self, row: tuple[Any, ...], sign: int = 1) -> None:
        """Count a row of spend_logs (COLUMNS); sign -1 takes it back."""
        spend = row[_SPEND]
        success = row[_STATUS] == "success"
        self._add_daily(
            self._daily_key(row, row[_MODEL], row[_PROVIDER]),
            (1, success, not success, *row[_FIRST_TOKEN : _FIRST_TOKEN + 6], spend or 0),
            spend is None,
            sign,
        )
        if spend:
            self._add_owners(row, sign * spend)

    def add_attempt(self, row: tuple[Any, ...], attempt: tuple[Any, ...], sign: int = 1) -> None:
        """Count a billed attempt (ATTEMPT_COLUMNS) of the request whose row this is."""
        spend = attempt[_ATTEMPT_AT["spend_nano_usd"]]
        tokens = attempt[_ATTEMPT_FIRST_TOKEN : _ATTEMPT_FIRST_TOKEN + 6]
        model, provider = attempt[_ATTEMPT_AT["model"]], attempt[_ATTEMPT_AT["provider"]]
        self._add_daily(
            self._daily_key(row, model, provider), (0, 0, 0, *tokens, spend or 0), False, sign
        )
        if spend:
            self._add_owners(row, sign * spend)

    async def apply(self, transaction: Store, now: datetime) -> None:
        """Write the changes. Sorted by id, so that two writers take their locks in one order."""
        for kind, changes in self._owners.items():
            changed = sorted((owner, nano) for owner, nano in changes.items() if nano)
            if not changed:
                continue
            if kind in _MADE_ON_USE:
                await _make_missing(transaction, kind, [owner for owner, _ in changed], now)
            await transaction.execute_many(
                _OWNERS[kind], [(nano, owner) for owner, nano in changed]
            )
        members = sorted((member, nano) for member, nano in self._members.items() if nano)
        if members:
            await transaction.execute_many(_MEMBER, [(nano, *member) for member, nano in members])
        if self._daily:
            await transaction.execute_many(
                _POST_DAILY, [(*key, *values) for key, values in sorted(self._daily.items())]
            )

    def _add_owners(self, row: tuple[Any, ...], nano: int) -> None:
        owners = self._owners
        owners["key_hash"][row[_KEY]] += nano
        team, user = row[_TEAM], row[_USER]
        if team:
            owners["team_id"][team] += nano
        if user:
            owners["user_id"][user] += nano
            if team:
                self._members[team, user] += nano
        if row[_CUSTOMER]:
            owners["customer_id"][row[_CUSTOMER]] += nano
        if row[_ORGANIZATION]:
            owners["organization_id"][row[_ORGANIZATION]] += nano
        for tag in set(row[_TAGS] or ()):
            owners["tag"][tag] += nano

    def _add_daily(
        self, key: tuple[str, ...], values: Iterable[int], unpriced: bool, sign: int
    ) -> None:
        known = self._daily.get(key)
        if known is None:
            known = self._daily[key] = [0] * len(DAILY_VALUES)
        for i, value in enumerate((*values, unpriced)):
            known[i] += sign * value

    def _daily_key(
        self, row: tuple[Any, ...], model: str | None, provider: str | None
    ) -> tuple[str, ...]:
        start = row[_START]
        tags = row[_TAGS]
        return (
            start[:10] if type(start) is str else start.date().isoformat(),
            row[_KEY],
            row[_TEAM] or "",
            row[_USER] or "",
            row[_CUSTOMER] or "",
            row[_ORGANIZATION] or "",
            orjson.dumps(sorted(set(tags))).decode() if tags else "",
            row[_GROUP] or "",
            model or "",
            provider or "",
        )


async def _make_missing(transaction: Store, kind: str, owners: list[str], now: datetime) -> None:
    """Make the customers or tags that no one made, at what was spent under their names before."""
    table, name = _MADE_ON_USE[kind]
    places = ", ".join(f"${i + 1}" for i in range(len(owners)))
    rows = await transaction.fetch(
        f"SELECT {name} FROM {table} WHERE {name} IN ({places})", *owners
    )
    known = {row[name] for row in rows}
    missing = [owner for owner in owners if owner not in known]
    spent = await spent_by(transaction, table, missing) if missing else {}
    for owner in missing:
        await transaction.execute(
            f"INSERT INTO {table} ({name}, models, spend_nano_usd, total_spend_nano_usd,"
            " created_at, created_by, updated_at, updated_by)"
            " VALUES ($1, $2, $3, $3, $4, $5, $4, $5) ON CONFLICT DO NOTHING",
            *(owner, [], spent[owner], now, "spend"),
        )
