from typing import final

@final
class Scanner:
    """What an answer says while its bytes pass. One per attempt, used by one thread."""

    kind: int
    events: int
    """Complete events with data."""
    content_events: int
    """Of those, the ones that carry something for the user."""
    content_seen: bool
    error_seen: bool
    error_first: bool
    """An error was seen before any content."""
    done_seen: bool
    """`data: [DONE]` was seen; what follows it is counted in `events` and nowhere else."""
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    """The six counts: the last one seen, at most 2^53; -1: never seen."""
    at_boundary: bool
    """No event is half read."""
    boundary: int
    """The last offset in the last segment at which no event was half read; without one, `start`."""
    usage_only_start: int
    usage_only_end: int
    """The first event that ended in the last feed() and holds nothing but usage. End -1: none;
    start -1: it began in an earlier segment, at the boundary of that one."""

    def __new__(cls, kind: int = 0) -> Scanner: ...
    def reset(self, kind: int) -> None:
        """Begin another answer. `kind`: 0 an event stream, 1 one JSON document."""

    def feed(self, data: bytes, start: int, end: int) -> int:
        """Look at the segment data[start:end]; return what it showed, or-ed.

        1 the first content, 2 the first error, 4 a usable usage object, 8 [DONE]. Raises nothing
        because of what the bytes are. O(length); keeps no reference to `data`.
        """

    def feed_eof(self) -> int:
        """Say that nothing more comes; return as feed() does. Only now a document is judged."""
