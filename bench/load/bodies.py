"""Requests as bytes, and the text of answers: how each API words the same question."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

__all__ = ["KINDS", "Message", "build_body", "build_head", "kind_of_path", "text_of_answer"]

Message = tuple[str, str]
"""(role, text): system, user or assistant."""

PATHS = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "messages": "/messages",
    "responses": "/responses",
}

MESSAGES_MAX_TOKENS = 256
"""Of the Messages API, which will have a limit."""


def kind_of_path(path: str) -> str:
    """The kind whose path this is; "" for none, such as /v1."""
    found = (kind for kind, ending in PATHS.items() if path.endswith(ending))
    return next(found, "")


def path_of(url: str, kind: str) -> str:
    """The target: the URL's own path where it names a route, else the kind's under it."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not kind_of_path(path):
        path = (path or "/v1") + PATHS[kind]
    elif kind_of_path(path) != kind:
        path = path.removesuffix(PATHS[kind_of_path(path)]) + PATHS[kind]
    return f"{path}?{parts.query}" if parts.query else path


# ---- bodies


def as_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in messages]


def joined(messages: Sequence[Message]) -> str:
    return "\n\n".join(text for _, text in messages)


def system_of(messages: Sequence[Message]) -> tuple[str, list[dict[str, str]]]:
    """The system prompt apart, as two of the APIs want it."""
    rest = [message for message in messages if message[0] != "system"]
    return joined([message for message in messages if message[0] == "system"]), as_messages(rest)


def chat(messages: Sequence[Message], limit: int) -> dict[str, Any]:
    return {"messages": as_messages(messages)} | ({"max_tokens": limit} if limit else {})


def completions(messages: Sequence[Message], limit: int) -> dict[str, Any]:
    return {"prompt": joined(messages)} | ({"max_tokens": limit} if limit else {})


def embeddings(messages: Sequence[Message], limit: int) -> dict[str, Any]:
    return {"input": joined(messages)}


def messages_api(messages: Sequence[Message], limit: int) -> dict[str, Any]:
    system, rest = system_of(messages)
    body: dict[str, Any] = {"messages": rest, "max_tokens": limit or MESSAGES_MAX_TOKENS}
    return body | ({"system": system} if system else {})


def responses(messages: Sequence[Message], limit: int) -> dict[str, Any]:
    system, rest = system_of(messages)
    body: dict[str, Any] = {"input": rest} | ({"instructions": system} if system else {})
    return body | ({"max_output_tokens": limit} if limit else {})


KINDS: dict[str, Callable[[Sequence[Message], int], dict[str, Any]]] = {
    "chat": chat,
    "completions": completions,
    "embeddings": embeddings,
    "messages": messages_api,
    "responses": responses,
}


def build_body(
    kind: str,
    model: str,
    messages: Sequence[Message],
    limit: int = 0,
    stream: bool = False,
    include_usage: bool = False,
) -> dict[str, Any]:
    """The body as a value; `limit` of output tokens 0: none."""
    body = {"model": model} | KINDS[kind](messages, limit)
    return body | streaming(kind, stream, include_usage)


def streaming(kind: str, stream: bool, include_usage: bool) -> dict[str, Any]:
    if not stream or kind == "embeddings":
        return {}
    # The other two always say their usage.
    asked = include_usage and kind in ("chat", "completions")
    return {"stream": True} | ({"stream_options": {"include_usage": True}} if asked else {})


def build_head(url: str, kind: str, key: str, headers: Sequence[str], length: int) -> bytes:
    host = urlsplit(url).netloc.rpartition("@")[2] or "localhost"
    lines = [
        f"POST {path_of(url, kind)} HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        f"content-length: {length}",
        *([f"authorization: Bearer {key}"] if key else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


# ---- answers


def text_of_answer(kind: str, stream: bool, body: bytes) -> str:
    """The text that an answer says; "" where it says none that we know."""
    if not stream:
        return text_of(kind, json.loads(body), False)
    said = (line[5:] for line in body.split(b"\n") if line.startswith(b"data:"))
    events = (json.loads(event) for event in said if event.strip() not in (b"", b"[DONE]"))
    return "".join(text_of(kind, event, True) for event in events)


def text_of(kind: str, said: dict[str, Any], event: bool) -> str:
    if kind in ("chat", "completions"):
        choice = (said.get("choices") or [{}])[0]
        place = choice.get("delta" if event else "message") or {}
        return str((choice.get("text") if kind == "completions" else place.get("content")) or "")
    if event:
        if said.get("type") == "response.output_text.delta":
            return str(said.get("delta", ""))
        delta = said.get("delta") if said.get("type") == "content_block_delta" else {}
        return str((delta or {}).get("text", ""))
    items = said.get("content", []) if kind == "messages" else said.get("output", [])
    parts = [part for item in items for part in (item.get("content") or [item])]
    return "".join(str(part.get("text", "")) for part in parts)
