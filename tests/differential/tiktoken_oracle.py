"""tiktoken with its vocabulary from where ours comes from: the oracle of token counts."""

from __future__ import annotations

from functools import cache

import tiktoken

from bench.tokens import tiktoken_with
from fastgate._core.bpe import Counter
from fastgate.tokens.encodings import counter, ranks

__all__ = ["NAMES", "oracle", "ours"]

NAMES = ("cl100k_base", "o200k_base")


def ours(name: str) -> Counter:
    made = counter(name)
    assert isinstance(made, Counter)
    return made


@cache
def oracle(name: str) -> tiktoken.Encoding:
    return tiktoken_with(name, ranks(name))
