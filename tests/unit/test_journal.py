"""The spend journal's records: what is appended, what is refused, what is promised."""

from __future__ import annotations

import pytest

from fastgate._core.journal import (
    HEADER_BYTES,
    KINDS,
    LONGEST_JSON,
    OPEN,
    OUTCOME_FIELDS,
    SEALED,
    Columns,
    Journal,
    Outcome,
    Reader,
    format_segment,
)

NAMES = {code: name for name, code in KINDS.items()}
SMALL = 8192


def segment(size: int = SMALL, number: int = 1, epoch: int = 7) -> bytearray:
    buffer = bytearray(size)
    format_segment(buffer, epoch, number)
    return buffer


def attached(buffer: bytearray) -> Journal:
    journal = Journal()
    journal.attach(buffer)
    return journal


def id_of(n: int) -> bytes:
    return b"%032x" % n


def kinds(buffer: bytearray) -> list[str]:
    return [NAMES[kind] for kind, *_ in Reader(buffer)]


def reserve(journal: Journal, n: int, columns: Columns) -> bool:
    return journal.reserve(id_of(n), columns, 1, 2, 3, 4)


def test_what_is_appended_is_read() -> None:
    buffer = segment()
    journal, columns, outcome = attached(buffer), Columns(b'{"team_id":"a"}'), Outcome()
    request_id = bytes.fromhex("00ff7f80" * 4).hex().encode()
    for n, name in enumerate(OUTCOME_FIELDS):
        setattr(outcome, name, n % 2 if name in ("stream", "cache_hit") else n + 1)
    assert journal.reserve(request_id, columns, 11, 12, -13, 2**62)
    assert journal.progress(request_id, 21, -1)
    assert journal.note(request_id, b'{"tags":["x"]}')
    assert journal.attempt(request_id, columns, outcome)
    assert journal.settle(request_id, columns, outcome)
    text = request_id.decode()
    came_to = tuple(n % 2 if n > 16 else n + 1 for n in range(len(OUTCOME_FIELDS)))
    assert [(NAMES[kind], *rest) for kind, *rest in Reader(buffer)] == [
        ("define", "", 1, b'{"team_id":"a"} '),
        ("reserve", text, 1, (11, 12, -13, 2**62)),
        ("progress", text, 0, (21, -1)),
        ("note", text, 0, b'{"tags":["x"]}  '),
        ("attempt", text, 1, came_to),
        ("settle", text, 1, came_to),
    ]
    assert (journal.records, journal.open) == (6, 0)


def test_an_outcome_that_was_cleared_knows_nothing() -> None:
    outcome = Outcome()
    outcome.spend_nano, outcome.stream, outcome.attempt = 5, True, 2
    outcome.clear()
    fresh = Outcome()
    assert [getattr(outcome, name) for name in OUTCOME_FIELDS] == [
        getattr(fresh, name) for name in OUTCOME_FIELDS
    ]
    assert (fresh.spend_nano, fresh.prompt_tokens, fresh.start_us) == (-1, -1, 0)


def test_columns_are_written_once_a_segment_before_their_first_use() -> None:
    first, second = segment(), segment(number=2)
    journal, a, b = attached(first), Columns(b'{"a":1}'), Columns(b'{"b":1}')
    for n, columns in enumerate([a, b, a, b]):
        assert reserve(journal, n, columns)
    journal.attach(second)
    assert journal.report(id_of(9), b, Outcome())
    assert kinds(first) == ["define", "reserve", "define", "reserve", "reserve", "reserve"]
    assert [number for _, _, number, _ in Reader(first)] == [1, 1, 2, 2, 1, 2]
    assert [(NAMES[kind], number) for kind, _, number, _ in Reader(second)] == [
        ("define", 1),
        ("settle", 1),
    ]


def test_columns_are_written_again_by_another_journal() -> None:
    columns = Columns(b"{}")
    ours, theirs = segment(epoch=1), segment(epoch=2)
    assert reserve(attached(ours), 1, columns)
    assert reserve(attached(theirs), 1, columns)
    assert kinds(ours) == kinds(theirs) == ["define", "reserve"]


def test_a_reader_goes_on_where_it_ended_until_the_segment_is_sealed() -> None:
    buffer = segment()
    journal, columns = attached(buffer), Columns(b"{}")
    reader = Reader(buffer)
    assert (list(reader), reader.state) == ([], OPEN)
    assert reserve(journal, 1, columns)
    assert [NAMES[kind] for kind, *_ in reader] == ["define", "reserve"]
    assert reader.state == OPEN
    journal.seal()
    assert (list(reader), reader.state) == ([], SEALED)
    assert Reader(buffer, reader.offset).state == SEALED


def test_what_was_reserved_can_be_settled_when_nothing_else_fits() -> None:
    buffer = segment()
    journal, columns, outcome = attached(buffer), Columns(b'{"key_hash":"k"}'), Outcome()
    n = 0
    while reserve(journal, n, columns):
        n += 1
    assert n == journal.open > 10
    while journal.note(id_of(0), b"x" * 100) or journal.note(id_of(0), b""):
        pass
    assert not journal.attempt(id_of(0), columns, outcome)
    assert not journal.report(id_of(0), columns, outcome)
    assert not journal.progress(id_of(0), 1, 1)
    for i in range(n):
        assert journal.settle(id_of(i), columns, outcome)
    assert not journal.settle(id_of(n), columns, outcome)
    assert kinds(buffer).count("settle") == n


def test_progress_leaves_the_slack_to_what_can_not_wait() -> None:
    journal, columns = attached(segment()), Columns(b"{}")
    assert reserve(journal, 1, columns)
    while journal.progress(id_of(1), 1, 1):
        pass
    assert journal.attempt(id_of(1), columns, Outcome())


def test_a_full_segment_is_sealed_within_its_bounds() -> None:
    buffer = segment(4096) + bytearray(b"\xaa" * 64)
    with memoryview(buffer)[:4096] as part:
        journal = attached(part)  # type: ignore[arg-type]
        while journal.note(id_of(1), b""):
            pass
        reader = Reader(part)
        assert len(list(reader)) == journal.records
        journal.seal()
        assert reader.state == SEALED
        del reader
    assert buffer[4096:] == b"\xaa" * 64


def test_nothing_is_appended_without_a_segment() -> None:
    journal, columns = Journal(), Columns(b"{}")
    assert not reserve(journal, 1, columns)
    assert not journal.note(id_of(1), b"")
    assert not journal.progress(id_of(1), 1, 1)
    buffer = segment()
    journal.attach(buffer)
    journal.seal()
    assert not journal.report(id_of(1), columns, Outcome())
    assert (journal.position, list(Reader(buffer))) == (0, [])


@pytest.mark.parametrize("request_id", [b"", b"a" * 31, b"a" * 33, None])
def test_what_is_no_request_id_is_refused(request_id: bytes) -> None:
    buffer = segment()
    journal, columns = attached(buffer), Columns(b"{}")
    assert not journal.reserve(request_id, columns, 1, 2, 3, 4)
    assert not journal.settle(request_id, columns, Outcome())
    assert not journal.note(request_id, b"{}")
    assert not journal.progress(request_id, 1, 1)
    assert (kinds(buffer), journal.open) == ([], 0)


def test_nothing_for_something_is_refused() -> None:
    journal = attached(segment())
    assert not journal.settle(id_of(1), None, Outcome())  # type: ignore[arg-type]
    assert not journal.settle(id_of(1), Columns(b"{}"), None)  # type: ignore[arg-type]
    assert not journal.note(id_of(1), None)  # type: ignore[arg-type]


def test_json_has_a_longest_length() -> None:
    buffer = segment(512 * 1024)
    journal = attached(buffer)
    assert journal.note(id_of(1), b" " * LONGEST_JSON)
    assert not journal.note(id_of(1), b" " * (LONGEST_JSON + 1))
    assert reserve(journal, 1, Columns(b" " * LONGEST_JSON))
    assert kinds(buffer) == ["note", "define", "reserve"]
    with pytest.raises(ValueError, match=f"at most {LONGEST_JSON} bytes"):
        Columns(b" " * (LONGEST_JSON + 1))


def test_only_an_empty_segment_is_written() -> None:
    used = segment()
    assert reserve(attached(used), 1, Columns(b"{}"))
    with pytest.raises(ValueError, match="empty segment"):
        Journal().attach(used)
    with pytest.raises(ValueError, match="header"):
        Journal().attach(bytearray(SMALL))
    with pytest.raises(BufferError, match="writable"):
        Journal().attach(bytes(used))
    with pytest.raises(ValueError, match="at least 4096 bytes"):
        format_segment(bytearray(4095), 1, 1)
    with pytest.raises(ValueError, match="from 1"):
        format_segment(bytearray(4096), 1, 0)


def test_only_a_segment_is_read() -> None:
    buffer = segment()
    for spoiled in (bytearray(SMALL), buffer[:32], bytearray(b"x") + buffer[1:]):
        with pytest.raises(ValueError, match=r"header|at least"):
            Reader(spoiled)
    other_version = bytearray(buffer)
    other_version[8] += 1
    with pytest.raises(ValueError, match="version 1, got 2"):
        Reader(other_version)
    for offset in (0, HEADER_BYTES + 4, SMALL + 8):
        with pytest.raises(ValueError, match="offset of a record"):
            Reader(buffer, offset)


def test_a_record_of_another_segment_is_none() -> None:
    here, there = segment(number=1), segment(number=2)
    assert reserve(attached(there), 1, Columns(b"{}"))
    here[HEADER_BYTES:] = there[HEADER_BYTES:]
    assert list(Reader(here)) == []
