"""Events are lines of JSON, hold no secrets, and never make anybody wait."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest

from fastgate.observe.log import JsonFormatter, StderrHandler


def record(message: str, *args: Any, exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord("fastgate", logging.INFO, __file__, 1, message, args, exc_info)


def line(message: str, *args: Any, exc_info: Any = None) -> dict[str, Any]:
    text = JsonFormatter("worker 0").format(record(message, *args, exc_info=exc_info))
    assert "\n" not in text
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_a_line_says_when_who_and_what() -> None:
    entry = line("ready", {"pid": 7, "why": 'a "quoted"\nline'})
    ts = entry.pop("ts")
    assert len(ts) == len("2026-01-02T03:04:05.678Z")
    assert ts.endswith("Z")
    assert entry == {
        "level": "info",
        "process": "worker 0",
        "event": "ready",
        "pid": 7,
        "why": 'a "quoted"\nline',
    }


def test_messages_of_other_libraries_are_formatted() -> None:
    assert line("slow callback: %s took %d ms", "x", 3)["event"] == "slow callback: x took 3 ms"


def test_a_traceback_is_one_field() -> None:
    try:
        raise ValueError("what came")
    except ValueError as error:
        entry = line("failed", exc_info=(type(error), error, error.__traceback__))
    assert entry["traceback"].endswith("ValueError: what came")


@pytest.mark.parametrize("name", ["api_key", "authorization", "master_key", "auth_value", "token"])
def test_fields_named_for_a_secret_are_hidden(name: str) -> None:
    assert "canary" not in json.dumps(line("x", {name: "canary"}))


@pytest.mark.parametrize(
    "text",
    [
        "refused: Bearer canary-value",
        "basic canary-value",
        "no such key sk-canary-value-1234",
        '{"authorization": "Bearer canary-value"}',
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str) -> None:
    assert "canary" not in json.dumps(line(text))
    assert "canary" not in json.dumps(line("x", {"error": text}))
    assert "canary" not in json.dumps(line("x", {"faults": [text]}))


def test_names_that_only_sound_secret_are_shown() -> None:
    assert (
        line("x", {"tokens": 5, "model": "risk-model-large"}).items()
        >= {
            "tokens": 5,
            "model": "risk-model-large",
        }.items()
    )


def test_a_full_pipe_drops_lines_and_the_next_one_says_how_many() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = StderrHandler("worker 0", writer)
    try:
        while True:
            os.write(writer, b"x" * 65_536)
    except BlockingIOError:
        pass
    # A handler that would block fails here rather than hangs.
    os.set_blocking(writer, True)
    handler.emit(record("lost"))
    handler.emit(record("lost too"))
    os.set_blocking(reader, False)
    try:
        while os.read(reader, 65_536):
            pass
    except BlockingIOError:
        pass
    handler.emit(record("found"))
    entry = json.loads(os.read(reader, 65_536))
    assert (entry["event"], entry["dropped_before"]) == ("found", 2)
    os.close(reader)
    # The reader is gone: nothing to be done, and nothing happens.
    handler.emit(record("lost"))
    os.close(writer)
