"""Token for token what tiktoken makes of a text, whatever the text and wherever it is sliced."""

from __future__ import annotations

import random
from itertools import zip_longest

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.texts import FRAGMENTS, KINDS, RUNS, text_of
from fastgate._core.bpe import Count
from tests.codepoints import HEADER, header
from tests.corpus import corpus
from tests.differential.tiktoken_oracle import NAMES, oracle, ours

SIZE = 40_000
"""Characters of each kind; `make soak` takes SOAK_SIZE, which is 20 MB of UTF-8 in all."""
SOAK_SIZE = 900_000
CASES = 1_500
SOAK_CASES = 50_000
"""For each vocabulary."""

# What hypothesis would rarely put together, and any text.
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=12).map(
    "".join
)


def assert_same(name: str, text: str, slice_bytes: int = 0) -> int:
    """Compare the tokens; returns the text's bytes."""
    data = text.encode()
    counter = ours(name)
    expected = oracle(name).encode_ordinary(text)
    tokens = counter.encode(data)
    if tokens != expected:
        pairs = enumerate(zip_longest(tokens, expected))
        at = next(i for i, (token, wanted) in pairs if token != wanted)
        before = oracle(name).decode_bytes(expected[:at])[-40:]
        raise AssertionError(f"after {before!r}: {tokens[at : at + 5]} != {expected[at : at + 5]}")
    assert counter.count(data) == len(expected)
    # Again, from the cache of pieces that the first count filled.
    assert counter.count(data) == len(expected)
    if slice_bytes:
        count = Count(counter, data)
        while not count.advance(slice_bytes):
            assert count.tokens <= len(expected)
        assert count.tokens == len(expected)
    return len(data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_kind(name: str, kind: str) -> None:
    assert_same(name, text_of(kind, SIZE, 1), slice_bytes=random.Random(kind).randint(1, 999))


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_twenty_megabytes_of_mixed_text(name: str) -> None:
    size = sum(assert_same(name, text_of(kind, SOAK_SIZE, 2), 8192) for kind in KINDS)
    print(f"{name}: {size} bytes, no difference")
    assert size >= 20_000_000


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_recorded_prompts_and_sentences(name: str) -> None:
    for folder in ("semcache", "cassettes", "traces"):
        for path in sorted(corpus(folder).rglob("*.json*")):
            assert_same(name, path.read_text("utf-8", "replace"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", RUNS)
def test_a_run_of_anything(name: str, run: str) -> None:
    for times in (1, 2, 3, 15, 16, 17, 61, 62, 63, 64, 1000):
        assert_same(name, run * times, slice_bytes=7)
        assert_same(name, f"x{run * times}Y", slice_bytes=times)


@pytest.mark.parametrize("name", NAMES)
def test_every_character_alone_and_between_others(name: str) -> None:
    characters = [chr(c) for c in range(0x3000) if not 0xD800 <= c < 0xE000]
    assert_same(name, "".join(f"{c} a{c}A {c}\n{c}1{c}'{c}s{c}{c}\n" for c in characters))


def test_the_table_of_code_points_is_that_of_tiktokens_own_expressions() -> None:
    assert HEADER.read_text() == header()


@pytest.mark.parametrize("name", NAMES)
def test_every_token_is_its_own_encoding(name: str) -> None:
    # What merges.pxd relies on, for all tokens that are text.
    decode = oracle(name).decode_single_token_bytes
    for token in range(0, ours(name).size, 37):
        try:
            decode(token).decode()
        except UnicodeDecodeError:
            continue
        assert_same(name, decode(token).decode())


@settings(max_examples=CASES, deadline=None)
@given(st.sampled_from(NAMES), TEXTS, st.integers(1, 20))
@example("o200k_base", "\u0301HELLO", 1)
@example("o200k_base", "!\u0301's", 1)
@example("o200k_base", "\u4e2dABC'\u017f", 3)
@example("cl100k_base", "\n  ", 1)
@example("cl100k_base", "a \u00a0 b", 1)
def test_any_text(name: str, text: str, slice_bytes: int) -> None:
    assert_same(name, text, slice_bytes)


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_a_great_many_texts(name: str) -> None:
    @settings(max_examples=SOAK_CASES, deadline=None, database=None)
    @given(TEXTS, st.integers(1, 20))
    def check(text: str, slice_bytes: int) -> None:
        assert_same(name, text, slice_bytes)

    check()
