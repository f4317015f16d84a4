"""LiteLLM's keys that have no effect here, each with the reason: one table per section.

A key that stands in no table is unknown, which usually means misspelt.
"""

from __future__ import annotations

import re

__all__ = ["general", "litellm", "model_info", "parameter", "router", "top_level"]

_BUDGETS = "budgets are not kept yet"
_CACHE = "there is no response cache yet"
_CALLBACKS = "callbacks and guardrails are not run"
_CHECKS = "requests are not looked at before routing, but for their model and size"
_DATABASE = "there is no database yet: keys stand under fastgate_settings.keys"
_DEFAULTS = "requests go out as they came: a deployment adds no parameters of its own"
_HEALTH = "health is judged by the requests themselves; GET /health probes on demand"
_JWT = "only keys are accepted, no JWT and no SSO"
_LOGGING = "the log is JSON always: see fastgate_settings.log"
_PRICES = "costs are not recorded yet"
_PROVIDER = "belongs to a provider whose wire format is not spoken yet"
_REDIS = "limits are shared by all workers of this machine, without Redis"
_RETRIES = "one number of retries counts for all kinds of errors: num_retries"
_TEAMS = "teams and users are names only, without settings of their own"
_TAGS = "deployments are not chosen by tags yet"


def _table(**reasons: str) -> dict[str, str]:
    """Turn reason -> words into word -> reason."""
    raise NotImplementedError


_TOP_LEVEL = {
    _CALLBACKS: "callback_settings guardrails policies prompts",
    "tools are not served": "mcp_servers mcp_aliases mcp_tools search_tools vector_store_registry",
    "credentials stand with their deployment": "credential_list",
    "only the routes listed by GET / are served": (
        "assistant_settings files_settings finetune_settings"
    ),
    _PROVIDER: "default_vertex_config",
    _TEAMS: "worker_registry agent_list agents",
}
