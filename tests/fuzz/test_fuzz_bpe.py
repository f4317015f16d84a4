"""Any bytes, in any slices, count as their repaired text does, and no memory is touched beside."""

from __future__ import annotations

import random

import pytest

from bench.texts import FRAGMENTS, RUNS
from fastgate._core.bpe import PATTERNS, Count, Counter
from fastgate.tokens.encodings import ranks

PIECES = [text.encode() for text in (*FRAGMENTS, *RUNS)] + [
    *(b"\x80", b"\xc3", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90", b"\xff", b"\0"),
    *(b"internationalization", b"a" * 15, b"b" * 16, b"c" * 62, b"d" * 63, "é".encode() * 31),
]
ROUNDS = 20_000
"""Under 1 s; `make soak` runs SOAK_ROUNDS."""
SOAK_ROUNDS = 300_000


def run(rounds: int, seed: int) -> None:
    pick = random.Random(seed)
    text = b"".join(ranks("o200k_base").splitlines(keepends=True)[:20_000])
    counters = [Counter(text, pattern) for pattern in PATTERNS]
    for _ in range(rounds):
        # A copy of its own, so that a sanitizer sees what reads past its end.
        data = b"".join(pick.choices(PIECES, k=pick.randint(0, 8))) + pick.randbytes(
            pick.choice((0, 0, 1, 20))
        )
        for counter in counters:
            expected = len(counter.encode(data.decode("utf-8", "replace").encode()))
            assert counter.count(data) == expected, data
            count = Count(counter, data)
            while not count.advance(pick.choice((1, 2, 3, 17, 64, 1000))):
                pass
            assert count.tokens == expected, data


def test_any_bytes() -> None:
    run(ROUNDS, 1)


@pytest.mark.soak
def test_many_more_bytes() -> None:
    run(SOAK_ROUNDS, 2)
