"""Deployments: those of the configuration, and those that were added here.

A literal secret is refused: the database would hold it in clear. `os.environ/NAME` names one that
stands in the environment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastgate.errors import BadRequest, NotFound
from fastgate.management import rows
from fastgate.management.call import need
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.config.schema import Deployment
    from fastgate.management.call import Call
    from fastgate.store import Row

__all__ = ["change", "delete", "groups", "info", "new", "update"]

_SECRET = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)
# Names that fit the pattern and hold no secret.
_PLAIN = re.compile(r"cost|max_|tokens|_id$")


def _check(params: dict[str, Any]) -> None:
    if not isinstance(params.get("model"), str) or not params["model"]:
        raise BadRequest("expected litellm_params.model, got none", param="litellm_params")
    for name, value in params.items():
        secret = _SECRET.search(name) and not _PLAIN.search(name)
        named = isinstance(value, str) and value.startswith("os.environ/")
        if secret and value and not named:
            raise BadRequest(
                f"litellm_params.{name[:40]}: expected os.environ/NAME, got a literal secret: put "
                "it into the environment of fastgate, since the database keeps this text in clear",
                param="litellm_params",
            )


async def new(call: Call) -> Any:
    """Add a deployment to a model group."""
    body = call.body
    params, info_ = body.litellm_params or {}, body.model_info or {}
    _check(params)
    values = {
        "model_id": str(info_.get("id") or rows.new_id()),
        "model_name": need(body.model_name or None, "model_name"),
        "litellm_params": params,
        "model_info": info_,
    }
    async with call.store.transaction() as store:
        try:
            row = await rows.insert(store, call, "models", values)
        except Conflict:
            raise rows.conflict(f"a model with id {values['model_id']} exists") from None
    call.changed("model", [row["model_id"]])
    return _stored(row)


async def update(call: Call) -> Any:
    """Change a deployment, named by `model_info.id`."""
    return await _update(call, str((call.body.model_info or {}).get("id") or ""))


async def change(call: Call) -> Any:
    """Change a deployment, named in the path."""
    return await _update(call, call.path["model_id"])


async def _update(call: Call, model_id: str) -> dict[str, Any]:
    body = call.body
    async with call.store.transaction() as store:
        row = await call.one("models", "model_id", need(model_id, "model_info.id"), lock=store)
        params = {**row["litellm_params"], **(body.litellm_params or {})}
        _check(params)
        values = {
            "litellm_params": params,
            "model_info": {**row["model_info"], **(body.model_info or {})},
            "model_name": body.model_name or row["model_name"],
        }
        changed = await rows.update(store, call, "models", {"model_id": model_id}, values)
    assert changed is not None
    call.changed("model", [model_id])
    return _stored(changed)


async def delete(call: Call) -> Any:
    """Remove a deployment that was added here."""
    async with call.store.transaction() as store:
        row = await rows.delete(store, call, "models", {"model_id": call.body.id})
    if row is None:
        raise BadRequest(f"Model with id={call.body.id} not found in db", param="id")
    call.changed("model", [call.body.id])
    return {"message": f"Model: {call.body.id} deleted successfully"}


async def info(call: Call) -> Any:
    """List deployments, without their secrets."""
    stored = await call.store.fetch("SELECT * FROM models ORDER BY created_at, model_id")
    ids = {row["model_id"] for row in stored}
    listed = [_configured(each) for each in call.service.config().deployments if each.id not in ids]
    listed += [_stored(row) for row in stored]
    asked = call.query.litellm_model_id
    if asked is not None:
        listed = [each for each in listed if each["model_info"]["id"] == asked]
        if not listed:
            raise NotFound(f"Model id = {asked} not found on this gateway", param="model_id")
    return {"data": listed}


def _configured(deployment: Deployment) -> dict[str, Any]:
    return {
        "model_name": deployment.group,
        "litellm_params": {
            "model": f"{deployment.provider}/{deployment.model}",
            "api_base": deployment.api_base,
        },
        "model_info": {
            "id": deployment.id,
            "db_model": False,
            "mode": deployment.mode or None,
            "litellm_provider": deployment.provider,
            "access_groups": deployment.access_groups,
        },
    }


def _stored(row: Row) -> dict[str, Any]:
    params = row["litellm_params"]
    return {
        "model_name": row["model_name"],
        "litellm_params": {name: params[name] for name in ("model", "api_base") if name in params},
        "model_info": {**row["model_info"], "id": row["model_id"], "db_model": True},
    }


async def groups(call: Call) -> Any:
    """List model groups with what is known of each."""
    found: dict[str, dict[str, Any]] = {}
    for each in call.service.config().deployments:
        if call.query.model_group not in (None, each.group):
            continue
        group = found.setdefault(
            each.group,
            {
                "model_group": each.group,
                "providers": [],
                "mode": each.mode or None,
                "tpm": None,
                "rpm": None,
            },
        )
        if each.provider not in group["providers"]:
            group["providers"].append(each.provider)
        for name in ("tpm", "rpm"):
            # -1 is "none": the sum of those that have one.
            if (limit := getattr(each, name)) >= 0:
                group[name] = (group[name] or 0) + limit
    return {"data": list(found.values())}
