"""tiktoken with its vocabulary from where ours comes from: the oracle of token counts."""

from __future__ import annotations

import base64
from functools import cache

import tiktoken
import tiktoken_ext.openai_public as public

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
    """Return tiktoken's own encoding: its pattern and code, and the ranks that it would fetch."""
    lines = (line.split() for line in ranks(name).splitlines())
    mergeable = {base64.b64decode(token): int(rank) for token, rank in lines}

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        return mergeable

    kept = public.load_tiktoken_bpe
    public.load_tiktoken_bpe = load
    try:
        return tiktoken.Encoding(**public.ENCODING_CONSTRUCTORS[name]())
    finally:
        public.load_tiktoken_bpe = kept
