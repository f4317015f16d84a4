"""The oracle for `_core.jscan`: which bodies may pass, and what they say, by the standard library.

Each rule is one line of `authorise()`; nothing here knows how the scanner goes about it.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["authorise"]

PROMPTS = ("messages", "prompt", "input", "query", "contents")
FIELDS = {
    *("model", "stream", "stream_options", "include_usage", "n", "user", "metadata"),
    *("max_tokens", "max_completion_tokens", "max_output_tokens"),
    *PROMPTS,
}
MAX_DEPTH, MAX_MEMBERS, MAX_OPTIONS, MAX_KEY_BYTES = 128, 256, 16, 256
_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}")
_FOLDS = {ord("\u212a"): "k", ord("\u017f"): "s"}


class Refused(Exception):
    pass


class Pairs(list[tuple[str, Any]]):
    """A JSON object, duplicates and order kept."""


class Number(str):
    """A JSON number as it was written."""


def authorise(raw: bytes) -> dict[str, Any] | None:
    """Return what the body says; None: it has to be refused."""
    try:
        return _read(_parse(raw))
    except (Refused, ValueError, RecursionError):
        return None


def _need(condition: bool) -> None:
    if not condition:
        raise Refused


def _parse(raw: bytes) -> Pairs:
    document = json.loads(
        raw.decode("utf-8"),
        object_pairs_hook=_object,
        parse_int=Number,
        parse_float=Number,
        parse_constant=lambda name: _need(False),
    )
    _need(isinstance(document, Pairs))
    _need(_depth(document) <= MAX_DEPTH)
    pairs: Pairs = document
    return pairs


def _object(pairs: list[tuple[str, Any]]) -> Pairs:
    for key, _ in pairs:
        _need(not re.search("[\ud800-\udfff]", key))
    return Pairs(pairs)


def _depth(value: Any) -> int:
    if not isinstance(value, list):
        return 0
    inner = [item[1] for item in value] if isinstance(value, Pairs) else value
    return 1 + max(map(_depth, inner), default=0)


def _members(pairs: Pairs, limit: int) -> dict[str, Any]:
    _need(len(pairs) <= limit)
    members = dict(pairs)
    _need(len(members) == len(pairs))
    for key in members:
        folded = "".join(c.lower() if c.isascii() else c for c in key).translate(_FOLDS)
        _need("\0" not in key and len(key.encode()) <= MAX_KEY_BYTES)
        _need(key in FIELDS or folded not in FIELDS)
    return members


def _flag(value: Any) -> int:
    _need(value is None or type(value) is bool)
    return -1 if value is None else int(value)


def _count(value: Any) -> int:
    if value is None:
        return -1
    _need(isinstance(value, Number) and value.isdigit() and len(value) <= 16)
    _need(int(value) <= 2**53)
    return int(value)


def _model(value: Any) -> str:
    _need(type(value) is str)
    name: str = value
    _need(bool(_MODEL.fullmatch(name)) and ".." not in name.split("/"))
    return name


def _read(document: Pairs) -> dict[str, Any]:
    body = _members(document, MAX_MEMBERS)
    options = body.get("stream_options")
    _need(options is None or isinstance(options, Pairs))
    user = body.get("user")
    _need(user is None or (type(user) is str and not re.search("[\ud800-\udfff]", user)))
    n = _count(body.get("n"))
    _need(n == -1 or 1 <= n <= 128)
    usage = _members(options, MAX_OPTIONS).get("include_usage") if options is not None else None
    return {
        "model": _model(body["model"]) if "model" in body else None,
        "stream": _flag(body.get("stream")),
        "include_usage": _flag(usage),
        "max_tokens": _count(body.get("max_tokens")),
        "max_completion_tokens": max(
            _count(body.get("max_completion_tokens")), _count(body.get("max_output_tokens"))
        ),
        "n": 1 if n == -1 else n,
        "members": len(body),
        "user": user,
        "prompt": next((body[name] for name in PROMPTS if name in body), None),
        "metadata": body.get("metadata"),
        "stream_options": options,
    }
