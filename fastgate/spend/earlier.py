"""What was spent under a name before there was a row for it: a balance that begins later begins
there, so that balances and the roll-up agree.

A key of the configuration may be made in the database later, a member may have spent as none, and
customers need not be made at all. On PostgreSQL what is posted in the very moment in which another
connection makes the row may be missed; `fastgate spend verify` would say so.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastgate.store import Store

__all__ = ["spent_before", "spent_by"]

_SUM = "CAST(coalesce(sum(spend_nano_usd), 0) AS BIGINT) AS spent"
# By table: the columns of daily_spend that its rows are known by.
_NAMES = {
    "virtual_keys": ("key_hash",),
    "teams": ("team_id",),
    "team_members": ("team_id", "user_id"),
    "users": ("user_id",),
    "organizations": ("organization_id",),
    "customers": ("customer_id",),
}


async def spent_before(store: Store, table: str, row: Mapping[str, str]) -> int:
    """Return what was spent, in nano-dollars, by whom or what `row` of `table` is for."""
    if table == "tags":
        return (await _by_tag(store, [row["name"]]))[row["name"]]
    names = _NAMES.get(table)
    if names is None:
        return 0
    # The inequality is what lets the partial indexes be used.
    where = " AND ".join(f"{name} = ${i + 1} AND {name} <> ''" for i, name in enumerate(names))
    found = await store.fetch_one(
        f"SELECT {_SUM} FROM daily_spend WHERE {where}", *(row[name] for name in names)
    )
    assert found is not None
    spent: int = found["spent"]
    return spent


async def spent_by(store: Store, table: str, ids: Sequence[str]) -> dict[str, int]:
    """Return the same for several customers or tags, in one look."""
    if table == "tags":
        return await _by_tag(store, ids)
    (name,) = _NAMES[table]
    places = ", ".join(f"${i + 1}" for i in range(len(ids)))
    rows = await store.fetch(
        f"SELECT {name} AS id, {_SUM} FROM daily_spend"
        f" WHERE {name} IN ({places}) AND {name} <> '' GROUP BY {name}",
        *ids,
    )
    return dict.fromkeys(ids, 0) | {row["id"]: row["spent"] for row in rows}


async def _by_tag(store: Store, names: Iterable[str]) -> dict[str, int]:
    spent: dict[str, int] = defaultdict(int, dict.fromkeys(names, 0))
    for row in await store.fetch(
        f"SELECT tags, {_SUM} FROM daily_spend WHERE tags <> '' GROUP BY tags"
    ):
        for tag in orjson.loads(row["tags"]):
            spent[tag] += row["spent"]
    return spent
