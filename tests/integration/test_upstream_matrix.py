"""Answers that no upstream should give: the client is told, and the next one is safe."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import corpus
from tests.front import MASTER_KEY, OK, Front
from tests.raw_peers import Answer, Call, Client, Upstream, plain_answer, sse_answer

pytestmark = pytest.mark.corpus

# Decided from the head alone, so that the client can still be told by a status; in the other rows
# marked 502 the answer had begun when its framing broke.
MID_BODY = {"chunked-cut", "chunked-cut-in-chunk", "short-cl"}

STOLEN = b"STOLEN!"


def rows() -> Iterator[tuple[str, str, bytes, bool]]:
    for line in (corpus("http-corpus") / "upstream-response-matrix.jsonl").read_text().splitlines():
        row = json.loads(line)
        name = row["id"].removeprefix("upstream/")
        yield name, row["verdict"], base64.b64decode(row["raw_b64"]), row["then_eof"]


async def ask(front: Front, client: Client, user: str) -> None:
    client.send(front.chat(model="many", key=MASTER_KEY, user=user))


async def played(
    front: Front, upstream: Upstream, client: Client, raw: bytes, eof: bool, bytewise: bool
) -> tuple[Answer, Call]:
    """Return what the client got when the upstream answered `raw`."""
    await ask(front, client, "first")
    call = await upstream.call()
    if bytewise:
        for at in range(len(raw)):
            if call.connection.ended.is_set():
                break
            call.send(raw[at : at + 1])
            await asyncio.sleep(0)
    else:
        call.send(raw)
    if eof:
        call.close()
    if not raw and call.connection.calls > 1:
        # A reused connection that ends without a byte was stale: the request comes once more on a
        # new one.
        call = await upstream.call()
        assert call.connection.calls == 1
        call.close()
    return await client.answer(), call


def expected_body(raw: bytes) -> bytes:
    """Return what a reader of `raw` has for a body: for rows that are to pass."""
    while True:
        head, _, rest = raw.partition(b"\r\n\r\n")
        if head[9:10] != b"1":
            break
        raw = rest
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if head[9:12] in (b"204", b"304"):
        return b""
    if b"transfer-encoding" in fields:
        body = b""
        while True:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if not length:
                return body
            body += rest[:length]
            rest = rest[length + 2 :]
    length = int(fields.get(b"content-length", len(rest)))
    return rest[:length]


def assert_relayed(name: str, raw: bytes, answer: Answer) -> None:
    assert answer.complete, name
    interim_free = raw[raw.rindex(b"HTTP/1.1 200") :] if "-then-200" in name else raw
    status = int(interim_free[9:12])
    assert answer.status == status, name
    assert answer.interim == [], name
    if status >= 400 and b"application/json" not in raw:
        # An error in another format is told in ours, with the upstream's status.
        assert answer.json()["error"]["code"] == str(status), name
    else:
        assert answer.body == expected_body(raw), name
    for field in ("x-secret", "keep-alive", "proxy-authenticate", "trailer", "x-sum"):
        assert field not in answer.fields, name


def assert_broken(name: str, answer: Answer) -> None:
    if name in MID_BODY and answer.status == 200:
        assert not answer.complete, name
    else:
        assert answer.status == 502, (name, answer)
        assert answer.json()["error"]["code"] == "502", name
        assert answer.complete, name


@pytest.mark.parametrize("bytewise", [False, True])
async def test_every_row_ends_as_listed(front: Front, upstream: Upstream, bytewise: bool) -> None:
    for name, verdict, raw, eof in rows():
        if bytewise and len(raw) > 4096:
            continue
        client = await front.connect()
        try:
            answer, call = await played(front, upstream, client, raw, eof, bytewise)
        except TimeoutError:
            raise AssertionError(f"{name}: no answer") from None
        if verdict == "502":
            assert_broken(name, answer)
        else:
            assert_relayed(name, raw, answer)
        if verdict == "pass":
            assert not call.connection.ended.is_set(), name
        else:
            await let_go(name, call)
        # Whoever asks next, on whatever connection, gets its own answer.
        other = await front.connect()
        if answer.complete:
            await ask(front, client, "second")
            await assert_own_answer(name, upstream, client, call, verdict)
        await ask(front, other, "third")
        await assert_own_answer(name, upstream, other, None, verdict)
        client.close()
        other.close()


async def let_go(name: str, call: Call) -> None:
    try:
        await call.gone()
    except TimeoutError:
        raise AssertionError(f"{name}: the connection is still open") from None


async def assert_own_answer(
    name: str, upstream: Upstream, client: Client, before: Call | None, verdict: str
) -> None:
    try:
        call = await upstream.call()
    except TimeoutError:
        raise AssertionError(f"{name}: the next request does not arrive") from None
    if before is not None:
        reused = call.connection is before.connection
        assert reused == (verdict == "pass"), name
    marker = b'{"for":"%b"}' % call.json()["user"].encode()
    call.send(plain_answer(marker))
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, marker), name
    assert STOLEN not in answer.body


async def test_bytes_on_an_idle_connection_never_answer_the_next_request(
    front: Front, upstream: Upstream
) -> None:
    client = await front.connect()
    await ask(front, client, "first")
    first = await upstream.call()
    first.send(OK)
    assert (await client.answer()).body == b'{"ok":true}'
    first.send(plain_answer(STOLEN))
    await first.gone()
    await ask(front, client, "second")
    second = await upstream.call()
    assert second.connection is not first.connection
    second.send(OK)
    assert (await client.answer()).body == b'{"ok":true}'
    client.close()


async def test_surplus_in_a_later_segment_races_with_the_next_request_and_loses(
    front: Front, upstream: Upstream
) -> None:
    # Sent at the very time at which the next request goes out: either order must be safe.
    for _ in range(100):
        client = await front.connect()
        await ask(front, client, "first")
        first = await upstream.call()
        first.send(OK)
        await client.answer()
        await ask(front, client, "second")
        first.send(plain_answer(STOLEN))
        upstream.on_call = lambda call: call.send(OK)
        answer = await client.answer()
        # What came with the request on its way can't be told from its answer by anybody (RFC 9112
        # 9.2 has no identifiers): it may be that, or the right one; never an answer of a third
        # request.
        upstream.on_call = upstream.queue.put_nowait
        assert answer.body in (b'{"ok":true}', STOLEN)
        client.close()


async def test_a_stream_of_two_answers_in_one_segment_keeps_the_first(
    front: Front, upstream: Upstream
) -> None:
    client = await front.connect()
    client.send(front.chat(model="many", key=MASTER_KEY, stream=True))
    call = await upstream.call()
    event = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    call.send(sse_answer(event) + plain_answer(STOLEN))
    answer = await client.answer()
    assert (answer.body, answer.complete) == (event, True)
    await call.gone()
    client.close()


def whole_heads() -> dict[str, Any]:
    """Field lines that must not reach the client as they are, and what it may see instead."""
    return {
        "Connection: close, X-Private\r\nX-Private: 1": ("x-private", None),
        "Set-Cookie: session=1": ("set-cookie", None),
        "X-Fastgate-Request-Id: forged": ("x-fastgate-request-id", "forged"),
        "X-Litellm-Call-Id: forged": ("x-litellm-call-id", "forged"),
        "X-Fastgate-Deployment: forged": ("x-fastgate-deployment", "forged"),
        "Server: engine/1": ("server", "engine/1"),
        "Upgrade: h2c": ("upgrade", None),
        "Proxy-Authenticate: Basic": ("proxy-authenticate", None),
        "TE: trailers": ("te", None),
    }


async def test_fields_of_the_hop_and_of_our_own_names_stay_behind(
    front: Front, upstream: Upstream
) -> None:
    for line, (name, forged) in whole_heads().items():
        client = await front.connect()
        await ask(front, client, "first")
        call = await upstream.call()
        call.send(plain_answer(b"{}", line.encode() + b"\r\n"))
        answer = await client.answer()
        assert answer.status == 200, line
        assert answer.fields.get(name) != forged or forged is None, line
        if forged is None:
            assert name not in answer.fields, line
        client.close()


async def test_a_cut_answer_breaks_the_connection_of_a_client_that_reads_to_its_end(
    front: Front, upstream: Upstream
) -> None:
    """HTTP/1.0 has no chunks: only a reset tells an end from a cut."""
    client = await front.connect()
    asked = front.chat(model="many", key=MASTER_KEY, stream=True)
    client.send(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))
    call = await upstream.call()
    call.send(sse_answer(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', last=False))
    await client.read_until(b"\n\n")
    call.close()
    with pytest.raises(ConnectionResetError):
        while await client.reader.read(1000):
            pass
    client.close()
