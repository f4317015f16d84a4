"""One whole request in process, head in to bytes out: every stage, without kernel and event
loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

from fastgate._core.fields import Lines
from fastgate._core.journal import Journal, format_segment
from fastgate.config.schema import Config, Deployment, Log, VirtualKey
from fastgate.config.snapshot import encode
from fastgate.gateway.book import Book
from fastgate.gateway.downstream import Downstream
from fastgate.gateway.worker import Worker
from fastgate.observe import memory as shared_memory
from fastgate.spend.price import Price, encoded
from fastgate.upstream.connection import Connection

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello there, this is a prompt"}]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:4000\r\n"
    b"authorization: Bearer sk-0123456789abcdef\r\ncontent-type: application/json\r\n"
    b"accept: application/json\r\nuser-agent: bench\r\ncontent-length: %d\r\n\r\n" % len(BODY)
) + BODY
STREAM_BODY = BODY[:-1] + b',"stream":true}'
STREAM_REQUEST = REQUEST.replace(
    b"%d\r\n\r\n" % len(BODY), b"%d\r\n\r\n" % len(STREAM_BODY)
).replace(BODY, STREAM_BODY)
ANSWER_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"a short answer of an engine"},"finish_reason":"stop"'
    b'}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 01 Jan 2023 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER_BODY)
) + ANSWER_BODY
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 01 Jan 2023 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


EVENT = _chunk(
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
STREAM_END = (
    _chunk(
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
        b'"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}\n\n'
    )
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class Emptied:
    """An access log that forgets."""

    def __init__(self, lines: Lines) -> None:
        self.flush = lines.take


class Transport:
    """Takes what is written, and forgets it."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += 1

    def writelines(self, parts: list[bytes]) -> None:
        self.written += 1

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1)


class Files:
    """A spend journal's segment, without a disk and the thread that syncs to it."""

    def __init__(self) -> None:
        segment = bytearray(4 * 1024 * 1024)
        format_segment(segment, 1, 1)
        self.journal = Journal()
        self.journal.attach(segment)
        self.synced_records = 1 << 60

    def roll(self) -> bool:
        return False

    def wake(self) -> None:
        pass


PRICE = Price("test", {-1: {"input": Fraction(3, 10**6), "output": Fraction(15, 10**6)}})


def _gateway() -> tuple[Downstream, Connection]:
    key_hash = hashlib.sha256(b"sk-0123456789abcdef").hexdigest()
    config = Config(
        deployments=[
            Deployment(
                id="engine-1",
                group="m",
                provider="openai",
                model="served",
                host="127.0.0.1",
                port=8000,
                base_path="/v1",
                api_base="http://127.0.0.1:8000/v1",
                auth_value=b"Bearer sk-upstream",
                rates=encoded([(0, PRICE)]),
            )
        ],
        keys=[VirtualKey(key_hash=key_hash, rpm=10**9, tpm=10**12, max_parallel=10**6)],
        log=Log(access_log="off"),
    )
    loop = asyncio.new_event_loop()
    worker = Worker(loop, shared_memory.open(shared_memory.create(1), 0), 0, "/nowhere")
    worker.apply(encode(config))

    worker.pipeline.book = Book(
        cast("Any", Files()), worker.memory.limits, worker.memory.budgets, worker.recorder
    )
    worker.recorder.lines = Lines(128 * 1024)
    worker.recorder.log = Emptied(worker.recorder.lines)
    pool = worker.pipeline.catalog.targets["engine-1"].pool
    connection = Connection(pool, worker.pipeline)
    connection.connection_made(Transport())
    pool.members.add(connection)
    connection.opened_ns = connection.idle_since_ns = 1 << 62
    pool.idle.append(connection)
    downstream = Downstream(worker)
    downstream.connection_made(Transport())
    return downstream, connection


def request() -> Callable[[], object]:
    downstream, connection = _gateway()

    def run() -> None:
        downstream.data_received(REQUEST)
        connection.data_received(ANSWER)

    run()
    assert downstream.transport.written == connection.transport.written == 1
    return run


def streamed_request_16_events() -> Callable[[], object]:
    downstream, connection = _gateway()

    def run() -> None:
        downstream.data_received(STREAM_REQUEST)
        connection.data_received(STREAM_HEAD)
        for _ in range(16):
            connection.data_received(EVENT)
        connection.data_received(STREAM_END)

    run()
    assert downstream.transport.written == 17
    return run


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "request": request,
    "streamed_request_16_events": streamed_request_16_events,
}
