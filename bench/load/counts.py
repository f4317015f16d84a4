"""How many values of each size: the cells of an HDR histogram, cheap enough for every event.

A value is in nanoseconds. Up to 2,047 each has a cell of its own; above, every octave has 1,024, so
that a cell is at most 0.1 % wide. The cells are those of HdrHistogram with three significant
figures (its own Python record takes 1.3 us; this one some 20 ns compiled), into which report.py
puts them at the end.
"""

from __future__ import annotations

import math
from array import array

__all__ = ["CELLS", "Counts"]

CELLS = 33_792
"""Up to 73 minutes in nanoseconds; what is longer counts as that, and is exact in `largest`."""


class Counts:
    """One writer; no lock."""

    def __init__(self) -> None:
        self.cells = array("q", bytes(8 * CELLS))
        self.count = 0
        self.total = 0
        """The sum of all values."""
        self.largest = 0
        self.top = 0
        """Behind the highest cell in use."""

    def record(self, value: int) -> None:
        """Count `value`; below 0 it counts as 0."""
        value = max(value, 0)
        shift = 0
        while (value >> shift) >= 2048:
            shift += 1
        cell = min((shift << 10) + (value >> shift), CELLS - 1)
        self.cells[cell] += 1
        self.top = max(self.top, cell + 1)
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)

    def used(self) -> list[tuple[int, int]]:
        """Return the cells in use, each with its count."""
        return [(cell, self.cells[cell]) for cell in range(self.top) if self.cells[cell]]

    def clear(self) -> None:
        for cell in range(self.top):
            self.cells[cell] = 0
        self.count = self.total = self.largest = self.top = 0

    def add(self, state: tuple[int, int, list[tuple[int, int]]]) -> None:
        """Add another's (total, largest, used())."""
        total, largest, used = state
        for cell, count in used:
            self.cells[cell] += count
            self.count += count
            self.top = max(self.top, cell + 1)
        self.total += total
        self.largest = max(self.largest, largest)

    def quantile(self, q: float) -> int:
        """Return the value of nearest rank, to within half a cell; 0 when empty."""
        # 0.999 * 3000 is a little above 2997 in binary, and means 2997.
        rank = max(1, math.ceil(q * self.count - 1e-6))
        seen = 0
        for cell in range(self.top):
            seen += self.cells[cell]
            if seen >= rank:
                return min(middle(cell), self.largest)
        return 0

    def share_between(self, low: int, high: int) -> float:
        """Return the part of the values, 0 to 1, whose cell's middle lies in [low, high]."""
        inside = 0
        for cell in range(self.top):
            if self.cells[cell] and low <= middle(cell) <= high:
                inside += self.cells[cell]
        return inside / self.count if self.count else 0.0


def middle(cell: int) -> int:
    """The value in the middle of a cell."""
    shift = max(0, (cell >> 10) - 1)
    low = (cell - (shift << 10)) << shift
    return low + ((1 << shift) >> 1)
