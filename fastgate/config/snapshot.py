"""A Snapshot: the configuration compiled into what a worker looks things up in.

It is built once from a Config, in any thread, and swapped in as one reference; a request keeps the
one that it started with. It knows no sockets and no clock: whatever a worker needs at run time per
deployment (pools, counters) it keeps itself, by the deployment's id. What is asked for by name is
found in this order, LiteLLM's: alias, exact group, the most specific wildcard group.

Principals are made when first asked for, because of 100,000 keys few are ever used by one worker.
"""

from __future__ import annotations

import hmac

import msgspec

from fastgate.config.patterns import expand, is_plain, literal_length, star
from fastgate.config.patterns import matches as pattern_matches
from fastgate.config.principal import Principal
from fastgate.config.schema import Config, Deployment, VirtualKey
from fastgate.config.scopes import of_stored
from fastgate.config.stored import StoredKey

__all__ = ["Group", "Principal", "Route", "Snapshot", "decode", "encode"]

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Config)


def encode(config: Config) -> bytes:
    """Return `config` as it travels between processes. It holds secrets."""
    return _ENCODER.encode(config)


def decode(data: bytes) -> Config:
    """Return the Config that `encode` was given. Raises msgspec.ValidationError."""
    return _DECODER.decode(data)


class Group:
    """A model group: a public name (or a pattern with one `*`) and its deployments, as listed."""

    __slots__ = ("access_groups", "deployments", "name")

    def __init__(self, name: str, deployments: tuple[Deployment, ...]) -> None:
        self.name = name
        self.deployments = deployments
        self.access_groups = frozenset(
            access_group for deployment in deployments for access_group in deployment.access_groups
        )

    def __repr__(self) -> str:
        return f"Group({self.name!r}, {len(self.deployments)} deployments)"


class Route:
    """Where a model name leads: a group, and per deployment the model name to send upstream."""

    __slots__ = ("deployments", "group")

    def __init__(self, group: str, deployments: tuple[tuple[Deployment, str], ...]) -> None:
        self.group = group
        self.deployments = deployments

    def __repr__(self) -> str:
        return f"Route({self.group!r}, {[model for _, model in self.deployments]})"


class Snapshot:
    """The look-ups. Nothing in it changes what it answers after it was made."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.aliases = config.router.aliases
        self.groups = _group(config.deployments)
        wildcards = [group for group in self.groups.values() if "*" in group.name]
        # LiteLLM: the longest pattern is the most specific; of two, the one listed first.
        self.wildcards = sorted(wildcards, key=lambda group: -literal_length(group.name))
        self._keys = {bytes.fromhex(key.key_hash): key for key in config.keys}
        self._principals: dict[bytes, Principal] = {}
        self._fallbacks = config.router.fallbacks
        self._everywhere = [budget for budget in config.budgets if budget.kind == "global"]
        self._master_digest = bytes.fromhex(config.server.master_key_hash)
        self.master = Principal(
            VirtualKey(key_hash=config.server.master_key_hash, alias="master"),
            is_admin=True,
            everywhere=self._everywhere,
        )
        self.is_open = not self._master_digest and not config.keys
        """No key is asked for: everybody is `anyone`."""
        self.key_header = config.server.key_header.lower().encode()
        """A field looked for before `authorization`; empty: none."""
        self.anyone = Principal(
            VirtualKey(key_hash="", alias="anyone"), is_admin=True, everywhere=self._everywhere
        )

    # keys

    def principal(self, digest: bytes) -> Principal | None:
        """Return whom the key with this SHA-256 (32 bytes) stands for; None: nobody."""
        if self._master_digest and hmac.compare_digest(digest, self._master_digest):
            return self.master
        found = self._principals.get(digest)
        if found is None:
            key = self._keys.get(digest)
            if key is None:
                return None
            found = self._principals[digest] = self._compiled(
                Principal(key, everywhere=self._everywhere)
            )
        return found

    def stored(self, key: StoredKey) -> Principal:
        """Return whom a key of the store stands for."""
        principal = self._compiled(Principal(key, everywhere=self._everywhere))
        above = [key.team_models, key.user_models, key.organization_models]
        if any(above):
            principal.narrowed = [
                self._compiled(Principal(VirtualKey(key_hash=key.key_hash, models=models)))
                for models in (key.models, *filter(None, above))
            ]
            principal.all_models, principal.names = False, frozenset()
        principal.aliases = key.aliases
        principal.user_id, principal.organization_id = key.user_id, key.organization_id
        principal.tags = key.tags
        principal.stored = key
        if any(scope.model_rpm or scope.model_tpm for scope in key.scopes) or any(
            budget.model for budget in key.budgets
        ):
            principal.by_group = {}
        else:
            principal.scoped = of_stored(key, principal.shown, "", principal.everywhere)
        principal.routes = key.allowed_routes
        principal.blocked = key.blocked
        principal.expires_unix_ms = int(key.expires_unix_s * 1000)
        return principal

    def allows(self, principal: Principal, model: str) -> bool:
        """Return whether `principal` may ask for `model`; it need not exist."""
        if principal.narrowed is not None:
            return all(self.allows(each, model) for each in principal.narrowed)
        if principal.all_models or model in principal.names:
            return True
        if not principal.patterns:
            return False
        asked = [model]
        if model in self.aliases:
            asked.append(self.aliases[model].group)
        return any(
            pattern_matches(pattern, name) for pattern in principal.patterns for name in asked
        )

    def visible_models(self, principal: Principal) -> list[str]:
        """Return what /v1/models lists: groups, then aliases, then what only a wildcard reaches.

        Wildcard groups and hidden aliases are left out, as LiteLLM does.
        """
        names = [name for name in self.groups if "*" not in name]
        names += [
            name
            for name, alias in self.aliases.items()
            if not alias.hidden and name not in self.groups
        ]
        visible = [name for name in names if self.allows(principal, name)]
        if not principal.all_models:
            visible += [
                name
                for name in dict.fromkeys(principal.models)
                if name not in self.groups
                and name not in self.aliases
                and "*" not in name
                and self.resolve(name) is not None
            ]
        return visible

    # models

    def resolve(self, model: str) -> Route | None:
        """Return where requests for `model` go; None: nowhere."""
        alias = self.aliases.get(model)
        name = model if alias is None else alias.group
        group = self.groups.get(name)
        if group is not None and "*" not in name:
            return Route(name, tuple((each, each.model) for each in group.deployments))
        if not is_plain(name):
            # That includes the pattern itself: its star would be sent upstream.
            return None
        for wildcard in self.wildcards:
            matched = star(wildcard.name, name)
            if matched is not None:
                return Route(
                    wildcard.name,
                    tuple((each, expand(each.model, matched)) for each in wildcard.deployments),
                )
        return None

    def fallbacks_of(self, model: str) -> list[str]:
        """Return the models to try after `model`, in order.

        Looked for under the name asked for, then its alias's group, then the wildcard group that it
        belongs to, then `*` and the default. Those that equal `model` are left out.
        """
        alias = self.aliases.get(model)
        names = [model] if alias is None else [model, alias.group]
        route = self.resolve(model)
        if route is not None:
            names.append(route.group)
        for name in [*names, "*"]:
            if name in self._fallbacks:
                found = self._fallbacks[name]
                break
        else:
            found = self.config.router.default_fallbacks
        return [name for name in found if name != model]

    def _compiled(self, principal: Principal) -> Principal:
        """Set what it may ask for: access groups become groups, groups bring their aliases."""
        if principal.all_models:
            return principal
        listed = set(principal.models)
        listed |= {
            name
            for name, group in self.groups.items()
            if not listed.isdisjoint(group.access_groups)
        }
        listed |= {name for name, alias in self.aliases.items() if alias.group in listed}
        principal.names = frozenset(name for name in listed if "*" not in name)
        principal.patterns = tuple(sorted(name for name in listed if "*" in name))
        return principal


def _group(deployments: list[Deployment]) -> dict[str, Group]:
    members: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        members.setdefault(deployment.group, []).append(deployment)
    return {name: Group(name, tuple(listed)) for name, listed in members.items()}
