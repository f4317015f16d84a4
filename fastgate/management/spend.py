"""Reports of spend: rows from `spend_logs`, sums from the daily roll-up.

Sums are made of whole nano-dollars, in the database; dollars come last.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from fastgate.config.snapshot import Snapshot
from fastgate.errors import NotFound, Unavailable
from fastgate.management import rows
from fastgate.management.call import Invalid, digest_of
from fastgate.management.money import to_usd
from fastgate.management.paging import page_of

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row

__all__ = [
    *("by_key", "by_model", "by_tag", "by_team", "calculate", "count_tokens", "logs"),
    *("logs_page", "report", "total"),
]

_DAYS = 30
"""The period of a report that names none: LiteLLM's."""
_MOST_ROWS = 10_000
"""Of /spend/logs, as LiteLLM; above, use /spend/logs/v2."""


def period(query: Any, now: datetime) -> tuple[str, str]:
    """Return the first and the last day of a report. Raises Invalid."""
    last = query.end_date or now.strftime("%Y-%m-%d")
    first = query.start_date
    try:
        end = datetime.strptime(last, "%Y-%m-%d")
        start = datetime.strptime(first, "%Y-%m-%d") if first else end - timedelta(days=_DAYS)
    except (ValueError, OverflowError):
        raise Invalid("expected days as YYYY-MM-DD", "query", "start_date") from None
    return start.strftime("%Y-%m-%d"), end.strftime("%Y-%m-%d")


def _rows_where(call: Call) -> tuple[list[str], list[object]]:
    query, caller = call.query, call.caller
    where = ["1 = 1"]
    values: list[object] = []

    def add(condition: str, *bound: object) -> None:
        first = len(values) + 1
        values.extend(bound)
        where.append(condition.format(*(f"${n}" for n in range(first, first + len(bound)))))

    if query.api_key:
        add("key_hash = {}", digest_of(query.api_key))
    for name in ("user_id", "request_id", "team_id", "model"):
        if getattr(query, name, None):
            add(f"{name} = {{}}", getattr(query, name))
    if query.start_date or query.end_date:
        first, last = period(query, call.now)
        begin = datetime.combine(datetime.fromisoformat(first), time(), UTC)
        end = datetime.combine(datetime.fromisoformat(last), time(), UTC) + timedelta(days=1)
        add("start_time >= {} AND start_time < {}", begin, end)
    status = getattr(query, "status_filter", None)
    if status is not None:
        where.append("status = 'success'" if status == "success" else "status <> 'success'")
    if not caller.sees_all:
        led = [team for team, role in caller.teams.items() if role == "admin"]
        in_led, teams = rows.one_of("team_id", led, len(values) + 3)
        own = len(values) + 1
        # A key without a user: rows without one are not its own.
        values.extend([caller.user_id or caller.key_hash, caller.key_hash, *teams])
        where.append(f"(user_id = ${own} OR key_hash = ${own + 1} OR {in_led})")
    return where, values


_NAMES = {
    "key_hash": "api_key",
    "start_time": "startTime",
    "end_time": "endTime",
    "first_byte_time": "completionStartTime",
    "deployment_id": "model_id",
    "provider": "custom_llm_provider",
    "user_id": "user",
    "customer_id": "end_user",
    "tags": "request_tags",
}


def _log(row: Row) -> dict[str, Any]:
    shown = {_NAMES.get(name, name): value for name, value in row.items()}
    nano = shown.pop("spend_nano_usd")
    shown["spend"] = None if nano is None else to_usd(nano)
    shown["cache_hit"] = str(bool(row["cache_hit"]))
    return shown


async def logs(call: Call) -> Any:
    """List rows, or with `summarize` and a period their sums per day."""
    where, values = _rows_where(call)
    found = await call.store.fetch(
        f"SELECT * FROM spend_logs WHERE {' AND '.join(where)} "  # noqa: S608  text of ours
        f"ORDER BY start_time DESC LIMIT {_MOST_ROWS}",
        *values,
    )
    query = call.query
    if not (query.summarize and query.start_date and query.end_date):
        return [_log(row) for row in found]
    days: dict[str, dict[str, Any]] = {}
    for row in found:
        day = row["start_time"].strftime("%Y-%m-%d")
        sums = days.setdefault(day, {"spend": 0, "users": {}, "models": {}})
        nano = row["spend_nano_usd"] or 0
        sums["spend"] += nano
        for name, value in (("users", row["user_id"]), ("models", row["model_group"])):
            sums[name][value or ""] = sums[name].get(value or "", 0) + nano
    return [
        {
            "startTime": day,
            "spend": to_usd(sums["spend"]),
            **{name: {k: to_usd(v) for k, v in sums[name].items()} for name in ("users", "models")},
        }
        for day, sums in sorted(days.items())
    ]


async def logs_page(call: Call) -> Any:
    """List a page of rows, newest first."""
    where, values = _rows_where(call)
    page = await page_of(call, "spend_logs", where, values, "start_time DESC, request_id")
    return {
        "data": [_log(row) for row in page.rows],
        "total": page.total,
        "page": page.page,
        "page_size": call.query.page_size,
        "total_pages": page.pages,
    }


# sums


async def _sums(call: Call, columns: str, extra: str = "", *values: object) -> list[Row]:
    """Return sums over the query's period, grouped by `columns`, the dearest first."""
    first, last = period(call.query, call.now)
    return await call.store.fetch(
        f"SELECT {columns}, sum(spend_nano_usd) AS nano, sum(requests) AS requests, "  # noqa: S608
        "sum(total_tokens) AS total_tokens FROM daily_spend WHERE day >= $1 AND day <= $2"
        f"{extra} GROUP BY {columns} ORDER BY nano DESC, {columns}",
        first,
        last,
        *values,
    )


async def total(call: Call) -> Any:
    """Show what all requests cost in the period."""
    first, last = period(call.query, call.now)
    row = await call.store.fetch_one(
        "SELECT coalesce(sum(spend_nano_usd), 0) AS nano FROM daily_spend "
        "WHERE day >= $1 AND day <= $2",
        first,
        last,
    )
    assert row is not None
    return {"spend": to_usd(row["nano"]), "max_budget": None}


async def by_key(call: Call) -> Any:
    """List the dearest keys."""
    sums = (await _sums(call, "key_hash"))[: call.query.limit]
    where, hashes = rows.one_of("key_hash", [row["key_hash"] for row in sums])
    found = await call.store.fetch(
        f"SELECT key_hash, key_alias, key_name FROM virtual_keys WHERE {where}",  # noqa: S608
        *hashes,
    )
    named = {row["key_hash"]: row for row in found}
    return [
        {
            "api_key": row["key_hash"],
            "key_alias": named.get(row["key_hash"], {}).get("key_alias"),
            "key_name": named.get(row["key_hash"], {}).get("key_name"),
            "total_spend": to_usd(row["nano"]),
        }
        for row in sums
    ]


async def by_team(call: Call) -> Any:
    """List teams, with their spend per day."""
    names = await _team_names(call)
    sums = await _sums(call, "day, team_id")
    totals: dict[str, int] = defaultdict(int)
    daily: dict[str, dict[str, float]] = defaultdict(dict)
    for row in sums:
        name = names.get(row["team_id"], row["team_id"] or "Unassigned")
        totals[name] += row["nano"]
        daily[row["day"]][name] = to_usd(row["nano"])
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return {
        "daily_spend": [{"date": day, **spent} for day, spent in sorted(daily.items())],
        "teams": [name for name, _ in ranked],
        "total_spend_per_team": [
            {"team_id": name, "total_spend": to_usd(nano)} for name, nano in ranked
        ],
    }


async def by_model(call: Call) -> Any:
    """List the dearest model groups."""
    return [
        {"model": row["model_group"], "total_spend": to_usd(row["nano"])}
        for row in (await _sums(call, "model_group"))[: call.query.limit]
    ]


async def by_tag(call: Call) -> Any:
    """List tags; a request with several counts for each of them."""
    counts: dict[str, int] = defaultdict(int)
    nanos: dict[str, int] = defaultdict(int)
    for row in await _sums(call, "tags"):
        for tag in tags_of(row["tags"]):
            counts[tag] += row["requests"]
            nanos[tag] += row["nano"]
    return [
        {"individual_request_tag": tag, "log_count": counts[tag], "total_spend": to_usd(nano)}
        for tag, nano in sorted(nanos.items(), key=lambda item: (-item[1], item[0]))
    ]


def tags_of(text: str) -> list[str]:
    """Return the tags of a row of the roll-up."""
    return [str(tag) for tag in orjson.loads(text)] if text else []


async def _team_names(call: Call) -> dict[str, str]:
    found = await call.store.fetch("SELECT team_id, team_alias FROM teams")
    return {row["team_id"]: row["team_alias"] or row["team_id"] for row in found}


_GROUPS = {
    "team": ("team_id", "teams", "team_name"),
    "customer": ("customer_id", "customers", "customer"),
    "api_key": ("key_hash", "api_keys", "api_key"),
}


async def report(call: Call) -> Any:
    """Show spend per day, by team, customer or key, and within by model and key."""
    query = call.query
    column, plural, label = _GROUPS[query.group_by]
    extra, values = "", []
    for filtered, value in (
        ("key_hash", query.api_key and digest_of(query.api_key)),
        ("team_id", query.team_id),
        ("customer_id", query.customer_id),
        ("user_id", query.internal_user_id),
    ):
        if value:
            values.append(value)
            extra += f" AND {filtered} = ${len(values) + 2}"
    names = await _team_names(call) if query.group_by == "team" else {}
    wanted = dict.fromkeys(("day", column, "model_group", "key_hash"))
    days: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in await _sums(call, ", ".join(wanted), extra, *values):
        entity: str = names.get(row[column]) or row[column]
        entry = days[row["day"]].setdefault(entity, {"nano": 0, "metadata": []})
        entry["nano"] += row["nano"]
        entry["metadata"].append(
            {
                "model": row["model_group"],
                "spend": to_usd(row["nano"]),
                "total_tokens": row["total_tokens"],
                "api_key": row["key_hash"],
            }
        )
    return [
        {
            "group_by_day": day,
            plural: [
                {label: name, "total_spend": to_usd(it["nano"]), "metadata": it["metadata"]}
                for name, it in entries.items()
            ],
        }
        for day, entries in sorted(days.items())
    ]


# counting


async def count_tokens(call: Call) -> Any:
    """Count the tokens of messages or a prompt, as the model's own tokenizer does."""
    body = call.body
    if (body.messages is None) == (body.prompt is None):
        raise Invalid("expected either messages or prompt", "body", "messages")
    messages = body.messages
    if messages is None:
        messages = [{"role": "user", "content": body.prompt}]
    return {
        "total_tokens": await _count(body.model, messages),
        "request_model": body.model,
        "model_used": body.model,
        "tokenizer_type": "openai_tokenizer",
    }


async def _count(model: str, messages: list[dict[str, Any]]) -> int:
    tokens = await _part("fastgate.tokens", "token counting")
    return int(await asyncio.to_thread(tokens.count_messages, model, messages))


async def calculate(call: Call) -> Any:
    """Say what a request, or an answer that was had, costs."""
    body = call.body
    answer = body.completion_response or {}
    model = body.model or answer.get("model")
    if not isinstance(model, str) or (body.messages is None) == (not answer):
        raise Invalid("expected a model with messages, or a completion_response", "body", "model")
    route = Snapshot(call.service.config()).resolve(model)
    if route is None:
        raise NotFound(f"The model `{model}` is not one of this gateway", param="model")
    deployment, upstream_model = route.deployments[0]
    if body.messages is not None:
        usage = {"prompt_tokens": await _count(model, body.messages)}
    else:
        usage = _usage(answer.get("usage"))
    prices = await _part("fastgate.spend.prices", "prices")
    price = await asyncio.to_thread(prices.compile_price, deployment, upstream_model, call.now)
    nano = None if price is None else price.cost_nano(**_for_price(usage))
    return {"cost": None if nano is None else to_usd(nano)}


def _usage(usage: Any) -> dict[str, int]:
    if not isinstance(usage, dict):
        raise Invalid("expected the usage of the answer", "body", "completion_response", "usage")
    found = {name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}
    details = usage.get("prompt_tokens_details")
    found["cached_tokens"] = details.get("cached_tokens", 0) if isinstance(details, dict) else 0
    for name, value in found.items():
        if type(value) is not int or not 0 <= value < 2**31:
            raise Invalid("expected a number of tokens", "body", "completion_response", name)
    return found


def _for_price(usage: dict[str, int]) -> dict[str, int]:
    return {
        "prompt": usage["prompt_tokens"],
        "cached": usage.get("cached_tokens", 0),
        "completion": usage.get("completion_tokens", 0),
    }


async def _part(name: str, what: str) -> Any:
    """Return a module with large tables, loaded when first asked for."""
    try:
        return await asyncio.to_thread(importlib.import_module, name)
    except ModuleNotFoundError:
        raise Unavailable(f"{what}: not part of this installation") from None
