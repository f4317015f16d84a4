"""What is asked: requests as ready bytes, so that sending one costs a write.

A prompt of N tokens is N short English words: with the usual vocabularies a word and the space
before it are one token (the server's usage says what it was). Prompts differ from each other from
the first word on unless `--shared-prefix` says otherwise, so that a prefix cache can't serve them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load.options import Options
from bench.load.traces import has_times, read_trace

__all__ = ["Item", "Workload", "build_request", "text_of_words"]

_COMMON = (
    "the of and to in is you that it he was for on are as with his they I at be this have from or "
    "one had by word but not what all were we when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people my than first been call"
)
WORDS = _COMMON.split()

SHARED_SEED = 0x5EED
"""Every run's shared prefix is the same one."""


@dataclass(slots=True)
class Item:
    """One request: its bytes; when it is due (of a trace); what follows in its conversation."""

    payload: bytes
    at_s: float = 0.0
    then: Item | None = None


def text_of_words(count: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=count))


class Workload:
    """The requests of a run. `next()` is asked for one whenever one is due."""

    def __init__(self, options: Options, part: int = 0) -> None:
        """`part`: which of several client processes this is. Raises ValueError, OSError."""
        self.options = options
        self._rng = random.Random(f"{options.seed}/{part}/words")
        shared = random.Random(SHARED_SEED)
        self._prefix = text_of_words(options.shared_prefix, shared)
        self._head = _head(options)
        self.timed = bool(options.trace) and has_times(options.trace)
        """The requests have times of their own."""
        if options.trace:
            self._items = self._of_trace(part)
        elif options.prompts:
            self._items = cycle([self._item([text]) for text in read_prompts(options.prompts)])
        else:
            self._items = cycle([self._drawn() for _ in range(self._distinct())])

    def next(self) -> Item | None:
        """Return the next request (the first of a conversation); None: a trace is at its end."""
        return next(self._items, None)

    def _distinct(self) -> int:
        options = self.options
        same = options.prompt_tokens.fixed is not None and options.max_tokens.fixed is not None
        # Of one length one request is enough to load a gateway; an engine would serve all but the
        # first from its prefix cache.
        return 1 if same and not options.shared_prefix and options.turns == 1 else options.distinct

    def _drawn(self) -> Item:
        options = self.options
        texts = []
        for _ in range(options.turns):
            count = options.prompt_tokens.sample(self._rng)
            texts.append(text_of_words(max(1, count), self._rng))
        if self._prefix:
            texts[0] = f"{self._prefix} {texts[0]}"
        return self._item(texts)

    def _item(self, texts: list[str]) -> Item:
        """A conversation: each turn repeats what was said before, as clients do."""
        options = self.options
        items = []
        messages: list[dict[str, str]] = []
        for text in texts:
            limit = options.max_tokens.fixed
            limit = options.max_tokens.sample(self._rng) if limit is None else limit
            messages.append({"role": "user", "content": text})
            items.append(Item(self._head(body_of(options, messages, limit))))
            # What the server answered is not kept; something of that length stands for it.
            messages.append({"role": "assistant", "content": text_of_words(limit or 16, self._rng)})
        for item, following in pairwise(items):
            item.then = following
        return items[0]

    def _of_trace(self, part: int) -> Iterator[Item]:
        options = self.options
        for index, entry in enumerate(read_trace(options.trace)):
            if index % options.processes != part:
                continue
            if entry.body is not None:
                body = entry.body | {"model": options.model}
                if options.stream:
                    body["stream"] = True
            else:
                body = body_of(
                    options, [{"role": "user", "content": entry.prompt()}], entry.output_tokens
                )
            yield Item(self._head(body), entry.at_s / options.speed)


def body_of(options: Options, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
    """The body of a request to the endpoint that is measured."""
    endpoint = options.endpoint
    body: dict[str, Any] = {"model": options.model}
    if endpoint in ("chat", "messages"):
        body["messages"] = messages
    elif endpoint == "responses":
        body["input"] = messages
    else:
        name = "input" if endpoint == "embeddings" else "prompt"
        body[name] = "\n".join(message["content"] for message in messages)
    if endpoint == "messages":
        # Anthropic's API demands a limit.
        body["max_tokens"] = max_tokens or 1024
    elif max_tokens and endpoint != "embeddings":
        body["max_output_tokens" if endpoint == "responses" else "max_tokens"] = max_tokens
    if options.stream:
        body["stream"] = True
        if options.usage and endpoint in ("chat", "completions"):
            body["stream_options"] = {"include_usage": True}
    return body


def build_request(options: Options) -> bytes:
    """The first request of a run, head and body."""
    item = Workload(options).next()
    return b"" if item is None else item.payload


def read_prompts(path: str) -> list[str]:
    """A folder: a prompt a file. JSONL: `prompt`, or the first of `turns`. Other text: a line each.

    Raises ValueError when there are none.
    """
    place = Path(path)
    if place.is_dir():
        found = [file.read_text() for file in sorted(place.iterdir()) if file.is_file()]
    else:
        lines = [line for line in place.read_text().splitlines() if line.strip()]
        found = lines
        if place.suffix == ".jsonl":
            found = [_prompt_in(json.loads(line), place) for line in lines]
    if not found:
        raise ValueError(f"expected prompts in {path}, found none")
    return found


def _prompt_in(entry: Any, place: Path) -> str:
    if isinstance(entry, dict):
        prompt = entry.get("prompt") or (entry.get("turns") or [None])[0]
        if isinstance(prompt, str):
            return prompt
    raise ValueError(f"expected objects with `prompt` or `turns` in {place}, got {entry!r:.80}")


def _head(options: Options) -> Any:
    url = urlsplit(options.url)
    lines = [
        f"POST {options.path} HTTP/1.1",
        f"host: {url.netloc.rpartition('@')[2] or 'localhost'}",
        "content-type: application/json",
        "content-length: %d",
        *([f"authorization: Bearer {options.key}"] if options.key else []),
        *(["anthropic-version: 2023-06-01"] if options.endpoint == "messages" else []),
        *options.headers,
    ]
    before, after = "\r\n".join([*lines, "", ""]).replace("%d", "\0").split("\0")

    def framed(body: dict[str, Any]) -> bytes:
        payload = json.dumps(body, separators=(",", ":")).encode()
        return b"%b%d%b%b" % (before.encode(), len(payload), after.encode(), payload)

    return framed
