from typing import final

from typing_extensions import Buffer

HISTOGRAM_BYTES: int
"""Room that a Histogram takes."""

@final
class Counter:
    """A 64-bit cell of a buffer: a counter or a gauge. One writer, readers in any process."""

    def __new__(cls, buffer: Buffer, offset: int = 0) -> Counter:
        """Take 8 aligned bytes of a writable buffer, which is held.

        Raises ValueError when they are not there, BufferError when they can't be written.
        """
    def add(self, amount: int) -> None:
        """Add `amount`, which may be negative."""
    def set(self, value: int) -> None: ...
    def value(self) -> int: ...

@final
class Histogram:
    """Counts of whole numbers by size, 8 buckets an octave. One writer, readers in any process."""

    def __new__(cls, buffer: Buffer, offset: int = 0) -> Histogram:
        """Take HISTOGRAM_BYTES aligned bytes of a writable buffer, which is held.

        Raises ValueError when they are not there, BufferError when they can't be written.
        """
    def record(self, value: int) -> None:
        """Count `value`; below 0 it counts as 0."""
    def count(self) -> int: ...
    def sum(self) -> int:
        """Return the sum of all values, modulo 2^64."""
    def merge(self, other: Histogram) -> None:
        """Add what `other` holds at this moment."""
    def quantile(self, q: float) -> float:
        """Return the middle of the bucket of the value of nearest rank; nan when empty."""
    def count_at_most(self, value: int) -> int:
        """Return how many values lie in buckets that end at or below `value`: never too many.

        The last bucket (from 15 * 2^38 on) has no end.
        """
