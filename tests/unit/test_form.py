"""Forms looked at as they pass: where the model stands, and what is refused as unclear."""

from __future__ import annotations

import time

import pytest

from fastgate.errors import BadRequest
from fastgate.gateway.form import (
    MAX_MODEL_BYTES,
    MAX_PART_HEAD_BYTES,
    FormScan,
    boundary_of,
    model_part,
)

BOUNDARY = b"bound"
MODEL_HEAD = b'Content-Disposition: form-data; name="model"'
FILE_HEAD = b'Content-Disposition: form-data; name="file"; filename="a.wav"'


def form(*parts: tuple[bytes, bytes], boundary: bytes = BOUNDARY) -> bytes:
    """Return a form of (head, content) parts."""
    body = b"".join(
        b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, content) for head, content in parts
    )
    return body + b"--%b--\r\n" % boundary


MODEL = (MODEL_HEAD, b"whisper-1")
FILE = (FILE_HEAD, b"RIFF\r\n--boun\r\n-- \0\xff\r\n\r\n")


def scan(*pieces: bytes, boundary: bytes = BOUNDARY) -> tuple[bytes | None, int, bool]:
    found = FormScan(boundary)
    for piece in pieces:
        found.feed(piece)
    return found.model, found.model_start, found.ended


def outcome(*pieces: bytes) -> object:
    try:
        return scan(*pieces)
    except BadRequest as error:
        return error.public


@pytest.mark.parametrize(
    "body",
    [
        form(MODEL, FILE),
        form(FILE, MODEL),
        form(FILE, MODEL, FILE),
        form((b"content-type: text/plain\r\n" + MODEL_HEAD, b"m"), FILE),
        form((b"content-disposition:form-data;name=model", b"m")),
        form((b"CONTENT-DISPOSITION:  Form-Data ; NAME=model", b"m")),
        form((MODEL_HEAD, b"")),
    ],
)
def test_the_model_is_found_at_every_split(body: bytes) -> None:
    model, start, ended = scan(body)
    assert ended
    assert model is not None
    assert body[start : start + len(model)] == model
    assert body[start + len(model) :].startswith(b"\r\n--bound")
    for at in range(len(body) + 1):
        assert scan(body[:at], body[at:]) == (model, start, True)
    assert scan(*(body[i : i + 1] for i in range(len(body)))) == (model, start, True)


def test_a_form_without_a_model() -> None:
    assert scan(form(FILE)) == (None, -1, True)
    assert scan(form(FILE)[:-10]) == (None, -1, False)
    assert scan(form()) == (None, -1, True)


NAME = b"Content-Disposition: form-data; "
REFUSED = {
    "two-models": form(MODEL, MODEL),
    "two-models-apart": form(MODEL, FILE, MODEL),
    "extended-name": form((NAME + b"name*=utf-8''model", b"m")),
    "name-and-extended-name": form((NAME + b"name=\"file\"; name*=utf-8''model", b"m")),
    "two-names": form((NAME + b'name="file"; name="model"', b"m")),
    "no-name": form((NAME + b'filename="model"', b"m")),
    "no-parameters": form((b"Content-Disposition: form-data", b"m")),
    "model-with-a-filename": form((MODEL_HEAD + b'; filename="a"', b"m")),
    "model-with-an-empty-filename": form((MODEL_HEAD + b'; filename=""', b"m")),
    "model-with-an-extended-filename": form((MODEL_HEAD + b"; filename*=utf-8''a", b"m")),
    "upper-case": form((NAME + b'name="Model"', b"m")),
    "blanks-around-the-name": form((NAME + b'name=" model"', b"m")),
    "backslash-in-the-name": form((NAME + b'name="mod\\el"', b"m")),
    "open-quote": form((NAME + b'name="model', b"m")),
    "single-quotes": form((NAME + b'x="a; name=\'model"', b"m")),
    "another-disposition": form((b'Content-Disposition: attachment; name="model"', b"m")),
    "two-dispositions": form((FILE_HEAD + b"\r\n" + MODEL_HEAD, b"m")),
    "no-disposition": form((b"Content-Type: text/plain", b"m")),
    "folded-line": form((b'Content-Disposition: form-data;\r\n name="model"', b"m")),
    "bare-line-feed": form((b"X: y\n" + MODEL_HEAD + b"\r\n" + FILE_HEAD, b"m")),
    "nul": form((FILE_HEAD + b"\0", b"m")),
    "blank-before-the-colon": form((MODEL_HEAD.replace(b":", b" :"), b"m")),
    # Without a head, a part's content would be read as the next part's head.
    "no-head": b"--bound\r\n\r\n" + FILE_HEAD + b"\r\n" + form(MODEL),
    "preamble": b"hello\r\n" + form(MODEL),
    "line-break-first": b"\r\n" + form(MODEL),
    "line-feeds-alone": form(MODEL).replace(b"\r\n", b"\n"),
    "another-boundary": form(MODEL, boundary=b"another"),
    "blanks-behind-the-boundary": form(MODEL).replace(b"--bound\r\n", b"--bound \r\n"),
    "boundary-that-goes-on": form((FILE_HEAD, b"a\r\n--bounds\r\nb")),
    "epilogue": form(MODEL) + b"--bound\r\n" + MODEL_HEAD + b"\r\n\r\nx\r\n--bound--\r\n",
    "long-model": form((MODEL_HEAD, b"m" * (MAX_MODEL_BYTES + 1))),
    "long-head": form((FILE_HEAD + b"\r\nX: " + b"x" * MAX_PART_HEAD_BYTES, b"m")),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_what_could_be_read_in_two_ways_is_refused_at_every_split(body: bytes) -> None:
    refusal = outcome(body)
    assert isinstance(refusal, str)
    step = max(1, len(body) // 500)
    for at in range(0, len(body), step):
        assert outcome(body[:at], body[at:]) == refusal
    assert outcome(*(body[i : i + 1] for i in range(len(body)))) == refusal


@pytest.mark.parametrize(
    "head",
    [
        NAME + b'name="file"; filename="name=model; name=\\"model\\".wav"',
        NAME + b'name="file"; filename="a;b.wav"; filename*=utf-8\'\'%e2%82%ac.wav',
        NAME + b'name="models"',
        NAME + b'name="file"; filename="\xe2\x82\xac.wav"',
        NAME + b'name="timestamp_granularities[]"',
        b"Content-Type: text/plain; name=model\r\n" + FILE_HEAD,
    ],
)
def test_other_parts_are_let_through(head: bytes) -> None:
    assert scan(form((head, b"x"), MODEL))[0] == b"whisper-1"


def test_the_longest_model_and_head() -> None:
    model = b"m" * MAX_MODEL_BYTES
    assert scan(form((MODEL_HEAD, model)))[0] == model
    head = FILE_HEAD + b"\r\nX: "
    head += b"x" * (MAX_PART_HEAD_BYTES - len(head))
    assert scan(form((head, b"m"), MODEL))[0] == b"whisper-1"


@pytest.mark.parametrize("content", [b"-" * 1_000_000, b"\r\n--boun" * 125_000, b"\r\n" * 500_000])
def test_looks_alike_cost_no_time(content: bytes) -> None:
    body = form((FILE_HEAD, content), MODEL)
    begun_s = time.process_time()
    assert scan(*(body[at : at + 65536] for at in range(0, len(body), 65536)))[2]
    assert time.process_time() - begun_s < 0.05


def test_what_is_kept_is_bounded() -> None:
    found = FormScan(BOUNDARY)
    found.feed(form(FILE)[:-12])
    for _ in range(100):
        found.feed(b"a" * 10_000)
        assert len(found._kept) < 100


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b"Multipart/Form-Data;BOUNDARY=abc", b"abc"),
        (b'multipart/form-data; boundary="a b;c"', b"a b;c"),
        (b"multipart/form-data; charset=utf-8; boundary=----=_Part_1:2", b"----=_Part_1:2"),
        (b"multipart/form-data; boundary=" + b"b" * 70, b"b" * 70),
    ],
)
def test_boundaries(field: bytes, expected: bytes) -> None:
    assert boundary_of(field) == expected


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary=""',
        b"multipart/form-data; boundary=" + b"b" * 71,
        b'multipart/form-data; boundary="' + b"b" * 71 + b'"',
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary=a; boundary*=utf-8''b",
        b"multipart/form-data; boundary*=utf-8''b",
        b'multipart/form-data; x="; boundary=a',
        b'multipart/form-data; boundary="a\\b"',
        b"multipart/form-data; boundary=a, multipart/form-data; boundary=b",
        b"multipart/mixed; boundary=a",
        b"xmultipart/form-data; boundary=a",
    ],
)
def test_no_boundary(field: bytes) -> None:
    with pytest.raises(BadRequest, match="boundary of 1 to 70"):
        boundary_of(field)


def test_a_part_of_our_own_is_read_back() -> None:
    body = model_part(BOUNDARY, b"sim") + form(FILE)
    model, start, ended = scan(body)
    assert (model, ended) == (b"sim", True)
    assert body[start : start + 3] == b"sim"
