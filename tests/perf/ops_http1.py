"""Operations of `http1` for the instruction budgets: what one request and its answer make it do."""

from __future__ import annotations

from collections.abc import Callable

from fastgate._core.http1 import (
    NameSet,
    RequestReader,
    ResponseReader,
    build_request_head,
    build_response_head,
)

__all__ = ["OPERATIONS"]

# The head that the official Python client of OpenAI sends, about 600 bytes.
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\n"
    b"Host: gateway.example.com:4000\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\n"
    b"Accept: application/json\r\n"
    b"Content-Type: application/json\r\n"
    b"User-Agent: OpenAI/Python 1.99.1\r\n"
    b"X-Stainless-Lang: python\r\n"
    b"X-Stainless-Package-Version: 1.99.1\r\n"
    b"X-Stainless-OS: Linux\r\n"
    b"X-Stainless-Arch: x64\r\n"
    b"X-Stainless-Runtime: CPython\r\n"
    b"X-Stainless-Runtime-Version: 3.11.7\r\n"
    b"Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n"
    b"X-Stainless-Retry-Count: 0\r\n"
    b"Content-Length: 143\r\n"
    b"\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"date: Tue, 04 Nov 2025 10:00:00 GMT\r\n"
    b"server: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: 0123456789abcdef0123456789abcdef\r\n"
    b"transfer-encoding: chunked\r\n"
    b"\r\n"
)
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"token"}}]}\n\n'
EVENTS = (b"%x\r\n%b\r\n" % (len(EVENT), EVENT)) * 8
ALLOWED = NameSet((b"accept", b"content-type", b"user-agent", b"openai-organization"))
DENIED = NameSet((b"date", b"server", b"x-request-id", b"set-cookie", b"alt-svc", b"via"))
PREFIX = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 10.0.0.1:8000\r\n"
EXTRA = b"x-request-id: 0123456789abcdef0123456789abcdef\r\n"


def request_head() -> Callable[[], object]:
    reader = RequestReader()

    def operation() -> int:
        reader.reset()
        return reader.feed_head(REQUEST, 0)

    return operation


def request_head_in_two_pieces() -> Callable[[], object]:
    reader = RequestReader()
    first, second = REQUEST[:300], REQUEST[300:]

    def operation() -> int:
        reader.reset()
        reader.feed_head(first, 0)
        return reader.feed_head(second, 0)

    return operation


def response_head() -> Callable[[], object]:
    reader = ResponseReader()

    def operation() -> int:
        reader.reset()
        return reader.feed_head(RESPONSE, 0)

    return operation


def chunked_events() -> Callable[[], object]:
    reader = ResponseReader()
    reader.feed_head(RESPONSE, 0)
    return lambda: reader.feed_body(EVENTS, 0)


def chunk() -> Callable[[], object]:
    reader = ResponseReader()
    reader.feed_head(RESPONSE, 0)
    reader.feed_body(EVENTS, 0)
    return lambda: reader.chunk(EVENTS, False)


def value_of_fifteen() -> Callable[[], object]:
    reader = RequestReader()
    reader.feed_head(REQUEST, 0)
    return lambda: reader.value(b"authorization")


def request_build() -> Callable[[], object]:
    reader = RequestReader()
    reader.feed_head(REQUEST, 0)
    return lambda: build_request_head(PREFIX, reader, ALLOWED, EXTRA, 143)


def response_build() -> Callable[[], object]:
    reader = ResponseReader()
    reader.feed_head(RESPONSE, 0)
    return lambda: build_response_head(200, reader, DENIED, EXTRA, -1)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "request_head_15_fields": request_head,
    "request_head_in_two_pieces": request_head_in_two_pieces,
    "response_head_5_fields": response_head,
    "chunked_8_events": chunked_events,
    "chunk_of_8_events": chunk,
    "value_of_15_fields": value_of_fifteen,
    "build_request_head": request_build,
    "build_response_head": response_build,
}
