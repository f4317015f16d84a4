"""LiteLLM's `router_settings`, `litellm_settings`, `general_settings`: what is honoured of them."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from decimal import Decimal
from typing import Any

from fastgate.config import values
from fastgate.config.deployments import ssl_verify
from fastgate.config.native import MIN_KEY_CHARS, weak
from fastgate.config.reader import Option, Spot, at_least, plain
from fastgate.config.schema import Alias

__all__ = ["GENERAL", "LITELLM", "MASTER_KEY_VARIABLES", "ROUTER", "master_key_hash"]

MASTER_KEY_VARIABLES = ("FASTGATE_MASTER_KEY", "LITELLM_MASTER_KEY")

MAX_USD = 9_000_000_000
"""What 64 bits of nano-dollars hold, rounded down."""
_DURATION = re.compile(r"[1-9][0-9]{0,5}(s|m|h|d|w|mo)|hourly|daily|weekly|monthly")

_STRATEGIES = ("simple-shuffle", "least-busy")
_UNSUPPORTED_STRATEGIES = (
    "usage-based-routing",
    "usage-based-routing-v2",
    "latency-based-routing",
    "cost-based-routing",
    "provider-budget-routing",
)


def _strategy(value: Any, spot: Spot) -> str | None:
    if value in _UNSUPPORTED_STRATEGIES:
        spot.note(f"{value} is not supported yet, {_STRATEGIES[0]} is used")
        return None
    if value not in _STRATEGIES:
        raise ValueError(f"expected one of {', '.join(_STRATEGIES)}")
    return str(value)


def _names(value: Any, spot: Spot) -> list[str]:
    """Return model names; a part that is none is a fault of its own."""
    found = []
    for index, each in enumerate(spot.reader.sequence(value, spot)):
        if isinstance(each, str) and each:
            found.append(each)
        else:
            spot.item(index).fault("expected the name of a model group")
    return found


def _fallbacks(value: Any, spot: Spot) -> dict[str, list[str]]:
    """Return group -> groups of `[{group: [group, …]}, …]`; a group's first entry counts."""
    found: dict[str, list[str]] = {}
    for index, entry in enumerate(spot.reader.sequence(value, spot)):
        here = spot.item(index)
        if not isinstance(entry, dict):
            here.fault("expected a mapping: {group: [group, …]}")
            continue
        for group, names in entry.items():
            found.setdefault(group, _names(names, here.at(group)))
    return found


def _aliases(value: Any, spot: Spot) -> dict[str, Alias]:
    found = {}
    for name, target in spot.reader.mapping(value, spot).items():
        here = spot.at(name)
        try:
            values.model_name(name)
        except ValueError as error:
            here.fault(f"{error} as a name")
            continue
        if "*" in name:
            here.fault("expected no * in an alias")
        elif isinstance(target, str) and target:
            found[name] = Alias(group=target)
        elif isinstance(target, dict) and isinstance(target.get("model"), str):
            found[name] = Alias(group=target["model"], hidden=target.get("hidden") is True)
        else:
            here.fault("expected the name of a model group, or {model: …, hidden: true}")
    return found


def master_key_hash(value: Any, spot: Spot) -> str:
    """Return the SHA-256 of the master key."""
    if not isinstance(value, str):
        raise ValueError("expected text, in quotes")
    key = values.field_value(value.strip())
    if weak(key):
        spot.note(f"a master key of less than {MIN_KEY_CHARS} characters can be guessed")
    return hashlib.sha256(key.encode()).hexdigest()


def _networks(value: Any, spot: Spot) -> list[str]:
    found = []
    for index, each in enumerate(spot.reader.sequence(value, spot)):
        try:
            found.append(str(ipaddress.ip_network(str(each))))
        except ValueError:
            spot.item(index).fault("expected an IP address, or a network such as 10.0.0.0/8")
    return found


def _megabytes(value: object) -> int:
    found = values.number(value)
    if found <= 0:
        raise ValueError("expected more than 0")
    return int(found * 1024 * 1024)


def _dollars(value: object) -> Decimal:
    found = values.number(value)
    if not 0 <= found <= MAX_USD:
        raise ValueError(f"expected dollars from 0 to {MAX_USD}")
    return Decimal(repr(found))


def _budget_duration(value: object) -> str:
    found = values.text(value)
    if not _DURATION.fullmatch(found):
        raise ValueError("expected a duration such as 30s, 15m, 12h, 30d or 1mo")
    return found


_COUNT = at_least(0, values.whole)
_SECONDS = at_least(0, values.number)

ROUTER = {
    "routing_strategy": Option(_strategy, "`simple-shuffle` or `least-busy`."),
    "num_retries": Option(_COUNT, "Tries after the first, on other deployments where there are."),
    "retry_after": Option(_SECONDS, "Least wait in seconds before the same deployment again."),
    "timeout": Option(_SECONDS, "Seconds to the first byte of an answer."),
    "stream_timeout": Option(_SECONDS, "Seconds to the first event; default: as `timeout`."),
    "fallbacks": Option(
        _fallbacks, "`[{group: [group, …]}]`: where to go on when all else failed."
    ),
    "default_fallbacks": Option(_names, "The same for groups without an entry of their own."),
    "max_fallbacks": Option(_COUNT, "How many groups are tried after the first."),
    "cooldown_time": Option(_SECONDS, "Seconds that a failing deployment is left alone."),
    "allowed_fails": Option(_COUNT, "Failures in a minute before that; default: by their share."),
    "disable_cooldowns": Option(plain(values.boolean), "Never leave a deployment alone."),
    "model_group_alias": Option(
        _aliases, "`{name: group}` or `{name: {model: group, hidden: true}}`: other names."
    ),
}

LITELLM = {
    **ROUTER,
    "drop_params": Option(plain(values.boolean), "Leave out parameters a provider does not know."),
    "request_timeout": Option(_SECONDS, "Another word for `timeout`."),
    "max_budget": Option(plain(_dollars), "Dollars that all requests together may cost."),
    "budget_duration": Option(
        plain(_budget_duration), "After which that begins anew (`30d`, `1mo`); default: never."
    ),
    "ssl_verify": Option(ssl_verify, "For upstreams: `false`, or the path of a CA file."),
}

GENERAL = {
    "master_key": Option(
        master_key_hash, "The admin's key; default: FASTGATE_MASTER_KEY or LITELLM_MASTER_KEY."
    ),
    "litellm_key_header_name": Option(
        plain(values.field_name), "A field that is looked at for a key before all others."
    ),
    "database_url": Option(
        plain(values.text), "`postgresql://…` or `sqlite:///…`; `$DATABASE_URL` wins."
    ),
    "allowed_ips": Option(
        _networks, "Addresses or networks (`10.0.0.0/8`) that keys are accepted from; default: any."
    ),
    "max_request_size_mb": Option(plain(_megabytes), "As `limits.max_body_bytes`, in MiB."),
}
