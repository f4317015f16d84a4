"""The provider table, and which provider a deployment's model name means."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import msgspec

from fastgate.config.patterns import matches

__all__ = ["Provider", "Registry", "Untranslated", "registry"]


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A row of registry.toml; the fields are explained there."""

    name: str = ""
    api_base: str = ""
    base_env: tuple[str, ...] = ()
    key_env: tuple[str, ...] = ()
    protocol: str = "openai"
    auth_header: str = "authorization"
    auth_prefix: str = "Bearer "
    headers: dict[str, str] = {}
    append_v1: bool = False
    models: tuple[str, ...] = ()


class Untranslated(Exception):
    """The provider is known, but its wire format isn't spoken yet."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    untranslated: tuple[str, ...]
    published: dict[str, str]
    providers: dict[str, Provider]


class Registry:
    """All providers, by name."""

    def __init__(self, table: _Table) -> None:
        self.providers = {
            name: msgspec.structs.replace(row, name=name) for name, row in table.providers.items()
        }
        self.untranslated = frozenset(table.untranslated)
        self.published = table.published
        """Our names of providers with published prices, and the catalogue's."""

    def identify(self, model: str, provider: str, has_base: bool) -> tuple[Provider, str]:
        """Return the provider meant and the model name it knows.

        `provider` is what the deployment names outright, or empty. Raises Untranslated with the
        provider's name, LookupError with what is missing.
        """
        prefix, slash, rest = model.partition("/")
        if provider:
            known = self._named(provider)
            if known is None:
                raise LookupError("no such provider")
            return known, rest if slash and prefix == provider else model
        if slash:
            known = self._named(prefix)
            if known is not None:
                return known, rest
        if has_base:
            # An engine of the user's own: the whole of the name is the model's.
            return self.providers["openai_like"], model
        for known in self.providers.values():
            if any(matches(pattern, model) for pattern in known.models):
                return known, model
        raise LookupError("expected provider/model, or an api_base beside it")

    def _named(self, name: str) -> Provider | None:
        if name in self.untranslated:
            raise Untranslated(name)
        return self.providers.get(name)


@cache
def registry() -> Registry:
    """Return the table, read once per process."""
    text = Path(__file__).with_name("registry.toml").read_text(encoding="utf-8")
    return Registry(msgspec.convert(tomllib.loads(text), _Table))
