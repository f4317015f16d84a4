"""Counters by name, each built when it is first asked for.

The ranks of cl100k and o200k are OpenAI's own files, known by their SHA-256; where they lie does
not matter then: in the package bpe-openai (of which nothing but this file is read) or in
the folder that tiktoken keeps its downloads in.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from fastgate._core.bpe import Counter

__all__ = ["SLICE_BYTES", "TextCounter", "VocabularyMissing", "counter", "ranks"]

SLICE_BYTES = 8192
"""For `Count.advance` on an event loop: the worst text takes 10 MB/s, so at most 0.8 ms."""

_PACKAGE = "bpe_openai"
_GZIP = 31
"""zlib's window bits for a gzip file."""
_SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
# tiktoken names a file of its cache by the SHA-1 of where it came from.
_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_CACHE_VARIABLES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")


class TextCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, data: bytes, /) -> int:
        """Return how many tokens the UTF-8 text has."""


class VocabularyMissing(RuntimeError):
    """What is needed to count exactly is not installed; the text says how to get it."""


@cache
def counter(name: str) -> TextCounter:
    """Return the counter of `cl100k_base`, `o200k_base`, or a `tokenizer.json` by its path.

    The first call takes 0.1 to 0.3 s (other threads may run), so make it before serving.
    Raises VocabularyMissing, or ValueError when the name is neither.
    """
    if name.endswith(".json"):
        return _JsonCounter(name)
    return Counter(ranks(name), name.removesuffix("_base"))


def ranks(name: str) -> bytes:
    """Return the vocabulary as lines "base64 rank"; see `counter` for what it raises."""
    if name not in _SHA256:
        known = ", ".join(_SHA256)
        raise ValueError(f"expected one of {known}, or a path ending in .json, got {name!r}")
    faults = []
    for path in _places(name):
        try:
            text = path.read_bytes()
            text = zlib.decompress(text, _GZIP) if path.suffix == ".gz" else text
        except FileNotFoundError:
            continue
        except (OSError, zlib.error) as error:
            faults.append(f"{path}: {error}")
            continue
        if hashlib.sha256(text).hexdigest() == _SHA256[name]:
            return text
        faults.append(f"{path} is not OpenAI's file: its SHA-256 differs")
    raise VocabularyMissing(
        f"the vocabulary {name} is not there: pip install 'fastgate[tokens]', or set"
        f" {_CACHE_VARIABLES[0]} to a folder that tiktoken filled"
        + "".join(f" ({fault})" for fault in faults)
    )


def _places(name: str) -> Iterator[Path]:
    # Found without importing it: that would load 70 MB of machine code.
    spec = find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder, "data", f"{name}.tiktoken.gz")
    file = hashlib.sha1(_URL.format(name).encode(), usedforsecurity=False).hexdigest()
    for cache_folder in filter(None, map(os.environ.get, _CACHE_VARIABLES)):
        yield Path(cache_folder, file)


class _JsonCounter:
    """A Hugging Face `tokenizer.json`. Special tokens in a text count as such, none is added."""

    def __init__(self, path: str) -> None:
        try:
            # As heavy as it is rarely used.
            from tokenizers import Tokenizer  # noqa: PLC0415
        except ImportError as error:
            raise VocabularyMissing(
                f"the library tokenizers reads {path}: pip install 'fastgate[tokens]'"
            ) from error
        try:
            self._tokenizer = Tokenizer.from_file(path)
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"{path} is not a tokenizer.json: {error}") from error

    def count(self, data: bytes, /) -> int:
        text = data.decode("utf-8", "replace")
        return len(self._tokenizer.encode(text, add_special_tokens=False))
