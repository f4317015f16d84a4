"""What only the whole configuration shows: names that lead nowhere, values that clash."""

from __future__ import annotations

import os
from typing import NamedTuple

from msgspec import structs

from fastgate.config.deployments import ModelList
from fastgate.config.principal import ALL_MODELS
from fastgate.config.reader import Spot
from fastgate.config.schema import Config, Router
from fastgate.config.snapshot import Snapshot

__all__ = ["Places", "checked"]

# LiteLLM's words for "what my team may", "nothing": static keys have no team to ask.
_SPECIAL_MODELS = frozenset({"all-team-models", "no-default-models"})


class Places(NamedTuple):
    """Where the router's names were written, for complaints."""

    aliases: Spot
    fallbacks: Spot
    default_fallbacks: Spot
    entry_of: dict[str, int]
    """Group -> the entry of `fallbacks` that names it."""


def checked(config: Config, models: ModelList, places: Places, root: Spot) -> Config:
    """Return `config` without fallbacks to groups that were left out.

    Complains of everything else to `root`'s reader.
    """
    if not (models.deployments or models.broken or root.reader.faults):
        rest = "nothing but unsupported providers" if models.left_out else "missing"
        root.at("model_list").fault(f"{rest}: expected at least one deployment")
    ours = root.at("fastgate_settings")
    if not any(fault.path.startswith(ours.path) for fault in root.reader.faults):
        _check_server(config, ours)
    snapshot = Snapshot(config)
    _check_keys(config, snapshot, ours.at("keys"))
    router = _Names(snapshot, models).checked(config.router, places)
    return structs.replace(config, router=router)


def _check_server(config: Config, spot: Spot) -> None:
    server, limits = config.server, config.limits
    for name in ("tls_cert_file", "tls_key_file"):
        path = getattr(server, name)
        if path and not os.access(path, os.R_OK):
            spot.at(f"server.{name}").fault("expected a file that can be read")
    if server.tls_key_file and not server.tls_cert_file:
        spot.at("server.tls_cert_file").fault("missing, beside tls_key_file")
    if limits.low_water_bytes >= limits.high_water_bytes:
        spot.at("limits.low_water_bytes").fault("expected less than high_water_bytes")


def _check_keys(config: Config, snapshot: Snapshot, spot: Spot) -> None:
    known: dict[str, bool] = {}
    access_groups = {name for each in config.deployments for name in each.access_groups}
    for index, key in enumerate(config.keys):
        if key.key_hash == config.server.master_key_hash:
            spot.item(index).fault("expected another key than the master key")
        for at, name in enumerate(key.models):
            if name not in known:
                known[name] = (
                    "*" in name
                    or name in ALL_MODELS
                    or name in access_groups
                    or snapshot.resolve(name) is not None
                )
            here = spot.item(index).at("models").item(at)
            if name in _SPECIAL_MODELS:
                here.fault("keys in the file have no team to ask: name the models")
            elif not known[name]:
                here.note("there is no group, alias or access group of this name")


class _Names:
    """Aliases and fallbacks: does each name lead somewhere?"""

    def __init__(self, snapshot: Snapshot, models: ModelList) -> None:
        self._snapshot = snapshot
        self._models = models

    def checked(self, router: Router, places: Places) -> Router:
        aliases = {
            name: alias
            for name, alias in router.aliases.items()
            if self._alias_leads_somewhere(name, alias.group, places.aliases.at(name))
        }
        fallbacks = {}
        for group, names in router.fallbacks.items():
            here = places.fallbacks.item(places.entry_of[group]).at(group)
            if group == "*" or group in self._snapshot.groups or self._leads(group, here):
                fallbacks[group] = self._known(names, here)
        default = self._known(router.default_fallbacks, places.default_fallbacks)
        return structs.replace(
            router, aliases=aliases, fallbacks=fallbacks, default_fallbacks=default
        )

    def _alias_leads_somewhere(self, name: str, group: str, spot: Spot) -> bool:
        if name in self._snapshot.groups:
            spot.note("the alias hides the model group of the same name")
        if group in self._snapshot.groups and "*" not in group:
            return True
        if group in self._snapshot.aliases:
            spot.fault("expected a model group, not another alias")
            return False
        return self._leads(group, spot)

    def _known(self, names: list[str], spot: Spot) -> list[str]:
        return [name for i, name in enumerate(names) if self._leads(name, spot.item(i))]

    def _leads(self, name: str, spot: Spot) -> bool:
        if name in self._models.broken or self._snapshot.resolve(name) is not None:
            return True
        if name in self._models.left_out:
            spot.ignore("the deployments of this group are left out")
        else:
            spot.fault("there is no model group of this name")
        return False
