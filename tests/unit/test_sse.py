"""What a scanner sees in a stream or a document, rule by rule."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from fastgate._core.sse import Scanner

EVENTS, DOCUMENT = 0, 1
CONTENT, ERROR, USAGE, DONE = 1, 2, 4, 8


def event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def chunk(**delta: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def usage_event(**usage: Any) -> bytes:
    return event({"choices": [], "usage": usage})


def feed(raw: bytes, kind: int = EVENTS) -> tuple[Scanner, int]:
    scanner = Scanner(kind)
    seen = scanner.feed(raw, 0, len(raw))
    return scanner, seen | scanner.feed_eof()


USAGE_EVENT = usage_event(prompt_tokens=11, completion_tokens=7, total_tokens=18)


def test_feed_says_what_it_saw_first() -> None:
    scanner = Scanner()
    parts = (
        chunk(role="assistant", content=""),
        chunk(content="a"),
        chunk(content="b"),
        USAGE_EVENT,
        event({"error": {"message": "x"}}),
        event({"error": {"message": "x"}}),
        b"data: [DONE]\n\n",
    )
    shown = [scanner.feed(part, 0, len(part)) for part in parts]
    assert shown == [0, CONTENT, 0, USAGE, ERROR, 0, DONE]
    assert (scanner.events, scanner.content_events) == (7, 2)


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": []},
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": {"role": "assistant", "content": None, "tool_calls": []}}]},
        {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": ""}}, {"delta": {"content": ""}}]},
        {"choices": [{"text": "", "index": 0, "logprobs": {"x": [1]}, "finish_reason": None}]},
        {"type": "ping"},
        {"type": "message_start", "message": {"content": []}},
        {"type": "response.created", "response": {"output": []}},
        {"type": "response.in_progress"},
        {"type": "response.queued"},
    ],
)
def test_events_known_to_be_empty_are_no_content(payload: Any) -> None:
    scanner, seen = feed(event(payload))
    assert (scanner.events, scanner.content_seen, seen) == (1, False, 0)


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": [{"delta": {"content": " "}}]},
        {"choices": [{"delta": {"content": ""}}, {"delta": {"content": "b"}}]},
        {"choices": [{"delta": {"reasoning_content": "a"}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]},
        {"choices": [{"delta": {"audio": {"id": "a"}}}]},
        {"choices": [{"delta": {"a_field_of_tomorrow": 1}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [{"text": "a"}]},
        {"choices": [{"message": {"content": "a"}}]},
        {"type": "content_block_delta", "delta": {"text": "a"}},
        {"type": "response.output_text.delta", "delta": "a"},
        {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
        [1, 2],
        5,
    ],
)
def test_anything_else_is_content(payload: Any) -> None:
    scanner, seen = feed(event(payload))
    assert (scanner.content_events, seen) == (1, CONTENT)


def test_text_that_is_no_json_is_content_and_nothing_else() -> None:
    for text in (b"hello", b'{"usage":{"prompt_tokens":1}', b'{"error":1', b"[DONE]x", b"[DON"):
        scanner, seen = feed(b"data: " + text + b"\n\n")
        assert seen == CONTENT, text
        assert scanner.input_tokens == -1


def test_empty_data_is_an_event_without_content() -> None:
    scanner, seen = feed(b"data\n\ndata:\n\ndata: \n\n")
    assert (scanner.events, seen) == (3, 0)


@pytest.mark.parametrize(
    "raw",
    [
        event({"error": {"message": "x"}}),
        event({"error": "x"}),
        event({"type": "error", "message": "x"}),
        event({"object": "error", "message": "x"}),
        event({"type": "response.failed", "response": {"error": None}}),
        b"event: error\ndata: overloaded\n\n",
        b"event:response.failed\ndata: {}\n\n",
        b'data: {"error":{"code":400}}\ndata: [DONE]\n\n',
    ],
)
def test_errors_before_content(raw: bytes) -> None:
    scanner, seen = feed(raw)
    assert seen == ERROR
    assert scanner.error_first
    assert not scanner.content_seen


def test_error_null_is_none() -> None:
    scanner, seen = feed(event({"choices": [{"delta": {"content": "a"}}], "error": None}))
    assert (seen, scanner.error_seen) == (CONTENT, False)


def test_error_behind_content_is_not_first() -> None:
    scanner, seen = feed(chunk(content="a") + event({"error": {}}))
    assert seen == CONTENT | ERROR
    assert not scanner.error_first


def test_an_event_name_is_forgotten_with_its_event() -> None:
    scanner, _ = feed(b"event: error\n\n" + chunk(content="a"))
    assert not scanner.error_seen


def test_the_last_usage_wins_and_is_not_added_up() -> None:
    scanner, _ = feed(
        usage_event(prompt_tokens=11, completion_tokens=1)
        + usage_event(prompt_tokens=11, completion_tokens=7)
    )
    assert (scanner.input_tokens, scanner.output_tokens) == (11, 7)


def test_counts_that_a_later_usage_lacks_stay() -> None:
    scanner, _ = feed(
        event({"type": "message_start", "message": {"usage": {
            "input_tokens": 25, "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 10, "output_tokens": 1}}})
        + event({"type": "message_delta", "usage": {"output_tokens": 15}})
    )  # fmt: skip
    assert (scanner.input_tokens, scanner.output_tokens) == (25, 15)
    assert (scanner.cached_tokens, scanner.cache_write_tokens) == (100, 10)


def test_details_of_both_openai_apis_and_gemini() -> None:
    chat, _ = feed(usage_event(
        prompt_tokens=5, prompt_tokens_details={"cached_tokens": 3, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 2}))  # fmt: skip
    assert (chat.input_tokens, chat.cached_tokens, chat.reasoning_tokens) == (5, 3, 2)
    responses, _ = feed(event({"type": "response.completed", "response": {"usage": {
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 2}}}}))  # fmt: skip
    assert (responses.cached_tokens, responses.reasoning_tokens) == (3, 2)
    counts = {"promptTokenCount": 5, "cachedContentTokenCount": 3, "thoughtsTokenCount": 2}
    gemini, _ = feed(event({"usageMetadata": counts}))
    assert (gemini.input_tokens, gemini.cached_tokens, gemini.reasoning_tokens) == (5, 3, 2)


@pytest.mark.parametrize(
    ("number", "count"),
    [
        ("0", 0),
        ("11.0", 11),
        ("1.1e1", 11),
        ("110E-1", 11),
        ("9007199254740992", 2**53),
        ("0.0e-999999999999", 0),
        ("1" + "0" * 40 + "e-40", 1),
    ],
)
def test_a_count_is_any_number_that_is_a_whole_one(number: str, count: int) -> None:
    scanner, seen = feed(f'data: {{"usage":{{"prompt_tokens":{number}}}}}\n\n'.encode())
    assert scanner.input_tokens == count
    assert seen & USAGE


@pytest.mark.parametrize(
    "value",
    (
        *("-1", "-0", "1.5", "1e30", "9007199254740993", "1e-1", '"11"', '""', "true", "[]", "{}"),
        *("1" + "0" * 63 + "e-63", "1e999999999999"),
    ),
)
def test_one_bad_count_makes_the_usage_object_unusable(value: str) -> None:
    raw = f'{{"choices":[],"usage":{{"completion_tokens":7,"prompt_tokens":{value}}}}}'
    scanner, seen = feed(USAGE_EVENT + f"data: {raw}\n\n".encode())
    assert (scanner.input_tokens, scanner.output_tokens) == (11, 7)
    scanner, seen = feed(f"data: {raw}\n\n".encode())
    assert (scanner.output_tokens, seen) == (-1, 0)
    assert scanner.usage_only_end > 0  # still nothing that a client asked for


def test_the_last_of_two_usage_objects_in_one_event_counts() -> None:
    for first in ('{"prompt_tokens":-1}', '{"completion_tokens":9}'):
        raw = f'data: {{"usage":{first},"usage":{{"prompt_tokens":5}}}}\n\n'.encode()
        scanner, _ = feed(raw)
        assert (scanner.input_tokens, scanner.output_tokens) == (5, -1)


def test_a_number_of_more_than_64_bytes_is_no_count_however_it_is_cut() -> None:
    for size, count in ((64, 11), (65, -1)):
        raw = f'data: {{"usage":{{"prompt_tokens":{"11.".ljust(size, "0")}}}}}\n\n'.encode()
        for step in (1, 7, len(raw)):
            scanner = Scanner()
            for start in range(0, len(raw), step):
                scanner.feed(raw, start, min(start + step, len(raw)))
            assert scanner.input_tokens == count, (size, step)


def test_usage_elsewhere_is_none() -> None:
    fake = {"prompt_tokens": 999}
    scanner, seen = feed(
        event({"choices": [{"usage": fake, "delta": {"usage": fake}}], "x": {"usage": fake}})
        + event({"choices": [{"delta": {"content": '"usage":{"prompt_tokens":999}'}}]})
        + event([{"usage": fake}])
        + event({"usage": None})
    )
    assert scanner.input_tokens == -1
    assert seen == CONTENT


def test_what_follows_done_is_not_billed() -> None:
    scanner, _ = feed(USAGE_EVENT + b"data: [DONE]\n\n" + usage_event(prompt_tokens=1) + event(1))
    assert (scanner.events, scanner.input_tokens, scanner.content_seen) == (4, 11, False)


def test_an_event_that_no_empty_line_ended_does_not_count() -> None:
    for cut in (1, 2):
        scanner, seen = feed(USAGE_EVENT[:-cut])
        assert (scanner.events, seen, scanner.at_boundary) == (0, 0, False)
        assert scanner.boundary == 0


def test_every_line_ending_ends_a_line() -> None:
    for end in (b"\n", b"\r", b"\r\n"):
        raw = end.join([b'data: {"usage":', b'data: {"prompt_tokens":1', b"data:}}", b"", b""])
        scanner, _ = feed(raw)
        assert (scanner.events, scanner.input_tokens) == (1, 1), end
        assert (scanner.at_boundary, scanner.boundary) == (True, len(raw))


def test_other_characters_that_python_calls_line_ends_are_text() -> None:
    scanner, _ = feed("data: a\x0bb\x0cc\x1cd\x85e\u2028f\u2029\n\n".encode())
    assert scanner.events == 1


def test_only_a_leading_byte_order_mark_is_skipped() -> None:
    scanner, _ = feed(b"\xef\xbb\xbf" + USAGE_EVENT + b"\xef\xbb\xbf" + chunk(content="a"))
    assert (scanner.events, scanner.input_tokens) == (1, 11)
    assert feed(b"\xef\xbb" + USAGE_EVENT)[0].events == 0


def test_boundary_is_behind_the_last_event_and_comment() -> None:
    raw = chunk(content="a") + b": hb\n\n: hb\n" + b"data: x\n"
    scanner, _ = feed(raw)
    assert (scanner.boundary, scanner.at_boundary) == (len(raw) - 8, False)
    assert scanner.feed(b"\n", 0, 1) == 0
    assert (scanner.boundary, scanner.at_boundary) == (1, True)
    assert scanner.feed(b"id: 1\n", 0, 6) == 0
    assert (scanner.boundary, scanner.at_boundary) == (0, False)


def test_a_line_feed_behind_a_segment_that_ended_in_cr_belongs_to_it() -> None:
    scanner, _ = feed(b"data: x\r\n\r")
    assert (scanner.events, scanner.at_boundary) == (1, True)
    scanner.feed(b"\ndata: y\r", 0, 9)
    assert (scanner.boundary, scanner.at_boundary) == (1, False)
    scanner.feed(b"\n\r\n", 0, 3)
    assert (scanner.events, scanner.boundary) == (2, 3)


def test_offsets_are_those_of_the_object() -> None:
    raw = b"????" + chunk(content="a") + USAGE_EVENT + b"data: x\n????"
    scanner = Scanner()
    scanner.feed(raw, 4, len(raw) - 4)
    assert raw[scanner.usage_only_start : scanner.usage_only_end] == USAGE_EVENT
    assert scanner.boundary == scanner.usage_only_end


def test_usage_only_event_in_one_segment_and_cut() -> None:
    raw = chunk(content="a") + USAGE_EVENT
    scanner = Scanner()
    at = len(raw) - 20
    scanner.feed(raw, 0, at)
    assert (scanner.usage_only_end, scanner.boundary) == (-1, len(raw) - len(USAGE_EVENT))
    scanner.feed(raw, at, len(raw))
    assert (scanner.usage_only_start, scanner.usage_only_end) == (-1, len(raw))


@pytest.mark.parametrize(
    "payload",
    [
        {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 1}},
        {"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1}},
        {"choices": [], "usage": None},
        {"choices": [], "usage": 5},
        {"choices": [], "prompt_filter_results": [1]},
        {"choices": [], "usage": {"prompt_tokens": 1}, "error": {"message": "x"}},
        {"usage": {"prompt_tokens": 1}},
        {"choices": None, "usage": {"prompt_tokens": 1}},
    ],
)
def test_other_events_are_not_taken_for_usage_only(payload: Any) -> None:
    assert feed(event(payload))[0].usage_only_end == -1


def test_surplus_behind_usage_only_json_keeps_the_event() -> None:
    scanner, seen = feed(USAGE_EVENT[:-1] + b"data: [DONE]\n\n")
    assert scanner.usage_only_end == -1
    assert seen == USAGE | CONTENT


def test_a_document_is_judged_at_its_end() -> None:
    raw = b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":3}}\n'
    scanner = Scanner(DOCUMENT)
    assert scanner.feed(raw, 0, len(raw)) == 0
    assert scanner.feed_eof() == CONTENT | USAGE
    assert (scanner.input_tokens, scanner.content_seen) == (3, True)


@pytest.mark.parametrize(
    "raw",
    (
        *(b"", b" ", b'{"usage":{"prompt_tokens":3}', b'{"usage":{"prompt_tokens":3}}x'),
        *(b'{"usage":{"prompt_tokens":3},}', b"data: {}\n\n", b'\xef\xbb\xbf{"a":1}', b"<html>"),
        *(b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\\u12g4"}', b'{"a":01}', b'{"a":1.}'),
        *(b'{"a":nul}', b"-", b"[1}", b'{"a" 1}', b"{1:2}", b"[" * 129 + b"]" * 129),
    ),
)
def test_a_malformed_document_says_nothing(raw: bytes) -> None:
    scanner, seen = feed(raw, DOCUMENT)
    assert seen == 0
    assert (scanner.input_tokens, scanner.content_seen, scanner.error_seen) == (-1, False, False)


def test_an_error_document() -> None:
    scanner, seen = feed(b'{"error":{"message":"x"},"usage":{"prompt_tokens":3}}', DOCUMENT)
    assert seen == ERROR | USAGE
    assert scanner.error_first
    assert not scanner.content_seen


def test_reset_forgets_everything() -> None:
    scanner, _ = feed(USAGE_EVENT + event({"error": 1}) + b"data: [DONE]\n\nevent: error\ndata: {")
    scanner.reset(EVENTS)
    fresh = Scanner()
    for name in dir(fresh):
        if not name.startswith("_") and not callable(getattr(fresh, name)):
            assert getattr(scanner, name) == getattr(fresh, name), name
    assert scanner.feed(chunk(content="a"), 0, len(chunk(content="a"))) == CONTENT


def test_a_range_outside_the_segment_is_refused() -> None:
    for start, end in ((-1, 0), (0, 4), (2, 1)):
        with pytest.raises(ValueError, match="expected 0 <= start <= end <= 3"):
            Scanner().feed(b"abc", start, end)
    with pytest.raises(TypeError):
        Scanner().feed(None, 0, 0)  # type: ignore[arg-type]


def test_nothing_is_kept_of_what_passes() -> None:
    scanner = Scanner()
    text = b"x" * 65536
    scanner.feed(b'data: {"choices":[{"delta":{"content":"', 0, 39)
    tracemalloc.start()
    for _ in range(64):
        scanner.feed(text, 0, len(text))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1024
    scanner.feed(b'"}}]}\n\n', 0, 7)
    assert scanner.content_events == 1
