"""What the running gateway shows of each request: fields, metrics, access log; and what not."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.served import MASTER_KEY, Stand, chat, config, deployment, free_port, stand

KEY = "sk-canary-of-a-client-0123456789"
NARROW_KEY = "sk-canary-of-a-narrow-client-0123456789"
UPSTREAM_KEY = "sk-canary-of-the-provider-0123456789"
PROMPT = "canary-in-the-prompt"
CANARIES = (KEY, NARROW_KEY, UPSTREAM_KEY, PROMPT, MASTER_KEY, "canary")
TIMINGS = ("auth", "route", "connect", "upstream", "gateway")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        base = engines[0].url
        closed = f"http://127.0.0.1:{free_port()}/v1"
        faults = [
            *("status=400", "status=401", "status=404", "status=429", "status=500", "status=503"),
            *("cut=0b", "cut=60b", "cut=200b", "cut=4", "error-first", "error-event=2"),
            *("malformed=chunk", "malformed=head", "malformed=surplus", "malformed=length"),
            *("stall=head", "stall=2", "no-usage", "framing=eof", "interim=2"),
        ]
        return config(
            [
                deployment("sim", base, id="sim-1", api_key=UPSTREAM_KEY),
                deployment("slow", base, "openai/sim+delay-ms=60", "slow-1", api_key=UPSTREAM_KEY),
                deployment("down", closed, id="down-1", api_key=UPSTREAM_KEY),
                deployment("first", closed, id="first-1", order=1, cooldown_time=60),
                deployment("full", base, id="full-1", rpm=0),
                deployment("spare", base, id="spare-1"),
                *(
                    deployment(
                        f"f{number}",
                        base,
                        f"openai/sim+{fault}",
                        f"f{number}-1",
                        api_key=UPSTREAM_KEY,
                        timeout=0.4,
                    )
                    for number, fault in enumerate(faults)
                ),
            ],
            keys=[
                {"key": KEY, "alias": "tester", "team": "testers"},
                {"key": NARROW_KEY, "alias": "narrow", "models": ["sim"], "rpm": 2},
            ],
            router={
                "num_retries": 0,
                "disable_cooldowns": True,
                "fallbacks": [{"first": ["spare"]}, {"full": ["spare"]}],
            },
            upstream={"stall_timeout_s": 0.4},
        )

    with stand(tmp_path_factory, [[]], configure, "--workers", "2") as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(served: Stand) -> None:
    served.reset()


def ask(served: Stand, model: str = "sim", **options: Any) -> Any:
    return served.chat(model, **{"key": KEY, **options})


def access_log(served: Stand, request_id: str) -> dict[str, Any]:
    """Return the access log's line of a request."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for record in served.gateway.records():
            if record.get("request_id") == request_id:
                return record
        time.sleep(0.02)
    raise AssertionError(f"no line of {request_id}")


# header fields


@pytest.mark.parametrize("stream", [False, True])
def test_fields_of_an_answer(served: Stand, stream: bool) -> None:
    fields = ask(served, stream=stream).fields
    assert re.fullmatch(r"[0-9a-f]{32}", fields["x-fastgate-request-id"])
    assert fields["x-litellm-call-id"] == fields["x-fastgate-request-id"]
    assert fields["x-fastgate-deployment"] == fields["x-litellm-model-id"] == "sim-1"
    assert fields["x-litellm-model-api-base"] == served.engine.url
    assert fields["x-fastgate-attempts"] == "1"
    assert 0 < int(fields["x-fastgate-overhead-us"]) < 1_000_000
    # The engine's own name for itself stays behind.
    assert "server" not in fields
    sent = dict(served.received()[0]["headers"])
    assert sent["x-request-id"] == fields["x-fastgate-request-id"]


def timings(field: str) -> dict[str, float]:
    found = re.findall(r"(?:\A|, )([a-z]+);dur=([0-9]+\.[0-9]{3})(?=, |\Z)", field)
    assert ", ".join(f"{name};dur={value}" for name, value in found) == field
    return {name: float(value) for name, value in found}


def test_server_timing_tells_the_engine_s_time_from_ours(served: Stand) -> None:
    begun_s = time.monotonic()
    fields = ask(served, "slow").fields
    total_ms = (time.monotonic() - begun_s) * 1000
    found = timings(fields["server-timing"])
    assert tuple(found) == TIMINGS
    # Timers of the engine have a grain of 1 ms.
    assert 58 <= found["upstream"] <= total_ms
    assert found["gateway"] < 60
    assert sum(found.values()) - found["gateway"] <= total_ms
    assert abs(found["gateway"] * 1000 - int(fields["x-fastgate-overhead-us"])) < 2


def test_request_ids_are_ours_sort_by_time_and_never_repeat(served: Stand) -> None:
    chosen = "11111111111111111111111111111111"
    ids = []
    for _ in range(20):
        reply = ask(served, fields={"x-fastgate-request-id": chosen, "x-litellm-call-id": chosen})
        ids.append(reply.fields["x-fastgate-request-id"])
        time.sleep(0.002)
    assert len(set(ids)) == 20
    assert chosen not in ids
    assert ids == sorted(ids)


def test_the_client_s_own_id_is_echoed_and_kept_apart(served: Stand) -> None:
    for model, path in [("sim", "/v1/chat/completions"), ("no-such-model", "/v1/embeddings")]:
        reply = served.ask("POST", path, chat(model), key=KEY, fields={"x-request-id": "mine-1"})
        assert reply.fields["x-request-id"] == "mine-1"
        record = access_log(served, reply.fields["x-fastgate-request-id"])
        assert record["client_request_id"] == "mine-1"
    assert dict(served.received()[0]["headers"])["x-request-id"] != "mine-1"


@pytest.mark.parametrize("own", ["a" * 129, "with blank", "caf\xe9"])
def test_a_client_s_id_that_could_do_harm_is_dropped(served: Stand, own: str) -> None:
    reply = ask(served, fields={"x-request-id": own.encode("latin-1")})  # type: ignore[dict-item]
    assert reply.status == 200
    assert "x-request-id" not in reply.fields
    assert "client_request_id" not in access_log(served, reply.fields["x-fastgate-request-id"])


# the access log


def test_a_line_of_the_access_log(served: Stand) -> None:
    body = chat("sim", max_tokens=5)
    size = len(json.dumps(body))
    reply = ask(served, max_tokens=5)
    record = access_log(served, reply.fields["x-fastgate-request-id"])
    known = {
        "client": "127.0.0.1",
        "endpoint": "chat/completions",
        "model": "sim",
        "deployment": "sim-1",
        "team": "testers",
        "status": 200,
        "attempts": 1,
        "bytes_in": size,
        "bytes_out": len(reply.body),
        "input_tokens": 2,
        "output_tokens": 5,
    }
    assert known.items() <= record.items()
    assert "tester" in record.values()
    assert abs(record["ts"] - time.time()) < 10
    assert record["total_ms"] >= record["upstream_ms"] > 0
    assert record["overhead_us"] == int(reply.fields["x-fastgate-overhead-us"])
    assert "error" not in record


def test_a_stream_s_line_counts_what_the_client_did_not_see(served: Stand) -> None:
    reply = ask(served, stream=True)
    assert b'"usage"' not in reply.body
    record = access_log(served, reply.fields["x-fastgate-request-id"])
    assert (record["input_tokens"], record["output_tokens"]) == (2, 16)
    assert 0 < record["ttft_ms"] <= record["total_ms"]


def test_an_upload_s_line_has_its_size(served: Stand) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsim\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + b"x" * 100_000
        + b"\r\n--b--\r\n"
    )
    reply = served.ask(
        "POST",
        "/v1/audio/transcriptions",
        body,
        key=KEY,
        fields={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert reply.status == 200
    record = access_log(served, reply.fields["x-fastgate-request-id"])
    assert record["bytes_in"] == len(body)


def test_a_refusal_s_line(served: Stand) -> None:
    reply = served.chat("no-such-model", key=KEY)
    record = access_log(served, reply.fields["x-fastgate-request-id"])
    assert record["status"] == 400
    assert record["error"] == "bad_request"
    # What a client sends as a name is no name that we know.
    assert record["model"] == ""
    assert record["deployment"] == "none"


def test_lines_of_one_connection_tell_its_requests_apart(served: Stand) -> None:
    # A name by which a group is reached may change while everything else stays.
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    fields = {"Authorization": f"Bearer {KEY}"}
    models = ["full", "spare", "full", "first", "spare", "sim", "first", "first", "sim", "full"]
    ids = []
    for model in models:
        connection.request("POST", "/v1/chat/completions", json.dumps(chat(model)), fields)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        ids.append(answer.headers["x-fastgate-request-id"])
    connection.close()
    records = [access_log(served, request_id) for request_id in ids]
    assert [record["model"] for record in records] == models
    for record in records:
        assert ("tried" in record) == (record["model"] == "first")


# metrics


def test_metrics_count_exactly_what_was_sent(served: Stand) -> None:
    def requests_of(samples: dict[str, float]) -> Counter[tuple[str, str, str]]:
        found: Counter[tuple[str, str, str]] = Counter()
        for name, value in samples.items():
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            if name.startswith("fastgate_requests_total"):
                found[(labels["model"], labels["deployment"], labels["code"])] += int(value)
        return found

    before = served.metrics()
    plan = ["sim"] * 30 + ["down"] * 7 + ["no-such-model"] * 5 + ["spare"] * 3
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(
            pool.map(
                lambda pair: ask(served, pair[1], stream=pair[0] % 2 == 0).status, enumerate(plan)
            )
        )
    assert statuses == {200: 33, 503: 7, 400: 5}
    assert served.chat(key=None).status == 401
    after = served.metrics()
    grown = requests_of(after)
    grown.subtract(requests_of(before))
    assert +grown == {
        ("sim", "sim-1", "200"): 30,
        ("down", "down-1", "503"): 7,
        ("none", "none", "400"): 5,
        ("spare", "spare-1", "200"): 3,
        ("none", "none", "401"): 1,
    }

    def more(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert more('fastgate_tokens_total{model="sim",kind="input"}') == 60
    assert more('fastgate_tokens_total{model="sim",kind="output"}') == 480
    assert more('fastgate_ttft_seconds_count{model="sim",deployment="sim-1"}') == 30
    assert more('fastgate_upstream_seconds_count{deployment="sim-1"}') == 30
    assert more('fastgate_errors_total{source="upstream",kind="unavailable"}') == 7
    assert more('fastgate_errors_total{source="downstream",kind="auth"}') == 1
    assert more('fastgate_upstream_connects_total{deployment="down-1",outcome="refused"}') == 7
    assert after['fastgate_upstream_connects_total{deployment="sim-1",outcome="ok"}'] >= 1
    name = 'fastgate_request_duration_seconds_count{endpoint="chat/completions",model="sim"}'
    assert more(name) == 30


def test_metrics_are_well_formed_and_their_labels_bounded(served: Stand) -> None:
    for number in range(20):
        served.chat(f"made-up-{number}", key=KEY)
        served.ask("GET", f"/made/up/{number}", key=KEY)
    page = served.ask("GET", "/metrics", key=None)
    assert page.fields["content-type"].startswith("text/plain; version=0.0.4")
    text = page.body.decode("ascii")
    assert "made-up" not in text
    assert "/made" not in text
    declared = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.M))
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        found = re.fullmatch(r'([a-z_]+)(\{(?:\w+="[^"\\\n]*",?)+\})? [-+0-9.e]+', line)
        assert found is not None, line
        assert re.sub(r"_(bucket|sum|count)\Z", "", found[1]) in declared | {found[1]}
        assert {found[1], re.sub(r"_(bucket|sum|count)\Z", "", found[1])} & declared


def test_in_flight_is_seen_while_it_lasts(served: Stand) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, served, "f16") for _ in range(3)]
        deadline = time.monotonic() + 10
        seen = 0.0
        while seen < 3 and time.monotonic() < deadline and not all(a.done() for a in answers):
            seen = max(seen, served.metrics()["fastgate_in_flight"])
        for answer in answers:
            answer.result()
    # The scrape itself is a request too.
    assert seen >= 3


# what must not be seen


def failing_calls(served: Stand) -> list[Callable[[], Any]]:
    """Every way to fail that a client or an engine has."""

    def quietly(model: str, **options: Any) -> Any:
        try:
            return ask(served, model, **options)
        except (http.client.HTTPException, ConnectionError):
            return None

    prompt = [{"role": "user", "content": PROMPT}]
    calls: list[Callable[[], Any]] = [
        lambda n=number, s=stream: quietly(f"f{n}", stream=s, messages=prompt, user=PROMPT)
        for number in range(21)
        for stream in (False, True)
    ]
    bodies = [
        json.dumps({"model": PROMPT, "messages": prompt}).encode(),
        json.dumps({"messages": prompt}).encode(),
        b'{"model":"sim","model":"%b"}' % PROMPT.encode(),
        b'{"%b' % PROMPT.encode(),
        b"%b" % PROMPT.encode(),
    ]
    calls += [lambda b=b: served.ask("POST", "/v1/chat/completions", b, key=KEY) for b in bodies]
    calls += [
        lambda: quietly("down", messages=prompt),
        lambda: quietly("first", messages=prompt),
        lambda: quietly("down", key=NARROW_KEY, messages=prompt),
        lambda: [quietly("sim", key=NARROW_KEY, messages=prompt) for _ in range(3)],
        lambda: quietly("sim", key=KEY + "x", messages=prompt),
        lambda: quietly("sim", key=None, fields={"Authorization": PROMPT}),
        lambda: quietly("sim", key=None, fields={"Authorization": f"Basic {KEY}"}),
        lambda: served.ask("GET", f"/v1/models/{PROMPT}", key=KEY),
        lambda: served.ask("GET", f"/v1/models?key={KEY}", key=None),
        lambda: served.ask("POST", f"/{PROMPT}", {}, key=KEY),
        lambda: served.ask(
            "POST",
            "/v1/audio/transcriptions",
            PROMPT.encode(),
            key=KEY,
            fields={"Content-Type": f"multipart/form-data; boundary={PROMPT}"},
        ),
    ]
    return calls


def test_no_key_and_no_prompt_is_ever_logged(served: Stand) -> None:
    calls = failing_calls(served)
    assert len(calls) > 50
    before = len(served.gateway.records())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda call: call(), calls))
    last = ask(served, "down")
    access_log(served, last.fields["x-fastgate-request-id"])
    assert len(served.gateway.records()) - before >= len(calls)
    log = served.gateway.log()
    metrics = served.ask("GET", "/metrics", key=None).body.decode()
    for canary in CANARIES:
        assert canary not in log, log[max(0, log.index(canary) - 300) :][:600]
        assert canary not in metrics


def test_what_a_failure_tells_a_client_names_no_secret(served: Stand) -> None:
    for call in failing_calls(served):
        reply = call()
        for one in reply if isinstance(reply, list) else [reply]:
            if one is not None:
                shown = one.body + json.dumps(one.fields).encode()
                assert UPSTREAM_KEY.encode() not in shown
                assert KEY.encode() not in shown
