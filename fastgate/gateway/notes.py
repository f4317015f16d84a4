"""Columns of the spend log that few requests have: for whom the client says it asks, tags, traces.

What a client says of itself is bounded and never trusted: it names rows, and decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from fastgate._core.http1 import NameSet

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["FIELDS", "note"]

# LiteLLM's names for them.
_CUSTOMER = (b"x-litellm-customer-id", b"x-litellm-end-user-id")
_SESSION = (b"x-litellm-session-id", b"x-litellm-trace-id")
_TAGS = b"x-litellm-tags"
_TRACE = b"traceparent"

FIELDS = NameSet((*_CUSTOMER, *_SESSION, _TAGS, _TRACE))
"""A request without these, `user` and `metadata` is noted only for its key's tags."""

MAX_NAME = 256
"""Characters of an id or a tag; what is longer is cut there."""
MAX_TAGS = 32
MAX_NAMED_TAGS = 6
"""Looked up for limits and budgets: a request can be held to 16 of each."""
MAX_METADATA_BYTES = 4096
"""As JSON; larger metadata is left out whole."""


def note(context: Context) -> None:
    """Set `context.note`, a JSON object of such columns, and `context.names`: the customer and the
    tags among them, which may have limits and budgets.
    """
    reader = context.reader
    head = {name: reader.value(name) for name in (*_CUSTOMER, *_SESSION, _TAGS, _TRACE)}
    user = _part(context, context.user_start, context.user_end)
    metadata = _part(context, context.metadata_start, context.metadata_end)
    if not isinstance(metadata, dict):
        metadata = {}
    customer = _first(*(head[name] for name in _CUSTOMER), user, metadata.get("user_id"))
    tags = _tags(context.principal.tags, metadata.pop("tags", None), head[_TAGS])
    found: dict[str, Any] = {
        "client_request_id": _name(context.client_request_id),
        "customer_id": customer,
        "tags": tags,
        "session_id": _first(*(head[name] for name in _SESSION), metadata.get("session_id")),
        "trace_id": _trace_id(head[_TRACE]) or _first(metadata.get("trace_id")),
    }
    if metadata and len(orjson.dumps(metadata)) <= MAX_METADATA_BYTES:
        found["metadata"] = metadata
    present = {name: value for name, value in found.items() if value}
    context.note = orjson.dumps(present) if present else b""
    named = [("customer", customer)] if customer else []
    context.names = (*named, *(("tag", tag) for tag in tags[:MAX_NAMED_TAGS]))


def _part(context: Context, start: int, end: int) -> Any:
    # Already checked by the scan; what it let pass and orjson does not (a lone surrogate) is left.
    if start < 0:
        return None
    try:
        return orjson.loads(memoryview(context.body)[start:end])
    except orjson.JSONDecodeError:
        return None


def _first(*values: Any) -> str:
    return next((name for name in map(_name, values) if name), "")


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value[:MAX_NAME] if isinstance(value, str) else ""


def _tags(of_key: list[str], listed: Any, header: bytes | None) -> list[str]:
    tags = dict.fromkeys(of_key)
    if isinstance(listed, list):
        tags |= dict.fromkeys(_name(tag) for tag in listed[:MAX_TAGS])
    if header:
        tags |= dict.fromkeys(_name(tag.strip()) for tag in header.split(b",")[:MAX_TAGS])
    tags.pop("", None)
    return list(tags)


def _trace_id(value: bytes | None) -> str:
    """Return the trace id of a W3C traceparent."""
    parts = value.split(b"-") if value else []
    return parts[1].decode("latin-1") if len(parts) >= 4 and len(parts[1]) == 32 else ""
