"""From files and environment to a Config: read, understand, check the whole.

    source.read     files -> plain values
    Reader, tables  plain values -> parsed values, and a report on every key
    _config         parsed values -> Config; where a thing is said twice the more particular place
                    wins: fastgate_settings, router_settings, litellm_settings, the environment
    check           what only the whole shows: names that lead nowhere, values that clash

All faults are found in one run. The environment is an argument and is never changed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastgate.config import check, ignored, native, values
from fastgate.config.deployments import read_model_list
from fastgate.config.litellm import (
    GENERAL,
    LITELLM,
    MASTER_KEY_VARIABLES,
    ROUTER,
    master_key_hash,
)
from fastgate.config.reader import Option, Reader, Spot
from fastgate.config.report import HONOURED, Report
from fastgate.config.schema import (
    Budget,
    Config,
    Deployment,
    Limits,
    Log,
    Router,
    Server,
    Spend,
    Upstream,
)
from fastgate.config.source import Source, read
from fastgate.errors import ConfigError, Fault

__all__ = ["Examined", "Loaded", "examine", "load", "refuse_open"]

RENAMED = {
    "retry_after": "retry_after_s",
    "cooldown_time": "cooldown_time_s",
    "model_group_alias": "aliases",
}
"""LiteLLM's words for fields of Router that have a unit or a shorter name."""


def _section(options: Mapping[str, Option], why_ignored: Callable[[str], str] | None) -> Option:
    return Option(
        lambda value, spot: spot.reader.read(value, spot, options, why_ignored),
        "",
        is_section=True,
    )


_SECTIONS = {
    # Its entries are read when it is known what holds for all of them.
    "model_list": Option(
        lambda value, spot: spot.reader.sequence(value, spot), "", is_section=True
    ),
    "litellm_settings": _section(LITELLM, ignored.litellm),
    "router_settings": _section(ROUTER, ignored.router),
    "general_settings": _section(GENERAL, ignored.general),
    "fastgate_settings": _section(native.SETTINGS, None),
}


class Loaded(NamedTuple):
    """A valid configuration, and what became of each of its keys."""

    config: Config
    report: Report


class Examined(NamedTuple):
    """What was found out about a configuration, whether it can be used or not."""

    config: Config | None
    """None: there are faults."""
    report: Report
    faults: list[Fault]


def load(path: str | Path, environ: Mapping[str, str]) -> Loaded:
    """Return the configuration in the file at `path`. Raises ConfigError with all its faults."""
    config, report, faults = examine(path, environ)
    if config is None:
        raise ConfigError(faults)
    return Loaded(config, report)


def examine(path: str | Path, environ: Mapping[str, str]) -> Examined:
    """Return all there is to say about the file at `path`. Raises ConfigError if it isn't YAML."""
    source = read(Path(path))
    reader = Reader(environ)
    _set_defaults(source, reader)
    sections = reader.read(source.values, reader.root, _SECTIONS, ignored.top_level)
    entries = sections.get("model_list", [])
    models = read_model_list(
        entries,
        [Spot(reader, source.path("model_list", index)) for index in range(len(entries))],
        sections.get("litellm_settings", {}).get("ssl_verify", (True, "")),
    )
    config = _config(sections, models.deployments, reader)
    config = check.checked(config, models, _places(source, sections, reader), reader.root)
    return Examined(None if reader.faults else config, reader.report, reader.faults)


def refuse_open(config: Config) -> None:
    """Raise ConfigError when strangers could reach a gateway that asks nobody for a key."""
    host = config.server.host
    if config.server.master_key_hash or _is_loopback(host):
        return
    raise ConfigError(
        [
            Fault(
                "general_settings.master_key",
                f"needed, since {host} is not a loopback address: set it (or the environment "
                f"variable {MASTER_KEY_VARIABLES[0]}), or listen on 127.0.0.1",
            )
        ]
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _set_defaults(source: Source, reader: Reader) -> None:
    """Make `environment_variables` the defaults of os.environ/X; the real environment wins."""
    spot = reader.root.at("environment_variables")
    section = source.values.pop("environment_variables", None)
    for name, raw in reader.mapping(section, spot).items():
        here = spot.at(name)
        reader.report.add(here.path, HONOURED)
        if name in reader.environ:
            continue
        value = reader.parse(raw, here, lambda value, _: values.text(value))
        if value is not None:
            reader.environ[name] = value


def _config(sections: Mapping[str, Any], deployments: list[Deployment], reader: Reader) -> Config:
    litellm = sections.get("litellm_settings", {})
    ours = sections.get("fastgate_settings", {})
    general = sections.get("general_settings", {})
    router = {**litellm, **sections.get("router_settings", {})}
    if "request_timeout" in litellm and "timeout" not in sections.get("router_settings", {}):
        router["timeout"] = litellm["request_timeout"]

    server = dict(ours.get("server", {}))
    server["key_header"] = general.get("litellm_key_header_name", "")
    if "master_key_hash" not in server:
        server["master_key_hash"] = general.get("master_key") or _master_of(reader)
    limits = dict(ours.get("limits", {}))
    if "max_request_size_mb" in general:
        limits.setdefault("max_body_bytes", general["max_request_size_mb"])
    upstream = {**_timeouts(router), **ours.get("upstream", {})}
    return Config(
        server=Server(**server),
        limits=Limits(**limits),
        upstream=Upstream(**upstream),
        router=Router(**_router_fields(router)),
        log=Log(**ours.get("log", {})),
        deployments=deployments,
        keys=ours.get("keys", []),
        prices=ours.get("prices", []),
        spend=Spend(**ours.get("spend", {}), database_url=general.get("database_url", "")),
        budgets=_budgets(litellm),
        allowed_ips=general.get("allowed_ips", []),
        drop_params=litellm.get("drop_params", False),
    )


def _budgets(litellm: Mapping[str, Any]) -> list[Budget]:
    """Return the budget of the whole gateway, if it has one."""
    cap_usd = litellm.get("max_budget")
    if cap_usd is None:
        return []
    duration = litellm.get("budget_duration", "total")
    return [Budget(kind="global", id="", duration=duration, cap_nano_usd=int(cap_usd.scaleb(9)))]


def _places(source: Source, sections: Mapping[str, Any], reader: Reader) -> check.Places:
    """Return where the router's names stand: in router_settings or in litellm_settings."""

    def section_of(key: str) -> str:
        own = key in sections.get("router_settings", {})
        return "router_settings" if own else "litellm_settings"

    def spot(key: str) -> Spot:
        return reader.root.at(section_of(key)).at(key)

    entry_of: dict[str, int] = {}
    if sections.get(section_of("fallbacks"), {}).get("fallbacks"):
        for index, entry in enumerate(source.values[section_of("fallbacks")]["fallbacks"]):
            for group in entry if isinstance(entry, dict) else ():
                entry_of.setdefault(group, index)
    return check.Places(
        spot("model_group_alias"), spot("fallbacks"), spot("default_fallbacks"), entry_of
    )


def _master_of(reader: Reader) -> str:
    """Return the hash of the master key that the environment has; "": it has none."""
    key, name = reader.first(MASTER_KEY_VARIABLES)
    if not key:
        return ""
    return reader.parse(key, Spot(reader, name), master_key_hash) or ""


def _timeouts(router: Mapping[str, Any]) -> dict[str, float]:
    """Return the fields of Upstream. LiteLLM's `timeout` holds for streams too, unless said."""
    found = {}
    if router.get("timeout"):
        found["timeout_s"] = found["stream_timeout_s"] = router["timeout"]
    if router.get("stream_timeout"):
        found["stream_timeout_s"] = router["stream_timeout"]
    return found


def _router_fields(router: Mapping[str, Any]) -> dict[str, Any]:
    fields = {RENAMED.get(name, name): value for name, value in router.items()}
    return {name: fields[name] for name in Router.__struct_fields__ if name in fields}
