"""The files of a spend journal: made ahead, locked, rolled over, and what a full disk does."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgate._core.journal import KINDS, SEALED, Columns, Journal, Outcome, Reader
from fastgate.spend import segments
from fastgate.spend.segments import SpendJournal, segment_name

SIZE = 64 * 1024


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "journal"


Make = Callable[..., SpendJournal]


@pytest.fixture
def make(home: Path) -> Iterator[Make]:
    made: list[SpendJournal] = []

    def start(epoch: int = 1) -> SpendJournal:
        made.append(SpendJournal(home, epoch, segment_bytes=SIZE, call_in_loop=lambda call: call()))
        return made[-1]

    yield start
    for spend in made:
        spend.close()


def until(condition: Callable[[], object]) -> None:
    """Wait for what a thread does; the test's own time limit ends it."""
    tick = threading.Event()
    while not condition():
        tick.wait(0.001)


def fill(spend: SpendJournal) -> int:
    """Append until the segment is full; return how many records."""
    columns, before = Columns(b"{}"), spend.journal.records
    while spend.journal.reserve(b"%032x" % spend.journal.records, columns, 1, 2, 3, 4):
        pass
    return spend.journal.records - before


def content(path: Path) -> list[int]:
    return [kind for kind, *_ in Reader(path.read_bytes())]


def test_a_worker_has_a_locked_folder_and_a_segment_ahead(home: Path, make: Make) -> None:
    spend = make(0xABC)
    folder = home / "0000000000000abc"
    until(lambda: (folder / segment_name(2)).exists())
    assert sorted(path.name for path in home.iterdir()) == ["0000000000000abc"]
    for number in (1, 2):
        path = folder / segment_name(number)
        assert path.stat().st_size == SIZE
        # All of it is there: no append meets a full disk.
        assert path.stat().st_blocks * 512 >= SIZE
        reader = Reader(path.read_bytes())
        assert (reader.epoch, reader.number) == (0xABC, number)
    fd = os.open(folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    spend.close()
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_a_full_segment_is_followed_by_the_next(home: Path, make: Make) -> None:
    spend = make()
    folder = home / f"{1:016x}"
    counts = []
    for number in (2, 3, 4):
        counts.append(fill(spend))
        until(lambda number=number: (folder / segment_name(number)).exists())  # type: ignore[misc]
        until(spend.roll)
        assert spend.journal.segment == number
    sealed = Reader((folder / segment_name(1)).read_bytes())
    assert len(list(sealed)) == counts[0] > 100
    assert sealed.state == SEALED
    # One segment's room is all that reservations may promise.
    assert spend.journal.open == sum(counts) - len(counts)


def test_what_was_appended_is_synced_before_long(make: Make) -> None:
    spend = make()
    assert spend.journal.note(b"0" * 32, b"{}")
    until(lambda: spend.synced_records == 1)


def test_an_empty_segment_is_not_rolled_over(home: Path, make: Make) -> None:
    spend = make()
    until(lambda: (home / f"{1:016x}" / segment_name(2)).exists())
    assert not spend.roll()
    assert spend.journal.segment == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can have the size of a segment."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_what_began_is_settled_and_nothing_more_begins(
    home: Path, make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_RETRY_S", 0.01)
    with full_disk():
        spend = make()
        assert not spend.roll()
        assert not spend.journal.note(b"0" * 32, b"{}")
    # Room again: the first segment comes by itself.
    until(lambda: spend.journal.position)
    until(lambda: (home / f"{1:016x}" / segment_name(2)).exists())
    with full_disk():
        fill(spend)
        until(spend.roll)
        n = fill(spend)
        until(lambda: len(caplog.records) == 3)
        refused = spend.refused
        assert not spend.roll()
        assert spend.refused == refused + 1
        assert spend.journal.open > n - 2
        settle_all(spend.journal)
    until(spend.roll)
    assert KINDS["settle"] in content(home / f"{1:016x}" / segment_name(2))
    until(lambda: len(caplog.records) == 4)
    messages = [record.message for record in caplog.records]
    assert messages == ["no room for the spend journal", "the spend journal has room again"] * 2
    until(lambda: not list(home.glob("*/.*")))


def settle_all(journal: Journal) -> None:
    columns = Columns(b"{}")
    while journal.open:
        assert journal.settle(b"0" * 32, columns, Outcome())


def test_a_segment_that_can_not_be_synced_is_left(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spend = make()
    until(lambda: spend._next is not None)
    synced = os.fdatasync

    def fails(fd: int) -> None:
        monkeypatch.setattr(os, "fdatasync", synced)
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    assert spend.journal.note(b"0" * 32, b"{}")
    until(lambda: spend.journal.segment == 2)
    assert [record.message for record in caplog.records] == [
        "a segment of the spend journal was not synced"
    ]
