"""`fastgate_settings`: what LiteLLM has no word for, by the field names of schema.py.

A name is written with its unit (`head_timeout_s`, `max_body_bytes`); the value is a number in that
unit, or text with one of its own: `10s`, `5m`, `32MiB`.
"""

from __future__ import annotations

import hashlib
import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from fastgate.config import values
from fastgate.config.prices import prices
from fastgate.config.reader import Option, Parse, Spot, at_least, choice, plain
from fastgate.config.schema import Limits, Log, Server, Spend, Upstream, VirtualKey

__all__ = ["KEY", "SECTIONS", "SETTINGS", "options_of", "weak"]

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": Server,
    "limits": Limits,
    "upstream": Upstream,
    "log": Log,
    "spend": Spend,
}

# Said in LiteLLM's words, under general_settings.
_ELSEWHERE = ("key_header", "database_url")

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_ALIAS = re.compile(r"[^\x00-\x1f\x7f]{1,256}")

MIN_KEY_CHARS = 16
"""Shorter keys can be guessed by trying: 16 random letters and digits are 95 bits."""


def options_of(struct: type[msgspec.Struct]) -> dict[str, Option]:
    """Return one option per field of `struct`; its range is that of the field's type."""
    return {
        field.name: Option(_parse_of(field), "")
        for field in msgspec.structs.fields(struct)
        if field.name not in _ELSEWHERE
    }


def _parse_of(field: msgspec.structs.FieldInfo) -> Parse:
    words = typing.get_args(field.type)
    if typing.get_origin(field.type) is typing.Literal:
        return choice(*words)
    number_type = type(field.default)
    by_type: dict[type, Callable[[object], Any]] = {
        str: values.text,
        int: values.whole,
        float: values.number,
        bool: values.boolean,
    }
    parse = by_type[number_type]
    if field.name.endswith("_s"):
        parse = values.duration_s
    elif field.name.endswith("_bytes"):
        parse = values.size_bytes
    elif field.name.endswith("_hash"):
        parse = _key_hash

    def checked(value: Any, spot: Spot) -> Any:
        try:
            return msgspec.convert(number_type(parse(value)), field.type)
        except msgspec.ValidationError as error:
            # "Expected `int` >= 0": it never quotes a number or a text.
            raise ValueError(str(error).replace("`", "").lower()) from None

    return checked


def weak(key: str) -> bool:
    """Return whether a key is too short to be safe from guessing."""
    return len(key) < MIN_KEY_CHARS


def _key_hash(value: object) -> str:
    found = values.text(value)
    if not _SHA256.fullmatch(found):
        raise ValueError("expected the SHA-256 of a key, 64 hex digits: see `fastgate hash-key`")
    return found.lower()


def _key(value: Any, spot: Spot) -> str:
    """Return the hash of a key in clear."""
    if not isinstance(value, str):
        raise ValueError("expected text, in quotes")
    found = values.field_value(value.strip())
    if weak(found):
        spot.note(f"a key of less than {MIN_KEY_CHARS} characters can be guessed")
    return hashlib.sha256(found.encode()).hexdigest()


def _alias(value: object) -> str:
    found = values.text(value)
    if not _ALIAS.fullmatch(found):
        raise ValueError("expected up to 256 characters without control characters")
    return found


def _models(value: Any, spot: Spot) -> list[str]:
    return [values.text(each) for each in spot.reader.sequence(value, spot)]


_LIMIT = at_least(0, values.whole)

KEY = {
    "key": Option(_key, "The key itself."),
    "key_hash": Option(plain(_key_hash), "Instead of it, its SHA-256 (`fastgate hash-key`)."),
    "alias": Option(plain(_alias), "What it is called in logs and messages."),
    "team": Option(plain(_alias), "Whose it is, for logs and metrics."),
    "models": Option(
        _models, "Groups, aliases, access groups or patterns with `*`; none: every model."
    ),
    "rpm": Option(_LIMIT, "Most requests in any 60 s."),
    "tpm": Option(_LIMIT, "Most tokens in any 60 s."),
    "max_parallel": Option(_LIMIT, "Most requests in flight."),
}


def _keys(value: Any, spot: Spot) -> list[VirtualKey]:
    found: dict[str, VirtualKey] = {}
    for index, entry in enumerate(spot.reader.sequence(value, spot)):
        here = spot.item(index)
        key = _virtual_key(entry, here)
        if key is None:
            continue
        if key.key_hash in found:
            here.fault("the key is listed already")
        found[key.key_hash] = key
    return list(found.values())


def _virtual_key(entry: Any, spot: Spot) -> VirtualKey | None:
    if not isinstance(entry, dict):
        spot.fault("expected a mapping: {key: …, models: […]}")
        return None
    faults_before = len(spot.reader.faults)
    read = spot.reader.read(entry, spot, KEY)
    in_clear = read.pop("key", None)
    key_hash = read.pop("key_hash", None)
    if len(spot.reader.faults) > faults_before:
        return None
    if (in_clear is None) == (key_hash is None):
        spot.fault("expected either key or key_hash")
        return None
    return VirtualKey(key_hash=in_clear or key_hash, **read)


def _section(struct: type[msgspec.Struct]) -> Parse:
    options = options_of(struct)
    return lambda value, spot: spot.reader.read(value, spot, options)


SETTINGS = {
    **{
        name: Option(_section(struct), str(struct.__doc__), is_section=True)
        for name, struct in SECTIONS.items()
    },
    "keys": Option(_keys, "Virtual keys.", is_section=True),
    "prices": Option(prices, "Prices that win over all others.", is_section=True),
}
