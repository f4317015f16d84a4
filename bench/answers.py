"""What the simulated engine says, per kind of request: bodies and events, before any framing.

`read_request` turns a body into a Request (what was asked), the builders turn it into an Answer
(raw events, and which of them belong to one moment). The same request always gets the same bytes:
ids and times are constants, so that tests can compare byte by byte. Framing, faults and time come
later, in script.py and engine.py.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["BUILDERS", "Answer", "Request", "build_error", "build_models", "read_request"]

CREATED = 1_700_000_000
WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "naps",
    "again",
)
JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
EMBEDDING_DIMENSIONS = 64


@dataclass(slots=True)
class Request:
    """What a body asked for, in the words that all kinds share."""

    kind: str
    body: dict[str, Any]
    model: str
    prompt: str
    prompt_tokens: int
    tokens: int
    finish: str = "stop"
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    """vLLM's `continuous_usage_stats`: every event of a chat has the usage so far."""
    choices: int = 1
    cached_tokens: int = 0
    usage: bool = True
    request_id: str = ""


@dataclass(slots=True)
class Answer:
    """Raw events (a plain answer is one) and the offsets at which moments end.

    `ends[k]` is the number of events that have been sent once token k is out.
    """

    content_type: str
    events: list[bytes]
    ends: list[int] = field(default_factory=lambda: [1])
    stream: bool = False
    status: int = 200


def text_of(content: Any) -> str:
    """The text in a message's content, an input or a prompt, whichever shape it has."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("content") or content.get("text") or "")
    if isinstance(content, list):
        return " ".join(text_of(item) for item in content)
    return "" if content is None else str(content)


def read_request(kind: str, raw: bytes, default_tokens: int) -> Request:
    """Read a body; raises ValueError when it isn't a JSON object with a model."""
    if kind == "transcriptions":
        return read_multipart(raw)
    body = orjson.loads(raw)
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise ValueError("expected a JSON object with a model")
    parts = ("system", "instructions", "prompt", "messages", "input", "query", "documents")
    prompt = " ".join(text_of(body[part]) for part in parts if part in body)
    limits = (body.get(n) for n in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    limit = next((n for n in limits if n is not None), default_tokens)
    options = body.get("stream_options") or {}
    return Request(
        kind=kind,
        body=body,
        model=body["model"],
        prompt=prompt,
        prompt_tokens=max(1, len(prompt.split())),
        tokens=max(1, min(default_tokens, limit)),
        finish="length" if limit < default_tokens else "stop",
        stream=bool(body.get("stream")) and kind in STREAMING,
        include_usage=bool(options.get("include_usage")),
        continuous_usage=kind == "chat" and bool(options.get("continuous_usage_stats")),
        choices=max(1, int(body.get("n") or 1)),
    )


def read_multipart(raw: bytes) -> Request:
    found = re.search(rb'name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n', raw)
    if not found:
        raise ValueError("expected a multipart form with a model")
    model = found[1].decode()
    return Request("transcriptions", {"bytes": len(raw)}, model, "", max(1, len(raw)), 1)


def word(index: int) -> str:
    return ("" if index == 0 else " ") + WORDS[index % len(WORDS)]


def words(count: int) -> str:
    return "".join(word(index) for index in range(count))


def data(event: object) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(event)


def named(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def usage_of(asked: Request, so_far: int = -1) -> dict[str, Any]:
    completion = asked.tokens * asked.choices if so_far < 0 else so_far
    return {
        "prompt_tokens": asked.prompt_tokens,
        "total_tokens": asked.prompt_tokens + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": asked.cached_tokens},
    }


def plain(answer: dict[str, Any]) -> Answer:
    return Answer(JSON, [orjson.dumps(answer)])


def sample_value(schema: dict[str, Any]) -> Any:
    """A value that fits a (simple) JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    properties = schema.get("properties", {})
    samples: dict[str, Any] = {
        "object": {name: sample_value(inner) for name, inner in properties.items()},
        "array": [],
        "integer": 1,
        "number": 1.5,
        "boolean": True,
        "null": None,
    }
    return samples.get(schema.get("type", "string"), "fox")


def tool_call(asked: Request) -> dict[str, Any] | None:
    """The call made when tools are offered, allowed and not just answered; else None."""
    tools = asked.body.get("tools") or []
    choice = asked.body.get("tool_choice", "auto")
    messages = asked.body.get("messages") or [{}]
    if not tools or choice == "none" or messages[-1].get("role") == "tool":
        return None
    wanted = choice["function"]["name"] if isinstance(choice, dict) else None
    offered = [tool["function"] for tool in tools if "function" in tool]
    function = next((f for f in offered if f["name"] == wanted), offered[0])
    arguments = orjson.dumps(sample_value(function.get("parameters") or {"type": "object"}))
    call = {"name": function["name"], "arguments": arguments.decode()}
    return {"id": "call_sim", "type": "function", "function": call}


def chat(asked: Request) -> Answer:
    call = tool_call(asked)
    finish = "tool_calls" if call else asked.finish
    if asked.stream:
        return chat_stream(asked, call, finish)
    message: dict[str, Any] = {"role": "assistant", "content": words(asked.tokens)}
    if call:
        message |= {"content": None, "tool_calls": [call]}
    answer = {
        "id": "chatcmpl-sim",
        "object": "chat.completion",
        "created": CREATED,
        "model": asked.model,
        "choices": [
            {"index": i, "message": message, "logprobs": None, "finish_reason": finish}
            for i in range(asked.choices)
        ],
    }
    if asked.usage:
        answer["usage"] = usage_of(asked)
    return plain(answer)


def chat_stream(asked: Request, call: dict[str, Any] | None, finish: str) -> Answer:
    def event(choice: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        row = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}
        if not (asked.continuous_usage and asked.usage):
            return data(head | {"choices": [row]})
        nonlocal spoken
        spoken += "content" in delta and "role" not in delta
        return data(head | {"choices": [row], "usage": usage_of(asked, spoken)})

    spoken = 0
    head = {
        "id": "chatcmpl-sim",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": asked.model,
    }
    deltas: list[dict[str, Any]] = [{"content": word(i)} for i in range(asked.tokens)]
    if call:
        deltas = call_deltas(call)
    every = range(asked.choices)
    events = [event(i, {"role": "assistant", "content": None if call else ""}) for i in every]
    ends = []
    for delta in deltas:
        events += [event(i, delta) for i in every]
        ends.append(len(events))
    events += [event(i, {}, finish) for i in every]
    if asked.include_usage and asked.usage:
        events.append(data(head | {"choices": [], "usage": usage_of(asked)}))
    events.append(DONE)
    ends[-1] = len(events)
    return Answer(SSE, events, ends, stream=True)


def call_deltas(call: dict[str, Any]) -> list[dict[str, Any]]:
    """A tool call as engines stream it: its name first, then its arguments in pieces."""
    function = call["function"]
    text = function["arguments"]
    first = call | {"index": 0, "function": function | {"arguments": ""}}
    pieces = [text[at : at + 8] for at in range(0, len(text), 8)]
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [part]} for part in (first, *rest)]


def completions(asked: Request) -> Answer:
    head = {"id": "cmpl-sim", "object": "text_completion", "created": CREATED, "model": asked.model}

    def choices(text: str, reason: str | None) -> dict[str, Any]:
        every = range(asked.choices)
        return {
            "choices": [
                {"index": i, "text": text, "logprobs": None, "finish_reason": reason} for i in every
            ]
        }

    if not asked.stream:
        usage = {"usage": usage_of(asked)} if asked.usage else {}
        return plain(head | choices(words(asked.tokens), asked.finish) | usage)
    last = asked.tokens - 1
    events = [
        data(head | choices(word(i), asked.finish if i == last else None))
        for i in range(asked.tokens)
    ]
    if asked.include_usage and asked.usage:
        events.append(data(head | {"choices": [], "usage": usage_of(asked)}))
    events.append(DONE)
    return Answer(SSE, events, [*range(1, asked.tokens), len(events)], stream=True)


def vector(text: str, dimensions: int) -> list[float]:
    """A unit-less vector that depends on the text alone."""
    seed = zlib.crc32(text.encode())
    return [((seed * (i + 1)) % 2001 - 1000) / 1000 for i in range(dimensions)]


def embeddings(asked: Request) -> Answer:
    given = asked.body.get("input", "")
    # A list of numbers is one tokenised text; any other list is one text per item.
    single = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    texts = [text_of(item) for item in ([given] if single else given)]
    dimensions = asked.body.get("dimensions") or EMBEDDING_DIMENSIONS
    found: list[Any] = [vector(text, dimensions) for text in texts]
    if asked.body.get("encoding_format") == "base64":
        found = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in found]
    usage = {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens}
    rows = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(found)]
    return plain({"object": "list", "data": rows, "model": asked.model, "usage": usage})


def responses(asked: Request) -> Answer:
    text = words(asked.tokens)
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "msg_sim", "role": "assistant", "status": "completed"}
    whole = {
        "id": "resp_sim",
        "object": "response",
        "created_at": CREATED,
        "model": asked.model,
        "status": "completed",
        "output": [item | {"content": [part]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": asked.prompt_tokens,
            "input_tokens_details": {"cached_tokens": asked.cached_tokens},
            "output_tokens": asked.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked.prompt_tokens + asked.tokens,
        },
    }
    if not asked.stream:
        return plain(whole)
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_sim", "output_index": 0, "content_index": 0}
    deltas = [
        {"type": "response.output_text.delta", "delta": word(i), "logprobs": []} | place
        for i in range(asked.tokens)
    ]
    sequence = [
        {"type": "response.created", "response": begun},
        *deltas,
        {"type": "response.output_text.done", "text": text, "logprobs": []} | place,
        {"type": "response.completed", "response": whole},
    ]
    events = [named(event | {"sequence_number": i}) for i, event in enumerate(sequence)]
    return Answer(SSE, events, [*range(2, asked.tokens + 1), len(events)], stream=True)


def messages(asked: Request) -> Answer:
    usage = {
        "input_tokens": asked.prompt_tokens - asked.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": asked.cached_tokens,
        "output_tokens": asked.tokens,
    }
    reason = "max_tokens" if asked.finish == "length" else "end_turn"
    whole = {
        "id": "msg_sim",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": words(asked.tokens)}],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }
    if not asked.stream:
        return plain(whole)
    begun = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    block = {"type": "text", "text": ""}
    sequence = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word(i)},
            }
            for i in range(asked.tokens)
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": asked.tokens},
        },
        {"type": "message_stop"},
    ]
    events = [named(event) for event in sequence]
    return Answer(SSE, events, [*range(3, asked.tokens + 2), len(events)], stream=True)


def rerank(asked: Request) -> Answer:
    documents = [text_of(document) for document in asked.body.get("documents") or []]
    limit = asked.body.get("top_n") or len(documents)
    results = [
        {"index": i, "document": {"text": text}, "relevance_score": round(1 / (i + 1), 4)}
        for i, text in enumerate(documents[:limit])
    ]
    usage = {"total_tokens": asked.prompt_tokens}
    return plain({"id": "rerank-sim", "model": asked.model, "usage": usage, "results": results})


def moderations(asked: Request) -> Answer:
    given = asked.body.get("input", "")
    count = len(given) if isinstance(given, list) else 1
    result = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.001}}
    return plain({"id": "modr-sim", "model": asked.model, "results": [result] * count})


def transcriptions(asked: Request) -> Answer:
    count = asked.body["bytes"]
    usage = {
        "type": "tokens",
        "input_tokens": asked.prompt_tokens,
        "output_tokens": 1,
        "total_tokens": asked.prompt_tokens + 1,
    }
    return plain({"text": f"{count} bytes", "usage": usage})


def images(asked: Request) -> Answer:
    pixel = base64.b64encode(b"not a real image").decode()
    rows = [{"b64_json": pixel} for _ in range(asked.choices)]
    return plain({"created": CREATED, "data": rows})


def speech(asked: Request) -> Answer:
    # A kilobyte per word: long enough not to fit one read when the text is long.
    return Answer("audio/mpeg", [b"\xff\xfb\x90\x00" * 256 * asked.prompt_tokens])


STREAMING = ("chat", "completions", "responses", "messages")

BUILDERS: dict[str, Callable[[Request], Answer]] = {
    "chat": chat,
    "completions": completions,
    "embeddings": embeddings,
    "images": images,
    "messages": messages,
    "moderations": moderations,
    "rerank": rerank,
    "responses": responses,
    "speech": speech,
    "transcriptions": transcriptions,
}


ERROR_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}


def build_error(kind: str, status: int, message: str) -> bytes:
    """An error body as vLLM words it (`code` is a number), or as Anthropic does for messages."""
    if kind == "messages":
        error = {"type": "overloaded_error" if status >= 500 else "invalid_request_error"}
        return orjson.dumps({"type": "error", "error": error | {"message": message}})
    name = ERROR_TYPES.get(status, "InternalServerError")
    return orjson.dumps(
        {"error": {"message": message, "type": name, "param": None, "code": status}}
    )


def build_models(models: tuple[str, ...]) -> Answer:
    rows = [
        {"id": model, "object": "model", "created": CREATED, "owned_by": "simulated"}
        for model in models
    ]
    return plain({"object": "list", "data": rows})
