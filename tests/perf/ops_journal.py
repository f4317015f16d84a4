"""Operations of `journal`: what a request appends, and reading a settlement back."""

from __future__ import annotations

from collections.abc import Callable

from fastgate._core.journal import Columns, Journal, Outcome, Reader, crc32c, format_segment

__all__ = ["OPERATIONS"]

ID = b"0123456789abcdef" * 2
# Room for all that the driver appends.
SIZE = 1024 * 1024


def journal() -> Journal:
    buffer = bytearray(SIZE)
    format_segment(buffer, 1, 1)
    made = Journal()
    made.attach(buffer)
    return made


def reserve() -> Callable[[], object]:
    made, columns = journal(), Columns(b"{}")
    return lambda: made.reserve(ID, columns, 1, 2, 3, 4)


def progress() -> Callable[[], object]:
    made = journal()
    return lambda: made.progress(ID, 1, 2)


def note() -> Callable[[], object]:
    made = journal()
    return lambda: made.note(ID, b'{"provider_response_id":"chatcmpl-0123456789"}')


def settle() -> Callable[[], object]:
    made, columns, outcome = journal(), Columns(b"{}"), Outcome()
    return lambda: made.settle(ID, columns, outcome)


def read_settled() -> Callable[[], object]:
    buffer = bytearray(SIZE)
    format_segment(buffer, 1, 1)
    made, columns, outcome = Journal(), Columns(b"{}"), Outcome()
    made.attach(buffer)
    for _ in range(2_000):
        made.settle(ID, columns, outcome)
    return Reader(buffer).__next__


def checksum(hardware: bool) -> Callable[[], object]:
    data = bytes(144)
    return lambda: crc32c(data, hardware=hardware)


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "reserve": reserve,
    "progress": progress,
    "note": note,
    "settle": settle,
    "read_settled": read_settled,
    "checksum, by instruction": lambda: checksum(True),
    "checksum, by tables": lambda: checksum(False),
}
