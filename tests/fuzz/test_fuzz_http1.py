"""Any bytes either parse or raise ProtocolError, and mean the same whole and in any pieces."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator

import pytest

from fastgate._core.http1 import (
    NameSet,
    ProtocolError,
    RequestReader,
    ResponseReader,
    build_request_head,
    build_response_head,
)
from tests.corpus import corpus
from tests.http1_wire import Exchange, bytewise, read_requests, read_response

REQUESTS = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a:80\r\nAccept: */*\r\nConnection: x-a, close\r\nX-A: 1\r\n\r\n",
    b"POST http://h/p HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
    b"\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    b'a;b="c\\"";d=e ; f\r\n0123456789\r\n0\r\nX-Sum: 1\r\nX-Long-Name-Of-A-Field: 2\r\n\r\n',
    b"\r\nOPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: a\r\n\r\nhello",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;a\r\nx\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.0 503 \r\nServer: x\r\nRetry-After: 1\r\n\r\nbusy",
    b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n",
]
TOKENS = [
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b";", b",", b"=", b'"', b"\\", b"0"),
    *(b"\0", b"\x7f", b"\xff", b"A", b"a", b"f", b"/", b"?", b"#", b"*", b"-", b"HTTP/1.1", b"[::"),
    *(b"Host: a\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"fffffffff"),
    *(b"Connection: close\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"x" * 40, b"A: b\r\n" * 101),
]
ROUNDS = 20_000
"""About 2 s; `make soak` runs SOAK_ROUNDS."""
SOAK_ROUNDS = 1_000_000

NOTHING = NameSet([])


def mutate(pick: random.Random, raw: bytes) -> bytes:
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(raw) + 1)
        end = min(len(raw), at + pick.choice((0, 0, 1, 1, 2, 8)))
        raw = raw[:at] + pick.choice((b"", pick.choice(TOKENS), pick.choice(TOKENS))) + raw[end:]
    return raw


def pieces(pick: random.Random, raw: bytes) -> Iterator[list[bytes]]:
    yield bytewise(raw)
    for n in (1, 3):
        cuts = sorted(pick.sample(range(len(raw) + 1), min(n, len(raw))))
        yield [raw[i:j] for i, j in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def read_answer(segments: list[bytes]) -> Exchange:
    return read_response(segments, eof=True)


def check(pick: random.Random, read: Callable[[list[bytes]], Exchange], raw: bytes) -> None:
    whole = read([raw])
    for segments in pieces(pick, raw):
        assert read(segments) == whole, raw


def check_built(raw: bytes) -> None:
    """What is built from a head that was taken is taken, and adds nothing to it."""
    request = RequestReader()
    response = ResponseReader()
    reader = response if raw.startswith(b"HTTP/") else request
    try:
        if reader.feed_head(raw, 0) < 0:
            return
    except ProtocolError:
        return
    if reader is response:
        built = build_response_head(response.status, response, NOTHING, b"", -2)
        again = read_response([built], eof=True)
    else:
        names = NameSet([name for name, _ in request.items() if len(name) < 64])
        # HTTP/1.1 would need a Host.
        prefix = b"GET / HTTP/1.%d\r\n" % (b"host" in names)
        again = read_requests([build_request_head(prefix, request, names, b"", -2)])
    assert again.outcome == "accept", (raw, again.error)
    assert not [field for field in again.messages[0].fields if field not in reader.items()]


def run(rounds: int, seed: int, seeds: tuple[list[bytes], list[bytes]]) -> None:
    pick = random.Random(seed)
    for read, known in ((read_requests, seeds[0]), (read_answer, seeds[1])):
        for _ in range(rounds):
            raw = mutate(pick, pick.choice(known))
            check(pick, read, raw)
            check_built(raw)


def corpus_seeds() -> tuple[list[bytes], list[bytes]]:
    folder = corpus("http-corpus")
    found: dict[str, list[bytes]] = {"request": [], "response": []}
    for entry in json.loads((folder / "index.json").read_text()):
        for line in (folder / entry["file"]).read_text().splitlines():
            raw = base64.b64decode(json.loads(line).get("raw_b64", ""))
            if 0 < len(raw) < 1000:
                found[entry["kind"]].append(raw)
    return found["request"], found["response"]


def test_mutated_messages() -> None:
    run(ROUNDS, 1, (REQUESTS, RESPONSES))


@pytest.mark.corpus
def test_mutated_messages_of_the_corpus() -> None:
    run(ROUNDS // 3, 2, corpus_seeds())


def test_noise() -> None:
    pick = random.Random(3)
    for _ in range(ROUNDS):
        raw = b"".join(pick.choices(TOKENS, k=pick.randint(1, 12)))
        check(pick, read_requests, raw)
        check(pick, read_answer, b"HTTP/1.1 200" + raw)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_mutated_messages_for_long() -> None:
    run(SOAK_ROUNDS, random.SystemRandom().getrandbits(64), (REQUESTS, RESPONSES))
