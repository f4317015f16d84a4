"""Limits of keys and deployments on the running gateway: hit exactly, over two workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.served import MASTER_KEY, Reply, Stand, config, deployment, stand

RPM = 20
TPM = 400
PARALLEL = 3
# Every answer has 2 + 16 tokens; the body of such a request is estimated at 18.
ANSWER_TOKENS = 18


def key(name: str) -> str:
    return f"sk-a-key-of-the-limits-{name}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        base, other = (engine.url for engine in engines)
        limits: dict[str, dict[str, int]] = {
            "rpm": {"rpm": RPM},
            "rpm-shared": {"rpm": RPM},
            "rpm-errors": {"rpm": 5},
            "tpm": {"tpm": TPM},
            "tpm-stream": {"tpm": TPM},
            "parallel": {"max_parallel": PARALLEL},
            "both": {"rpm": 5, "max_parallel": 1},
            "none": {},
            "zero": {"rpm": 0},
        }
        return config(
            [
                deployment("sim", base, id="sim-1"),
                deployment("slow", base, "openai/sim+delay-ms=600", "slow-1"),
                deployment("two", base, id="two-rpm", rpm=4),
                deployment("two", other, id="two-free", rpm=0),
                deployment("one", base, id="one-rpm", rpm=3),
                deployment("narrow", base, "openai/sim+delay-ms=400", "n", max_parallel_requests=2),
            ],
            keys=[
                {"key": key(name), "alias": f"alias-{name}", **given}
                for name, given in limits.items()
            ],
            router={"num_retries": 0},
        )

    with stand(tmp_path_factory, [[], []], configure, "--workers", "2") as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(served: Stand) -> None:
    served.reset()


def many(served: Stand, count: int, model: str, name: str, **options: Any) -> list[Reply]:
    """Ask all at once, over connections that the kernel spreads over both workers."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda _: served.chat(model, key=key(name), **options), range(count)))


def assert_refused(reply: Reply, kind: str, limit: int, name: str) -> None:
    """The text and the fields of LiteLLM's third limiter."""
    assert reply.status == 429
    error = reply.error
    assert error["type"] == "throttling_error"
    assert error["code"] == "429"
    found = re.fullmatch(
        rf"Rate limit exceeded for api_key: alias-{name}\. Limit type: {kind}\. "
        rf"Current limit: {limit}, Remaining: (\d+)\. "
        r"Limit resets at: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC",
        error["message"],
    )
    assert found is not None, error["message"]
    assert int(found[1]) <= limit
    assert reply.fields["rate_limit_type"] == kind
    assert reply.fields["reset_at"] == f"{found[2]} UTC"
    what = {"requests": "requests", "tokens": "tokens"}.get(kind)
    if what is not None:
        assert reply.fields[f"x-ratelimit-limit-{what}"] == str(limit)
        assert reply.fields[f"x-ratelimit-remaining-{what}"] == found[1]
    wait_s = int(reply.fields["retry-after"])
    # The minute is counted in whole seconds: the first of them is free again after 61.
    assert 1 <= wait_s <= 61
    resets = datetime.strptime(found[2], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs((resets - datetime.now(UTC)).total_seconds() - wait_s) < 3


def test_requests_a_minute_over_two_workers(served: Stand) -> None:
    replies = many(served, 3 * RPM, "sim", "rpm")
    let_in = [reply for reply in replies if reply.status == 200]
    assert len(let_in) == len(served.received()) == RPM
    refused = [reply for reply in replies if reply.status != 200]
    for reply in refused:
        assert_refused(reply, "requests", RPM, "rpm")
    # Both workers have served, and each saw what the other let in.
    left = sorted(int(reply.fields["x-ratelimit-remaining-requests"]) for reply in let_in)
    assert left[0] == 0
    assert left[-1] <= RPM - 1
    assert {reply.fields["x-ratelimit-limit-requests"] for reply in let_in} == {str(RPM)}
    assert all("x-ratelimit-limit-tokens" not in reply.fields for reply in let_in)


def test_both_workers_serve(served: Stand) -> None:
    many(served, 40, "sim", "none")
    assert len({entry["connection"] for entry in served.received()}) >= 2
    pids = {r["pid"] for r in served.gateway.records() if str(r.get("name")).startswith("worker")}
    assert len(pids) == 2


def test_a_refused_request_takes_nothing(served: Stand) -> None:
    name = "rpm-errors"
    # Refused before the limit is looked at.
    assert served.chat("no-such-model", key=key(name)).status == 400
    assert served.ask("POST", "/v1/chat/completions", b"{", key=key(name)).status == 400
    assert served.ask("GET", "/v1/models", key=key(name)).status == 200
    assert [served.chat(key=key(name)).status for _ in range(8)] == [200] * 5 + [429] * 3


def test_tokens_a_minute(served: Stand) -> None:
    replies = [served.chat(key=key("tpm")) for _ in range(40)]
    statuses = [reply.status for reply in replies]
    let_in = statuses.index(429)
    # Near the end the two workers' estimates decide, which differ until both have learnt.
    assert set(statuses[let_in + 2 :]) == {429}
    # Each is let in by estimate and counted as the engine counts: the last one may go past the
    # limit by its answer, never by two.
    used = statuses.count(200) * ANSWER_TOKENS
    assert TPM - 2 * ANSWER_TOKENS <= used <= TPM + ANSWER_TOKENS
    assert_refused(replies[-1], "tokens", TPM, "tpm")
    first = replies[0].fields
    assert first["x-ratelimit-limit-tokens"] == str(TPM)
    assert int(first["x-ratelimit-remaining-tokens"]) < TPM
    left = [int(reply.fields["x-ratelimit-remaining-tokens"]) for reply in replies[:let_in]]
    # The last answer is settled while the next request is on its way already.
    assert all(abs(a - b - ANSWER_TOKENS) <= 2 for a, b in pairwise(left)), left


def test_tokens_of_streams_are_counted_without_being_asked_for(served: Stand) -> None:
    statuses = [served.chat(key=key("tpm-stream"), stream=True).status for _ in range(40)]
    let_in = statuses.index(429)
    assert TPM - 2 * ANSWER_TOKENS <= let_in * ANSWER_TOKENS <= TPM + ANSWER_TOKENS


def test_requests_at_a_time_over_two_workers(served: Stand) -> None:
    for _ in range(2):
        served.reset()
        replies = many(served, 12, "slow", "parallel")
        let_in = [reply for reply in replies if reply.status == 200]
        assert len(let_in) == len(served.received()) == PARALLEL
        for reply in replies:
            if reply.status != 200:
                assert_refused(reply, "max_parallel_requests", PARALLEL, "parallel")


def test_requests_refused_by_one_limit_take_nothing_of_another(served: Stand) -> None:
    # One at a time: the others are refused, and must not eat the five of the minute.
    assert [r.status for r in many(served, 8, "slow", "both")].count(200) == 1
    assert [served.chat(key=key("both")).status for _ in range(6)] == [200] * 4 + [429] * 2


def test_a_limit_of_zero_lets_nothing_in(served: Stand) -> None:
    assert served.chat(key=key("zero")).status == 429
    assert served.received() == []


def test_no_limit_is_no_limit(served: Stand) -> None:
    replies = many(served, 60, "sim", "none")
    assert {reply.status for reply in replies} == {200}
    assert not any(name.startswith("x-ratelimit") for name in replies[0].fields)
    assert {served.chat(key=MASTER_KEY).status for _ in range(30)} == {200}


def test_a_deployment_s_own_limit_turns_to_the_other(served: Stand) -> None:
    # Its limit of 0 takes the second out, and gives all of the weight to the first.
    replies = many(served, 10, "two", "none")
    assert [reply.status for reply in replies].count(200) == 4
    assert served.received(1) == []


def test_a_single_deployment_at_its_limit(served: Stand) -> None:
    replies = many(served, 8, "one", "none")
    refused = [reply for reply in replies if reply.status != 200]
    assert len(refused) == 5
    assert len(served.received()) == 3
    for reply in refused:
        assert reply.status == 429
        assert reply.error["message"].startswith("No deployments available for selected model")
        assert reply.fields["retry-after"]


def test_a_deployment_s_requests_at_a_time(served: Stand) -> None:
    for _ in range(2):
        replies = many(served, 6, "narrow", "none")
        assert [reply.status for reply in replies].count(200) == 2


def test_refusals_are_counted_by_their_kind(served: Stand) -> None:
    # The workers' estimates differ: what is too much for one may fit the other's.
    while 200 in [served.chat(key=key("tpm")).status for _ in range(6)]:
        pass
    before = served.metrics()
    for name in ("rpm", "tpm", "zero"):
        assert served.chat(key=key(name)).status == 429
    after = served.metrics()

    def grown(sample: str) -> float:
        return after.get(sample, 0) - before.get(sample, 0)

    assert grown('fastgate_limited_total{kind="requests"}') == 2
    assert grown('fastgate_limited_total{kind="tokens"}') == 1
    assert grown('fastgate_errors_total{source="downstream",kind="limited"}') == 3
