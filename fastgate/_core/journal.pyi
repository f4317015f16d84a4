from typing import Self, final

from typing_extensions import Buffer

KINDS: dict[str, int]
"""define, reserve, progress, attempt, settle, note: the kinds of records."""
HEADER_BYTES: int
"""Where a segment's first record stands."""
LONGEST_JSON: int
"""Bytes that a note, or Columns, may have."""
OUTCOME_FIELDS: tuple[str, ...]
"""What a Reader's tuple of an outcome holds, in this order."""
HARDWARE_CRC: bool
"""The processor has an instruction for the checksum."""
OPEN: str
"""State of a Reader: there is or may come another record."""
SEALED: str
"""All records have been read; there will be no other."""
BROKEN: str
"""What stands here is no record."""

def format_segment(buffer: Buffer, epoch: int, number: int) -> None:
    """Write a segment's header into a zeroed buffer of at least 4 KiB.

    `epoch` (64 bits) tells this writer from all others, `number` (from 1) this segment of it.
    """

def crc32c(data: bytes, *, hardware: bool = True) -> int:
    """Return the CRC-32C of a multiple of 8 bytes; by tables if not by `hardware`."""

@final
class Columns:
    """Constant columns of many rows, as a JSON object; what refers to it may be kept and shared."""

    json: bytes

    def __new__(cls, json: bytes) -> Columns:
        """Raise ValueError above LONGEST_JSON."""

@final
class Outcome:
    """What a request, or an attempt, came to: filled in, appended, cleared, used again.

    Times are wall-clock µs, 0 where nothing happened; durations, tokens and nano-dollars are -1
    where unknown. The codes are those of `fastgate.spend.rows`.
    """

    start_us: int
    first_byte_us: int
    end_us: int
    ttft_us: int
    overhead_us: int
    spend_nano: int
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    http_status: int
    attempt: int
    """Of an attempt: its number, from 1. Of a request: how many there were."""
    status: int
    error_kind: int
    usage_source: int
    stream: bool
    cache_hit: bool

    def __new__(cls) -> Outcome: ...
    def clear(self) -> None:
        """Forget everything."""

@final
class Journal:
    """The writer of one segment after another. One thread; readers may be in other processes.

    Appending returns False when there is no room: nothing was written, and the caller attaches the
    next segment and tries again. It returns False, too, without a segment, and for a request id
    that is not 32 bytes (hex digits).
    """

    epoch: int
    segment: int
    """Number of the segment that was attached last."""
    records: int
    """Appended so far, in all segments."""
    open: int
    """Reservations that are not settled."""
    position: int
    """Where the next record goes; 0: there is no segment."""

    def __new__(cls) -> Journal: ...
    def attach(self, buffer: Buffer) -> None:
        """Seal the present segment and write into another, empty one, held until the next.

        Raises ValueError when it is not what `format_segment` left.
        """
    def seal(self) -> None:
        """Tell readers that there will be no more here, and let go of the segment."""
    def reserve(
        self,
        request_id: bytes,
        columns: Columns,
        at_us: int,
        max_nano: int,
        estimate_nano: int,
        input_tokens: int,
    ) -> bool:
        """Say what a request may cost before it goes upstream, and keep room for its settlement.

        `estimate_nano` (-1: unknown) is what it is billed should this process die before it says
        more.
        """
    def progress(self, request_id: bytes, output_tokens: int, cost_nano: int) -> bool:
        """Say what an open request came to so far, its input included; may be left out."""
    def attempt(self, request_id: bytes, columns: Columns, outcome: Outcome) -> bool:
        """Say what an attempt that failed came to, if its provider bills it."""
    def settle(self, request_id: bytes, columns: Columns, outcome: Outcome) -> bool:
        """Say what a request that was reserved came to: before the client has its last byte."""
    def report(self, request_id: bytes, columns: Columns, outcome: Outcome) -> bool:
        """Say what a request came to that was never reserved."""
    def note(self, request_id: bytes, json: bytes) -> bool:
        """Add rare columns of a request, a JSON object; before it is settled. A later one
        adds to it, member by member."""

@final
class Reader:
    """The records of a segment, from its longest valid prefix, as tuples:

    (kind, request id, number of its columns, content), where the content is the JSON of a note or
    of columns, (at_us, max_nano, estimate_nano, input_tokens) of a reservation, (output_tokens,
    cost_nano) of progress, and the OUTCOME_FIELDS of an attempt or a settlement. The request id is
    "" for columns. Iterating goes on where it ended when the writer has appended more.
    """

    epoch: int
    number: int
    offset: int
    """Behind the last record that was read."""
    state: str
    """What stands at the offset: OPEN, SEALED or BROKEN."""

    def __new__(cls, buffer: Buffer, offset: int = 64) -> Reader:
        """Raise ValueError for what is no segment."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> tuple[int, str, int, bytes | tuple[int, ...]]: ...
    def stranded(self) -> int:
        """Return how many valid records stand behind the offset: cut off by a broken one.

        O(rest of the segment), without the GIL: for a segment whose writer is dead.
        """
