"""What the patterns of cl100k and o200k tell apart, for every code point.

`python -m tests.codepoints` writes fastgate/_core/codepoints.h. The oracle is the regex engine
inside tiktoken, asked class by class, because the Unicode version that counts is the one it was
built with (16.0 in tiktoken 0.14); Python's unicodedata and the `regex` module have others.
"""

from __future__ import annotations

from pathlib import Path

import tiktoken

__all__ = ["CLASSES", "HEADER", "classes", "header"]

HEADER = Path(__file__).parents[1] / "fastgate/_core/codepoints.h"

CLASSES = {
    "OTHER": r"[^\s\p{L}\p{M}\p{N}]",
    "MARK": r"\p{M}",
    "UPPER": r"[\p{Lu}\p{Lt}]",
    "LOWER": r"\p{Ll}",
    "CASELESS": r"[\p{Lm}\p{Lo}]",
    "NUMBER": r"\p{N}",
    "SPACE": r"[^\S\r\n]",
    "NEWLINE": r"[\r\n]",
}
"""Name -> pattern. Class i is the bit 1 << i."""

_BLOCK = 128
_SURROGATES = range(0xD800, 0xE000)
_LINE = 24


def classes() -> bytes:
    """Return the class of each code point; 0: a surrogate."""
    found = bytearray(0x110000)
    text = "".join(chr(c) for c in range(0x110000) if c not in _SURROGATES)
    for i, pattern in enumerate(CLASSES.values()):
        for char in _matches(pattern, text):
            if found[ord(char)]:
                raise ValueError(f"U+{ord(char):04X} is of two classes")
            found[ord(char)] = 1 << i
    return bytes(found)


def _matches(pattern: str, text: str) -> str:
    # tiktoken drops what its pattern does not match; with single bytes as its vocabulary it gives
    # back what does.
    encoding = tiktoken.Encoding(
        "classes",
        pat_str=pattern,
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={},
    )
    return bytes(encoding.encode_ordinary(text)).decode()


def header() -> str:
    """Return the C header: two stages, a block number per 128 code points and the blocks."""
    table = classes()
    blocks: dict[bytes, int] = {}
    numbers = [
        blocks.setdefault(table[i : i + _BLOCK], len(blocks)) for i in range(0, len(table), _BLOCK)
    ]
    names = [f"    FG_{name} = {1 << i}," for i, name in enumerate(CLASSES)]
    return "\n".join(
        [
            "/* Written by `python -m tests.codepoints`: the classes that the patterns of cl100k",
            "   and o200k tell apart. Block 0 is ASCII. */",
            "#include <stdint.h>",
            "enum {",
            *names,
            "};",
            f"static const uint8_t fg_block_of[{len(numbers)}] = {{",
            *_rows(numbers),
            "};",
            f"static const uint8_t fg_classes[{len(blocks) * _BLOCK}] = {{",
            *_rows([value for block in blocks for value in block]),
            "};",
            "",
        ]
    )


def _rows(numbers: list[int]) -> list[str]:
    return [",".join(map(str, numbers[i : i + _LINE])) + "," for i in range(0, len(numbers), _LINE)]


if __name__ == "__main__":
    HEADER.write_text(header())
