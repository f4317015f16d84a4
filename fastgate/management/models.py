"""Deployments: those of the configuration, and those that were added here.

A literal secret is sealed before it is stored (fastgate/store/sealing.py), or refused where nothing
can seal it. `os.environ/NAME` names one that stands in the environment. Neither is ever shown.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

from fastgate.config.added import read_added
from fastgate.errors import BadRequest, ConfigError, NotFound
from fastgate.management import rows
from fastgate.management.call import need
from fastgate.store import Conflict

if TYPE_CHECKING:
    from fastgate.config.schema import Deployment
    from fastgate.management.call import Call
    from fastgate.store import Row
    from fastgate.store.sealing import Sealer

__all__ = ["change", "delete", "groups", "info", "new", "opened", "update"]

_SECRET = re.compile(r"key|secret|token|password|credential|auth", re.IGNORECASE)
# Names that fit the pattern and hold no secret.
_PLAIN = re.compile(r"cost|max_|tokens|_id$")
_SEALED = "sealed:"


def _is_secret(name: str, value: Any) -> bool:
    named = isinstance(value, str) and value.startswith(("os.environ/", _SEALED))
    return bool(value) and not named and bool(_SECRET.search(name) and not _PLAIN.search(name))


def _sealed(params: dict[str, Any], model_id: str, sealer: Sealer | None) -> dict[str, Any]:
    """Return `params` as they are stored. Raises BadRequest."""

    def seal(name: str, value: Any, where: str) -> Any:
        if isinstance(value, str) and value.startswith(_SEALED):
            raise BadRequest(
                f"litellm_params.{where[:60]}: expected the secret itself", param="litellm_params"
            )
        if not _is_secret(name, value):
            return value
        if sealer is None or not isinstance(value, str):
            raise BadRequest(
                f"litellm_params.{where[:60]}: expected os.environ/NAME, got a literal secret: "
                "sealing it needs pip install fastgate[sealing], and LITELLM_SALT_KEY or a master "
                "key",
                param="litellm_params",
            )
        return sealer.seal(value, f"{model_id}/{where}")

    found = {name: seal(name, value, name) for name, value in params.items()}
    headers = params.get("extra_headers")
    if isinstance(headers, dict):
        found["extra_headers"] = {
            name: seal(name, value, f"extra_headers.{name}") for name, value in headers.items()
        }
    return found


def opened(row: Row, sealer: Sealer | None) -> dict[str, Any]:
    """Return the entry of `model_list` that a row stands for. Raises ValueError: a secret of it
    can't be opened.
    """

    def unseal(value: Any, where: str) -> Any:
        if not (isinstance(value, str) and value.startswith(_SEALED)):
            return value
        if sealer is None:
            raise ValueError(
                f"litellm_params.{where} is sealed: opening it needs pip install "
                "fastgate[sealing], and the LITELLM_SALT_KEY or master key it was sealed under"
            )
        return sealer.open(value, f"{row['model_id']}/{where}")

    params = {name: unseal(value, name) for name, value in row["litellm_params"].items()}
    headers = params.get("extra_headers")
    if isinstance(headers, dict):
        params["extra_headers"] = {
            name: unseal(value, f"extra_headers.{name}") for name, value in headers.items()
        }
    return {
        "model_name": row["model_name"],
        "litellm_params": params,
        "model_info": {**row["model_info"], "id": row["model_id"]},
    }


async def _check(call: Call, row: Row) -> None:
    """See that a deployment can be made of the row. Raises BadRequest."""
    if any(each.id == row["model_id"] and not each.stored for each in _configured_all(call)):
        raise rows.conflict(f"the configuration file has a model with id {row['model_id']}")
    try:
        entry = opened(row, call.service.sealer)
        await asyncio.to_thread(read_added, entry, os.environ)
    except ConfigError as error:
        raise BadRequest("; ".join(map(repr, error.faults)), param="litellm_params") from None
    except ValueError as error:
        raise BadRequest(str(error), param="litellm_params") from None


def _configured_all(call: Call) -> list[Deployment]:
    return call.service.config().deployments


async def new(call: Call) -> Any:
    """Add a deployment to a model group."""
    body = call.body
    info_ = body.model_info or {}
    model_id = str(info_.get("id") or rows.new_id())
    values = {
        "model_id": model_id,
        "model_name": need(body.model_name or None, "model_name"),
        "litellm_params": _sealed(body.litellm_params or {}, model_id, call.service.sealer),
        "model_info": info_,
    }
    await _check(call, values)
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
        changes = _sealed(body.litellm_params or {}, model_id, call.service.sealer)
        values = {
            "litellm_params": {**row["litellm_params"], **changes},
            "model_info": {**row["model_info"], **(body.model_info or {})},
            "model_name": body.model_name or row["model_name"],
        }
        await _check(call, {**values, "model_id": model_id})
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
    own = (each for each in _configured_all(call) if each.id not in ids and not each.stored)
    listed = [_configured(each) for each in own]
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
    for each in _configured_all(call):
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
