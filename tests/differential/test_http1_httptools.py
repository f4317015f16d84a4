"""`http1` against httptools (llhttp): what both take means the same to both.

llhttp knows a fixed list of methods, needs no Host and leaves the body's rules for 204 and HEAD to
its caller; it refuses some of what RFC 9112 allows. So only what both take is compared.
"""

from __future__ import annotations

import httptools
from hypothesis import event, given, settings

from tests.differential.http1_messages import requests, responses, spoilt
from tests.http1_wire import Message, read_requests, read_response

EXAMPLES = settings(max_examples=200, deadline=None, database=None, derandomize=True)


class Oracle:
    """Callbacks of httptools; keeps the first message that is complete and has a final status."""

    def __init__(self, parser: type[httptools.HttpRequestParser | httptools.HttpResponseParser]):
        self.parser = parser(self)
        self.target = self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.facts: tuple[object, ...] = ()
        self.taken: tuple[object, ...] | None = None
        self.trailers = False

    def on_message_begin(self) -> None:
        self.target = self.body = b""
        self.fields = []
        self.trailers = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if not self.trailers:
            # llhttp leaves the white space behind a value to its caller.
            self.fields.append((name, (value or b"").rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.trailers = True
        parser = self.parser
        if isinstance(parser, httptools.HttpRequestParser):
            self.facts = (parser.get_method(), self.target)
        else:
            self.facts = (parser.get_status_code(),)
        self.facts += (parser.get_http_version(),)

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        interim = isinstance(self.facts[0], int) and self.facts[0] < 200
        if self.taken is None and not interim:
            self.taken = (*self.facts, self.fields, self.body)


def ask_llhttp(
    raw: bytes, parser: type[httptools.HttpRequestParser | httptools.HttpResponseParser]
) -> tuple[object, ...] | None:
    """Return what the first message says, or None if llhttp refuses it or waits for more."""
    oracle = Oracle(parser)
    try:
        oracle.parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        # A fault behind the first message does not matter.
        return oracle.taken
    return oracle.taken


def said(message: Message, *start: object) -> tuple[object, ...]:
    return (*start, f"1.{message.minor_version}", message.fields, message.body)


def check_request(raw: bytes) -> None:
    ours, theirs = read_requests([raw]).messages, ask_llhttp(raw, httptools.HttpRequestParser)
    event(f"ours {len(ours)}, theirs {theirs is not None}")
    if ours and theirs is not None:
        target = raw.split(b" ", 2)[1]
        assert said(ours[0], ours[0].start[0], target) == theirs


def check_response(raw: bytes) -> None:
    ours, theirs = read_response([raw]), ask_llhttp(raw, httptools.HttpResponseParser)
    event(f"ours {ours.outcome}, theirs {theirs is not None}")
    if ours.outcome == "accept" and theirs is not None:
        message = ours.messages[0]
        assert said(message, message.start[0]) == theirs


@EXAMPLES
@given(requests())
def test_well_formed_requests_mean_the_same(raw: bytes) -> None:
    check_request(raw)


@EXAMPLES
@given(spoilt(requests()))
def test_spoilt_requests_mean_the_same_if_both_take_them(raw: bytes) -> None:
    check_request(raw)


@EXAMPLES
@given(responses())
def test_well_formed_answers_mean_the_same(raw: bytes) -> None:
    check_response(raw)


@EXAMPLES
@given(spoilt(responses()))
def test_spoilt_answers_mean_the_same_if_both_take_them(raw: bytes) -> None:
    check_response(raw)


def test_the_oracle_speaks() -> None:
    # A guard: an oracle that refused everything would contradict nothing.
    raw = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    fields = [(b"Host", b"a"), (b"Transfer-Encoding", b"chunked")]
    assert ask_llhttp(raw, httptools.HttpRequestParser) == (b"POST", b"/a", "1.1", fields, b"x")
