"""Any bytes are refused, or they say to the scanner what they say to `json` under our rules."""

from __future__ import annotations

import random

import pytest

from tests.differential.test_jscan_json import assert_same

SEEDS = [
    b'{"model":"gpt-4o","messages":[{"role":"user","content":"h\\u00e9 \\"x\\" \xc3\xa9"}],"n":1}',
    b'{"stream":true,"stream_options":{"include_usage":false,"x":[1,-2.5e+3,{}]},"model":"a/b"}',
    b' {"prompt":["a",[1,2]],"max_tokens":16,"user":"u", "metadata":{"k":"\\ud83d\\ude00"}}\n',
    b'{"max_completion_tokens":5,"max_output_tokens":7,"input":"\xf0\x9f\x99\x82","mod\\u0065l":"m"}',
]
TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"null", b"true", b"0"),
    *(b"-", b".", b"e", b"1", b"\0", b"\n", b" ", b"\xff", b"\xc3", b"\xe2\x84\xaa", b"\xc5\xbf"),
    *(b'"model"', b'"stream":', b'"n":', b"{}", b"[]", b"\xed\xa0\x80", b"9007199254740993"),
]
ROUNDS = 40_000
"""About 2 s; `make soak` runs SOAK_ROUNDS."""
SOAK_ROUNDS = 4_000_000


def mutate(pick: random.Random, raw: bytes) -> bytes:
    for _ in range(pick.randint(1, 3)):
        at = pick.randrange(len(raw) + 1)
        end = min(len(raw), at + pick.choice((0, 0, 1, 1, 2, 8)))
        other = pick.choice(SEEDS)
        start = pick.randrange(len(other))
        insert = pick.choice((b"", pick.choice(TOKENS), other[start : start + pick.randrange(20)]))
        raw = raw[:at] + insert + raw[end:]
    return raw


def run(rounds: int, seed: int) -> int:
    pick = random.Random(seed)
    accepted = 0
    for _ in range(rounds):
        accepted += assert_same(mutate(pick, pick.choice(SEEDS))) is not None
    return accepted


def test_mutated_bodies() -> None:
    assert run(ROUNDS, 1) > ROUNDS // 100


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_mutated_bodies_for_long() -> None:
    run(SOAK_ROUNDS, 2)
