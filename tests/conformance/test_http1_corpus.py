"""The shared corpus: firm requests and upstream answers are judged as listed, in any pieces."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import corpus
from tests.http1_wire import Exchange, bytewise, read_requests, read_response, splits

pytestmark = pytest.mark.corpus

# Inputs up to this size are also cut once at each offset.
SPLIT_BYTES = 300

# Where we differ on purpose: 123 fields, and we take 100.
STRICTER = {"gunicorn/invalid/009": 431}


def rows(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    folder = corpus("http-corpus")
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["kind"] == kind:
            with (folder / entry["file"]).open() as lines:
                for line in lines:
                    yield entry["file"], json.loads(line)


def requests() -> Iterator[tuple[str, bytes, str, int | None]]:
    """Yield id, bytes, verdict and number of complete requests of each case with a firm verdict."""
    for _, row in rows("request"):
        if "raw_b64" in row and "judge" in row and row["firm"]:
            yield row["id"], base64.b64decode(row["raw_b64"]), row["judge"], row["judge_n"]
        if "host_added_b64" in row and row["firm"]:
            raw = base64.b64decode(row["host_added_b64"])
            yield row["id"] + " with Host", raw, row["host_added_judge"], None


def pieces(raw: bytes) -> Iterator[list[bytes]]:
    if len(raw) <= SPLIT_BYTES:
        yield from splits(raw)
    else:
        yield [raw]
        yield bytewise(raw)


def test_every_firm_request_is_judged_as_listed() -> None:
    count = 0
    for name, raw, verdict, n in requests():
        result = read_requests([raw])
        if name in STRICTER:
            assert result.status == STRICTER[name], name
            continue
        if not raw:
            continue
        count += 1
        if verdict == "incomplete":
            # What cannot become valid is refused earlier than the judge does it.
            assert result.outcome in ("incomplete", "reject"), name
        else:
            assert result.outcome == verdict, (name, result.error)
        if n is not None:
            assert len(result.messages) == n, name
    assert count > 4000


def test_every_request_is_read_alike_in_any_pieces() -> None:
    for name, raw, _, _ in requests():
        whole = read_requests([raw])
        for segments in pieces(raw):
            assert read_requests(segments) == whole, (name, [len(s) for s in segments[:2]])


def upstream_verdict(result: Exchange) -> str:
    if result.outcome == "reject":
        return "502"
    if result.outcome == "incomplete":
        return "incomplete"
    return "pass_close" if result.surplus or not result.messages[0].keep_alive else "pass"


def test_every_upstream_answer_is_judged_as_listed_in_any_pieces() -> None:
    count = 0
    for file, row in rows("response"):
        if file != "upstream-response-matrix.jsonl":
            continue
        raw = base64.b64decode(row["raw_b64"])
        whole = read_response([raw], eof=row["then_eof"])
        assert upstream_verdict(whole) == row["verdict"], (row["id"], whole.error)
        for segments in pieces(raw):
            assert read_response(segments, eof=row["then_eof"]) == whole, row["id"]
        count += 1
    assert count == 71


def test_every_answer_of_other_projects_is_read_alike_in_any_pieces() -> None:
    # Their verdicts depend on their leniency; that ours does not depend on the pieces must hold.
    for file, row in rows("response"):
        if file == "upstream-response-matrix.jsonl":
            continue
        raw = base64.b64decode(row.get("raw_b64", ""))
        whole = read_response([raw])
        for segments in pieces(raw):
            assert read_response(segments) == whole, row["id"]
