"""What is asked: from options, prompts and traces to requests as bytes.

    asks()  -> Ask: system prompt, user turns, limit        traces.py, words.py, files
    build() -> Request: bytes                               bodies.py

Requests without a conversation are built once and used again, in turn; those of a trace, and the
turns of a conversation, are built when they are due.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.bodies import Message, build_body, build_head, streaming, text_of_answer
from bench.load.lengths import Lengths
from bench.load.options import Options
from bench.load.traces import Ask, read_prompts, read_trace
from bench.load.words import Words

__all__ = ["Conversation", "Request", "build_request", "plan"]

POOL = 1000
"""Different made-up requests; then they come round again. (Real traffic repeats some, too.)"""

POOL_BYTES = 256 << 20

PREFIX_MARK = 1 << 40
"""Marks of shared prefixes; those of prompts count up from the seed."""

PROCESS_MARKS = 1 << 24


@dataclass(slots=True)
class Request:
    payload: bytes
    """Head and body."""
    kind: str
    stream: bool
    conversation: Conversation | None = None
    """What goes on with its answer."""


class Conversation:
    """User turns, each sent with all that was said before it, the server's own answers included."""

    def __init__(self, options: Options, ask: Ask) -> None:
        self._options = options
        self._ask = ask
        self._left = list(reversed(ask.turns))
        self._said: list[Message] = [("system", ask.system)] if ask.system else []

    def next_request(self) -> Request:
        self._said.append(("user", self._left.pop()))
        request = build(self._options, self._ask, self._said)
        request.conversation = self if self._left else None
        return request

    def take_answer(self, request: Request, body: bytes) -> None:
        """Add what the server said; an answer that says nothing adds an empty turn."""
        text = text_of_answer(request.kind, request.stream, body)
        self._said.append(("assistant", text))


def build(options: Options, ask: Ask, messages: list[Message]) -> Request:
    kind = ask.kind or options.api
    stream = options.stream and kind != "embeddings"
    if ask.body is not None:
        body: dict[str, Any] = ask.body | {"model": options.model}
        body.pop("stream", None)
        body |= streaming(kind, stream, options.include_usage)
    else:
        body = build_body(kind, options.model, messages, ask.limit, stream, options.include_usage)
    if options.body:
        body |= json.loads(options.body)
    payload = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    head = build_head(options.url, kind, options.key, options.headers, len(payload))
    return Request(head + payload, kind, stream)


def begin(options: Options, ask: Ask) -> Request:
    """The first request of an ask."""
    return (
        Conversation(options, ask).next_request() if ask.body is None else build(options, ask, [])
    )


def build_request(options: Options) -> bytes:
    """The first request that these options send, head and body."""
    return next(plan(options))[1].payload


def plan(options: Options, index: int = 0, count: int = 1) -> Iterator[tuple[float, Request]]:
    """Yield (seconds from the start; 0 outside a trace, request): every `count`th from `index`.

    Endless, but for a trace.
    """
    if options.trace:
        for ask in itertools.islice(read_trace(options, Words()), index, None, count):
            yield ask.at_s / options.speed, begin(options, ask)
        return
    asks, many = asks_of(options, index)
    if options.turns > 1 or options.prompts:
        asks = itertools.cycle(itertools.islice(asks, POOL)) if many else asks
        for ask in asks:
            yield 0.0, begin(options, ask)
        return
    pool: list[Request] = []
    size = 0
    for ask in itertools.islice(asks, POOL if many else 1):
        request = begin(options, ask)
        yield 0.0, request
        pool.append(request)
        size += len(request.payload)
        if size > POOL_BYTES:
            break
    yield from zip(itertools.repeat(0.0), itertools.cycle(pool))


def asks_of(options: Options, index: int) -> tuple[Iterator[Ask], bool]:
    """Return the asks, and whether they differ."""
    chance = random.Random(f"{options.seed} {index}")
    words = Words()
    prefixes = [
        words.text(PREFIX_MARK + number, options.shared_prefix)
        for number in range(options.prefixes if options.shared_prefix else 0)
    ]
    limits = Lengths(options.max_tokens)
    lengths = Lengths(options.prompt_tokens)
    marks = itertools.count(options.seed * POOL + index * PROCESS_MARKS)
    given: Iterable[tuple[str, ...]]
    if options.prompts:
        given = itertools.cycle(read_prompts(Path(options.prompts)))
    elif lengths:
        given = (
            tuple(words.text(next(marks), lengths.draw(chance)) for _ in range(options.turns))
            for _ in itertools.count()
        )
    else:
        given = itertools.repeat((options.prompt,) * options.turns)
    asks = (
        Ask(turns, chance.choice(prefixes) if prefixes else "", limits.draw(chance))
        for turns in given
    )
    return asks, bool(options.prompts or lengths or limits.shape != "fixed" or len(prefixes) > 1)
