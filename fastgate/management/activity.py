"""Daily activity: spend, tokens and requests per day, broken down by what they were for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from fastgate.management import rows
from fastgate.management.call import digest_of
from fastgate.management.money import to_usd
from fastgate.management.spend import period, tags_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastgate.management.call import Call
    from fastgate.store import Row

__all__ = ["of_tags", "of_teams", "of_users"]

# The answer's name -> the roll-up's column.
_METRICS = {
    "spend": "spend_nano_usd",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "cache_read_input_tokens": "cached_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "total_tokens": "total_tokens",
    "successful_requests": "successful_requests",
    "failed_requests": "failed_requests",
    "api_requests": "requests",
}
_BREAKDOWN = {
    "models": "model",
    "model_groups": "model_group",
    "providers": "provider",
    "api_keys": "key_hash",
}
Sums = dict[str, int]


async def of_users(call: Call) -> Any:
    """Show the activity of a user; without one named, an admin sees everybody's."""
    asked = call.query.user_id
    if not call.caller.sees_all:
        if asked not in (None, call.caller.user_id):
            raise call.refuse("Only proxy admin can see the activity of others")
        asked = call.caller.user_id or ""
    users = None if asked is None else [asked]
    return await _activity(call, "user_id", users, lambda row: [row["user_id"]])


async def of_teams(call: Call) -> Any:
    """Show the activity of teams: those named, or all that the caller may see."""
    asked = call.query.team_ids.split(",") if call.query.team_ids else None
    if not call.caller.sees_all:
        for team_id in asked or []:
            if not call.caller.may_see_team(team_id):
                raise call.refuse(f"Not a member of team={team_id}")
        asked = list(call.caller.teams) if asked is None else asked
    return await _activity(call, "team_id", asked, lambda row: [row["team_id"]])


async def of_tags(call: Call) -> Any:
    """Show the activity of tags. The sum of a day counts each request once."""
    wanted = set(call.query.tags.split(",")) if call.query.tags else None

    def entities(row: Row) -> list[str]:
        return [tag for tag in tags_of(row["tags"]) if wanted is None or tag in wanted]

    return await _activity(call, "tags", None, entities)


async def _activity(
    call: Call,
    column: str,
    only: list[str] | None,
    entities: Callable[[Row], Iterable[str]],
) -> dict[str, Any]:
    days: dict[str, tuple[Sums, dict[str, dict[str, Sums]]]] = {}
    for row in await _rows(call, column, only):
        named = [name for name in entities(row) if name]
        if column == "tags" and not named:
            continue
        sums, parts = days.setdefault(row["day"], (defaultdict(int), defaultdict(dict)))
        _add(sums, row)
        for part, source in _BREAKDOWN.items():
            _add(parts[part].setdefault(row[source], defaultdict(int)), row)
        for name in named:
            _add(parts["entities"].setdefault(name, defaultdict(int)), row)
    size, page = call.query.page_size, call.query.page
    ordered = sorted(days.items(), reverse=True)
    chosen = ordered[(page - 1) * size : page * size]
    whole: Sums = defaultdict(int)
    for _, (sums, _) in ordered:
        _add_sums(whole, sums)
    pages = -(-len(ordered) // size)
    return {
        "results": [
            {
                "date": day,
                "metrics": _shown(sums),
                "breakdown": {
                    part: {name: {"metrics": _shown(of)} for name, of in parts[part].items()}
                    for part in (*_BREAKDOWN, "entities")
                },
            }
            for day, (sums, parts) in chosen
        ],
        "metadata": {
            **{
                name if name.startswith("total") else f"total_{name}": value
                for name, value in _shown(whole).items()
            },
            "page": page,
            "total_pages": pages,
            "has_more": page < pages,
        },
    }


async def _rows(call: Call, column: str, only: list[str] | None) -> list[Row]:
    query = call.query
    first, last = period(query, call.now)
    where, values = "day >= $1 AND day <= $2", [first, last]
    if only is not None:
        condition, more = rows.one_of(column, only, 3)
        where, values = f"{where} AND {condition}", [*values, *more]
    for name, value in (
        ("model", query.model),
        ("key_hash", query.api_key and digest_of(query.api_key)),
    ):
        if value:
            values.append(value)
            where += f" AND {name} = ${len(values)}"
    groups = ", ".join(dict.fromkeys(("day", column, *_BREAKDOWN.values())))
    sums = ", ".join(f"sum({name}) AS {name}" for name in _METRICS.values())
    return await call.store.fetch(
        f"SELECT {groups}, {sums} FROM daily_spend WHERE {where} GROUP BY {groups}",  # noqa: S608
        *values,
    )


def _add(sums: Sums, row: Row) -> None:
    for name, column in _METRICS.items():
        sums[name] += row[column]


def _add_sums(sums: Sums, more: Sums) -> None:
    for name, value in more.items():
        sums[name] += value


def _shown(sums: Sums) -> dict[str, Any]:
    return {name: to_usd(sums[name]) if name == "spend" else sums[name] for name in _METRICS}
