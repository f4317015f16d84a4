"""What a worker puts on record of a request: never less than it passed on, and never too late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from fastgate._core.journal import OUTCOME_FIELDS, Journal, Reader, format_segment
from fastgate.config.snapshot import decode, encode
from fastgate.gateway.book import Book
from fastgate.spend.price import Price, encoded
from fastgate.upstream.connection import Connection
from tests.wired import Wire, Wired, snapshot_of, wired

DEFINE, RESERVE, PROGRESS, ATTEMPT, SETTLE, NOTE = range(1, 7)

# 37.5 nano-dollars a token in, a hundred out.
PRICE = Price("test", {-1: {"input": Fraction(375, 10**10), "output": Fraction(1, 10**7)}})
MODEL = {
    "model_name": "m",
    "litellm_params": {
        "model": "openai/served",
        "api_base": "http://127.0.0.1:9/v1",
        "api_key": "sk-upstream",
    },
}
CONFIG = {
    "model_list": [
        {**MODEL, "model_info": {"id": "first"}},
        {**MODEL, "model_info": {"id": "second"}},
    ],
    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
COST = 1113  # 11 x 37.5 + 7 x 100 = 1112.5


class Files:
    """A journal's segments in memory."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.size = size
        self.segments: list[bytearray] = []
        self.journal = Journal()
        self.synced_records = 0
        self.full = False
        self.roll()

    def roll(self) -> bool:
        if self.full:
            return False
        segment = bytearray(self.size)
        format_segment(segment, 1, len(self.segments) + 1)
        self.segments.append(segment)
        self.journal.attach(segment)
        return True

    def wake(self) -> None:
        self.synced_records = self.journal.records

    def close(self) -> None:
        self.journal.seal()

    def records(self, kind: int) -> list[dict[str, Any]]:
        """Return what was written, as objects with the request's id, and its columns'."""
        found = []
        for segment in self.segments:
            columns: list[Any] = [None]
            for what, request_id, number, content in Reader(segment):
                if what == DEFINE:
                    columns.append(json.loads(cast("bytes", content)))
                elif what == kind:
                    values: Any = content
                    if kind == NOTE:
                        values = json.loads(values)
                    elif kind in (ATTEMPT, SETTLE):
                        values = dict(zip(OUTCOME_FIELDS, values, strict=True))
                    else:
                        values = {"values": values}
                    found.append({"id": request_id, "columns": columns[number], **values})
        return found


class Books:
    """A worker that keeps books, and one client's way through it."""

    def __init__(self, gateway: Wired, files: Files) -> None:
        self.gateway = gateway
        self.files = files
        self.downstream, self.client = gateway.client()

    def upstream(self) -> tuple[Connection, Wire]:
        return self.gateway.upstream()

    def ask(self, path: str = "chat/completions", *fields: bytes, **body: Any) -> None:
        """Send a request; call upstream() before, for it to go out at once."""
        text = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **body})
        lines = b"".join(field + b"\r\n" for field in fields)
        head = b"POST /v1/%b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n"
        self.downstream.data_received(head % (path.encode(), lines, len(text)) + text.encode())

    def settled(self) -> dict[str, Any]:
        (found,) = self.files.records(SETTLE)
        return found


def answer(body: Any, status: str = "200 OK") -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
    return head.encode() + b"\r\n\r\n" + text


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def event(data: Any) -> bytes:
    text = b"data: %b\n\n" % (data if isinstance(data, bytes) else json.dumps(data).encode())
    return b"%x\r\n%b\r\n" % (len(text), text)


def delta(text: str, usage: Any = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage})


LAST = event({"choices": [], "usage": USAGE}) + event(b"[DONE]") + b"0\r\n\r\n"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    config = decode(snapshot_of(tmp_path_factory.mktemp("books"), CONFIG))
    priced = [
        msgspec.structs.replace(deployment, rates=encoded([(0, PRICE)]))
        for deployment in config.deployments
    ]
    return encode(msgspec.structs.replace(config, deployments=priced))


@contextmanager
def kept(snapshot: bytes, size: int = 1 << 20) -> Iterator[Books]:
    with wired(snapshot) as gateway:
        files = Files(size)
        pipeline = gateway.worker.pipeline
        memory = gateway.worker.memory
        pipeline.book = Book(
            cast("Any", files), memory.limits, memory.budgets, gateway.worker.recorder
        )
        yield Books(gateway, files)


async def test_an_answer_is_on_record_before_its_last_byte_is_sent(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        connection, sent = books.upstream()
        books.ask()
        (reserved,) = books.files.records(RESERVE)
        whole = answer({"choices": [], "usage": USAGE})
        seen: list[int] = []
        write = books.client.write
        books.client.write = lambda data: (  # type: ignore[method-assign]
            seen.append(len(books.files.records(SETTLE))),
            write(data),
        )[1]
        for byte in whole:
            connection.data_received(bytes([byte]))
        assert seen[-1] == 1
        assert b"x-request-id: %b\r\n" % reserved["id"].encode() in sent.take().lower()
        row = books.settled()
        assert row["id"] == reserved["id"]
        assert (row["spend_nano"], row["prompt_tokens"], row["completion_tokens"]) == (COST, 11, 7)
        assert row["columns"]["price_version"] == PRICE.version
        assert row["columns"]["call_type"] == "acompletion"
        assert row["columns"]["model"] == "served"
        assert (row["status"], row["usage_source"], row["http_status"]) == (0, 1, 200)


async def test_the_cost_of_a_whole_answer_is_told(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        connection, _ = books.upstream()
        books.ask()
        connection.data_received(answer({"choices": [], "usage": USAGE}))
        assert b"x-litellm-response-cost: 0.000001113\r\n" in books.client.take()


@pytest.mark.parametrize("cut", ["client", "upstream"])
async def test_a_broken_stream_is_billed_for_what_passed(snapshot: bytes, cut: str) -> None:
    with kept(snapshot) as books:
        connection, _ = books.upstream()
        books.ask(stream=True)
        connection.data_received(STREAM_HEAD + delta("a") + delta("b"))
        connection.data_received(delta("c"))
        if cut == "client":
            books.downstream.eof_received()
        else:
            connection.connection_lost(None)
        row = books.settled()
        estimate = books.files.records(RESERVE)[0]["values"][3]
        assert row["completion_tokens"] == 3
        assert row["prompt_tokens"] == estimate > 0
        assert row["spend_nano"] == -(-(estimate * 375 // 10 + 300) // 1)
        assert row["usage_source"] == 3
        assert row["status"] == (2 if cut == "client" else 1)


async def test_usage_so_far_is_believed_when_a_stream_breaks(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        connection, _ = books.upstream()
        books.ask(stream=True)
        connection.data_received(STREAM_HEAD + delta("a b", {**USAGE, "completion_tokens": 2}))
        connection.data_received(delta("c d", {**USAGE, "completion_tokens": 4}))
        connection.connection_lost(None)
        row = books.settled()
        assert (row["prompt_tokens"], row["completion_tokens"]) == (11, 4)
        assert row["spend_nano"] == 813
        assert row["usage_source"] == 1


async def test_an_event_without_a_token_is_not_billed_where_usage_is_told(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        connection, _ = books.upstream()
        books.ask(stream=True)
        told = {**USAGE, "completion_tokens": 1}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        connection.data_received(STREAM_HEAD + delta("a", told))
        connection.data_received(event({"choices": [last], "usage": told}))
        connection.connection_lost(None)
        row = books.settled()
        assert (row["completion_tokens"], row["usage_source"]) == (1, 1)


async def test_an_error_costs_nothing_and_is_a_row(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        for _ in range(2):
            connection, _ = books.upstream()
        books.ask()
        connection.data_received(answer({"error": {"message": "no"}}, "400 Bad Request"))
        row = books.settled()
        assert (row["status"], row["http_status"], row["spend_nano"]) == (1, 400, 0)
        assert (row["prompt_tokens"], row["usage_source"]) == (0, 0)


async def test_what_is_refused_before_it_goes_out_is_no_row(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        books.ask(model="nobody")
        assert b"400 Bad Request" in books.client.take()
        assert books.files.journal.records == 0


async def test_a_stream_says_now_and_then_what_it_came_to(
    snapshot: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept(snapshot) as books:
        connection, _ = books.upstream()
        books.ask(stream=True)
        connection.data_received(STREAM_HEAD + delta("a"))
        await asyncio.sleep(1.05)
        connection.data_received(delta("b"))
        (said,) = books.files.records(PROGRESS)
        estimate = books.files.records(RESERVE)[0]["values"][3]
        assert said["values"] == (2, estimate * 375 // 10 + 200)
        connection.data_received(LAST)
        assert books.settled()["spend_nano"] == COST


async def test_without_room_in_the_journal_nothing_is_served(snapshot: bytes) -> None:
    with kept(snapshot, 4096) as books:
        books.files.full = True
        connections = []
        while True:
            downstream, client = books.gateway.client()
            books.downstream = downstream
            connection, _ = books.upstream()
            books.ask()
            if client.sent:
                break
            connections.append(connection)
        assert b"503 Service Unavailable" in client.take()
        assert b"the spend journal is full" in client.sent or len(connections) > 2
        for connection in connections:
            connection.data_received(answer({"choices": [], "usage": USAGE}))
        assert len(books.files.records(SETTLE)) == len(connections)


async def test_a_full_segment_is_followed_by_the_next(snapshot: bytes) -> None:
    with kept(snapshot, 4096) as books:
        connection, _ = books.upstream()
        for _ in range(50):
            books.ask()
            connection.data_received(answer({"choices": [], "usage": USAGE}))
        assert len(books.files.segments) > 2
        settled = books.files.records(SETTLE)
        assert len({row["id"] for row in settled}) == 50
        assert all(row["columns"]["model_group"] == "m" for row in settled)


async def test_whom_and_what_for_the_client_says_is_noted(snapshot: bytes) -> None:
    with kept(snapshot) as books:
        connection, _ = books.upstream()
        trace = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        books.ask(
            "chat/completions",
            *(b"X-Request-Id: theirs", b"x-litellm-tags: b, a", trace),
            user="customer-1",
            metadata={"tags": ["c"], "session_id": "s", "k": {"deep": 1}},
        )
        connection.data_received(answer({"choices": [], "usage": USAGE}))
        (note,) = books.files.records(NOTE)
        assert note.pop("id") == books.settled()["id"]
        assert note.pop("columns") is None
        assert note == {
            "client_request_id": "theirs",
            "customer_id": "customer-1",
            "tags": ["c", "b", "a"],
            "session_id": "s",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "metadata": {"session_id": "s", "k": {"deep": 1}},
        }


async def test_an_attempt_that_is_billed_is_not_forgotten_for_its_retry(
    tmp_path: Path, snapshot: bytes
) -> None:
    config = decode(snapshot)
    router = msgspec.structs.replace(config.router, num_retries=1)
    retrying = encode(msgspec.structs.replace(config, router=router))
    with kept(retrying) as books:
        first, _ = books.upstream()
        books.ask(stream=True)
        # The usage is there before any content: then the engine fails, and another is asked.
        first.data_received(
            STREAM_HEAD + event({"choices": [], "usage": {**USAGE, "completion_tokens": 0}})
        )
        first.connection_lost(ConnectionResetError())
        (attempt,) = books.files.records(ATTEMPT)
        assert (attempt["attempt"], attempt["prompt_tokens"]) == (1, 11)
        assert attempt["spend_nano"] == 413
        books.downstream.eof_received()
        assert books.settled()["spend_nano"] == 0


async def test_an_attempt_costs_what_its_own_deployment_does(snapshot: bytes) -> None:
    config = decode(snapshot)
    dear = Price("test", {-1: {"input": Fraction(1, 10**6), "output": Fraction(1, 10**6)}})
    prices = {"first": PRICE, "second": dear}
    deployments = [
        msgspec.structs.replace(deployment, rates=encoded([(0, prices[deployment.id])]))
        for deployment in config.deployments
    ]
    router = msgspec.structs.replace(config.router, num_retries=2)
    config = msgspec.structs.replace(config, router=router, deployments=deployments)
    with kept(encode(config)) as books:
        connections = [books.upstream()[0] for _ in range(2)]
        books.ask(stream=True)
        for _ in range(2):
            # Both are asked, in either order, and bill the prompt before they fail.
            (connection,) = (each for each in connections if each.context is not None)
            connection.data_received(
                STREAM_HEAD + event({"choices": [], "usage": {**USAGE, "completion_tokens": 0}})
            )
            connection.connection_lost(ConnectionResetError())
        costs = {
            attempt["columns"]["deployment_id"]: attempt["spend_nano"]
            for attempt in books.files.records(ATTEMPT)
        }
        assert costs == {"first": 413, "second": 11_000}
        books.downstream.eof_received()
