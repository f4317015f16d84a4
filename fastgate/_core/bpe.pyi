from typing import final

PATTERNS: tuple[str, ...]
"""What a Counter can cut text by."""

@final
class Counter:
    """Counts tokens by one vocabulary. Not for two threads at once without the GIL."""

    memory_bytes: int
    """What the tables and the cache of pieces take."""

    def __new__(cls, ranks: bytes, pattern: str) -> Counter:
        """Build the tables from lines "base64 rank", ranks counted up from 0, bytes first.

        Takes some 0.1 s and lets other threads run meanwhile. Raises ValueError when a line is
        malformed or a token is not two before it merged.
        """
    @property
    def size(self) -> int:
        """How many tokens there are."""
    def count(self, data: bytes) -> int:
        """Return how many tokens the UTF-8 text has. What is not UTF-8 counts as U+FFFD.

        Linear in the text, whatever it is. Special tokens in it are text like any other.
        """
    def encode(self, data: bytes) -> list[int]:
        """Return the tokens themselves; slow, for tests."""

@final
class Count:
    """A count in slices, so that a long text does not hold the event loop."""

    def __new__(cls, counter: Counter, data: bytes) -> Count: ...
    @property
    def tokens(self) -> int:
        """Tokens in what was gone through; all of the text's once `advance` returned True."""
    def advance(self, max_bytes: int) -> bool:
        """Go on through about so many bytes; return True at the end of the text."""
