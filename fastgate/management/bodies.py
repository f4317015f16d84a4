"""What the routes take: one struct per body, by LiteLLM's names. Absent is UNSET, and is not null.

Fields that we don't know are passed over, as LiteLLM does. The OpenAPI document is made from these.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from fastgate.management.money import MAX_USD

# The longest id or alias, and the longest list: far above real ones, far below what hurts.
_TEXT_CHARS = 512
MAX_IDS = 1000
# LiteLLM's, of one bulk update.
MAX_BULK = 500

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT_CHARS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Usd = Annotated[float, msgspec.Meta(ge=0, le=MAX_USD)]
Texts = Annotated[list[Text], msgspec.Meta(max_length=MAX_IDS)]
Ids = Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MAX_IDS)]
Mapping = dict[str, Any]
Role = Literal["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"]
MemberRole = Literal["admin", "user"]


class Body(msgspec.Struct, kw_only=True):
    """A JSON object."""

    def given(self, *without: str) -> dict[str, Any]:
        """Return the fields that the client wrote, null included."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {
            name: value
            for name, value in values.items()
            if value is not UNSET and name not in without
        }


class Budgeted(Body, kw_only=True):
    """What may be limited, of keys, teams, users and budgets alike."""

    max_budget: Usd | UnsetType | None = UNSET
    soft_budget: Usd | UnsetType | None = UNSET
    budget_duration: Text | UnsetType | None = UNSET
    tpm_limit: Count | UnsetType | None = UNSET
    rpm_limit: Count | UnsetType | None = UNSET
    tpd_limit: Count | UnsetType | None = UNSET
    max_parallel_requests: Count | UnsetType | None = UNSET
    model_max_budget: Mapping | UnsetType | None = UNSET


class KeyFields(Budgeted, kw_only=True):
    """What a key has, whether made or changed."""

    key_alias: Text | UnsetType | None = UNSET
    duration: Text | UnsetType | None = UNSET
    models: Texts | UnsetType | None = UNSET
    aliases: Mapping | UnsetType | None = UNSET
    user_id: Text | UnsetType | None = UNSET
    team_id: Text | UnsetType | None = UNSET
    organization_id: Text | UnsetType | None = UNSET
    budget_id: Text | UnsetType | None = UNSET
    budget_limits: list[Mapping] | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    tags: Texts | UnsetType | None = UNSET
    metadata: Mapping | UnsetType | None = UNSET
    permissions: Mapping | UnsetType | None = UNSET
    allowed_routes: Texts | UnsetType | None = UNSET
    model_rpm_limit: dict[str, Count] | UnsetType | None = UNSET
    model_tpm_limit: dict[str, Count] | UnsetType | None = UNSET
    spend: Usd | UnsetType | None = UNSET
    key_type: Literal["llm_api", "management", "read_only", "default"] | UnsetType | None = UNSET


CustomKey = Annotated[
    str, msgspec.Meta(min_length=16, max_length=_TEXT_CHARS, pattern=r"^sk-[!-~]+\Z")
]


class KeyGenerate(KeyFields, kw_only=True):
    """POST /key/generate."""

    key: CustomKey | UnsetType | None = UNSET


class KeyUpdate(KeyFields, kw_only=True):
    """POST /key/update."""

    key: Text
    temp_budget_increase: Usd | UnsetType | None = UNSET
    temp_budget_expiry: datetime | UnsetType | None = UNSET


class KeyUpdates(Body, kw_only=True):
    """POST /key/bulk_update."""

    keys: Annotated[list[KeyUpdate], msgspec.Meta(min_length=1, max_length=MAX_BULK)]


class KeyRegenerate(KeyFields, kw_only=True):
    """POST /key/regenerate."""

    key: Text | UnsetType = UNSET
    new_key: CustomKey | UnsetType | None = UNSET
    grace_period: Text | UnsetType | None = UNSET


class KeyDelete(Body, kw_only=True):
    """POST /key/delete."""

    keys: Ids | UnsetType = UNSET
    key_aliases: Ids | UnsetType = UNSET


class Keys(Body, kw_only=True):
    """POST /v2/key/info."""

    keys: Ids


class Key(Body, kw_only=True):
    """POST /key/block, /key/unblock."""

    key: Text


class ResetSpend(Body, kw_only=True):
    """POST /key/{key}/reset_spend."""

    reset_to: Usd = 0.0


class Member(Body, kw_only=True):
    """Of a team: by id or by e-mail."""

    role: MemberRole = "user"
    user_id: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET


class TeamFields(Budgeted, kw_only=True):
    """What a team has."""

    team_alias: Text | UnsetType | None = UNSET
    organization_id: Text | UnsetType | None = UNSET
    models: Texts | UnsetType | None = UNSET
    model_aliases: Mapping | UnsetType | None = UNSET
    model_rpm_limit: dict[str, Count] | UnsetType | None = UNSET
    model_tpm_limit: dict[str, Count] | UnsetType | None = UNSET
    tags: Texts | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    metadata: Mapping | UnsetType | None = UNSET
    team_member_budget: Usd | UnsetType | None = UNSET
    team_member_budget_duration: Text | UnsetType | None = UNSET
    team_member_rpm_limit: Count | UnsetType | None = UNSET
    team_member_tpm_limit: Count | UnsetType | None = UNSET


class TeamNew(TeamFields, kw_only=True):
    """POST /team/new."""

    team_id: Text | UnsetType | None = UNSET
    members_with_roles: list[Member] | UnsetType | None = UNSET


class TeamUpdate(TeamFields, kw_only=True):
    """POST /team/update."""

    team_id: Text


class TeamIds(Body, kw_only=True):
    """POST /team/delete."""

    team_ids: Ids


class Team(Body, kw_only=True):
    """POST /team/block, /team/unblock."""

    team_id: Text


class MemberAdd(Body, kw_only=True):
    """POST /team/member_add."""

    team_id: Text
    member: Member | list[Member]
    max_budget_in_team: Usd | UnsetType | None = UNSET
    budget_duration: Text | UnsetType | None = UNSET
    allowed_models: Texts | UnsetType | None = UNSET


class MemberUpdate(Body, kw_only=True):
    """POST /team/member_update."""

    team_id: Text
    user_id: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET
    role: MemberRole | UnsetType | None = UNSET
    max_budget_in_team: Usd | UnsetType | None = UNSET
    budget_duration: Text | UnsetType | None = UNSET
    rpm_limit: Count | UnsetType | None = UNSET
    tpm_limit: Count | UnsetType | None = UNSET


class MemberDelete(Body, kw_only=True):
    """POST /team/member_delete."""

    team_id: Text
    user_id: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET


class TeamModels(Body, kw_only=True):
    """POST /team/model/add, /team/model/delete."""

    team_id: Text
    models: Ids


class UserFields(Budgeted, kw_only=True):
    """What a user has."""

    user_alias: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET
    user_role: Role | UnsetType | None = UNSET
    sso_user_id: Text | UnsetType | None = UNSET
    models: Texts | UnsetType | None = UNSET
    metadata: Mapping | UnsetType | None = UNSET
    spend: Usd | UnsetType | None = UNSET


class UserNew(UserFields, kw_only=True):
    """POST /user/new. What belongs to a key is given to the key that is made along."""

    user_id: Text | UnsetType | None = UNSET
    auto_create_key: bool = True
    teams: Texts | UnsetType | None = UNSET
    key_alias: Text | UnsetType | None = UNSET
    duration: Text | UnsetType | None = UNSET


class UserUpdate(UserFields, kw_only=True):
    """POST /user/update."""

    user_id: Text | UnsetType = UNSET


class UserUpdates(Body, kw_only=True):
    """POST /user/bulk_update: `users`, or `user_updates` for `all_users`."""

    users: Annotated[list[UserUpdate], msgspec.Meta(max_length=MAX_BULK)] = []
    all_users: bool = False
    user_updates: UserUpdate | None = None


class UserIds(Body, kw_only=True):
    """POST /user/delete, /customer/delete, /customer/block, /customer/unblock."""

    user_ids: Ids


class BudgetNew(Budgeted, kw_only=True):
    """POST /budget/new, /budget/update."""

    budget_id: Text | UnsetType | None = UNSET
    budget_reset_at: datetime | UnsetType | None = UNSET


class BudgetIds(Body, kw_only=True):
    """POST /budget/info."""

    budgets: Ids


class BudgetId(Body, kw_only=True):
    """POST /budget/delete."""

    id: Text


class CustomerFields(Budgeted, kw_only=True):
    """POST /customer/new, /customer/update."""

    user_id: Text
    alias: Text | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    budget_id: Text | UnsetType | None = UNSET
    allowed_model_region: Text | UnsetType | None = UNSET
    default_model: Text | UnsetType | None = UNSET
    models: Texts | UnsetType | None = UNSET


class OrganizationFields(Budgeted, kw_only=True):
    """POST /organization/new, PATCH /organization/update."""

    organization_id: Text | UnsetType | None = UNSET
    organization_alias: Text | UnsetType | None = UNSET
    budget_id: Text | UnsetType | None = UNSET
    models: Texts | UnsetType | None = UNSET
    metadata: Mapping | UnsetType | None = UNSET


class OrganizationIds(Body, kw_only=True):
    """DELETE /organization/delete."""

    organization_ids: Ids


OrganizationRole = Literal["org_admin", "internal_user", "internal_user_viewer"]


class OrganizationMember(Body, kw_only=True):
    """Of an organization: by id or by e-mail."""

    role: OrganizationRole = "internal_user"
    user_id: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET


class OrganizationMemberAdd(Body, kw_only=True):
    """POST /organization/member_add."""

    organization_id: Text
    member: OrganizationMember | list[OrganizationMember]
    max_budget_in_organization: Usd | UnsetType | None = UNSET


class OrganizationMemberUpdate(Body, kw_only=True):
    """PATCH /organization/member_update."""

    organization_id: Text
    user_id: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET
    role: OrganizationRole | None = None
    max_budget_in_organization: Usd | UnsetType | None = UNSET


class OrganizationMemberDelete(Body, kw_only=True):
    """DELETE /organization/member_delete."""

    organization_id: Text
    user_id: Text | UnsetType | None = UNSET
    user_email: Text | UnsetType | None = UNSET


class TagFields(Budgeted, kw_only=True):
    """POST /tag/new, /tag/update."""

    name: Text
    description: str | UnsetType | None = UNSET
    models: Texts | UnsetType | None = UNSET
    budget_id: Text | UnsetType | None = UNSET


class TagName(Body, kw_only=True):
    """POST /tag/delete."""

    name: Text


class TagNames(Body, kw_only=True):
    """POST /tag/info."""

    names: Ids


class ModelFields(Body, kw_only=True):
    """POST /model/new, /model/update."""

    model_name: Text | UnsetType = UNSET
    litellm_params: Mapping | UnsetType = UNSET
    model_info: Mapping | UnsetType = UNSET


class ModelId(Body, kw_only=True):
    """POST /model/delete."""

    id: Text


class TokenCounter(Body, kw_only=True):
    """POST /utils/token_counter."""

    model: Text
    messages: list[Mapping] | None = None
    prompt: str | None = None


class SpendCalculate(Body, kw_only=True):
    """POST /spend/calculate."""

    model: Text | None = None
    messages: list[Mapping] | None = None
    completion_response: Mapping | None = None
