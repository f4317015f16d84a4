"""The oracle for `_core.sse`: what a stream or a document says, by the standard library.

Written from the WHATWG's and the providers' texts, not from the scanner: whole input, objects,
recursion, `Decimal`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

__all__ = ["Facts", "read_document", "read_events", "read_stream"]

ERROR_NAMES = {"error", "response.failed"}
EMPTY_NAMES = {
    *("ping", "message_start"),
    *("response.created", "response.in_progress", "response.queued"),
}
COUNTS = {
    "input_tokens": {"prompt_tokens", "input_tokens", "promptTokenCount"},
    "output_tokens": {"completion_tokens", "output_tokens", "candidatesTokenCount"},
    "total_tokens": {"total_tokens", "totalTokenCount"},
    "cached_tokens": {
        *("cached_tokens", "cache_read_input_tokens"),
        *("cachedContentTokenCount", "prompt_cache_hit_tokens"),
    },
    "cache_write_tokens": {"cache_creation_input_tokens", "cache_write_tokens"},
    "reasoning_tokens": {"reasoning_tokens", "thoughtsTokenCount"},
}
DETAILS = {
    *("prompt_tokens_details", "completion_tokens_details"),
    *("input_tokens_details", "output_tokens_details"),
}
MAX_DEPTH = 128
MAX_NUMBER_BYTES = 64


class Pairs(list[tuple[str, Any]]):
    """A JSON object, duplicates and order kept."""


class Number(str):
    """A JSON number as it was written."""


@dataclass
class Facts:
    events: int = 0
    content_events: int = 0
    content_seen: bool = False
    error_seen: bool = False
    error_first: bool = False
    done_seen: bool = False
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, -1))
    usage_only: list[bool] = field(default_factory=list)
    """Of each event, whether it holds nothing but usage."""


@dataclass
class Message:
    """What one JSON value says."""

    error: bool = False
    empty: bool = False
    choices: list[Any] | None = None
    content: bool = False
    usage: Pairs | None = None


def read_events(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return (name, data) of each event: WHATWG HTML 9.2.6."""
    *lines, _unfinished = re.split(rb"\r\n|\n|\r", raw.removeprefix(b"\xef\xbb\xbf"))
    events: list[tuple[bytes, bytes]] = []
    name, data = b"", list[bytes]()
    for line in lines:
        key, _colon, value = line.partition(b":")
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            name, data = b"", []
        elif key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.removeprefix(b" ")
    return events


def read_stream(raw: bytes) -> Facts:
    facts = Facts()
    for name, data in read_events(raw):
        facts.events += 1
        facts.usage_only.append(False)
        if facts.done_seen:
            continue
        if data.strip(b" \t\n") == b"[DONE]":
            facts.done_seen = True
            continue
        message, surplus = _first_value(data)
        if message is not None and message.usage is not None:
            _take_usage(facts, message.usage)
        if name.decode("latin-1") in ERROR_NAMES or (message is not None and message.error):
            facts.error_first = facts.error_first or not (facts.error_seen or facts.content_seen)
            facts.error_seen = True
        elif name.decode("latin-1") in EMPTY_NAMES or not data.strip(b" \t\n"):
            pass
        elif message is None or surplus:
            facts.content_events += 1
        elif message.choices == []:
            facts.usage_only[-1] = message.usage is not None
        elif not message.empty and (message.choices is None or message.content):
            facts.content_events += 1
        facts.content_seen = facts.content_events > 0
    return facts


def read_document(raw: bytes) -> Facts:
    facts = Facts()
    message, surplus = _first_value(raw)
    if message is None or surplus:
        return facts
    if message.usage is not None:
        _take_usage(facts, message.usage)
    if message.error:
        facts.error_seen = facts.error_first = True
    else:
        facts.content_seen = True
        facts.content_events = 1
    return facts


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _first_value(data: bytes) -> tuple[Message | None, bool]:
    """Return what the first JSON value says (None: there is none) and whether more follows it."""
    text = data.decode("utf-8", "replace").lstrip(" \t\n\r")
    decoder = json.JSONDecoder(
        object_pairs_hook=Pairs,
        parse_int=Number,
        parse_float=Number,
        parse_constant=_no_constant,
    )
    try:
        value, end = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None, False
    if _depth(value) > MAX_DEPTH:
        return None, False
    message = Message()
    if isinstance(value, Pairs):
        _read_root(message, value)
    return message, bool(text[end:].strip(" \t\n\r"))


def _depth(value: Any) -> int:
    if not isinstance(value, list):
        return 0
    inner = [item[1] for item in value] if isinstance(value, Pairs) else value
    return 1 + max(map(_depth, inner), default=0)


def _read_root(message: Message, root: Pairs) -> None:
    for key, value in root:
        if key in ("type", "object") and type(value) is str:
            message.error = message.error or value in ERROR_NAMES
            message.empty = message.empty or value in EMPTY_NAMES
        elif key == "error" and value is not None:
            message.error = True
        elif key == "choices" and type(value) is list:
            message.choices = value
            message.content = any(map(_carries, value))
        elif key in ("usage", "usageMetadata") and isinstance(value, Pairs):
            message.usage = value
        elif key in ("message", "response") and isinstance(value, Pairs):
            for inner, usage in value:
                if inner == "usage" and isinstance(usage, Pairs):
                    message.usage = usage


def _present(value: Any) -> bool:
    return value is not None and value != "" and value != []


def _carries(choice: Any) -> bool:
    """Tell whether a choice has something for the user: a finish, or more than a role."""
    if not isinstance(choice, Pairs):
        return False
    for key, value in choice:
        if key in ("text", "finish_reason") and _present(value):
            return True
        if key in ("delta", "message"):
            if not isinstance(value, Pairs):
                if _present(value):
                    return True
            elif any(inner != "role" and _present(part) for inner, part in value):
                return True
    return False


def _take_usage(facts: Facts, usage: Pairs) -> None:
    counts: dict[str, int] = {}
    if _read_usage(counts, usage):
        facts.counts |= counts


def _read_usage(counts: dict[str, int], usage: Pairs) -> bool:
    """Read the counts that `usage` has; False: one of them is none."""
    for key, value in usage:
        if key in DETAILS and isinstance(value, Pairs) and not _read_usage(counts, value):
            return False
        name = next((name for name, keys in COUNTS.items() if key in keys), None)
        if name is None or value is None:
            continue
        if not isinstance(value, Number) or value[0] == "-" or len(value) > MAX_NUMBER_BYTES:
            return False
        number = Decimal(value)
        if number > 2**53 or number != number.to_integral_value():
            return False
        counts[name] = int(number)
    return True
