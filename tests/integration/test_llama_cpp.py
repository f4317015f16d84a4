"""A real engine as live upstream: llama.cpp's own server, by itself and behind the gateway."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai
import pytest

from bench.llama import MODEL, fetch_model
from tests.processes import ROOT, Gateway, Process

KEY = "sk-a-key-of-this-test"
ASKED = "What is the capital of France? Answer in one short sentence."
QUESTION: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": ASKED}],
    "max_tokens": 16,
    # Greedy, so that the same question has the same answer.
    "temperature": 0,
    "seed": 1,
}


class Llama(Process):
    """`python -m bench.llama`, the model loaded."""

    def __init__(self, log_path: Path, model: Path, port: int) -> None:
        command = [sys.executable, "-m", "bench.llama", "--port", str(port), "--model", str(model)]
        super().__init__(log_path, command, {})
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        self.spawn()
        self.wait_for("listening on ")


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("xllamacpp")
    try:
        return fetch_model(ROOT / ".demo")
    except RuntimeError as error:
        pytest.skip(f"no model to serve: {error}")


@pytest.fixture
def llama(weights: Path, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Llama]:
    engine = Llama(tmp_path / "llama.log", weights, free_port())
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def fronted(llama: Llama, gateway: Callable[..., Gateway]) -> Gateway:
    return gateway(
        {
            "model_list": [
                {
                    "model_name": MODEL,
                    "litellm_params": {
                        "model": f"openai/{MODEL}",
                        "api_base": llama.url,
                        "api_key": "none",
                    },
                    "model_info": {"id": "llama.cpp"},
                }
            ],
            "general_settings": {"master_key": "sk-the-master-key-of-this-test"},
            "fastgate_settings": {"keys": [{"key": KEY, "alias": "test"}]},
        }
    )


def post(port: int, body: dict[str, Any]) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    fields = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), fields)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def events(stream: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, without what differs between two runs of the same request."""
    payloads = [part.removeprefix(b"data: ") for part in stream.split(b"\n\n") if part]
    assert payloads.pop() == b"[DONE]"
    varying = ("id", "created", "timings")
    return [
        {key: value for key, value in json.loads(payload).items() if key not in varying}
        for payload in payloads
    ]


def client_of(server: Llama | Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=30)


def test_the_engine_knows_the_capital_and_counts_its_tokens(llama: Llama) -> None:
    answer = client_of(llama).chat.completions.create(**QUESTION)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


def test_the_engine_ends_on_sigterm(llama: Llama) -> None:
    assert llama.child is not None
    llama.child.send_signal(signal.SIGTERM)
    assert llama.child.wait(10) == 0


def test_an_answer_through_the_gateway_is_the_engine_s_own(llama: Llama, fronted: Gateway) -> None:
    direct = client_of(llama).chat.completions.create(**QUESTION)
    raw = client_of(fronted).chat.completions.with_raw_response.create(**QUESTION)
    through = raw.parse()
    assert raw.headers["x-fastgate-deployment"] == "llama.cpp"
    assert through.choices == direct.choices
    assert through.usage.completion_tokens == direct.usage.completion_tokens


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_through_the_gateway_has_the_events_that_were_asked_for(
    llama: Llama, fronted: Gateway, asked: bool
) -> None:
    body = {**QUESTION, "stream": True}
    if asked:
        body["stream_options"] = {"include_usage": True}
    # Twice, since the engine's prompt cache, warm from then on, shows in the usage.
    post(llama.port, body)
    status, direct = post(llama.port, body)
    assert status == 200
    status, through = post(fronted.port, body)
    assert status == 200
    assert events(through) == events(direct)
    assert any(event.get("usage") for event in events(through)) == asked


def test_an_engine_s_refusal_reaches_the_client_with_its_status(
    llama: Llama, fronted: Gateway
) -> None:
    body = {**QUESTION, "messages": "not a list"}
    status, content = post(fronted.port, body)
    assert status == post(llama.port, body)[0] == 400
    assert json.loads(content)["error"]["message"]


def test_a_dead_engine_is_an_error_and_a_new_one_serves_again(
    llama: Llama, fronted: Gateway
) -> None:
    client = client_of(fronted)
    assert client.chat.completions.create(**QUESTION).choices
    llama.kill()
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**QUESTION)
    assert caught.value.status_code >= 500
    llama.start()
    # The only deployment of its group is never in cooldown, so the next request finds it.
    assert client.chat.completions.create(**QUESTION).choices
