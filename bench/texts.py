"""Mixed text of any size to count: what the machine has, and what a generator makes of Unicode."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

__all__ = ["FRAGMENTS", "KINDS", "RUNS", "text_of"]

RUNS = [
    *("a", "A", "aA", " ", "\n", " \n", "\r\n", "\t", "/", "!", "'s", "0", "\u00a0", "\u0301"),
    *("\u4e2d", "\u00e9", "\u0639", "\U0001f600", "\ufffd", "A\u0301", "\u02b0", "x ", "=-"),
]
"""What attacks repeat."""

FRAGMENTS = [
    *("'s", "'S", "'\u017f", "'re", "'VE", "'Ll", "'d", "'", "''", " '", "a's", "A'S", "\u4e2d't"),
    *(" ", "  ", "\n", "\r\n", "\n\n", " \n ", "\t", "\u00a0", "\u2028", "\u3000", "\u0085"),
    *("a", "B", "aB", "Ba", "AB", "ABc", "\u00c9", "\u00e9", "\u01c5", "\u02b0", "\u4e2d"),
    *("\u0301", "\u0627\u0644", "\u0939\u093f", "1", "12", "1234", "\u00b2", "\u0663", "\u2167"),
    *("!", "/", "//", "\n/", "_", "...", "\U0001f600", "\U0001f1e9\U0001f1ea", "\ufffd", "\0"),
    *("hello", " hello", " World", "<|endoftext|>", "<|im_start|>", "def f(x):\n    return x\n"),
]
"""What the patterns treat apart, and around it."""


def _code(size: int, pick: random.Random) -> str:
    paths = _sources()
    start = pick.randrange(len(paths))
    parts, length = [], 0
    for path in paths[start:] + paths[:start]:
        if length >= size:
            break
        parts.append(path.read_text("utf-8", "replace"))
        length += len(parts[-1])
    return "".join(parts)[:size]


@cache
def _sources() -> list[Path]:
    return sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))


def _prose(size: int, pick: random.Random) -> str:
    """Sentences of the words in docstrings and comments, as often as they stand there."""
    words = [word for word in _code(2 * size, pick).split() if word.isalpha()]
    pick.shuffle(words)
    return "".join(
        word + pick.choice((" ", " ", " ", " ", ", ", ". ", "'s ", "'re ", ".\n\n", " (", ") "))
        for word in words
    )[:size]


def _script(first: int, last: int, others: str) -> Callable[[int, random.Random], str]:
    letters = [chr(c) for c in range(first, last)]
    # As in language, a few are most of the text (Zipf).
    weights = [1 / (i + 1) for i in range(len(letters))]

    def made(size: int, pick: random.Random) -> str:
        order = letters[:]
        pick.shuffle(order)
        text = pick.choices(order, weights, k=size)
        for i in range(0, size, 7):
            text[i] = pick.choice(others)
        return "".join(text)

    return made


def _any_character(size: int, pick: random.Random) -> str:
    return bytes(pick.randbytes(4 * size)).decode("utf-32-le", "ignore")[:size] + "".join(
        chr(c) for c in pick.choices([*range(0xD800), *range(0xE000, 0x110000)], k=size)
    )


def _bytes(size: int, pick: random.Random) -> str:
    return pick.randbytes(size).decode("utf-8", "replace")


def _fragments(size: int, pick: random.Random) -> str:
    return "".join(pick.choices(FRAGMENTS, k=size // 3))


def _runs(size: int, pick: random.Random) -> str:
    # Not longer: tiktoken overflows its stack on some runs of 100,000.
    parts = []
    while size > 0:
        run = pick.choice(RUNS)
        parts.append(run * (pick.randint(1, 3000) // len(run)))
        size -= len(parts[-1])
    return "".join(parts)


def _encoded(size: int, pick: random.Random) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(pick.choices(alphabet, k=size))


KINDS: dict[str, Callable[[int, random.Random], str]] = {
    "prose": _prose,
    "code": _code,
    "chinese": _script(0x4E00, 0x9FA6, "\uff0c\u3002\uff1f \n1a"),
    "arabic": _script(0x0621, 0x064B, "   \u060c\u064b\u0651\n"),
    "hangul": _script(0xAC00, 0xD7A4, "  .?\n"),
    "hindi": _script(0x0905, 0x0950, "  \u0964\n"),
    "cyrillic": _script(0x0410, 0x0450, "  ,\n"),
    "emoji": _script(0x1F300, 0x1FAFF, "\u200d\ufe0f\U0001f3fd !"),
    "any character": _any_character,
    "random bytes": _bytes,
    "fragments": _fragments,
    "runs": _runs,
    "base64": _encoded,
}
"""Name -> text of about so many characters."""


def text_of(kind: str, size: int, seed: int) -> str:
    return KINDS[kind](size, random.Random(f"{kind} {seed}"))
