"""The official OpenAI client against the running gateway: what its users see must not change."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.served import KEY, Stand, chat, config, deployment, free_port, stand

TEXT = "the quick brown fox jumps over a lazy dog and naps again the quick brown fox"
MESSAGES: Any = [{"role": "user", "content": "tell me of the fox"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "catch",
            "parameters": {
                "type": "object",
                "properties": {"animal": {"type": "string"}, "count": {"type": "integer"}},
            },
        },
    }
]
NARROW_KEY = "sk-a-key-for-one-model-only"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    def configure(engines: list[Any]) -> dict[str, Any]:
        base = engines[0].url
        statuses = [
            deployment(f"status-{status}", base, f"openai/sim+status={status}", f"s-{status}")
            for status in (400, 401, 403, 404, 422, 429, 500, 503)
        ]
        return config(
            [
                deployment("sim", base, id="sim-1"),
                deployment("stalling", base, "openai/sim+stall=head", "stalling-1"),
                deployment("stalling-late", base, "openai/sim+stall=3", "stalling-2"),
                deployment("cut", base, "openai/sim+cut=5", "cut-1"),
                deployment("failing", base, "openai/sim+error-event=3", "failing-1"),
                deployment("down", f"http://127.0.0.1:{free_port()}/v1", id="down-1"),
                deployment("claude", base, "anthropic/sim", "claude-1"),
                *statuses,
            ],
            keys=[
                {"key": KEY, "alias": "tester"},
                {"key": NARROW_KEY, "alias": "narrow", "models": ["sim"]},
            ],
            router={"num_retries": 0, "disable_cooldowns": True},
        )

    with stand(tmp_path_factory, [[]], configure) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(served: Stand) -> None:
    served.reset()


@pytest.fixture
def client(served: Stand) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.gateway.url, api_key=KEY, max_retries=0) as client:
        yield client


def new_async(served: Stand, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=served.gateway.url, api_key=KEY, **{"max_retries": 0, **options}
    )


# answers


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="sim", messages=MESSAGES)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 16)


def test_chat_stream(client: openai.OpenAI) -> None:
    events = list(client.chat.completions.create(model="sim", messages=MESSAGES, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == TEXT
    # Usage was not asked for, so it is not seen, though the gateway counts it.
    assert all(event.usage is None for event in events)


def test_chat_stream_with_usage(client: openai.OpenAI) -> None:
    *events, last = client.chat.completions.create(
        model="sim", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(event.choices[0].delta.content or "" for event in events) == TEXT
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 16


def test_tools_and_their_answer(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="sim", messages=MESSAGES, tools=TOOLS)
    assert first.choices[0].finish_reason == "tool_calls"
    calls: Any = first.choices[0].message.tool_calls
    assert json.loads(calls[0].function.arguments) == {"animal": "fox", "count": 1}
    answered = [
        *MESSAGES,
        first.choices[0].message,
        {"role": "tool", "tool_call_id": calls[0].id, "content": "caught"},
    ]
    second = client.chat.completions.create(model="sim", messages=answered, tools=TOOLS)
    assert second.choices[0].message.content == TEXT


def test_streamed_tools(client: openai.OpenAI) -> None:
    events = client.chat.completions.create(
        model="sim", messages=MESSAGES, tools=TOOLS, stream=True
    )
    calls = [call for event in events for call in event.choices[0].delta.tool_calls or []]
    assert calls[0].function is not None
    assert calls[0].function.name == "catch"
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert json.loads(arguments) == {"animal": "fox", "count": 1}


def test_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="sim", messages=MESSAGES) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="sim", prompt="tell me", max_tokens=3)
    assert answer.choices[0].text == "the quick brown"
    streamed = client.completions.create(model="sim", prompt="tell me", max_tokens=3, stream=True)
    assert "".join(event.choices[0].text for event in streamed) == "the quick brown"


def test_embeddings(client: openai.OpenAI) -> None:
    # The client asks for base64 by itself, and takes it apart again.
    packed = client.embeddings.create(model="sim", input=["a", "b"])
    plain = client.embeddings.create(model="sim", input=["a", "b"], encoding_format="float")
    assert [len(row.embedding) for row in packed.data] == [64, 64]
    assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding)


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="sim", input="tell me of the fox")
    assert answer.output_text == TEXT
    events = list(client.responses.create(model="sim", input="tell me", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == TEXT


def test_the_other_routes(client: openai.OpenAI) -> None:
    moderation = client.moderations.create(model="sim", input="a fox")
    assert not moderation.results[0].flagged
    image = client.images.generate(model="sim", prompt="a fox")
    assert image.data is not None
    assert image.data[0].b64_json
    speech = client.audio.speech.create(model="sim", voice="alloy", input="a " * 100)
    assert speech.content == b"\xff\xfb\x90\x00" * 256 * 100
    heard = client.audio.transcriptions.create(model="sim", file=("a.wav", b"RIFF" * 1000))
    assert heard.text.endswith(" bytes")


def test_models(client: openai.OpenAI) -> None:
    assert {"sim", "stalling", "claude"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("sim").id == "sim"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_azure_client(served: Stand) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{served.port}", api_key=KEY, api_version="2024-10-21"
    ) as client:
        answer = client.chat.completions.create(model="sim", messages=MESSAGES)
        assert answer.choices[0].message.content == TEXT
        events = client.chat.completions.create(model="sim", messages=MESSAGES, stream=True)
        assert "".join(e.choices[0].delta.content or "" for e in events) == TEXT
        assert len(client.embeddings.create(model="sim", input="a").data) == 1
    assert {request["target"] for request in served.received()} == {
        "/v1/chat/completions",
        "/v1/embeddings",
    }


async def test_async_client(served: Stand) -> None:
    async with new_async(served) as client:
        answer = await client.chat.completions.create(model="sim", messages=MESSAGES)
        assert answer.choices[0].message.content == TEXT
        stream = await client.chat.completions.create(model="sim", messages=MESSAGES, stream=True)
        assert "".join([e.choices[0].delta.content or "" async for e in stream]) == TEXT
        assert [model.id async for model in client.models.list()]


# errors


@pytest.mark.parametrize(
    ("model", "expected", "status"),
    [
        ("status-400", openai.BadRequestError, 400),
        ("status-401", openai.AuthenticationError, 401),
        ("status-403", openai.PermissionDeniedError, 403),
        ("status-404", openai.NotFoundError, 404),
        ("status-422", openai.UnprocessableEntityError, 422),
        ("status-429", openai.RateLimitError, 429),
        ("status-500", openai.InternalServerError, 500),
        ("status-503", openai.InternalServerError, 503),
        ("down", openai.InternalServerError, 503),
        ("no-such-model", openai.BadRequestError, 400),
    ],
)
def test_errors_have_the_client_s_classes(
    client: openai.OpenAI, model: str, expected: type[openai.APIStatusError], status: int
) -> None:
    for stream in (False, True):
        with pytest.raises(expected) as caught:
            client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
        assert caught.value.status_code == status
        assert caught.value.body is not None
        assert caught.value.request_id is None
        assert caught.value.response.headers["x-fastgate-request-id"]


def test_a_wrong_key_and_a_model_out_of_bounds(served: Stand) -> None:
    with (
        openai.OpenAI(base_url=served.gateway.url, api_key="sk-unknown") as stranger,
        pytest.raises(openai.AuthenticationError, match="Invalid proxy server token"),
    ):
        stranger.chat.completions.create(model="sim", messages=MESSAGES)
    with openai.OpenAI(base_url=served.gateway.url, api_key=NARROW_KEY) as narrow:
        assert [model.id for model in narrow.models.list()] == ["sim"]
        assert narrow.chat.completions.create(model="sim", messages=MESSAGES).choices
        with pytest.raises(openai.AuthenticationError, match="not allowed to access model"):
            narrow.chat.completions.create(model="claude", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError):
            narrow.models.retrieve("claude")


def test_an_error_in_a_stream(client: openai.OpenAI) -> None:
    seen = 0
    with pytest.raises(openai.APIError, match="simulated"):
        for _ in client.chat.completions.create(model="failing", messages=MESSAGES, stream=True):
            seen += 1
    assert seen == 3


def test_a_cut_stream_is_no_clean_end(client: openai.OpenAI) -> None:
    seen = 0
    with pytest.raises(openai.APIError) as caught:
        for _ in client.chat.completions.create(model="cut", messages=MESSAGES, stream=True):
            seen += 1
    assert seen == 5
    # The gateway's own error event, not only a broken connection.
    assert "upstream" in str(caught.value)


# timeouts and retries


@pytest.mark.parametrize(
    ("model", "stream"), [("stalling", False), ("stalling", True), ("stalling-late", True)]
)
def test_a_client_s_timeout_reaches_the_engine(
    served: Stand, client: openai.OpenAI, model: str, stream: bool
) -> None:
    hasty = client.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        list(hasty.chat.completions.create(model=model, messages=MESSAGES, stream=stream))
    found = served.engine.call("GET", "/sim/wait?aborted=1&timeout-s=5")
    assert "timed_out" not in found
    assert found["counters"]["requests"] == 1


async def test_a_cancelled_call_reaches_the_engine(served: Stand) -> None:
    async with new_async(served) as client:
        stream = await client.chat.completions.create(
            model="stalling-late", messages=MESSAGES, stream=True
        )
        events = aiter(stream)
        for _ in range(3):
            await anext(events)
        task = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        task.cancel()
        await stream.close()
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        None, served.engine.call, "GET", "/sim/wait?aborted=1&timeout-s=5"
    )
    assert "timed_out" not in found
    assert found["counters"]["running"] == 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_client_s_own_retries(served: Stand, client: openai.OpenAI, status: int) -> None:
    served.arm(f"status={status};retry-after=0", requests=2)
    begun_s = time.monotonic()
    answer = client.with_options(max_retries=2).chat.completions.create(
        model="sim", messages=MESSAGES
    )
    assert answer.choices[0].message.content == TEXT
    assert len(served.received()) == 3
    assert time.monotonic() - begun_s < 10


# the Anthropic protocol


def test_messages_are_passed_through(served: Stand) -> None:
    body = {**chat("claude"), "max_tokens": 4}
    fields = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "anthropic-beta": "b"}
    reply = served.ask("POST", "/v1/messages", body, key=None, fields=fields)
    assert reply.status == 200
    assert reply.json()["content"][0]["text"] == "the quick brown fox"
    stream = served.ask("POST", "/v1/messages", {**body, "stream": True}, key=None, fields=fields)
    assert stream.body.startswith(b"event: message_start\n")
    assert stream.body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    first = served.received()[0]
    sent = dict(first["headers"])
    assert first["target"] == "/v1/messages"
    assert json.loads(first["body"]) == {**body, "model": "sim"}
    assert sent["anthropic-version"] == "2023-06-01"
    assert sent["anthropic-beta"] == "b"
    # The gateway's key for the provider, not the client's key for the gateway.
    assert sent["x-api-key"] == hashlib.sha256(b"sk-upstream").hexdigest()
    assert "authorization" not in sent


def test_a_deployment_of_another_protocol_is_refused(served: Stand) -> None:
    reply = served.ask("POST", "/v1/messages", {**chat("sim"), "max_tokens": 4})
    assert reply.status == 400
    assert reply.json()["type"] == "error"
    assert "anthropic protocol" in reply.error["message"]
    assert served.chat("claude").status == 400
    assert served.received() == []
