"""Header lines and log lines written digit by digit, against Python's own formatting."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgate._core.fields import Lines, answer_fields, forward_fields, request_id

ID = b"0123456789abcdef" * 2
MOST = 2**63 - 1
LEAST = -(2**63)
INTEGERS = st.integers(LEAST, MOST)
INTS = st.integers(-(2**31), 2**31 - 1)
EDGES = [0, 1, 9, 10, 99, 999, 1000, 999_999, 1_000_000, MOST, -1, LEAST]


def milliseconds(ns: int) -> str:
    us = max(0, ns) // 1000
    return f"{us // 1000}.{us % 1000:03d}"


def lines_of(fields: bytes) -> dict[str, str]:
    assert fields.endswith(b"\r\n")
    pairs = [line.split(": ", 1) for line in fields.decode().removesuffix("\r\n").split("\r\n")]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1))
def test_request_ids(unix_ms: int, epoch: int, sequence: int) -> None:
    made = request_id(unix_ms, epoch, sequence)
    assert made == f"{unix_ms:012x}{epoch:010x}{sequence:010x}".encode()


def test_request_ids_sort_by_time_then_sequence() -> None:
    ids = [request_id(ms, 7, n) for ms in (1, 2, 2**47) for n in (0, 1, 2**39)]
    assert ids == sorted(ids)


def answer(**changes: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "client_request_id": None,
        "target_fields": b"",
        "attempts": 1,
        "authenticate_ns": 0,
        "route_ns": 0,
        "connect_ns": 0,
        "upstream_ns": 0,
        "gateway_ns": 0,
        "requests_limit": -1,
        "requests_left": 0,
        "tokens_limit": -1,
        "tokens_left": 0,
        "cost_nano": -1,
        **changes,
    }
    return lines_of(answer_fields(ID, *given.values()))


@given(INTS, INTEGERS, INTEGERS, INTEGERS, INTEGERS, INTEGERS)
def test_answer_fields(
    attempts: int, auth: int, route: int, connect: int, upstream: int, gateway: int
) -> None:
    found = answer(
        attempts=attempts,
        authenticate_ns=auth,
        route_ns=route,
        connect_ns=connect,
        upstream_ns=upstream,
        gateway_ns=gateway,
    )
    assert found == {
        "x-fastgate-request-id": ID.decode(),
        "x-litellm-call-id": ID.decode(),
        "x-fastgate-attempts": str(attempts),
        "x-fastgate-overhead-us": str(max(0, gateway) // 1000),
        "server-timing": f"auth;dur={milliseconds(auth)}, route;dur={milliseconds(route)}, "
        f"connect;dur={milliseconds(connect)}, upstream;dur={milliseconds(upstream)}, "
        f"gateway;dur={milliseconds(gateway)}",
    }


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_fields_of_any_length_are_put_in(size: int) -> None:
    found = answer(target_fields=b"x-a: %b\r\n" % (b"a" * size), client_request_id=b"c" * size)
    assert found["x-a"] == "a" * size
    assert found["x-request-id"] == "c" * size


def test_without_a_client_s_id_there_is_no_such_line() -> None:
    assert "x-request-id" not in answer()


@given(st.integers(0, 2**63 - 1))
def test_the_cost_is_told_to_the_nano_dollar(nano: int) -> None:
    told = answer(cost_nano=nano)["x-litellm-response-cost"]
    assert Decimal(told) == Decimal(nano).scaleb(-9)


def test_an_unknown_cost_is_not_told() -> None:
    assert "x-litellm-response-cost" not in answer(cost_nano=-1)


@given(INTEGERS, INTEGERS, INTEGERS, INTEGERS)
def test_limits_are_told_where_there_are_any(
    requests: int, requests_left: int, tokens: int, tokens_left: int
) -> None:
    expected = answer()
    if requests >= 0:
        expected["x-ratelimit-limit-requests"] = str(requests)
        expected["x-ratelimit-remaining-requests"] = str(max(0, requests_left))
    if tokens >= 0:
        expected["x-ratelimit-limit-tokens"] = str(tokens)
        expected["x-ratelimit-remaining-tokens"] = str(max(0, tokens_left))
    assert expected == answer(
        requests_limit=requests,
        requests_left=requests_left,
        tokens_limit=tokens,
        tokens_left=tokens_left,
    )


def test_the_longest_numbers_fit() -> None:
    found = answer(
        **dict.fromkeys(
            ("authenticate_ns", "route_ns", "connect_ns", "upstream_ns", "gateway_ns"), MOST
        ),
        **dict.fromkeys(("requests_limit", "requests_left", "tokens_limit", "tokens_left"), MOST),
        attempts=-(2**31),
    )
    assert found["x-ratelimit-remaining-tokens"] == str(MOST)


def test_what_goes_upstream_with_a_body() -> None:
    assert lines_of(forward_fields(ID, False)) == {"x-request-id": ID.decode()}
    assert lines_of(forward_fields(ID, True)) == {
        "content-type": "application/json",
        "x-request-id": ID.decode(),
    }


NUMBERS = (
    *("status", "attempts", "bytes_in", "bytes_out", "input_tokens", "output_tokens"),
    *("total_ns", "ttft_ns", "upstream_ns", "gateway_ns"),
)


def expected_of(numbers: dict[str, int]) -> dict[str, Any]:
    names = {"total_ns": "total_ms", "ttft_ns": "ttft_ms", "upstream_ns": "upstream_ms"}
    made: dict[str, Any] = {"ts": 1.5, "request_id": ID.decode(), "a": "b"}
    for name, value in numbers.items():
        if name == "gateway_ns":
            made["overhead_us"] = max(0, value) // 1000
        elif name in names:
            made[names[name]] = float(milliseconds(value))
        else:
            made[name] = value
    return made


def add(lines: Lines, numbers: dict[str, int], strings: bytes = b'"a":"b",') -> bool:
    return lines.add(1500, ID, strings, *numbers.values())


@given(st.tuples(INTS, INTS, *[INTEGERS] * 8))
def test_log_lines(values: tuple[int, ...]) -> None:
    numbers = dict(zip(NUMBERS, values, strict=True))
    lines = Lines(4096)
    assert add(lines, numbers)
    line = lines.take()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == expected_of(numbers)


@pytest.mark.parametrize("edge", EDGES)
def test_log_lines_at_the_edges(edge: int) -> None:
    small = max(-(2**31), min(2**31 - 1, edge))
    numbers = dict.fromkeys(NUMBERS, edge) | {"status": small, "attempts": small}
    lines = Lines(4096)
    assert add(lines, numbers)
    assert json.loads(lines.take()) == expected_of(numbers)


def test_lines_are_gathered_until_there_is_no_room() -> None:
    numbers = dict.fromkeys(NUMBERS, 7)
    lines = Lines(4096)
    added = 0
    while add(lines, numbers):
        added += 1
        assert lines.used <= lines.capacity
        assert added < 100
    assert added > 3
    used = lines.used
    # What finds no room changes nothing.
    assert not add(lines, numbers)
    assert lines.used == used
    taken = lines.take()
    assert len(taken) == used
    assert [json.loads(line) for line in taken.splitlines()] == [expected_of(numbers)] * added
    assert (lines.used, lines.take()) == (0, b"")
    assert add(lines, numbers)


def test_a_line_that_never_fits_is_refused() -> None:
    numbers = dict.fromkeys(NUMBERS, 7)
    lines = Lines(100)
    assert not add(lines, numbers)
    assert not add(Lines(4096), numbers, b'"a":"%b",' % (b"b" * 5000))
    assert lines.take() == b""


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_buffer_of_nothing(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        Lines(capacity)
