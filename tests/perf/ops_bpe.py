"""Operations of `bpe`: counting text whose pieces are in the cache, and text that has to be merged.

The vocabulary is the first tenth of o200k: enough of it, and quick to build under valgrind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from fastgate._core.bpe import Counter
from fastgate.tokens.encodings import ranks

__all__ = ["OPERATIONS"]

PROSE = (b"A gateway's cost is paid by every request, so most of it must be nothing at all. " * 13)[
    :1024
]
CODE = (
    b'def get(self, key: str) -> int:\n    """Return it."""\n    return self._d[key] + 10\n\n' * 12
)
HAN = "\u6211\u4eec\u7684\u670d\u52a1\u5668\u5728\u4e0a\u6d77".encode() * 38


@cache
def counter(pattern: str) -> Counter:
    return Counter(b"".join(ranks("o200k_base").splitlines(keepends=True)[:20_000]), pattern)


def counting(pattern: str, text: bytes) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        made = counter(pattern)
        return lambda: made.count(text)

    return make


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "count_1k_prose_o200k": counting("o200k", PROSE),
    "count_1k_prose_cl100k": counting("cl100k", PROSE),
    "count_1k_code_o200k": counting("o200k", CODE[:1024]),
    "merge_1k_chinese": counting("o200k", HAN[:1026]),
    "merge_1k_of_one_letter": counting("o200k", b"a" * 1024),
}
