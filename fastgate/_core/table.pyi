from typing import final

from typing_extensions import Buffer, disjoint_base

MAX_WORKERS: int
"""How many workers can share a table."""
CONTROL: int
"""The slot, beside the workers', of the control process."""
SUPERVISOR: int
"""The slot, beside the workers', of the supervisor."""

@final
class Region:
    """A part of a writable buffer, held for as long as a table points into it."""

    size: int
    """In bytes."""

    def __new__(cls, buffer: Buffer, offset: int = 0, size: int = -1) -> Region:
        """Take `size` bytes (-1: the rest) at `offset`, aligned to 8.

        Raises ValueError when they are not there, BufferError when they can't be written.
        """

@disjoint_base
class Table:
    """A hash table of entries in a region, zero at first, that up to 66 processes use at once."""

    capacity: int
    """How many entries the region has room for."""
    worker: int
    """The slot of this process: a worker's number, CONTROL or SUPERVISOR."""

    def __new__(cls, region: Region, worker: int = 0) -> Table: ...
    def entry(self, key: int, now_ns: int) -> int:
        """Return the index of the key's entry, claimed if there is none; -1: all are in use.

        The index is good for 60 s, or for as long as the entry has something in flight. An entry
        that was not used for 120 s and has nothing in flight may be handed to another key.
        """
    def find(self, key: int) -> int:
        """Return the index of the key's entry; -1: it has none. Does not count as use."""
    def release_worker(self, worker: int) -> None:
        """Give back what a dead process had in flight and break its locks. O(capacity)

        Call it before the slot's next process starts: until then, others wait at a lock that it
        left.
        """
