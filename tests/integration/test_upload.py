"""Multipart bodies through the running gateway: looked at, spliced, streamed, never held."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.raw_peers import WAIT_S, Answer, Client, Upstream, chunked, plain_answer
from tests.served import KEY, Stand, config, deployment, free_port, stand

BOUNDARY = "----a-boundary-of-these-tests"
# More than the kernel takes for a peer that does not read.
FORM_LIMIT_BYTES = 6 * 1024 * 1024
UPLOAD_LIMIT_BYTES = 48 * 1024 * 1024
IDLE_S = 1.2
OK = plain_answer(b'{"text":"heard"}')


def part(name: str, content: bytes, extra: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def audio(size: int) -> bytes:
    """A file's part; its content is never the same for long."""
    block = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256))
    content = (block * (size // len(block) + 1))[:size]
    return part("file", content, '; filename="a.wav"')


def head_of(length: int | None, fields: str = "", path: str = "/v1/audio/transcriptions") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{framing}\r\n{fields}\r\n"
    ).encode()


# A form whose model is known, and which goes on.
BEGUN = part("model", b"raw") + audio(100)[:-2]


@pytest.fixture(scope="module")
def upstream_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream_port: int) -> Iterator[Stand]:
    raw = f"http://127.0.0.1:{upstream_port}/v1"

    def configure(engines: list[Any]) -> dict[str, Any]:
        return config(
            [
                deployment("whisper", engines[0].url, "openai/sim", "whisper-1"),
                deployment("raw", raw, "openai/raw-model", "raw-1"),
                deployment("retried", f"http://127.0.0.1:{free_port()}/v1", order=1),
                deployment("retried", engines[0].url, "openai/sim", "retried-2", order=2),
            ],
            router={"num_retries": 1, "disable_cooldowns": True},
            limits={
                "max_form_bytes": FORM_LIMIT_BYTES,
                "max_upload_bytes": UPLOAD_LIMIT_BYTES,
                "body_idle_timeout_s": IDLE_S,
            },
            # An upload needs a fresh connection: an idle one must make room for it.
            upstream={"max_connections": 1, "max_wait_s": 2},
        )

    with stand(tmp_path_factory, [[]], configure) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(served: Stand) -> None:
    served.reset()


@pytest.fixture
async def client(served: Stand) -> AsyncIterator[Client]:
    client = await Client.connect(served.port)
    yield client
    client.writer.transport.abort()


@pytest.fixture
async def upstream(upstream_port: int) -> AsyncIterator[Upstream]:
    upstream = await Upstream.listen(upstream_port)
    yield upstream
    await upstream.close()


async def ask(client: Client, body: bytes, **options: Any) -> Answer:
    client.send(head_of(len(body), **options) + body)
    return await client.answer()


async def received(served: Stand) -> list[dict[str, Any]]:
    return await asyncio.get_running_loop().run_in_executor(None, served.received)


def worker_pid(served: Stand) -> int:
    records = served.gateway.records()
    return next(
        record["pid"]
        for record in records
        if record.get("event") == "ready" and record["name"].startswith("worker")
    )


def rss_bytes(pid: int, which: str) -> int:
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def in_flight(served: Stand) -> float:
    loop = asyncio.get_running_loop()
    return (await loop.run_in_executor(None, served.metrics))["fastgate_in_flight"]


async def assert_let_go(served: Stand, upstream: Upstream) -> None:
    """The upstream's connections end, and nothing stays in flight."""
    async with asyncio.timeout(WAIT_S):
        while upstream.open or await in_flight(served):
            await asyncio.sleep(0.02)


# what arrives


@pytest.mark.parametrize("length_known", [True, False])
async def test_the_model_alone_is_replaced(
    served: Stand, client: Client, length_known: bool
) -> None:
    before, after = part("language", b"en"), audio(3000)
    body = form(before, part("model", b"whisper"), after)
    if length_known:
        answer = await ask(client, body)
    else:
        client.send(head_of(None) + chunked(body[:100], body[100:200], body[200:]))
        answer = await client.answer()
    assert (answer.status, answer.complete) == (200, True), answer
    (request,) = await received(served)
    expected = form(before, part("model", b"sim"), after)
    assert request["body_sha256"] == hashlib.sha256(expected).hexdigest()
    fields = dict(request["headers"])
    assert fields["content-type"] == f"multipart/form-data; boundary={BOUNDARY}"
    assert ("content-length" in fields) == length_known
    assert fields.get("content-length", str(len(expected))) == str(len(expected))


async def test_every_split_of_a_small_form_arrives_alike(served: Stand) -> None:
    body = form(part("model", b"whisper"), audio(40))
    request = head_of(len(body)) + body
    client = await Client.connect(served.port)
    start = len(request) - len(body)
    for at in range(start, len(request)):
        client.send(request[:at])
        # A segment of its own: the gateway has read it when the engine's answer to nothing is due.
        await asyncio.sleep(0.0005)
        client.send(request[at:])
        answer = await client.answer()
        assert answer.status == 200, (at, answer)
    found = {entry["body_sha256"] for entry in await received(served)}
    assert found == {hashlib.sha256(form(part("model", b"sim"), audio(40))).hexdigest()}
    client.close()


async def test_the_model_in_the_path_is_enough(served: Stand, client: Client) -> None:
    path = "/openai/deployments/whisper/audio/transcriptions?api-version=2024-10-21"
    assert (await ask(client, form(audio(100)), path=path)).status == 200
    (request,) = await received(served)
    assert request["target"] == "/v1/audio/transcriptions"
    # An engine behind no such path needs it in the form.
    expected = form(part("model", b"sim"), audio(100))
    assert request["body_sha256"] == hashlib.sha256(expected).hexdigest()


async def test_the_model_may_follow_a_file_within_the_limit(served: Stand, client: Client) -> None:
    size = FORM_LIMIT_BYTES - 4096
    body = form(audio(size), part("model", b"whisper"))
    assert (await ask(client, body)).status == 200
    expected = form(audio(size), part("model", b"sim"))
    (request,) = await received(served)
    assert request["body_sha256"] == hashlib.sha256(expected).hexdigest()


async def test_a_model_behind_the_limit_is_refused(served: Stand, client: Client) -> None:
    body = form(audio(2 * FORM_LIMIT_BYTES), part("model", b"whisper"))
    answer = await ask(client, body)
    assert answer.status == 413
    assert answer.json()["error"]["param"] == "model"
    assert await received(served) == []


async def test_a_connection_that_is_refused_is_tried_elsewhere(
    served: Stand, client: Client
) -> None:
    answer = await ask(client, form(part("model", b"retried"), audio(2000)))
    assert answer.status == 200
    assert answer.fields["x-fastgate-deployment"] == "retried-2"
    assert answer.fields["x-fastgate-attempts"] == "2"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(audio(10)), 400),
        (form(part("model", b"no-such-model"), audio(10)), 400),
        (form(part("model", b"../whisper"), audio(10)), 400),
        (form(part("model", b"whisper"), part("model", b"whisper")), 400),
        (part("model", b"whisper")[:-2], 400),
        (b"not a form", 400),
        (b"", 400),
    ],
)
async def test_a_form_that_names_no_usable_model(
    served: Stand, client: Client, body: bytes, status: int
) -> None:
    answer = await ask(client, body)
    assert answer.status == status, answer
    assert answer.json()["error"]["code"] == str(status)
    assert await received(served) == []


async def test_json_where_a_form_is_due(served: Stand) -> None:
    loop = asyncio.get_running_loop()
    reply = await loop.run_in_executor(
        None, served.ask, "POST", "/v1/audio/transcriptions", {"model": "whisper"}
    )
    assert reply.status == 400
    assert "multipart/form-data" in reply.error["message"]


# streaming


async def test_twenty_megabytes_are_not_held(served: Stand, client: Client) -> None:
    body = form(part("model", b"whisper"), audio(20_000_000))
    pid = worker_pid(served)
    assert (await ask(client, form(part("model", b"whisper"), audio(1000)))).status == 200
    # Forget the peak so far (proc(5), clear_refs).
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = rss_bytes(pid, "VmHWM")
    assert (await ask(client, body)).status == 200
    assert rss_bytes(pid, "VmHWM") - before < 8_000_000
    expected = form(part("model", b"sim"), audio(20_000_000))
    assert (await received(served))[-1]["body_sha256"] == hashlib.sha256(expected).hexdigest()


@pytest.mark.parametrize("size_before_model", [0, FORM_LIMIT_BYTES - 4096])
async def test_an_upstream_that_does_not_read_stops_the_client(
    served: Stand, client: Client, upstream_port: int, size_before_model: int
) -> None:
    body = form(part("prompt", b"a" * size_before_model), part("model", b"raw"), audio(30_000_000))
    pid = worker_pid(served)
    before = rss_bytes(pid, "VmRSS")
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        # The kernel takes the connection and what its buffers hold; nobody reads.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", upstream_port))
        listener.listen()
        listener.setblocking(False)
        client.send(head_of(len(body)) + body)
        left, since_s = -1, loop.time()
        async with asyncio.timeout(WAIT_S):
            # Until nothing has moved for longer than the idle limit: it isn't the client's fault.
            while loop.time() - since_s < 2 * IDLE_S:
                now_left = client.writer.transport.get_write_buffer_size()
                if now_left != left:
                    left, since_s = now_left, loop.time()
                await asyncio.sleep(0.02)
        assert left > 10_000_000
        assert rss_bytes(pid, "VmRSS") - before < 2 * size_before_model + 4_000_000
        plug, _ = await loop.sock_accept(listener)
        with plug:
            received = bytearray()
            while not received.endswith(b"--\r\n"):
                received += await loop.sock_recv(plug, 1 << 20)
            assert received.endswith(
                body.replace(b"\r\nraw\r\n", b"\r\nraw-model\r\n"),
            )
            await loop.sock_sendall(plug, OK)
            assert (await client.answer()).status == 200


async def test_a_slow_client_that_keeps_sending_is_not_late(served: Stand, client: Client) -> None:
    body = form(part("model", b"whisper"), audio(4000))
    client.send(head_of(len(body)))
    step = len(body) // 8 + 1
    for at in range(0, len(body), step):
        client.send(body[at : at + step])
        await asyncio.sleep(IDLE_S / 3)
    assert (await client.answer()).status == 200


# early ends


async def test_an_early_answer_ends_the_upload(
    served: Stand, client: Client, upstream: Upstream
) -> None:
    upstream.reads_requests = False
    body = form(part("model", b"raw"), audio(1_000_000))
    client.send(head_of(len(body)) + body[:1000])
    connection = await until_connected(upstream)
    connection.transport.write(OK)
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b'{"text":"heard"}')
    # The rest of the body can't be told from a next request.
    assert answer.fields["connection"] == "close"
    assert await client.read_rest() == b""
    await assert_let_go(served, upstream)


async def test_an_early_refusal_is_passed_on(
    served: Stand, client: Client, upstream: Upstream
) -> None:
    upstream.reads_requests = False
    body = form(part("model", b"raw"), audio(1_000_000))
    client.send(head_of(len(body)) + body[:1000])
    connection = await until_connected(upstream)
    connection.transport.write(plain_answer(b'{"error":"too long"}', status=b"413 Too Long"))
    answer = await client.answer()
    assert (answer.status, answer.body) == (413, b'{"error":"too long"}')
    assert answer.fields["connection"] == "close"
    await assert_let_go(served, upstream)


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"not-a-size\r\n", 400),
        (chunked(b"\r\n" + part("model", b"another"), last=False), 400),
        (chunked(b"a" * UPLOAD_LIMIT_BYTES, last=False), 413),
        (b"", 408),
    ],
    ids=["bad-chunk", "second-model", "too-large", "silence"],
)
async def test_a_body_that_goes_wrong_half_way_leaves_nothing(
    served: Stand, client: Client, upstream: Upstream, rest: bytes, status: int
) -> None:
    upstream.reads_requests = False
    client.send(head_of(None) + chunked(BEGUN, last=False))
    await until_connected(upstream)
    client.send(rest)
    answer = await client.answer()
    assert answer.status == status, answer
    assert answer.fields["connection"] == "close"
    await assert_let_go(served, upstream)


@pytest.mark.parametrize(
    "rest", [b"not-a-size\r\n", chunked(b"\r\n" + part("model", b"x"), last=False)]
)
async def test_a_started_answer_is_cut_when_the_body_goes_wrong(
    served: Stand, client: Client, upstream: Upstream, rest: bytes
) -> None:
    upstream.reads_requests = False
    client.send(head_of(None) + chunked(BEGUN, last=False))
    connection = await until_connected(upstream)
    connection.transport.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nhalf"
    )
    assert (await client.read_until(b"half")).startswith(b"HTTP/1.1 200 ")
    client.send(rest)
    # Nothing is said behind the head that was sent: no second head inside the body.
    connection.transport.write(b" and half")
    assert b"HTTP/1.1" not in await client.read_rest()
    await assert_let_go(served, upstream)


async def test_a_client_that_leaves_ends_the_upload(served: Stand, upstream: Upstream) -> None:
    upstream.reads_requests = False
    client = await Client.connect(served.port)
    client.send(head_of(10_000) + BEGUN)
    await until_connected(upstream)
    client.close()
    await assert_let_go(served, upstream)


async def test_uploads_do_not_start_on_a_connection_that_may_be_stale(
    served: Stand, client: Client, upstream: Upstream
) -> None:
    # What has been sent of a streamed body can't be sent again.
    def on_call(call: Any) -> None:
        if call.connection.calls == 1:
            call.send(OK)
        else:
            call.close()

    upstream.on_call = on_call
    body = form(part("model", b"raw"), audio(1000))
    for _ in range(3):
        answer = await ask(client, body)
        assert (answer.status, answer.body) == (200, b'{"text":"heard"}')


async def until_connected(upstream: Upstream) -> Any:
    """Return the connection on which the form's beginning has come."""
    async with asyncio.timeout(WAIT_S):
        while not (upstream.connections and b'name="model"' in upstream.connections[-1].received):
            await asyncio.sleep(0.005)
    return upstream.connections[-1]
