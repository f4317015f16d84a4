"""The JSON corpora: bodies that attack a gateway are refused or read as every reader reads them."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import orjson
import pytest

from fastgate._core.jscan import BodyScan, ScanError
from tests.corpus import corpus
from tests.differential.json_rules import authorise

pytestmark = pytest.mark.corpus


def rows(name: str) -> list[tuple[str, str, bytes]]:
    path = corpus("json-corpus") / name
    found = map(json.loads, path.read_text("utf-8").splitlines())
    return [(row["id"], row["verdict"], base64.b64decode(row["raw_b64"])) for row in found]


def scanned(raw: bytes) -> BodyScan | None:
    scan = BodyScan()
    try:
        scan.scan(raw, 0, len(raw))
    except ScanError:
        return None
    return scan


def by_json(raw: bytes) -> Any:
    return json.loads(raw)


def by_first_key(raw: bytes) -> Any:
    """As readers do that take the first of two equal keys."""
    return json.loads(raw, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


def by_sqlite(raw: bytes) -> Any:
    with closing(sqlite3.connect(":memory:")) as database:
        query = "select key, value, type from json_each(?)"
        members = database.execute(query, (raw.decode(),)).fetchall()
    words = {"true": True, "false": False, "null": None}
    return {key: words.get(kind, value) for key, value, kind in members}


READERS: list[Callable[[bytes], Any]] = [by_json, orjson.loads, by_sqlite, by_first_key]


def flag(value: bool | None) -> int:
    return -1 if value is None else int(value)


def test_what_is_authorised_is_what_every_reader_reads() -> None:
    for name, _verdict, raw in rows("llm-body.jsonl"):
        scan = scanned(raw)
        if scan is None:
            continue
        for reader in READERS:
            body = reader(raw)
            assert body.get("model") == scan.model, name
            assert flag(body.get("stream")) == scan.stream, name
            assert body.get("n", 1) == scan.n, name
            assert body.get("max_tokens", -1) == scan.max_tokens, name
            assert len(body) == scan.members, name


def test_verdicts_on_request_bodies() -> None:
    for name, verdict, raw in rows("llm-body.jsonl"):
        scan = scanned(raw)
        if name == "llm-body/model-missing":
            # Refused further up: the path may name the model.
            assert scan is not None
            assert scan.model is None
        elif verdict == "reject":
            assert scan is None, name
        elif verdict == "accept":
            assert scan is not None, name


def test_models_named_elsewhere_do_not_count() -> None:
    bodies = {name: raw for name, _, raw in rows("llm-body.jsonl")}
    for name in ("llm-body/model-in-string-first", "llm-body/model-in-nested-object"):
        scan = scanned(bodies[name])
        assert scan is not None
        assert scan.model == "dear"


def test_json_test_suite() -> None:
    for name, verdict, raw in rows("jsontestsuite.jsonl"):
        scan = scanned(raw)
        assert (scan is None) == (authorise(raw) is None), name
        if verdict == "reject" or raw.strip()[:1] != b"{":
            assert scan is None, name
        # Those two keys are the ones that we refuse by our own rule.
        elif verdict == "accept" and "duplicated_key" not in name and "null_in_key" not in name:
            assert scan is not None, name


def test_the_json_test_suite_as_a_value() -> None:
    """Most of its cases are arrays: judged inside a body as on their own."""
    for name, _verdict, raw in rows("jsontestsuite.jsonl"):
        body = b'{"x":' + raw + b"}"
        assert (scanned(body) is None) == (authorise(body) is None), name
