"""Pages of rows, and what the routes take as a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from fastgate.management.bodies import Text

if TYPE_CHECKING:
    from fastgate.management.call import Call
    from fastgate.store import Row

Number = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Size = Annotated[int, msgspec.Meta(ge=1, le=100)]
Day = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]\Z")]


class Query(msgspec.Struct, kw_only=True):
    """What stands behind the question mark."""


class KeyQuery(Query, kw_only=True):
    key: Text | None = None


class KeyList(Query, kw_only=True):
    page: Number = 1
    size: Size = 10
    user_id: Text | None = None
    team_id: Text | None = None
    organization_id: Text | None = None
    key_hash: Text | None = None
    key_alias: Text | None = None
    return_full_object: bool = False


class Paged(Query, kw_only=True):
    page: Number = 1
    page_size: Size = 25
    user_id: Text | None = None
    organization_id: Text | None = None
    team_alias: Text | None = None


class UserList(Query, kw_only=True):
    page: Number = 1
    page_size: Size = 25
    role: Text | None = None
    user_email: Text | None = None


class TeamQuery(Query, kw_only=True):
    team_id: Text


class TeamList(Query, kw_only=True):
    user_id: Text | None = None
    organization_id: Text | None = None


class UserQuery(Query, kw_only=True):
    user_id: Text | None = None


class BudgetQuery(Query, kw_only=True):
    budget_id: Text


class CustomerQuery(Query, kw_only=True):
    end_user_id: Text


class OrganizationQuery(Query, kw_only=True):
    organization_id: Text


class ModelQuery(Query, kw_only=True):
    litellm_model_id: Text | None = None
    model_group: Text | None = None


class SpendQuery(Query, kw_only=True):
    """Of the old list of rows, by day or whole."""

    api_key: Text | None = None
    user_id: Text | None = None
    request_id: Text | None = None
    start_date: Day | None = None
    end_date: Day | None = None
    summarize: bool = True


class SpendPage(Query, kw_only=True):
    page: Number = 1
    page_size: Size = 50
    api_key: Text | None = None
    user_id: Text | None = None
    request_id: Text | None = None
    team_id: Text | None = None
    model: Text | None = None
    status_filter: Literal["success", "failure"] | None = None
    start_date: Day | None = None
    end_date: Day | None = None


class Period(Query, kw_only=True):
    """From the first day to the last, both included; none: the last 30 days."""

    start_date: Day | None = None
    end_date: Day | None = None
    limit: Size = 100


class ReportQuery(Period, kw_only=True):
    group_by: Literal["team", "customer", "api_key"] = "team"
    api_key: Text | None = None
    team_id: Text | None = None
    customer_id: Text | None = None
    internal_user_id: Text | None = None


class ActivityQuery(Period, kw_only=True):
    page: Number = 1
    page_size: Size = 100
    model: Text | None = None
    api_key: Text | None = None
    user_id: Text | None = None
    team_ids: Text | None = None
    tags: Text | None = None


class Page(NamedTuple):
    rows: list[Row]
    total: int
    page: int
    pages: int


async def page_of(
    call: Call, table: str, where: list[str], values: list[object], order: str
) -> Page:
    """Return a page of the rows that fit; its number and size are the query's."""
    query = call.query
    size = query.size if hasattr(query, "size") else query.page_size
    condition = " AND ".join(where)
    counted = await call.store.fetch_one(
        f"SELECT count(*) AS n FROM {table} WHERE {condition}",  # noqa: S608  text of ours
        *values,
    )
    assert counted is not None
    total = counted["n"]
    found = await call.store.fetch(
        f"SELECT * FROM {table} WHERE {condition} ORDER BY {order} "  # noqa: S608
        f"LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}",
        *values,
        size,
        (query.page - 1) * size,
    )
    return Page(found, total, query.page, -(-total // size))
