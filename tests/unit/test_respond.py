"""Answers of our own: framing, and errors in the shape of the protocol that was spoken."""

from __future__ import annotations

import json

import pytest

from fastgate.errors import BadRequest, GatewayError, LimitExceeded, ModelDenied
from fastgate.gateway.respond import error_body, error_event, response, wrapped_error


def split(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    assert len(pairs) == len(dict(pairs))
    return line, dict(pairs), body


def test_a_whole_response() -> None:
    line, fields, body = split(response(200, b"{}", fields=b"a: 1\r\nb: 2\r\n"))
    assert line == "HTTP/1.1 200 OK"
    assert fields == {"content-type": "application/json", "content-length": "2", "a": "1", "b": "2"}
    assert body == b"{}"


@pytest.mark.parametrize(
    ("keep_alive", "minor_version", "connection"),
    [(True, 1, None), (False, 1, "close"), (True, 0, "keep-alive"), (False, 0, "close")],
)
def test_the_connection_field(keep_alive: bool, minor_version: int, connection: str | None) -> None:
    answer = response(200, b"", keep_alive=keep_alive, minor_version=minor_version)
    assert split(answer)[1].get("connection") == connection


def test_head_has_the_length_of_what_get_would_get() -> None:
    _, fields, body = split(response(200, b"hello", head_only=True))
    assert (fields["content-length"], body) == ("5", b"")


@pytest.mark.parametrize(
    ("status", "words"), [(404, "Not Found"), (499, "Unknown"), (529, "Unknown")]
)
def test_status_lines(status: int, words: str) -> None:
    assert split(response(status, b""))[0] == f"HTTP/1.1 {status} {words}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            BadRequest('so "bad" \u20ac', param="model"),
            {"message": 'so "bad" \u20ac', "type": "invalid_request_error", "param": "model"},
        ),
        (ModelDenied("no"), {"type": "key_model_access_denied", "param": "None", "code": "401"}),
        (LimitExceeded("no"), {"type": "throttling_error", "code": "429"}),
        (GatewayError("no", status=503, type="t", param=None), {"param": None, "code": "503"}),
    ],
)
def test_errors(error: GatewayError, expected: dict[str, object]) -> None:
    plain = json.loads(error_body(error))
    assert plain.keys() == {"error"}
    assert plain["error"].keys() == {"message", "type", "param", "code"}
    assert expected.items() <= plain["error"].items()
    assert json.loads(error_body(error, "anthropic")) == {"type": "error", **plain}


def test_error_events() -> None:
    error = BadRequest("two\n\nlines")
    event = error_event(error)
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    # Whatever the text holds, it is one event.
    assert event.count(b"\n") == 2
    named = error_event(error, "anthropic")
    assert named.startswith(b"event: error\ndata: {")
    assert named.count(b"\n") == 3


@pytest.mark.parametrize(
    ("content", "quoted"),
    [
        (b"", None),
        (b" \r\n ", None),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"\xff\xfe\x00", "\ufffd\ufffd\x00"),
        (b"x" * 100_000, "x" * 200),
        ("\u20ac" * 1000, "\u20ac" * 200),
    ],
)
def test_what_is_no_json_is_quoted_and_cut(content: bytes | str, quoted: str | None) -> None:
    raw = content.encode() if isinstance(content, str) else content
    error = json.loads(wrapped_error(502, raw, "openai"))["error"]
    start = "the upstream answered 502 with no JSON body"
    assert error["message"] == (start if quoted is None else f"{start}: {quoted}")
    assert error["code"] == "502"
    assert error["type"] == "upstream_error"
    assert json.loads(wrapped_error(502, raw, "anthropic"))["type"] == "error"
