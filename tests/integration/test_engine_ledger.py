"""The simulated engine's own books: what it says that it handed over is what arrived."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Engine

PROMPT = {"model": "sim", "messages": [{"role": "user", "content": "one two three"}]}
PLAIN = PROMPT | {"max_tokens": 5}
STREAM = PLAIN | {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS = STREAM | {
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}


class Booked:
    """An engine with a ledger."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        self.path = path
        self.asked = 0

    def ask(self, body: Any, faults: str = "", kind: str = "chat/completions") -> bytes:
        """Return what arrives of the answer to one request."""
        self.asked += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.engine.port, timeout=5)
        fields = {"x-request-id": f"id-{self.asked}", "x-sim": faults}
        connection.request("POST", f"/v1/{kind}", json.dumps(body), fields)
        parts: list[bytes] = []
        try:
            answer = connection.getresponse()
            while part := answer.read1():
                parts.append(part)
        except (http.client.HTTPException, ConnectionError):
            pass  # a cut
        finally:
            connection.close()
        return b"".join(parts)

    def line(self, body: Any, faults: str = "", kind: str = "chat/completions") -> dict[str, Any]:
        """Return the ledger's line of one request."""
        self.ask(body, faults, kind)
        (line,) = self.lines()[self.asked - 1 :]
        assert line["id"] == f"id-{self.asked}"
        return line

    def lines(self) -> list[dict[str, Any]]:
        self.engine.call("GET", f"/sim/wait?finished={self.asked}")
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def booked(start_engine: Callable[..., Engine], tmp_path: Path) -> Booked:
    return Booked(start_engine("--ledger", str(tmp_path / "ledger")), tmp_path / "ledger")


def billed(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["prompt"], line["completion"], line["told"], line["end"]


@pytest.mark.parametrize("body", [PLAIN, STREAM, CONTINUOUS])
def test_a_whole_answer_is_billed_whole(booked: Booked, body: Any) -> None:
    assert billed(booked.line(body)) == (3, 5, True, "complete")


def test_a_stream_is_billed_for_the_tokens_handed_over(booked: Booked) -> None:
    # The first event has the role alone.
    assert billed(booked.line(STREAM, "cut=3")) == (3, 2, False, "cut")
    assert billed(booked.line(CONTINUOUS, "cut=3;reset")) == (3, 2, True, "cut")
    assert billed(booked.line(CONTINUOUS, "error-event=4")) == (3, 3, True, "error")
    assert billed(booked.line(CONTINUOUS, "cut=1")) == (3, 0, True, "cut")


def test_nothing_is_billed_where_nothing_was_handed_over(booked: Booked) -> None:
    for faults, end in (("status=429", "refused"), ("error-first", "error"), ("cut=0", "cut")):
        assert billed(booked.line(STREAM, faults)) == (0, 0, False, end)


def test_a_plain_answer_was_computed_when_its_head_goes_out(booked: Booked) -> None:
    assert billed(booked.line(PLAIN, "cut=0")) == (3, 5, False, "cut")


def test_other_kinds_of_answers(booked: Booked) -> None:
    asked = PLAIN | {"stream": True, "input": "one two three"}
    del asked["messages"]
    assert billed(booked.line(asked, kind="responses")) == (3, 5, True, "complete")
    assert billed(booked.line(asked, "cut=3", "responses")) == (3, 2, False, "cut")
    assert billed(booked.line(asked, kind="messages")) == (3, 5, True, "complete")
    assert billed(booked.line(asked, "cut=4", "messages")) == (3, 2, True, "cut")
    plain = {"model": "sim", "input": "one two three"}
    assert billed(booked.line(plain, kind="embeddings")) == (3, 0, True, "complete")


def test_usage_stands_in_every_event_where_that_was_asked_for(booked: Booked) -> None:
    said = re.findall(rb'"completion_tokens":(\d+)', booked.ask(CONTINUOUS))
    assert said == [b"0", b"1", b"2", b"3", b"4", b"5", b"5", b"5"]
    assert len(re.findall(rb'"completion_tokens"', booked.ask(STREAM))) == 1


def test_what_a_reset_follows_has_arrived(booked: Booked) -> None:
    for _ in range(20):
        received = booked.ask(CONTINUOUS, "cut=6;reset")
        assert received.count(b'"content":" ') == 4, received
    assert {line["completion"] for line in booked.lines()} == {5}


def test_a_share_of_requests_fails(booked: Booked) -> None:
    order = {"faults": "status=503", "share": 0.5}
    booked.engine.call("POST", "/sim/faults", order)
    for _ in range(40):
        booked.ask(PLAIN)
    refused = sum(line["end"] == "refused" for line in booked.lines())
    assert 5 < refused < 35
