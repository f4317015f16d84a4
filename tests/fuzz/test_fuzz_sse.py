"""Any bytes in any split say to the scanner what they say to the reader of `sse_reader`."""

from __future__ import annotations

import random

import pytest

from tests.differential.sse_reader import read_stream
from tests.differential.test_sse_reader import assert_document, assert_stream

STREAMS = [
    b'data: {"choices":[{"delta":{"content":"a\\u00e9\\n"},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7.0}}\n\n'
    b"data: [DONE]\n\n",
    b": hb\r\n\r\nevent: message_start\r\ndata: "
    b'{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}\r\n\r\n',
    b'event: error\rdata: {"type":"error",\rdata: "error":{"message":"x"}}\r\rdata\r\r',
    b'data:{"type":"response.completed","response":{"usage":{"input_tokens":1e1,'
    b'"output_tokens_details":{"reasoning_tokens":3}}}}\n\n',
]
TOKENS = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"data: ", b"data:", b"event: ", b"event: ping\n", b": c\n"),
    *(b"[DONE]", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"-", b"1e9", b" "),
    *(
        b'"usage":',
        b'"error":1',
        b'"choices":[]',
        b'"type":"ping"',
        b"\xef\xbb\xbf",
        b"\0",
        b"\xff",
    ),
]
ROUNDS = 20_000
"""About 2 s; `make soak` runs SOAK_ROUNDS."""
SOAK_ROUNDS = 2_000_000


def mutate(pick: random.Random, raw: bytes) -> bytes:
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(raw) + 1)
        end = min(len(raw), at + pick.choice((0, 0, 1, 1, 2, 8)))
        raw = raw[:at] + pick.choice((b"", pick.choice(TOKENS), pick.choice(TOKENS))) + raw[end:]
    return raw


def run(rounds: int, seed: int) -> None:
    pick = random.Random(seed)
    for _ in range(rounds):
        raw = mutate(pick, b"".join(pick.choices(STREAMS, k=pick.randint(1, 3))))
        cuts = pick.sample(range(len(raw) + 1), min(len(raw), 3))
        assert_stream(raw, read_stream(raw), cuts)
        document = raw[raw.find(b"{") :].split(b"\n\n")[0]
        assert_document(document, [cut for cut in cuts if cut < len(document)])


def test_mutated_streams() -> None:
    run(ROUNDS, 1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_mutated_streams_for_long() -> None:
    run(SOAK_ROUNDS, 2)
