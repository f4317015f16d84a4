"""THE TABLE: every route of the API, who may ask it, what it takes, what answers.

A standing (`Caller.standing`) that a rule does not name is refused. ANY: whatever it asks about.
OWN: only what is the caller's, which the handler checks object by object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from fastgate.management import (
    activity,
    budgets,
    bulk,
    customers,
    keys,
    members,
    models,
    organizations,
    spend,
    tags,
    teams,
    users,
)
from fastgate.management import bodies as b
from fastgate.management import paging as p

__all__ = ["ANY", "OWN", "ROUTES", "STANDINGS", "Route"]

ANY, OWN = "any", "own"

STANDINGS = (
    "proxy_admin",
    "proxy_admin_viewer",
    "team_admin",
    "internal_user",
    "internal_user_viewer",
    "key_owner",
)

Rule = Mapping[str, str]

ADMIN: Rule = MappingProxyType({"proxy_admin": ANY})
READ: Rule = MappingProxyType({**ADMIN, "proxy_admin_viewer": ANY})
LEAD: Rule = MappingProxyType({**ADMIN, "team_admin": OWN})
WRITE_OWN: Rule = MappingProxyType({**LEAD, "internal_user": OWN})
READ_OWN: Rule = MappingProxyType({**READ, **WRITE_OWN, "internal_user_viewer": OWN})
KEY_OWN: Rule = MappingProxyType({**READ_OWN, "key_owner": OWN})
ALL: Rule = MappingProxyType(dict.fromkeys(STANDINGS, ANY))


class Route(NamedTuple):
    """One line of the table."""

    method: str
    path: str
    rule: Rule
    handler: Callable[[Any], Awaitable[Any]]
    body: type[b.Body] | None = None
    query: type[p.Query] = p.Query


def _customers(prefix: str) -> tuple[Route, ...]:
    return (
        Route("POST", f"/{prefix}/new", ADMIN, customers.new, b.CustomerFields),
        Route("POST", f"/{prefix}/update", ADMIN, customers.update, b.CustomerFields),
        Route("POST", f"/{prefix}/delete", ADMIN, customers.delete, b.UserIds),
        Route("POST", f"/{prefix}/block", ADMIN, customers.block, b.UserIds),
        Route("POST", f"/{prefix}/unblock", ADMIN, customers.unblock, b.UserIds),
        Route("GET", f"/{prefix}/info", READ, customers.info, None, p.CustomerQuery),
        Route("GET", f"/{prefix}/list", READ, customers.list_customers),
    )


ROUTES: tuple[Route, ...] = (
    Route("POST", "/key/generate", WRITE_OWN, keys.generate, b.KeyGenerate),
    Route("POST", "/key/update", WRITE_OWN, keys.update, b.KeyUpdate),
    Route("POST", "/key/bulk_update", WRITE_OWN, bulk.update_keys, b.KeyUpdates),
    Route("POST", "/key/delete", WRITE_OWN, keys.delete, b.KeyDelete),
    Route("POST", "/key/block", WRITE_OWN, keys.block, b.Key),
    Route("POST", "/key/unblock", WRITE_OWN, keys.unblock, b.Key),
    Route("POST", "/key/regenerate", WRITE_OWN, keys.regenerate, b.KeyRegenerate),
    Route("POST", "/key/{key}/regenerate", WRITE_OWN, keys.regenerate, b.KeyRegenerate),
    Route("POST", "/key/{key}/reset_spend", ADMIN, keys.reset_spend, b.ResetSpend),
    Route("POST", "/key/health", ALL, keys.health),
    Route("GET", "/key/info", KEY_OWN, keys.info, None, p.KeyQuery),
    Route("POST", "/v2/key/info", KEY_OWN, keys.info_many, b.Keys),
    Route("GET", "/key/list", READ_OWN, keys.list_keys, None, p.KeyList),
    Route("POST", "/team/new", ADMIN, teams.new, b.TeamNew),
    Route("POST", "/team/update", LEAD, teams.update, b.TeamUpdate),
    Route("POST", "/team/delete", ADMIN, teams.delete, b.TeamIds),
    Route("POST", "/team/block", ADMIN, teams.block, b.Team),
    Route("POST", "/team/unblock", ADMIN, teams.unblock, b.Team),
    Route("POST", "/team/member_add", LEAD, teams.add_members, b.MemberAdd),
    Route("POST", "/team/member_update", LEAD, teams.change_member, b.MemberUpdate),
    Route("POST", "/team/member_delete", LEAD, teams.remove_member, b.MemberDelete),
    Route("POST", "/team/model/add", ADMIN, teams.add_models, b.TeamModels),
    Route("POST", "/team/model/delete", ADMIN, teams.delete_models, b.TeamModels),
    Route("GET", "/team/info", KEY_OWN, teams.info, None, p.TeamQuery),
    Route("GET", "/team/list", READ_OWN, teams.list_teams, None, p.TeamList),
    Route("GET", "/v2/team/list", READ_OWN, teams.list_pages, None, p.Paged),
    Route("GET", "/team/daily/activity", READ_OWN, activity.of_teams, None, p.ActivityQuery),
    Route("POST", "/user/new", ADMIN, users.new, b.UserNew),
    Route("POST", "/user/update", WRITE_OWN, users.update, b.UserUpdate),
    Route("POST", "/user/bulk_update", ADMIN, bulk.update_users, b.UserUpdates),
    Route("POST", "/user/delete", ADMIN, users.delete, b.UserIds),
    Route("GET", "/user/info", READ_OWN, users.info, None, p.UserQuery),
    Route("GET", "/user/list", READ, users.list_users, None, p.UserList),
    Route("GET", "/user/daily/activity", READ_OWN, activity.of_users, None, p.ActivityQuery),
    Route("POST", "/budget/new", ADMIN, budgets.new, b.BudgetNew),
    Route("POST", "/budget/update", ADMIN, budgets.update, b.BudgetNew),
    Route("POST", "/budget/delete", ADMIN, budgets.delete, b.BudgetId),
    Route("POST", "/budget/info", READ, budgets.info, b.BudgetIds),
    Route("GET", "/budget/list", READ, budgets.list_budgets),
    Route("GET", "/budget/settings", READ, budgets.settings, None, p.BudgetQuery),
    *_customers("customer"),
    *_customers("end_user"),
    Route("POST", "/organization/new", ADMIN, organizations.new, b.OrganizationFields),
    Route("PATCH", "/organization/update", ADMIN, organizations.update, b.OrganizationFields),
    Route("DELETE", "/organization/delete", ADMIN, organizations.delete, b.OrganizationIds),
    Route("GET", "/organization/info", READ, organizations.info, None, p.OrganizationQuery),
    Route("GET", "/organization/list", READ, organizations.list_organizations),
    Route("POST", "/organization/member_add", ADMIN, members.add, b.OrganizationMemberAdd),
    Route(
        "PATCH", "/organization/member_update", ADMIN, members.change, b.OrganizationMemberUpdate
    ),
    Route(
        "DELETE", "/organization/member_delete", ADMIN, members.remove, b.OrganizationMemberDelete
    ),
    Route("POST", "/tag/new", ADMIN, tags.new, b.TagFields),
    Route("POST", "/tag/update", ADMIN, tags.update, b.TagFields),
    Route("POST", "/tag/delete", ADMIN, tags.delete, b.TagName),
    Route("POST", "/tag/info", READ, tags.info, b.TagNames),
    Route("GET", "/tag/list", READ, tags.list_tags),
    Route("POST", "/model/new", ADMIN, models.new, b.ModelFields),
    Route("POST", "/model/update", ADMIN, models.update, b.ModelFields),
    Route("PATCH", "/model/{model_id}/update", ADMIN, models.change, b.ModelFields),
    Route("POST", "/model/delete", ADMIN, models.delete, b.ModelId),
    Route("GET", "/model/info", READ, models.info, None, p.ModelQuery),
    Route("GET", "/v1/model/info", READ, models.info, None, p.ModelQuery),
    Route("GET", "/model_group/info", READ, models.groups, None, p.ModelQuery),
    Route("GET", "/spend/logs", KEY_OWN, spend.logs, None, p.SpendQuery),
    Route("GET", "/spend/logs/v2", KEY_OWN, spend.logs_page, None, p.SpendPage),
    Route("GET", "/spend/tags", READ, spend.by_tag, None, p.Period),
    Route("POST", "/spend/calculate", ALL, spend.calculate, b.SpendCalculate),
    Route("GET", "/global/spend", READ, spend.total, None, p.Period),
    Route("GET", "/global/spend/report", READ, spend.report, None, p.ReportQuery),
    Route("GET", "/global/spend/keys", READ, spend.by_key, None, p.Period),
    Route("GET", "/global/spend/teams", READ, spend.by_team, None, p.Period),
    Route("GET", "/global/spend/models", READ, spend.by_model, None, p.Period),
    Route("GET", "/global/spend/tags", READ, spend.by_tag, None, p.Period),
    Route("GET", "/tag/daily/activity", READ, activity.of_tags, None, p.ActivityQuery),
    Route("POST", "/utils/token_counter", ALL, spend.count_tokens, b.TokenCounter),
)
