"""`http1` against h11: what both take means the same to both, and we take nothing that h11 refuses.

h11 takes more: bare LF, folded lines, equal lengths twice, control characters in values, users in
targets. Only we take, as RFC 9112 has it: an empty line before a request (2.2), and white space
before a chunk extension's ';' (7.1.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.differential.http1_messages import requests, responses, spoilt
from tests.http1_wire import Exchange, Message, read_requests, read_response

EXAMPLES = settings(max_examples=200, deadline=None, database=None, derandomize=True)
BLANK_BEFORE_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")


@dataclass
class Oracle:
    outcome: str
    start: tuple[object, ...] = ()
    fields: list[tuple[bytes, bytes]] | None = None
    minor_version: int = 1
    keep_alive: bool = True
    body: bytes = b""


def ask_h11(raw: bytes, role: type[h11.SERVER] | type[h11.CLIENT], eof: bool) -> Oracle:
    connection = h11.Connection(role, max_incomplete_event_size=100_000)
    if role is h11.CLIENT:
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    if eof:
        connection.receive_data(b"")
    result = Oracle("incomplete")
    try:
        while True:
            happened = connection.next_event()
            if isinstance(happened, h11.Request):
                waits = connection.they_are_waiting_for_100_continue
                result.start = (happened.method, happened.target, waits)
            elif isinstance(happened, h11.Response):
                result.start = (happened.status_code,)
            elif isinstance(happened, h11.Data):
                result.body += bytes(happened.data)
            elif isinstance(happened, h11.EndOfMessage):
                result.outcome = "accept"
                result.keep_alive = connection.their_state is not h11.MUST_CLOSE
                return result
            elif not isinstance(happened, h11.InformationalResponse):
                return result
            if isinstance(happened, h11.Request | h11.Response):
                result.fields = list(happened.headers.raw_items())
                result.minor_version = int(happened.http_version[2:])
    except h11.RemoteProtocolError:
        return Oracle("reject")


def target_of(raw: bytes) -> bytes:
    return raw.split(b" ", 2)[1]


def reduced(target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a target: a rule of our own, in other words than ours."""
    if not target.startswith((b"/", b"*")):
        target = target.split(b"://", 1)[1]
        cut = min((i for i in (target.find(b"/"), target.find(b"?")) if i >= 0), default=None)
        target = b"/" if cut is None else target[cut:]
        target = b"/" + target if target.startswith(b"?") else target
    path, _, query = target.partition(b"?")
    return path, query


def compare(ours: Exchange, theirs: Oracle) -> Message | None:
    """Check what holds for both kinds; return our message if both have taken it."""
    event(f"ours {ours.outcome}, theirs {theirs.outcome}")
    if theirs.outcome == "accept" and not ours.messages:
        assert ours.outcome == "reject"
    if theirs.outcome != "accept" or not ours.messages:
        return None
    message = ours.messages[0]
    assert message.fields == theirs.fields
    assert message.minor_version == theirs.minor_version
    return message


def check_request(raw: bytes) -> None:
    ours = read_requests([raw])
    theirs = ask_h11(raw.removeprefix(b"\r\n"), h11.SERVER, eof=False)
    if theirs.outcome != "accept" and ours.messages:
        assert BLANK_BEFORE_EXTENSION.search(raw)
        return
    message = compare(ours, theirs)
    if message is not None:
        method, path, query, waits = message.start
        assert (method, target_of(raw)) == theirs.start[:2]
        assert (path, query) == reduced(target_of(raw))
        assert message.body == theirs.body
        assert waits == theirs.start[2]
        # h11 never goes on with a client of HTTP/1.0.
        if message.minor_version == 1:
            assert message.keep_alive == theirs.keep_alive


def check_response(raw: bytes, eof: bool) -> None:
    ours, theirs = read_response([raw], eof=eof), ask_h11(raw, h11.CLIENT, eof)
    if ours.outcome == "accept" and theirs.outcome != "accept":
        assert BLANK_BEFORE_EXTENSION.search(raw)
        return
    if ours.outcome == "incomplete" and theirs.outcome == "reject":
        return
    message = compare(ours, theirs)
    if message is not None:
        assert message.start[0] == theirs.start[0]
        assert message.body == theirs.body


@EXAMPLES
@given(requests())
def test_well_formed_requests_mean_the_same(raw: bytes) -> None:
    assert len(read_requests([raw]).messages) == 1
    check_request(raw)


@EXAMPLES
@given(spoilt(requests()))
def test_spoilt_requests_mean_the_same_if_both_take_them(raw: bytes) -> None:
    check_request(raw)


@EXAMPLES
@given(responses())
def test_well_formed_answers_mean_the_same(raw: bytes) -> None:
    assert read_response([raw], eof=True).outcome == "accept"
    check_response(raw, eof=True)


@EXAMPLES
@given(spoilt(responses()), st.booleans())
def test_spoilt_answers_mean_the_same_if_both_take_them(raw: bytes, eof: bool) -> None:
    check_response(raw, eof)


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_the_oracle_speaks(raw: bytes) -> None:
    # A guard: an oracle that took everything, or nothing, would agree with anything.
    assert ask_h11(raw, h11.SERVER, eof=False).outcome == (
        "accept" if raw.endswith(b"\n\n") else "incomplete"
    )
