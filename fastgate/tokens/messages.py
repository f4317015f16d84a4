"""The prompt tokens of a chat request, by the rule that OpenAI published for its chat template.

"How to count tokens with tiktoken", OpenAI cookbook: exact for messages of text, within a few
tokens for tools. What it does not cover is an estimate: pictures, documents, tool calls and their
results (counted as their text), models of others (counted by o200k). Messages and tools may have
OpenAI's or Anthropic's shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .encodings import TextCounter, counter
from .models import encoding_for

__all__ = ["count_messages"]

_ENCODING_OF_OTHERS = "o200k_base"

# The cookbook's constants.
_PER_MESSAGE = 3
_PER_NAME = 1
_REPLY = 3
"""Every reply is primed with <|start|>assistant<|message|>."""
_PER_TOOL = {"o200k_base": 7, "cl100k_base": 10}
_PROPERTIES = 3
_PER_PROPERTY = 3
_ENUM = -3
_PER_CHOICE = 3
_TOOLS_END = 12

# OpenAI's rule for pictures: 85, and 170 for each tile of 512 pixels in high detail.
_PICTURE_LOW = 85
_PICTURE = 85 + 4 * 170
"""One of 1024 by 1024: its size is not known without decoding it."""

# Fields whose text the model reads, in blocks of either API.
_TEXT_FIELDS = ("text", "refusal", "thinking", "name", "arguments")
_PICTURES = ("image_url", "image", "input_image")


def count_messages(
    model: str,
    messages: Iterable[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> int:
    """Return how many prompt tokens the request has. Raises VocabularyMissing.

    Fields of an unexpected type count nothing: whether they are valid is the provider's business.
    """
    encoding = encoding_for(model) or _ENCODING_OF_OTHERS
    vocabulary = counter(encoding)
    tokens = _REPLY
    for message in messages:
        tokens += _PER_MESSAGE
        for key, value in message.items():
            if key in ("role", "name") and isinstance(value, str):
                tokens += _of_text(vocabulary, value) + (_PER_NAME if key == "name" else 0)
            elif key in ("content", "tool_calls", "function_call", "refusal"):
                tokens += _of_content(vocabulary, value)
    if tools:
        tokens += _TOOLS_END
        tokens += sum(_of_tool(vocabulary, tool, _PER_TOOL[encoding]) for tool in tools)
    return tokens


def _of_text(vocabulary: TextCounter, text: str) -> int:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair: JSON can escape one, UTF-8 can't say it. tiktoken reads U+FFFD.
        data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return vocabulary.count(data)


def _of_content(vocabulary: TextCounter, content: object) -> int:
    """Count what the model reads of a string, a block, or a list of blocks, however deep."""
    tokens = 0
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            tokens += _of_text(vocabulary, part)
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            if part.get("type") in _PICTURES:
                tokens += _of_picture(part)
                continue
            waiting.extend(part[field] for field in _TEXT_FIELDS if field in part)
            # A tool's call and its result; Anthropic's arguments are an object.
            waiting.extend(part[field] for field in ("function", "content") if field in part)
            if "input" in part:
                waiting.append(json.dumps(part["input"], ensure_ascii=False))
    return tokens


def _of_picture(part: Mapping[str, Any]) -> int:
    described = part.get("image_url")
    detail = described.get("detail") if isinstance(described, dict) else part.get("detail")
    return _PICTURE_LOW if detail == "low" else _PICTURE


def _of_tool(vocabulary: TextCounter, tool: Mapping[str, Any], per_tool: int) -> int:
    function = tool.get("function")
    function = function if isinstance(function, dict) else tool
    parameters = function.get("parameters") or function.get("input_schema")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    line = f"{function.get('name', '')}:{_sentence(function)}"
    tokens = per_tool + _of_text(vocabulary, line)
    if not isinstance(properties, dict) or not properties:
        return tokens
    tokens += _PROPERTIES
    return tokens + sum(_PER_PROPERTY + n for n in _of_properties(vocabulary, properties))


def _of_properties(vocabulary: TextCounter, properties: Mapping[str, Any]) -> Iterator[int]:
    for name, schema in properties.items():
        if not isinstance(schema, dict):
            schema = {}
        line = f"{name}:{schema.get('type', '')}:{_sentence(schema)}"
        tokens = _of_text(vocabulary, line)
        choices = schema.get("enum")
        if isinstance(choices, list):
            tokens += _ENUM
            tokens += sum(_PER_CHOICE + _of_text(vocabulary, str(choice)) for choice in choices)
        yield tokens


def _sentence(described: Mapping[str, Any]) -> str:
    return str(described.get("description") or "").removesuffix(".")
