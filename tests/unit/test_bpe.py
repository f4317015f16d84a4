"""What a counter takes, refuses and promises beside the right number."""

from __future__ import annotations

import base64
from functools import cache

import pytest

from fastgate._core.bpe import PATTERNS, Count, Counter
from fastgate.tokens.encodings import ranks

BYTES = [bytes([i]) for i in range(256)]
SLICE_BYTES = 1000


def vocabulary(*merged: bytes, tokens: list[bytes] = BYTES) -> bytes:
    lines = (base64.b64encode(token) for token in (*tokens, *merged))
    return b"".join(b"%s %d\n" % (line, rank) for rank, line in enumerate(lines))


@cache
def real(pattern: str = "o200k") -> Counter:
    # The first tokens of a vocabulary are one, too.
    return Counter(b"".join(ranks("o200k_base").splitlines(keepends=True)[:20_000]), pattern)


def test_the_pair_of_lowest_rank_is_merged_first() -> None:
    counter = Counter(vocabulary(b"bc", b"ab", b"bcb"), "cl100k")
    assert counter.encode(b"abc") == [97, 256]
    assert counter.encode(b"abab") == [257, 257]
    assert counter.encode(b"abcb") == [97, 258]
    assert counter.size == 259


def test_of_equal_pairs_the_left_one_is_merged_first() -> None:
    counter = Counter(vocabulary(b"aa", b"aab"), "cl100k")
    assert counter.encode(b"aaa") == [256, 97]
    assert counter.encode(b"aaab") == [256, 97, 98]
    assert counter.encode(b"aab") == [257]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected 256 to 2097150 lines, one per token, got 0"),
        (vocabulary()[:-1] + b"0\n", "line 256: expected the token in base64 and its rank 255"),
        (vocabulary().replace(b"AQ== 1\n", b"AQ==1\n"), r"line 2: .* got b'AQ==1'"),
        (vocabulary().replace(b"AQ== 1\n", b" 1\n"), r"line 2: .* got b' 1'"),
        (vocabulary().replace(b"AQ== 1\n", b"?? 1\n"), r"line 2: .* got b'\?\? 1'"),
        (vocabulary() + b"YWI= 256 \n", r"line 257: .* got b'YWI= 256 '"),
        (vocabulary(b"ab", b"ab"), "256 is b'ab'|257 is b'ab'"),
        (vocabulary(b"abc"), "every token to be a byte or two tokens .* 256 is b'abc'"),
        (vocabulary(b"ab", b"bc", b"abab", b"abcd"), "259 is b'abcd'"),
        (vocabulary(b"a" * 300), "256 is b'a"),
        (vocabulary(tokens=[b"ab", *BYTES[1:]]), "0 is b'ab'"),
        (vocabulary(tokens=[b"b", *BYTES[1:]]), "98 is b'b'"),
    ],
)
def test_a_wrong_vocabulary_is_refused_with_the_place(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Counter(text, "cl100k")


def test_a_pattern_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a pattern of cl100k, o200k, got 'p50k'"):
        Counter(vocabulary(), "p50k")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nothing_has_no_tokens(pattern: str) -> None:
    assert real(pattern).count(b"") == 0
    assert real(pattern).encode(b"") == []
    assert Count(real(pattern), b"").advance(1)


@pytest.mark.parametrize(
    "malformed",
    [
        *(b"\x80", b"\xc0\xaf", b"\xc3", b"\xe4\xb8", b"\xed\xa0\x80", b"\xe0\x80\x80"),
        *(b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xff\xfe", b"\xf0\x80\x80\x80", b"a\xc3b"),
    ],
)
def test_what_is_not_utf8_counts_as_replacement_characters(malformed: bytes) -> None:
    for data in (malformed, b"abc " * 9 + malformed, malformed + b" Abc", b"a" * 70 + malformed):
        repaired = data.decode("utf-8", "replace").encode()
        expected = real().encode(repaired)
        assert real().encode(data) == expected
        assert real().count(data) == len(expected)
        for step in (1, 2, 50):
            count = Count(real(), data)
            while not count.advance(step):
                pass
            assert count.tokens == len(expected)


def test_names_of_special_tokens_are_text() -> None:
    assert real().count(b"<|endoftext|>") > 1


def test_slices_may_be_of_any_size() -> None:
    data = ("Some words, 中文 and   spaces\n\n" + "x" * 100).encode() * 3
    for step in (1, 2, 3, 10, 1000):
        count = Count(real(), data)
        seen = [0]
        while not count.advance(step):
            assert count.tokens >= seen[-1]
            seen.append(count.tokens)
        assert count.tokens == real().count(data)
        assert len(seen) <= len(data) * 3 / step + 2


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_slice_of_nothing_is_refused(max_bytes: int) -> None:
    with pytest.raises(ValueError, match="expected max_bytes to be at least 1"):
        Count(real(), b"abc").advance(max_bytes)


def test_counts_in_slices_go_on_beside_each_other_and_beside_whole_ones() -> None:
    texts = [b"a" * 5000, b"Hello, world! " * 300, "é".encode() * 3000]
    counts = [Count(real(), text) for text in texts]
    pending = list(counts)
    while pending:
        pending = [count for count in pending if not count.advance(97)]
        assert real().count(b"b" * 100) == len(real().encode(b"b" * 100))
    assert [count.tokens for count in counts] == [len(real().encode(text)) for text in texts]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "run", ["a", "A", " ", "\n", "\n ", "!", "/", "中", "aA", "ab", "\u0301", "0", "\u00a0", "é"]
)
def test_work_is_linear_in_the_text_whatever_it_is(pattern: str, run: str) -> None:
    def slices(size: int) -> int:
        count, n = Count(real(pattern), (run * size).encode() + b"Z"), 1
        while not count.advance(SLICE_BYTES):
            n += 1
        return n

    # A slice does a bounded amount of work, so their number is the work.
    assert slices(40_000) <= 2 * slices(20_000) + 2
    assert slices(40_000) <= 40_000 * len(run.encode()) * 8 / SLICE_BYTES


def test_the_cache_is_bounded() -> None:
    counter = Counter(vocabulary(b"ab", b"abab"), "cl100k")
    before = counter.memory_bytes
    words = [f"ab{i}ab{'abab' * (i % 9)} " for i in range(100_000)]
    total = counter.count("".join(words).encode())
    # Twice, since most of them fell out of the cache meanwhile.
    assert counter.count("".join(words).encode()) == total
    assert counter.memory_bytes == before < 5_000_000


def test_wrong_types_are_refused() -> None:
    for call in (real().count, real().encode):
        with pytest.raises(TypeError):
            call("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            call(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Count(real(), None)  # type: ignore[arg-type]
