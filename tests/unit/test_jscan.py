"""What is read from a request's body, what is refused, and what a splice changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastgate._core.jscan import BodyScan, ScanError

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def scan(raw: bytes | str) -> BodyScan:
    data = raw.encode() if isinstance(raw, str) else raw
    found = BodyScan()
    found.scan(data, 0, len(data))
    return found


def refusal(raw: bytes | str) -> str:
    with pytest.raises(ScanError) as caught:
        scan(raw)
    return str(caught.value)


def splice(raw: bytes, model: str | None, usage: bool) -> bytes:
    return scan(raw).splice(raw, 0, len(raw), model, usage)


def test_fields_of_a_chat_request() -> None:
    raw = (
        b' {"model":"org/m-1:free@x+y","stream":true,"stream_options":{"include_usage":false},'
        b'"n":3,"max_tokens":0,"max_completion_tokens":5,"user":"u\\u0031",'
        b'"messages":[{"content":"{\\"model\\":\\"x\\"}"}],"metadata":{"model":"y"}}\n'
    )
    found = scan(raw)
    assert found.model == "org/m-1:free@x+y"
    assert (found.stream, found.include_usage, found.n) == (1, 0, 3)
    assert (found.max_tokens, found.max_completion_tokens) == (0, 5)
    assert (found.members, found.open_at) == (9, 1)
    places = {
        "model": b'"org/m-1:free@x+y"',
        "stream_options": b'{"include_usage":false}',
        "user": b'"u\\u0031"',
        "prompt": b'[{"content":"{\\"model\\":\\"x\\"}"}]',
        "metadata": b'{"model":"y"}',
    }
    for name, text in places.items():
        place = found.place(name)
        assert place is not None
        assert raw[place[0] : place[1]] == text
    with pytest.raises(KeyError):
        found.place("messages")


def test_absent_and_null_fields() -> None:
    for raw in (
        "{}",
        '{"stream":null,"stream_options":null,"n":null,"max_tokens":null,"user":null,'
        '"max_completion_tokens":null,"max_output_tokens":null}',
    ):
        found = scan(raw)
        assert (found.model, found.stream, found.include_usage, found.n) == (None, -1, -1, 1)
        assert (found.max_tokens, found.max_completion_tokens) == (-1, -1)
        assert found.place("user") is None


def test_every_scan_forgets_the_one_before() -> None:
    found = scan(
        '{"model":"m","stream":true,"n":2,"max_tokens":1,"user":"u","stream_options":{"a":1}}'
    )
    found.scan(b"{}", 0, 2)
    fresh = scan(b"{}")
    for name in dir(fresh):
        if not name.startswith("_") and not callable(getattr(fresh, name)):
            assert getattr(found, name) == getattr(fresh, name), name
    for name in ("model", "stream_options", "user", "prompt", "metadata"):
        assert found.place(name) is None


def test_offsets_are_those_of_the_object() -> None:
    data = b'{"' + BODY + b"}]"
    found = BodyScan()
    found.scan(data, 2, 2 + len(BODY))
    place = found.place("model")
    assert place is not None
    assert data[place[0] : place[1]] == b'"m"'
    assert found.splice(data, 2, 2 + len(BODY), None, False) == BODY


def test_keys_are_compared_after_unescaping() -> None:
    assert scan(r'{"mod\u0065l":"gpt\u002d4"}').model == "gpt-4"
    assert refusal(r'{"model":"a","mod\u0065l":"b"}') == (
        r"""expected each key once, got b'"mod\\u0065l"' at offset 13"""
    )


@pytest.mark.parametrize(
    "key", ["Model", "MAX_TOKENS", "\u017ftream", "max_to\u212aens", "N", "u\u017fer"]
)
def test_keys_that_some_reader_folds_to_a_field_are_refused(key: str) -> None:
    assert "own spelling" in refusal(json.dumps({key: 1}))
    assert "own spelling" in refusal(json.dumps({key: 1}, ensure_ascii=False))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "a JSON object, got the end"),
        ("[]", "a JSON object"),
        ("\ufeff{}", "a JSON object"),
        ('{"a":1', "',' or '}', got the end at offset 6"),
        ('{"a":1}{', "nothing behind"),
        ('{"a":1}\0', "nothing behind"),
        ('{"a":1,}', "a key"),
        ('{"a":1,"a":2}', "each key once"),
        (r'{"model\u0000":1}', "keys without NUL"),
        (r'{"\ud800":1}', "half a surrogate pair"),
        (r'{"x":{"\ud800":1}}', "half a surrogate pair"),
        ('{"%s":1}' % ("k" * 257), "256 bytes"),
        ('{"a":"\n"}', "control characters"),
        ('{"a":"\\x"}', "an escape"),
        ('{"a":"\\u12g4"}', "an escape"),
        ('{"a":"', "'\"', got the end"),
        ('{"a":01}', "',' or '}'"),
        ('{"a":-}', "a number"),
        ('{"a":1.}', "a digit behind"),
        ('{"a":1e+}', "a digit of the exponent"),
        ('{"a":NaN}', "a JSON value"),
        ('{"a":[1 2]}', "',' or ']'"),
        ('{"a":{"b":1]}', "',' or '}'"),
        ('{"a" 1}', "':'"),
        ('{"model":null}', "a string as model"),
        ('{"model":["a"]}', "a string as model"),
        ('{"stream":"true"}', "true, false or null"),
        ('{"stream":1}', "true, false or null"),
        ('{"stream_options":[]}', "an object or null as stream_options"),
        ('{"stream_options":{"include_usage":1}}', "true, false or null"),
        ('{"stream_options":{"a":1,"a":1}}', "each key once"),
        ('{"stream_options":{"Include_Usage":true}}', "own spelling"),
        ('{"user":1}', "a string or null as user"),
        (r'{"user":"\udc00"}', "half a surrogate pair"),
        ('{"n":0}', "n from 1 to 128"),
        ('{"n":129}', "n from 1 to 128"),
        ('{"n":1.0}', "an integer from 0 to 2^53"),
        ('{"max_tokens":1e3}', "an integer"),
        ('{"max_tokens":-1}', "an integer"),
        ('{"max_tokens":-0}', "an integer"),
        ('{"max_tokens":9007199254740993}', "an integer"),
        ('{"max_tokens":18446744073709551617}', "an integer"),
        ('{"max_completion_tokens":true}', "a number"),
    ],
)
def test_refused(raw: str, reason: str) -> None:
    assert refusal(raw).startswith(f"expected {reason}") or reason in refusal(raw)


@pytest.mark.parametrize("raw", [b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}'])
def test_malformed_utf_8_is_refused(raw: bytes) -> None:
    assert refusal(raw).startswith("expected UTF-8")


@pytest.mark.parametrize(
    "model",
    [
        "",
        "a b",
        "*",
        "openai/*",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "x%2fy",
        "é",
        "a?b",
        "a\\b",
        "m" * 257,
    ],
)
def test_models_that_must_not_reach_a_url_or_a_label(model: str) -> None:
    assert "a model of" in refusal(json.dumps({"model": model}))


@pytest.mark.parametrize(
    "model", ["m", "m" * 256, "a..b", "...", "/data/models/x", "a/.b/c", "A@1+2:x_y"]
)
def test_models_as_engines_name_them(model: str) -> None:
    assert scan(json.dumps({"model": model})).model == model


def test_limits_are_where_they_are_said_to_be() -> None:
    assert scan('{"x":' + "[" * 127 + "]" * 127 + "}").members == 1
    assert "128 levels" in refusal('{"x":' + "[" * 128 + "]" * 128 + "}")
    assert "128 levels" in refusal('{"x":' + '{"a":' * 100_000)
    assert scan(json.dumps({f"k{i}": 1 for i in range(256)})).members == 256
    assert "256 members" in refusal(json.dumps({f"k{i}": 1 for i in range(257)}))
    assert scan(json.dumps({"k" * 256: 1})).members == 1
    options = {f"k{i}": 1 for i in range(16)}
    assert scan(json.dumps({"stream_options": options})).members == 1
    assert "16 members" in refusal(json.dumps({"stream_options": options | {"k": 1}}))
    assert scan('{"max_tokens":9007199254740992}').max_tokens == 2**53


def test_a_refusal_quotes_no_more_than_80_bytes() -> None:
    assert len(refusal(json.dumps({"model": "*" * 1_000_000}))) < 200


def test_the_first_of_the_prompt_fields_is_the_prompt() -> None:
    raw = '{"input":1,"contents":2,"messages":3,"prompt":4}'
    assert scan(raw).place("prompt") == (raw.index("3"), raw.index("3") + 1)
    assert scan('{"query":"q"}').place("prompt") == (9, 12)


def test_the_larger_of_two_output_limits_counts() -> None:
    raw = '{"max_completion_tokens":%d,"max_output_tokens":%d}'
    assert scan(raw % (3, 5)).max_completion_tokens == 5
    assert scan(raw % (5, 3)).max_completion_tokens == 5


def test_nothing_to_change_gives_the_same_object() -> None:
    assert splice(BODY, None, False) is BODY
    told = b'{"stream_options":{"include_usage":true}}'
    assert splice(told, None, True) is told


@pytest.mark.parametrize(
    ("raw", "model", "usage", "wanted"),
    [
        (b"{ }", None, True, b'{"stream_options":{"include_usage":true} }'),
        (b"{}", "m", True, b'{"model":"m","stream_options":{"include_usage":true}}'),
        (b'{"a":1}', "m", False, b'{"model":"m","a":1}'),
        (b'{"a":1}', None, True, b'{"stream_options":{"include_usage":true},"a":1}'),
        (b'{ "model" : "a" }', "b/c", False, b'{ "model" : "b/c" }'),
        (
            b'{"model":"a","stream_options":null}',
            "b",
            True,
            b'{"model":"b","stream_options":{"include_usage":true}}',
        ),
        (
            b'{"stream_options":{"include_usage": null,"x":1},"model":"a"}',
            "b",
            True,
            b'{"stream_options":{"include_usage": true,"x":1},"model":"b"}',
        ),
        (b'{"stream_options":{}}', None, True, b'{"stream_options":{"include_usage":true}}'),
        (
            b'{"stream_options":{"x":{"include_usage":false}}}',
            None,
            True,
            b'{"stream_options":{"include_usage":true,"x":{"include_usage":false}}}',
        ),
    ],
)
def test_splices(raw: bytes, model: str | None, usage: bool, wanted: bytes) -> None:
    assert splice(raw, model, usage) == wanted


@pytest.mark.parametrize("model", ['a"b', "a\\b", "é", "\ud800", "\n", ""])
def test_any_name_can_be_put_in(model: str) -> None:
    assert json.loads(splice(BODY, model, False))["model"] == model


def test_a_splice_needs_the_body_that_was_scanned() -> None:
    found = scan(BODY)
    for data, start, end in ((BODY[:-1], 0, len(BODY)), (BODY, 0, 5), (BODY, 3, len(BODY))):
        with pytest.raises(ValueError, match="scanned last"):
            found.splice(data, start, end, "x", True)
    with pytest.raises(ScanError):
        found.scan(b"[]", 0, 2)
    with pytest.raises(ValueError, match="scanned last"):
        found.splice(b"[]", 0, 2, "x", True)


def test_a_range_outside_the_data_is_refused() -> None:
    for start, end in ((-1, 0), (0, 4), (2, 1)):
        with pytest.raises(ValueError, match="expected 0 <= start <= end <= 3"):
            BodyScan().scan(b"abc", start, end)
    nothing: Any = None
    with pytest.raises(TypeError):
        BodyScan().scan(nothing, 0, 0)


def test_no_byte_outside_the_range_is_read() -> None:
    for size in range(len(BODY)):
        with pytest.raises(ScanError):
            BodyScan().scan(BODY, 0, size)
