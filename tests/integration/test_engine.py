"""The simulated engine, as the openai SDK sees it and as raw sockets see its faults."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.processes import Engine

StartEngine = Callable[..., Engine]

MESSAGES: list[Any] = [{"role": "user", "content": "Tell me five words"}]
CHAT = {"model": "sim", "messages": MESSAGES}
STREAM = CHAT | {"stream": True, "max_tokens": 4}

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def client(engine: Engine) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=engine.url, api_key="sk-test", max_retries=0, timeout=10
    ) as connected:
        yield connected


class Wire:
    """A raw connection to an engine."""

    def __init__(self, engine: Engine) -> None:
        self.socket = socket.create_connection(("127.0.0.1", engine.port), timeout=10)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, body: object, *fields: str, path: str = "/v1/chat/completions") -> None:
        payload = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(payload)}", *fields]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + payload)

    def read_until(self, marker: bytes) -> bytes:
        """Read up to `marker`; AssertionError when the connection ends before."""
        data = b""
        while marker not in data:
            piece = self.socket.recv(65536)
            assert piece, data
            data += piece
        return data

    def read_all(self) -> bytes:
        """Read until the engine closes the connection."""
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
        return data


def asked(engine: Engine, faults: str, body: object = STREAM) -> bytes:
    """Everything that comes back for one request with faults and `connection: close`."""
    with Wire(engine) as wire:
        wire.send(body, f"x-sim: {faults}", "connection: close")
        return wire.read_all()


def test_a_chat_answer_has_text_and_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sim", messages=MESSAGES, max_tokens=5)
    assert answer.choices[0].message.content == "the quick brown fox jumps"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 5)


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_says_the_same_and_usage_only_when_asked(
    client: openai.OpenAI, include_usage: bool
) -> None:
    events = list(
        client.chat.completions.create(
            model="sim",
            messages=MESSAGES,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": include_usage},
        )
    )
    assert events[0].choices[0].delta.role == "assistant"
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == "the quick brown fox jumps"
    with_usage = [e for e in events if e.usage]
    assert len(with_usage) == include_usage
    assert [bool(e.choices) for e in events if e.usage] == [False] * include_usage


def test_a_tool_is_called_once_and_its_result_answered(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sim", messages=MESSAGES, tools=[WEATHER])
    call: Any = (answer.choices[0].message.tool_calls or [None])[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "fox"}
    stream = client.chat.completions.create(
        model="sim", messages=MESSAGES, tools=[WEATHER], stream=True
    )
    parts = [e.choices[0].delta.tool_calls for e in stream if e.choices[0].delta.tool_calls]
    text = "".join(part[0].function.arguments for part in parts)  # type: ignore[union-attr, misc]
    assert text == call.function.arguments
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    answer = client.chat.completions.create(
        model="sim", messages=[*MESSAGES, result], tools=[WEATHER]
    )
    assert answer.choices[0].message.content


def test_the_other_routes_answer_the_sdk(client: openai.OpenAI) -> None:
    vectors = client.embeddings.create(model="sim", input=["a b", "c"], dimensions=8)
    assert [len(row.embedding) for row in vectors.data] == [8, 8]
    assert vectors.usage.prompt_tokens == 3
    assert client.completions.create(model="sim", prompt="a", max_tokens=2).choices[0].text
    assert client.responses.create(model="sim", input="a b").output_text.startswith("the quick")
    assert client.moderations.create(model="sim", input="a").results[0].flagged is False
    assert client.audio.transcriptions.create(model="sim", file=b"x" * 99_999).text.endswith(
        "bytes"
    )
    assert client.images.generate(model="sim", prompt="a").data
    assert client.audio.speech.create(model="sim", voice="v", input="a").read().startswith(b"\xff")
    assert [model.id for model in client.models.list()] == ["sim"]


def test_streams_of_the_other_protocols(client: openai.OpenAI, engine: Engine) -> None:
    kinds = [event.type for event in client.responses.create(model="sim", input="a", stream=True)]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    with Wire(engine) as wire:
        wire.send(STREAM | {"max_tokens": 2}, "connection: close", path="/v1/messages")
        answer = wire.read_all()
    events = [line[7:] for line in answer.decode().split("\n") if line.startswith("event: ")]
    assert events == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]


def test_an_unknown_model_and_a_bad_body_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="other", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="unknown fault"):
        client.chat.completions.create(model="sim+oops=1", messages=MESSAGES)


def test_faults_by_header_by_model_and_by_order(client: openai.OpenAI, engine: Engine) -> None:
    def status(**extra: Any) -> int:
        try:
            options = {"model": "sim", "messages": MESSAGES} | extra
            client.chat.completions.create(**options)
        except openai.APIStatusError as error:
            assert error.response.headers["retry-after"] == "7"
            return error.status_code
        return 200

    fault = "status=503;retry-after=7"
    assert status(extra_headers={"x-sim": fault}) == 503
    assert status(model="sim+status=429+retry-after=7") == 429
    engine.call("POST", "/sim/faults", {"faults": fault, "requests": 2})
    assert [status(), status(), status()] == [503, 503, 200]
    engine.call("POST", "/sim/faults", {"faults": fault})
    engine.call("POST", "/sim/reset")
    assert status() == 200


def test_a_cut_ends_the_stream_without_its_last_chunk(engine: Engine) -> None:
    answer = asked(engine, "cut=2")
    assert answer.count(b"data: ") == 2
    assert not answer.endswith(b"0\r\n\r\n")
    assert asked(engine, "cut=0b") == b""
    assert asked(engine, "cut=20b") == asked(engine, "close")[:20]


def test_a_reset_is_seen_as_one(engine: Engine) -> None:
    with Wire(engine) as wire:
        wire.send(STREAM, "x-sim: cut=0b;reset")
        with pytest.raises(ConnectionResetError):
            wire.read_all()


def test_a_stall_keeps_the_connection_open_in_silence(engine: Engine) -> None:
    with Wire(engine) as wire:
        wire.send(STREAM, "x-sim: stall=2")
        assert wire.read_until(b'"the"').count(b"data: ") == 2
        wire.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)


def test_an_error_event_and_malformed_answers(engine: Engine) -> None:
    answer = asked(engine, "error-event=1")
    assert answer.index(b'"role"') < answer.index(b'data: {"error":') < answer.index(b"[DONE]")
    assert b"\r\nzz" in asked(engine, "malformed=chunk")
    assert b"server simulated" in asked(engine, "malformed=head")
    assert asked(engine, "malformed=surplus").endswith(b"surplus")
    assert b"content-length: 5" in asked(engine, "malformed=length", CHAT)


def test_delays_are_kept(engine: Engine) -> None:
    start = time.monotonic()
    answer = asked(engine, "delay-ms=30;ttft-ms=20;itl-ms=10;tokens=3;close")
    assert time.monotonic() - start >= 0.03 + 0.02 + 2 * 0.01 - 0.002
    assert answer.count(b'"content":') == 4  # the role's empty one, and three tokens


def test_a_slow_accept_delays_new_connections_alone(engine: Engine) -> None:
    with Wire(engine) as before:
        before.send(CHAT)
        before.read_until(b"}}")
        engine.call("POST", "/sim/faults", {"faults": "slow-accept=100", "connections": 1})
        start = time.monotonic()
        with Wire(engine) as slow:
            slow.send(CHAT)
            before.send(CHAT)
            before.read_until(b"}}")
            slow.read_until(b"}}")
            assert time.monotonic() - start >= 0.09


def test_a_client_that_leaves_is_logged_with_the_event_it_left_at(engine: Engine) -> None:
    with Wire(engine) as wire:
        wire.send(STREAM, "x-sim: itl-ms=20;tokens=1000")
        wire.read_until(b'" brown"')
        left = time.monotonic()
    log = engine.call("GET", "/sim/wait?aborted=1&open=0")
    assert "timed_out" not in log
    abort = log["aborts"][0]
    assert abort["request"] == 1
    assert 4 <= abort["events"] < 1000
    assert left <= abort["monotonic_s"] <= time.monotonic()
    assert log["counters"]["running"] == 0


def test_waiting_gives_up_and_says_so(engine: Engine) -> None:
    assert engine.call("GET", "/sim/wait?requests=1&timeout-s=0.05")["timed_out"]


def test_the_log_holds_what_was_received_but_no_secret(engine: Engine) -> None:
    with Wire(engine) as wire:
        wire.send(CHAT, "authorization: Bearer sk-secret", "x-request-id: r1")
        wire.read_until(b"}}")
    text = json.dumps(engine.call("GET", "/sim/log"))
    assert "sk-secret" not in text
    entry = json.loads(text)["requests"][0]
    fields = dict(entry["headers"])
    assert fields["authorization"] == hashlib.sha256(b"Bearer sk-secret").hexdigest()
    assert fields["x-request-id"] == "r1"
    assert json.loads(entry["body"]) == CHAT
    assert entry["body_sha256"] == hashlib.sha256(json.dumps(CHAT).encode()).hexdigest()
    assert engine.call("GET", "/sim/log?after=1")["requests"] == []


def test_pipelined_and_chunked_requests_are_answered_in_order(engine: Engine) -> None:
    body = json.dumps(CHAT).encode()
    pieces = [body[:9], body[9:]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with Wire(engine) as wire:
        wire.send(CHAT, "x-sim: delay-ms=20;status=418")
        wire.send(CHAT, "x-sim: status=500")
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        wire.socket.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + chunks)
        answers = wire.read_all().split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"418", b"500", b"200"]


def test_a_body_is_asked_for_when_the_client_expects_it(engine: Engine) -> None:
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    with Wire(engine) as wire:
        wire.socket.sendall(f"{head}expect: 100-continue\r\n\r\n".encode())
        assert wire.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.socket.sendall(body)
        assert wire.read_until(b"}}").startswith(b"HTTP/1.1 200 OK")


def test_idle_connections_are_closed_and_busy_ones_are_not(start_engine: StartEngine) -> None:
    engine = start_engine("--keepalive-s", "0.1")
    with Wire(engine) as idle, Wire(engine) as busy:
        busy.send(CHAT, "x-sim: delay-ms=300")
        assert idle.read_all() == b""
        assert busy.read_until(b"}}").startswith(b"HTTP/1.1 200 OK")


def test_a_full_batch_queues_and_metrics_show_it(start_engine: StartEngine) -> None:
    engine = start_engine("--batch", "1")
    with Wire(engine) as first, Wire(engine) as second:
        first.send(STREAM, "x-sim: stall=1")
        engine.call("GET", "/sim/wait?running=1")
        second.send(STREAM, "connection: close")
        counters = engine.call("GET", "/sim/wait?requests=2")["counters"]
        assert (counters["running"], counters["waiting"]) == (1, 1)
        first.socket.close()
        assert second.read_all().endswith(b"0\r\n\r\n")
    with Wire(engine) as wire:
        wire.socket.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        metrics = wire.read_all().decode()
    assert 'vllm:num_requests_waiting{model_name="sim"} 0\n' in metrics
    assert 'vllm:request_queue_time_seconds_count{model_name="sim"} 2\n' in metrics


def test_a_repeated_prefix_is_cached_and_costs_no_prefill(start_engine: StartEngine) -> None:
    engine = start_engine("--kv-tokens", "10000", "--prefill-tps", "5000")
    body = {"model": "sim", "messages": [{"role": "user", "content": "word " * 1024}]}
    cached, took_s = [], []
    with Wire(engine) as wire:
        for _ in range(2):
            start = time.monotonic()
            wire.send(body)
            answer = json.loads(wire.read_until(b"}}}").partition(b"\r\n\r\n")[2])
            took_s.append(time.monotonic() - start)
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached == [0, 1024]
    assert took_s[0] >= 1024 / 5000 - 0.002


def test_slow_readers_hold_up_their_own_stream_alone(engine: Engine) -> None:
    with Wire(engine) as slow, Wire(engine) as other:
        slow.send(STREAM | {"max_tokens": None}, "x-sim: tokens=50000", "connection: close")
        other.send(STREAM)
        assert other.read_until(b"0\r\n\r\n")
        counters = engine.call("GET", "/sim/log")["counters"]
        assert counters["finished"] == 1
        assert slow.read_all().count(b"data: ") == 50_003


def test_an_api_key_is_asked_for(start_engine: StartEngine) -> None:
    engine = start_engine("--api-key", "sk-engine")
    with Wire(engine) as wire:
        wire.send(CHAT)
        assert wire.read_until(b"}}").startswith(b"HTTP/1.1 401")
        wire.send(CHAT, "authorization: Bearer sk-engine")
        assert wire.read_until(b"}}").startswith(b"HTTP/1.1 200")


def test_a_unix_socket_and_groups_of_events(start_engine: StartEngine, tmp_path: Any) -> None:
    path = str(tmp_path / "engine.sock")
    engine = Engine(tmp_path / "unix.log", "--unix", path, "--events-per-write", "0")
    engine.spawn()
    try:
        engine.wait_for(f"listening on unix:{path}\n")
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(path)
            payload = json.dumps(STREAM).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(payload)}\r\n\r\n"
            plain.sendall(head.encode() + payload)
            # One write: a single read on a Unix socket gets the whole of it.
            assert plain.recv(65536).endswith(b"0\r\n\r\n")
    finally:
        engine.stop()


def test_reset_connections_leave_nothing_behind(engine: Engine) -> None:
    for _ in range(20):
        with Wire(engine) as wire:
            wire.send(STREAM, "x-sim: itl-ms=50;tokens=100")
            wire.read_until(b"data: ")
            linger = struct.pack("ii", 1, 0)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    counters = engine.call("GET", "/sim/wait?aborted=20&open=0")["counters"]
    assert (counters["aborted"], counters["running"], counters["open"]) == (20, 0, 0)
