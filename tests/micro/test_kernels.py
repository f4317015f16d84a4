"""The compiled kernels beside what one would otherwise use, each doing the same job.

`make micro` times them (groups are rows of one comparison); in the suite each runs once and its
answer is checked, so that no side is timed doing something else.
"""

from __future__ import annotations

import json
import re
from typing import Any

import h11
import httptools
import msgspec
import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastgate._core.http1 import RequestReader, ResponseReader
from fastgate._core.jscan import BodyScan
from fastgate._core.sse import Scanner

FIELDS = (
    ("Host", "localhost:4000"),
    ("Authorization", "Bearer sk-0123456789abcdef0123456789abcdef"),
    ("Content-Type", "application/json"),
    ("Accept", "application/json"),
    ("User-Agent", "OpenAI/Python 1.60.0"),
    ("X-Stainless-Lang", "python"),
    ("X-Stainless-Os", "Linux"),
    ("X-Stainless-Retry-Count", "0"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Connection", "keep-alive"),
    ("Content-Length", "0"),
)
HEAD = "".join(f"{name}: {value}\r\n" for name, value in FIELDS)
REQUEST = f"POST /v1/chat/completions HTTP/1.1\r\n{HEAD}\r\n".encode()
PATH = b"/v1/chat/completions"

MESSAGES = [
    {"role": "system", "content": "You answer in one sentence. " * 40},
    {"role": "user", "content": "What does a gateway do, and \u201cwhy\u201d would I want one?"},
]
BODY = json.dumps(
    {"model": "gpt-4o", "messages": MESSAGES, "temperature": 0.2, "stream": True, "max_tokens": 256}
).encode()

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":100,"total_tokens":111}}\n\n'
)
STREAM = EVENT * 100 + USAGE + b"data: [DONE]\n\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(EVENT), EVENT) for _ in range(100))
    + b"0\r\n\r\n"
)


# ---- a request's head


def head_ours() -> bytes:
    reader = RequestReader()
    reader.feed_head(REQUEST, 0)
    return reader.path()


class _Told:
    """What httptools calls back."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body.append(data)


def head_httptools() -> bytes:
    told = _Told()
    httptools.HttpRequestParser(told).feed_data(REQUEST)
    return told.url


def head_h11() -> bytes:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(REQUEST)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event.target


@pytest.mark.benchmark(group="request head, 11 fields")
@pytest.mark.parametrize("parse", [head_ours, head_httptools, head_h11])
def test_request_head(benchmark: BenchmarkFixture, parse: Any) -> None:
    assert benchmark(parse) == PATH


# ---- a chunked answer of 100 events


def chunked_ours() -> int:
    reader = ResponseReader()
    at = reader.feed_head(CHUNKED, 0)
    reader.feed_body(CHUNKED, at)
    return reader.body_bytes


def chunked_httptools() -> int:
    told = _Told()
    httptools.HttpResponseParser(told).feed_data(CHUNKED)
    return sum(map(len, told.body))


def chunked_h11() -> int:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(CHUNKED)
    total = 0
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            total += len(event.data)
    return total


@pytest.mark.benchmark(group="chunked answer, 100 events")
@pytest.mark.parametrize("parse", [chunked_ours, chunked_httptools, chunked_h11])
def test_chunked_answer(benchmark: BenchmarkFixture, parse: Any) -> None:
    assert benchmark(parse) == 100 * len(EVENT)


# ---- the fields of a body that a gateway needs


class Peeked(msgspec.Struct):
    """As little as msgspec can be asked for."""

    model: str
    stream: bool = False
    max_tokens: int = -1


_decoder = msgspec.json.Decoder(Peeked)
_scan = BodyScan()


def peek_ours() -> tuple[Any, ...]:
    _scan.scan(BODY, 0, len(BODY))
    return _scan.model, _scan.stream == 1, _scan.max_tokens


def peek_msgspec() -> tuple[Any, ...]:
    found = _decoder.decode(BODY)
    return found.model, found.stream, found.max_tokens


def _picked(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["model"], body["stream"], body["max_tokens"]


def peek_orjson() -> tuple[Any, ...]:
    return _picked(orjson.loads(BODY))


def peek_json() -> tuple[Any, ...]:
    return _picked(json.loads(BODY))


@pytest.mark.benchmark(group="peek at a 1.4 KB body")
@pytest.mark.parametrize("peek", [peek_ours, peek_msgspec, peek_orjson, peek_json])
def test_peek(benchmark: BenchmarkFixture, peek: Any) -> None:
    assert benchmark(peek) == ("gpt-4o", True, 256)


# ---- the usage of a stream, and whether it is over

_scanner = Scanner()
_USAGE_RE = re.compile(rb'"usage":\s*(\{[^}]*\})')


def usage_ours() -> tuple[int, bool]:
    _scanner.reset(0)
    _scanner.feed(STREAM, 0, len(STREAM))
    return _scanner.output_tokens, _scanner.done_seen


def usage_re() -> tuple[int, bool]:
    # Finds it inside text as well, and misses nested objects and split events: the cheap way.
    found = _USAGE_RE.search(STREAM)
    assert found is not None
    return orjson.loads(found[1])["completion_tokens"], b"data: [DONE]\n" in STREAM


def usage_parsed() -> tuple[int, bool]:
    tokens, done = -1, False
    for event in STREAM.split(b"\n\n"):
        data = event.removeprefix(b"data: ")
        if data == b"[DONE]":
            done = True
        elif data:
            tokens = (orjson.loads(data).get("usage") or {}).get("completion_tokens", tokens)
    return tokens, done


@pytest.mark.benchmark(group="usage of a stream of 100 events")
@pytest.mark.parametrize("look", [usage_ours, usage_re, usage_parsed])
def test_usage(benchmark: BenchmarkFixture, look: Any) -> None:
    assert benchmark(look) == (100, True)
