"""Whatever the body: it is refused, or the scanner read from it what `json` does by our rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgate._core.jscan import BodyScan, ScanError
from tests.differential.json_rules import Number, Pairs, authorise

SCALARS = (
    "model",
    "stream",
    "include_usage",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "members",
)
PLACES = ("user", "prompt", "metadata", "stream_options")


def value_at(raw: bytes, place: tuple[int, int] | None) -> Any:
    if place is None:
        return None
    text = raw[place[0] : place[1]].decode()
    assert text == text.strip()
    return json.loads(text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number)


def read(scan: BodyScan, raw: bytes) -> dict[str, Any] | None:
    """Scan `raw`, with other bytes around it."""
    data = b'x"' + raw + b'"}'
    try:
        scan.scan(data, 2, 2 + len(raw))
    except ScanError as error:
        assert str(error).startswith("expected ")
        return None
    found: dict[str, Any] = {name: getattr(scan, name) for name in SCALARS}
    return found | {name: value_at(data, scan.place(name)) for name in PLACES}


def assert_splices(scan: BodyScan, raw: bytes, model: str | None, usage: bool) -> None:
    """Assert what a splice says, and that doing it again changes nothing."""
    scan.scan(raw, 0, len(raw))
    before = json.loads(raw)
    spliced = scan.splice(raw, 0, len(raw), model, usage)
    wanted = dict(before)
    if model is not None:
        wanted["model"] = model
    if usage:
        wanted["stream_options"] = (before.get("stream_options") or {}) | {"include_usage": True}
    assert json.loads(spliced) == wanted
    if wanted == before and "model" not in before:
        assert spliced is raw
    scan.scan(spliced, 0, len(spliced))
    assert scan.splice(spliced, 0, len(spliced), None, usage) is spliced


def assert_same(raw: bytes) -> dict[str, Any] | None:
    scan = BodyScan()
    facts = authorise(raw)
    assert read(scan, raw) == facts
    if facts is not None:
        for model, usage in ((None, False), (None, True), ("other/model-1", False), ("x", True)):
            assert_splices(scan, raw, model, usage)
    return facts


SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r "])
TEXT = st.one_of(
    st.sampled_from(
        ["", "a", "é", "北京", "🙂", "\0", "\x7f", "\ud800", "\\", '"', "a/b\n", "model"]
    ),
    st.text(max_size=6),
)
STRING = st.one_of(
    TEXT.map(json.dumps),
    TEXT.filter(lambda t: t.isprintable()).map(lambda t: json.dumps(t, ensure_ascii=False)),
    st.sampled_from([r'"A\/\ud83d\ude00"', r'"\ud83d"', r'"\ud83dA"', r'"\udc00\ud800"']),
)
NUMBER = st.sampled_from(
    ["0", "-0", "1", "128", "129", "16.0", "1e3", "1E+2", "-1", "0.5", "9007199254740992"]
)
WRONG = st.sampled_from(
    ["01", "1.", ".5", "+1", "1e", "NaN", "nul", "", "[1,]", "{,}", '"\t"', "'a'"]
)
VALUE = st.recursive(
    st.one_of(STRING, NUMBER, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(st.tuples(SPACE, inner), max_size=3).map(
            lambda items: "[" + ",".join(space + item for space, item in items) + "]"
        ),
        st.lists(st.tuples(STRING, SPACE, inner), max_size=3).map(
            lambda items: "{" + ",".join(f"{k}{s}:{v}{s}" for k, s, v in items) + "}"
        ),
    ),
    max_leaves=6,
)
FLAG = st.sampled_from(["true", "false", "null"])
NAME = st.sampled_from(
    [
        "a",
        "gpt-4o",
        "org/model:v1.5@x+y",
        "../x",
        "a/..",
        "a..b",
        "..",
        "",
        "a b",
        "é",
        "*",
        "%2e",
        "a" * 257,
    ]
).map(json.dumps)
OPTION = st.one_of(
    st.tuples(st.just('"include_usage"'), FLAG),
    st.tuples(st.sampled_from(['"include_usage"', r'"include_usag\u0065"']), VALUE),
    st.tuples(STRING, VALUE),
)


def obj(member: st.SearchStrategy[tuple[str, str]], size: int) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(SPACE, member), max_size=size).map(
        lambda items: "{" + ",".join(f"{s}{k}{s}:{s}{v}{s}" for s, (k, v) in items) + "}"
    )


MEMBER = st.one_of(
    st.tuples(st.sampled_from(['"model"', r'"mod\u0065l"']), NAME),
    st.tuples(st.sampled_from(['"stream"']), FLAG),
    st.tuples(st.just('"stream_options"'), st.one_of(st.just("null"), obj(OPTION, 3))),
    st.tuples(
        st.sampled_from(['"n"', '"max_tokens"', '"max_completion_tokens"', '"max_output_tokens"']),
        st.one_of(NUMBER, NUMBER, st.just("null"), VALUE),
    ),
    st.tuples(st.just('"user"'), st.one_of(STRING, st.just("null"))),
    st.tuples(
        st.sampled_from([f'"{n}"' for n in ("messages", "prompt", "input", "metadata", "x", "y")]),
        VALUE,
    ),
    st.tuples(
        st.sampled_from(
            ['"Model"', '"u\u017fer"', '"max_to\u212aens"', '"model\\u0000"', '"\\ud800"']
        ),
        VALUE,
    ),
    st.tuples(STRING, st.one_of(VALUE, WRONG)),
)
BODY = st.tuples(SPACE, obj(MEMBER, 6), SPACE).map("".join)


@settings(max_examples=800, deadline=None)
@given(BODY)
@example("{}")
@example('{"stream_options":{},"model":"a"}')
@example('{"model":"a","stream_options":{"x":{"include_usage":false},"include_usage":null}}')
def test_bodies_say_what_json_reads_or_are_refused(text: str) -> None:
    assert_same(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(VALUE, st.integers(0, 3), st.sampled_from([b"\xff", b"\0", b'"', b"\\", b"}", b"\xc0\xaf"]))
def test_damaged_values_are_judged_as_json_judges_them(text: str, at: int, junk: bytes) -> None:
    raw = b'{"x":' + text.encode() + b"}"
    at = at * len(raw) // 4
    assert_same(raw[:at] + junk + raw[at:])
    assert_same(raw[:at] + raw[at + 1 :])


@pytest.mark.parametrize("first", range(0x80, 0x100))
def test_every_two_byte_start_is_judged_as_utf_8(first: int) -> None:
    """All lead bytes against the bounds of what may follow them (RFC 3629 4)."""
    scan = BodyScan()
    edges = (0x00, 0x22, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    for second in edges:
        for rest in (b"", b"\x80", b"\xbf\x80", b"\xbf\xbf"):
            raw = b'{"x":"' + bytes([first, second]) + rest + b'"}'
            assert read(scan, raw) == authorise(raw), raw
