"""Heads that we write: what is copied, what never is, and the sets of names that decide."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from fastgate._core.http1 import (
    NameSet,
    RequestReader,
    ResponseReader,
    build_request_head,
    build_response_head,
)
from tests.http1_wire import read_requests, read_response

PREFIX = b"POST /v1/x HTTP/1.1\r\nhost: up\r\n"

# RFC 9110 7.6.1 and what frames a message or belongs to the nearest proxy.
NEVER = [
    *(b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Upgrade"),
    *(b"Proxy-Authenticate", b"Proxy-Authorization"),
]


def request(*fields: bytes) -> RequestReader:
    reader = RequestReader()
    raw = b"POST / HTTP/1.1\r\nHost: a\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"
    assert reader.feed_head(raw, 0) == len(raw)
    return reader


def response(*fields: bytes) -> ResponseReader:
    reader = ResponseReader()
    raw = b"HTTP/1.1 200 Fine\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"
    assert reader.feed_head(raw, 0) == len(raw)
    return reader


def test_a_request_has_only_what_is_allowed() -> None:
    reader = request(b"ACCEPT:  a/b ", b"Cookie: c", b"accept:", b"X-Long: " + b"x" * 5000)
    built = build_request_head(
        PREFIX, reader, NameSet([b"accept", b"x-long"]), b"x-request-id: 1\r\n", 12
    )
    assert built == (
        PREFIX
        + b"ACCEPT: a/b\r\naccept: \r\nX-Long: "
        + b"x" * 5000
        + b"\r\nx-request-id: 1\r\ncontent-length: 12\r\n\r\n"
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 100_000])
def test_a_body_goes_out_behind_its_head(body: bytes) -> None:
    names = NameSet([b"a"])
    given = (PREFIX, request(b"A: b"), names, b"c: d\r\n", len(body))
    assert build_request_head(*given, body) == build_request_head(*given) + body
    told = (200, response(b"A: b"), names, b"c: d\r\n", len(body))
    assert build_response_head(*told, body) == build_response_head(*told) + body


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"text/event-stream", 1),
        (b"Text/Event-Stream; charset=utf-8", 1),
        (b"application/json", 2),
        (b"application/JSON;charset=utf-8", 2),
        (b"text/event-strea", 0),
        (b"application/jso", 0),
        (b"text/plain", 0),
        (b"", 0),
    ],
)
def test_what_an_answer_s_body_is(value: bytes, kind: int) -> None:
    assert response(b"X: text/event-stream", b"Content-Type: " + value).content_kind() == kind


def test_an_answer_that_does_not_say_what_its_body_is() -> None:
    assert response(b"X: application/json").content_kind() == 0
    assert ResponseReader().content_kind() == 0


def test_an_answer_has_all_but_what_is_denied() -> None:
    reader = response(b"Server: s", b"Content-Type:a/b", b"Set-Cookie: c", b"X-A: b")
    built = build_response_head(200, reader, NameSet([b"server", b"set-cookie"]), b"via: g\r\n", -2)
    assert built == b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-A: b\r\nvia: g\r\n\r\n"


@pytest.mark.parametrize(
    ("length", "field"),
    [
        (0, b"content-length: 0\r\n"),
        (7, b"content-length: 7\r\n"),
        (10, b"content-length: 10\r\n"),
        (2**63 - 1, b"content-length: 9223372036854775807\r\n"),
        (-1, b"transfer-encoding: chunked\r\n"),
        (-2, b""),
    ],
)
def test_the_framing_is_ours(length: int, field: bytes) -> None:
    for peer in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        names = NameSet([b"content-length", b"transfer-encoding"])
        built = build_request_head(PREFIX, request(peer), names, b"", length)
        assert built == PREFIX + field + b"\r\n"
        built = build_response_head(200, response(peer), NameSet([]), b"", length)
        assert built == b"HTTP/1.1 200 OK\r\n" + field + b"\r\n"


@pytest.mark.parametrize("name", NEVER)
def test_a_hop_by_hop_field_is_never_copied(name: bytes) -> None:
    field = name + b": x"
    built = build_request_head(PREFIX, request(field), NameSet([name]), b"", -2)
    assert built == PREFIX + b"\r\n"
    built = build_response_head(200, response(field.upper()), NameSet([]), b"", -2)
    assert built == b"HTTP/1.1 200 OK\r\n\r\n"


def test_names_that_resemble_hop_by_hop_fields_are_copied() -> None:
    names = [b"tf", b"upgradf", b"connectioo", b"kept-alive", b"proxy-connectioo"]
    fields = [name + b": x" for name in names]
    expected = b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    built = build_request_head(PREFIX, request(*fields), NameSet(names), b"", -2)
    assert built == PREFIX + expected


def test_fields_named_by_connection_are_never_copied() -> None:
    fields = (b"X-A: 1", b"Connection: close, x-a ,,X-B", b"x-b: 2", b"X-C: 3", b"Connection: X-D")
    more = (b"X-D: 4", b"X-AB: 5")
    names = NameSet([b"x-a", b"x-b", b"x-c", b"x-d", b"x-ab"])
    assert build_request_head(PREFIX, request(*fields, *more), names, b"", -2) == (
        PREFIX + b"X-C: 3\r\nX-AB: 5\r\n\r\n"
    )
    assert build_response_head(200, response(*fields, *more), NameSet([]), b"", -2) == (
        b"HTTP/1.1 200 OK\r\nX-C: 3\r\nX-AB: 5\r\n\r\n"
    )


def test_what_we_write_is_what_we_read() -> None:
    built = build_request_head(PREFIX, request(b"A:b"), NameSet([b"a"]), b"c: d\r\n", 3)
    message = read_requests([built + b"xyz"]).messages[0]
    assert message.fields == [
        *((b"host", b"up"), (b"A", b"b"), (b"c", b"d"), (b"content-length", b"3")),
    ]
    assert message.body == b"xyz"
    built = build_response_head(503, response(b"A:b"), NameSet([]), b"", -1)
    assert read_response([built + b"0\r\n\r\n"]).messages[0].start == (503, 0)


# Statuses without a phrase in HTTPStatus or with a newer one there or here.
OURS = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
OURS |= {414: "URI Too Long", 529: "Overloaded"}
UNUSED = {207, 208, 226, 305, 407, 418, 423, 506, 507, 508, 510, 511}


def test_the_reason_is_the_registered_one_never_the_peers() -> None:
    for status in range(200, 600):
        registered = {s.value: s.phrase for s in HTTPStatus if s not in UNUSED} | OURS
        expected = f"HTTP/1.1 {status} {registered.get(status, '')}\r\n\r\n".encode()
        assert build_response_head(status, response(), NameSet([]), b"", -2) == expected


def test_a_head_can_be_built_only_from_one_that_was_read() -> None:
    reader = RequestReader()
    reader.feed_head(b"GET / HTTP/1.1\r\nHost: a\r\n", 0)
    with pytest.raises(AssertionError):
        build_request_head(PREFIX, reader, NameSet([b"host"]), b"", -2)


def test_a_set_of_names_knows_its_own_in_any_case() -> None:
    names = [b"a", b"X-Ab", b"x-^b", b"content-type", b"content-Type", b"y" * 63, b"", b"ab"]
    found = NameSet(names)
    for name in names:
        if name:
            assert name in found
            assert name.upper() in found
    for name in (b"", b"b", b"aa", b"x-a", b"x-ac", b"x-~b", b"y" * 62, b"y" * 64, b"content-typf"):
        assert name not in found


def test_an_empty_set_has_no_names() -> None:
    assert b"a" not in NameSet([])


def test_a_set_takes_no_name_above_63_bytes() -> None:
    with pytest.raises(ValueError, match="63"):
        NameSet([b"x" * 64])
    with pytest.raises(ValueError, match="63"):
        NameSet([b"%063d" % i for i in range(1100)])
