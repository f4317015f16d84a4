"""Attempts of the running gateway: which deployment is chosen, and what happens when it fails.

Two engines; a model group's name says what its deployments do. Cooldowns, Retry-After and waits
run on real time, so they are set to a second or less.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.raw_peers import Call, Upstream, plain_answer
from tests.served import Reply, Stand, chat, config, deployment, free_port, stand

COOLDOWN_S = 1.0
OK_BODY = b'{"ok":true}'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    closed = f"http://127.0.0.1:{free_port()}/v1"

    def configure(engines: list[Any]) -> dict[str, Any]:
        one, two = (engine.url for engine in engines)

        def pair(group: str, first: str, base: str = one) -> list[dict[str, Any]]:
            """A group whose first deployment (`order` 1) does something, the second is well."""
            return [
                deployment(group, base, f"openai/{first}", f"{group}-1", order=1),
                deployment(group, two, "openai/sim", f"{group}-2", order=2),
            ]

        models = [
            deployment("weighted", one, id="weighted-3", weight=3),
            deployment("weighted", two, id="weighted-1", weight=1),
            *pair("refused", "sim", closed),
            *pair("limited", "sim+status=429"),
            *pair("broken", "sim+status=500"),
            *pair("full", "sim+status=503"),
            *pair("late", "sim+stall=head"),
            *pair("error-first", "sim+error-first"),
            *pair("error-after", "sim+error-event=3"),
            *pair("cut-at-once", "sim+cut=0b"),
            *pair("cut-head", "sim+cut=60b"),
            *pair("cut-body", "sim+cut=200b"),
            *pair("cut-first", "sim+cut=1"),
            *pair("cut-late", "sim+cut=5"),
            *pair("malformed", "sim+malformed=head"),
            *pair("denied", "sim+status=401"),
            *pair("faulty", "sim+status=400"),
            deployment("primary", one, "openai/sim+status=500", "primary-1"),
            deployment("backup", two, id="backup-1"),
            deployment("unlisted", one, "openai/sim+status=500", "unlisted-1", max_retries=0),
            deployment("everything", two, id="everything-1"),
            deployment("backup-is-down", closed, id="backup-is-down-1", max_retries=0),
            deployment(
                "primary-of-down", one, "openai/sim+status=500", "primary-of-down-1", max_retries=0
            ),
        ]
        for entry in models:
            if entry["model_name"] == "late":
                entry["litellm_params"]["timeout"] = 0.3
        return config(
            models,
            router={
                "num_retries": 2,
                "cooldown_time": COOLDOWN_S,
                "fallbacks": [{"primary": ["backup"]}, {"primary-of-down": ["backup-is-down"]}],
                "default_fallbacks": ["everything"],
            },
        )

    with stand(tmp_path_factory, [[], []], configure) as running:
        yield running


@pytest.fixture(scope="module")
def upstream_port() -> int:
    """The port of a server that a test plays byte by byte."""
    return free_port()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, upstream_port: int) -> Iterator[Stand]:
    """Groups without a fallback, most of a single deployment; the engine hangs up soon."""
    raw = f"http://127.0.0.1:{upstream_port}/v1"

    def configure(engines: list[Any]) -> dict[str, Any]:
        base = engines[0].url
        limited = "openai/sim+status=429"
        models = [
            deployment("sim", base, id="sim-1"),
            deployment("limited", base, f"{limited}+retry-after=30", "limited-1", max_retries=0),
            deployment("cooled", base, limited, "cooled-1", max_retries=1),
            deployment("cooled", base, limited, "cooled-2", max_retries=1),
            deployment("raw", raw, "openai/raw", "raw-1", max_retries=0),
        ]
        return config(models, router={"num_retries": 2, "cooldown_time": COOLDOWN_S})

    with stand(tmp_path_factory, [["--keepalive-s", "0.05"]], configure) as running:
        yield running


@pytest.fixture
async def upstream(upstream_port: int) -> AsyncIterator[Upstream]:
    upstream = await Upstream.listen(upstream_port)
    yield upstream
    await upstream.close()


@pytest.fixture(autouse=True)
def fresh(served: Stand, alone: Stand) -> None:
    served.reset()
    alone.reset()


def content(reply: Reply) -> str:
    found: str = reply.json()["choices"][0]["message"]["content"]
    return found


def test_choice_follows_the_weights(served: Stand) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: served.chat("weighted"), range(400)))
    assert {reply.status for reply in replies} == {200}
    heavy = sum(reply.fields["x-fastgate-deployment"] == "weighted-3" for reply in replies)
    # 300 expected; five standard deviations are 43.
    assert 257 <= heavy <= 343
    assert len(served.received(0)) == heavy
    assert len(served.received(1)) == 400 - heavy


@pytest.mark.parametrize(
    ("group", "asked_first"),
    [
        ("refused", 0),
        ("limited", 1),
        ("broken", 1),
        ("full", 1),
        ("late", 1),
        ("cut-head", 1),
        ("malformed", 1),
    ],
)
def test_another_deployment_is_tried(served: Stand, group: str, asked_first: int) -> None:
    reply = served.chat(group)
    assert reply.status == 200, reply
    assert content(reply)
    assert reply.fields["x-fastgate-deployment"] == f"{group}-2"
    assert reply.fields["x-fastgate-attempts"] == "2"
    assert len(served.received(0)) == asked_first
    assert len(served.received(1)) == 1


@pytest.mark.parametrize("group", ["error-first", "cut-head", "cut-first", "limited"])
def test_a_stream_that_fails_before_content_is_replaced(served: Stand, group: str) -> None:
    time.sleep(COOLDOWN_S if group == "limited" else 0)
    reply = served.chat(group, stream=True)
    assert reply.status == 200
    assert reply.fields["x-fastgate-deployment"] == f"{group}-2"
    assert b'"error"' not in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")
    # The content of the second alone: nothing of the first attempt has leaked into it.
    assert reply.body.count(b'"role":"assistant"') == 1
    assert len(served.received(0)) == len(served.received(1)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_never_began_is_asked_for_elsewhere(served: Stand, stream: bool) -> None:
    # On a reused connection that might be the peer's idle timeout: once more on a fresh one first.
    reply = served.chat("cut-at-once", stream=stream)
    assert reply.status == 200
    assert reply.fields["x-fastgate-deployment"] == "cut-at-once-2"
    assert reply.fields["x-fastgate-attempts"] == "2"
    assert len(served.received(0)) in (1, 2)
    assert len(served.received(1)) == 1


@pytest.mark.parametrize(("group", "stream"), [("cut-late", True), ("cut-body", False)])
def test_nothing_is_retried_after_content(served: Stand, group: str, stream: bool) -> None:
    with pytest.raises(http.client.IncompleteRead):
        served.chat(group, stream=stream)
    assert len(served.received(0)) == 1
    assert served.received(1) == []


def test_an_error_event_after_content_is_passed_on(served: Stand) -> None:
    reply = served.chat("error-after", stream=True)
    assert reply.status == 200
    assert b'"error"' in reply.body
    assert served.received(1) == []


def test_a_client_s_own_fault_is_not_retried(served: Stand) -> None:
    reply = served.chat("faulty")
    direct = served.engine.call("POST", "/v1/chat/completions", chat("sim+status=400"))
    assert reply.status == 400
    assert reply.json() == direct
    assert len(served.received(0)) == 2
    assert served.received(1) == []


def test_a_deployment_whose_key_is_refused_is_replaced(served: Stand) -> None:
    # It is the gateway's own key that is wrong there.
    reply = served.chat("denied")
    assert reply.status == 200
    assert reply.fields["x-fastgate-deployment"] == "denied-2"


def test_fallback_after_the_group_s_own_retries(served: Stand) -> None:
    reply = served.chat("primary")
    assert reply.status == 200
    assert reply.fields["x-fastgate-deployment"] == "backup-1"
    assert len(served.received(0)) == 1


def test_default_fallbacks_serve_a_group_without_its_own(served: Stand) -> None:
    reply = served.chat("unlisted")
    assert reply.status == 200
    assert reply.fields["x-fastgate-deployment"] == "everything-1"


def test_the_last_failure_is_told_when_the_fallback_fails_too(served: Stand) -> None:
    reply = served.chat("primary-of-down")
    assert reply.status == 503
    assert "refused the connection" in reply.error["message"]
    assert reply.error["code"] == "503"
    assert reply.fields["x-fastgate-attempts"] == "2"


def test_fallbacks_are_counted(served: Stand) -> None:
    name = 'fastgate_fallbacks_total{model="primary"}'
    before = served.metrics().get(name, 0)
    served.chat("primary")
    assert served.metrics()[name] == before + 1


def test_retry_after_is_obeyed(alone: Stand) -> None:
    alone.arm("status=429;retry-after=1", requests=1)
    reply = alone.chat()
    assert reply.status == 200
    assert reply.fields["x-fastgate-attempts"] == "2"
    first, second = (request["monotonic_s"] for request in alone.received())
    assert 1.0 <= second - first < 3.0


def test_without_retry_after_the_wait_is_short(alone: Stand) -> None:
    alone.arm("status=500", requests=1)
    assert alone.chat().status == 200
    first, second = (request["monotonic_s"] for request in alone.received())
    assert 0.3 <= second - first < 2.0


def test_retry_after_is_passed_on(alone: Stand) -> None:
    reply = alone.chat("limited")
    assert reply.status == 429
    assert reply.fields["retry-after"] == "30"
    assert len(alone.received()) == 1


def test_a_cooldown_is_told_counted_and_left_again(alone: Stand) -> None:
    def cooldowns() -> list[float]:
        samples = alone.metrics()
        name = "fastgate_cooldowns_total{deployment=%s}"
        return [samples.get(name % f'"cooled-{n}"', 0) for n in (1, 2)]

    assert cooldowns() == [0, 0]
    # Both are asked, and both cool down.
    assert alone.chat("cooled").status == 429
    assert len(alone.received()) == 2
    assert cooldowns() == [1, 1]
    reply = alone.chat("cooled")
    assert reply.status == 429
    assert re.fullmatch(
        r"No deployments available for selected model, Try again in 1 seconds\. "
        r"Passed model=cooled\. pre-call-checks=False, cooldown_list=\['cooled-1', 'cooled-2'\]",
        reply.error["message"],
    )
    assert reply.error["type"] == "throttling_error"
    assert reply.error["code"] == "429"
    assert reply.fields["retry-after"] == "1"
    assert len(alone.received()) == 2
    time.sleep(COOLDOWN_S)
    assert alone.chat("cooled").status == 429
    assert len(alone.received()) == 4


def test_connections_that_the_engine_closes_when_idle_cost_no_request(alone: Stand) -> None:
    # The engine hangs up after 50 ms: these pauses run across that moment.
    for pause_ms in range(30, 80):
        assert alone.chat().status == 200
        time.sleep(pause_ms / 1000)
    counters = alone.engine.call("GET", "/sim/log")["counters"]
    assert counters["requests"] == 50
    assert 1 < counters["opened"] <= 50


async def ask(stand: Stand, model: str) -> Reply:
    return await asyncio.get_running_loop().run_in_executor(None, stand.chat, model)


async def test_a_stale_connection_is_replaced_without_an_attempt(
    alone: Stand, upstream: Upstream
) -> None:
    def on_call(call: Call) -> None:
        if call.connection.calls == 1:
            call.send(plain_answer(OK_BODY))
        else:
            call.close()

    upstream.on_call = on_call
    for _ in range(3):
        reply = await ask(alone, "raw")
        assert (reply.status, reply.body) == (200, OK_BODY)
        assert reply.fields["x-fastgate-attempts"] == "1"
    assert [connection.calls for connection in upstream.connections] == [2, 2, 1]


async def test_a_fresh_connection_that_ends_is_not_tried_again(
    alone: Stand, upstream: Upstream
) -> None:
    upstream.on_call = Call.close
    reply = await ask(alone, "raw")
    assert reply.status == 502
    assert "closed the connection without an answer" in reply.error["message"]
    assert len(upstream.connections) == 1


async def test_an_error_page_is_wrapped_as_json(alone: Stand, upstream: Upstream) -> None:
    page = b"<html><h1>502 Bad Gateway</h1></html>"
    upstream.on_call = lambda call: call.send(
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b"
        % (len(page), page)
    )
    reply = await ask(alone, "raw")
    assert reply.status == 502
    assert reply.fields["content-type"] == "application/json"
    assert reply.error["type"] == "upstream_error"
    assert "502 Bad Gateway" in reply.error["message"]


def test_a_storm_of_errors_is_not_amplified(tmp_path_factory: pytest.TempPathFactory) -> None:
    def configure(engines: list[Any]) -> dict[str, Any]:
        base = engines[0].url
        bad = {"model": "openai/sim+status=500", "cooldown_time": 0, "max_retries": 1}
        return config(
            [
                deployment("good", base, id="good"),
                deployment("bad", base, id="bad-1", **bad),
                deployment("bad", base, id="bad-2", **bad),
            ]
        )

    requests = 240
    with stand(tmp_path_factory, [["--log-requests", "2000"]], configure) as running:
        with ThreadPoolExecutor(8) as pool:
            statuses = list(
                pool.map(lambda n: running.chat(("good", "bad")[n % 2]).status, range(requests))
            )
        calls = len(running.received())
    assert statuses.count(200) == requests / 2
    assert statuses.count(500) == requests / 2
    # The whole of the budget was asked for, and it was given.
    assert 1.15 * requests < calls <= 1.2 * requests + 3


def test_a_full_queue_is_passed_over_and_not_held_against_its_deployment(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def configure(engines: list[Any]) -> dict[str, Any]:
        one, two = (engine.url for engine in engines)
        return config(
            [
                deployment("busy", one, "openai/sim+delay-ms=500", "busy-1", order=1),
                deployment("busy", two, id="busy-2", order=2),
                deployment("second", two),
            ],
            router={"num_retries": 1},
            upstream={"max_connections": 1, "max_waiting": 1},
        )

    with stand(tmp_path_factory, [[], []], configure) as running:
        # Both have their connection by then: one that is being opened is waited for.
        assert [running.chat(model).status for model in ("busy", "second")] == [200, 200]
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: running.chat("busy"), range(4)))
        assert [reply.status for reply in replies] == [200] * 4
        # One holds the only connection, one waits for it, and that is all there is room for.
        served_by = sorted(reply.fields["x-fastgate-deployment"] for reply in replies)
        assert served_by == ["busy-1", "busy-1", "busy-2", "busy-2"]
        assert running.chat("busy").fields["x-fastgate-deployment"] == "busy-1"


def test_least_busy_counts_the_requests_of_all_workers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def configure(engines: list[Any]) -> dict[str, Any]:
        models = [deployment("sim", engine.url) for engine in engines]
        return config(models, router={"routing_strategy": "least-busy"})

    slow = ["--ttft-ms", "1500"]
    with (
        stand(tmp_path_factory, [slow, slow], configure, "--workers", "2") as running,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = []
        for begun in range(8):
            answers.append(pool.submit(running.chat))
            while sum(len(running.received(n)) for n in (0, 1)) <= begun:
                time.sleep(0.005)
            counts = [len(running.received(n)) for n in (0, 1)]
            assert abs(counts[0] - counts[1]) <= 1, counts
        assert {answer.result().status for answer in answers} == {200}
