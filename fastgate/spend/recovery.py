"""Reading the workers' journals, those of dead workers to their end.

What is known of requests under way (their reservations, progress, notes, billed attempts) and of
constant columns is kept in memory only, and found again by reading each worker's remaining segments
from the start; the checkpoint says from where on what is read is new. Hence what may be deleted: a
worker's segments, oldest first, that are behind the checkpoint and in which no open request began.

A worker whose folder can be locked is dead, and its journal final. What it left open are orphans:
they become rows too, at what they had come to.

A segment that breaks off in the middle is damage, never the end of a killed process. What stands
before the break counts; the file is kept under `damaged/`, for `spend verify` to list.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgate._core.journal import BROKEN, KINDS, OPEN, SEALED, Reader
from fastgate.spend.rows import (
    Budget,
    Constant,
    Entry,
    Outcome,
    budgets_of,
    charged_nano,
    constant_of,
    orphan,
)
from fastgate.spend.segments import segment_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DAMAGED", "Place", "WorkerJournal", "journal_bytes", "worker_folders"]

DAMAGED = "damaged"
"""Folder of segments that could not be read to their end."""

_DEFINE, _RESERVE, _PROGRESS, _ATTEMPT, _SETTLE, _NOTE = (
    KINDS[name] for name in ("define", "reserve", "progress", "attempt", "settle", "note")
)
_EPOCH_NAME = re.compile(r"[0-9a-f]{16}")
_SEGMENT_NAME = re.compile(r"\d{8}\.segment")
# A record of columns that was lost: its rows are kept all the same.
_UNKNOWN = constant_of(b"{}")

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Behind the last record that was taken: offset 0 is before a segment's header."""

    segment: int
    offset: int


class _Open:
    """A request that was reserved and not settled."""

    __slots__ = ("attempts", "budgets", "constant", "notes", "progress", "reservation", "segment")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        """In which it was first heard of."""
        self.constant: Constant = _UNKNOWN
        self.budgets: tuple[Budget, ...] = ()
        self.reservation: tuple[int, ...] | None = None
        self.progress: tuple[int, ...] | None = None
        self.notes: list[bytes] = []
        self.attempts: list[tuple[Constant, Outcome]] = []


class _Segment:
    """A segment as it is read."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.constants: dict[int, Constant] = {}
        self.budgets: dict[int, tuple[Budget, ...]] = {}
        with path.open("rb") as file:
            self.reader = Reader(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


class WorkerJournal:
    """One worker's journal, read in batches. Everything blocks; one thread at a time."""

    def __init__(self, folder: Path, posted: Place = Place(0, 0)) -> None:  # noqa: B008  immutable
        """Read the journal in `folder`; what is before `posted` is in the database already."""
        self.folder = folder
        self.epoch = folder.name
        self.posted = posted
        self.open: dict[str, _Open] = {}
        """By request id: reserved, not settled."""
        self.dead = False
        self.finished = False
        """All of a dead worker's journal was taken, orphans included."""
        self.damaged: set[int] = set()
        self._lock_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._segment: _Segment | None = None
        self._behind: list[int] = []
        """Segments read to their end, not deleted."""

    @property
    def place(self) -> Place:
        """How far it was taken."""
        if self._segment is None:
            return Place(0, 0)
        return Place(self._segment.number, self._segment.reader.offset)

    def take(self, limit: int) -> list[Entry]:
        """Return up to `limit` requests that are over and are not in the database yet."""
        # Asked before reading: what a dead worker's journal holds from then on is all of it.
        self.dead = self.dead or _is_free(self._lock_fd)
        entries: list[Entry] = []
        while self._segment is not None or self._open_next():
            if not self._read(entries, limit):
                return entries
            if not self._go_on():
                break
        if self.dead and not self.finished:
            self._orphans(entries)
        return entries

    def release(self) -> None:
        """What was taken is in the database: delete the segments that have no more to say."""
        if self.finished:
            self._delete_all()
            return
        oldest = min((request.segment for request in self.open.values()), default=None)
        while self._behind and (oldest is None or self._behind[0] < oldest):
            self._delete(self._behind.pop(0))

    def close(self) -> None:
        """Let go of everything; a lock that was taken is free again."""
        self._segment = None
        os.close(self._lock_fd)

    def _read(self, entries: list[Entry], limit: int) -> bool:
        """Read on in the present segment; False: the limit is reached."""
        segment = self._segment
        assert segment is not None
        reader = segment.reader
        for kind, request_id, number, content in reader:
            if kind == _SETTLE:
                entry = self._settled(request_id, segment, number, content)
                if (segment.number, reader.offset) > self.posted:
                    entries.append(entry)
                    if len(entries) >= limit:
                        return False
            elif kind == _DEFINE:
                self._define(segment, number, content)
            else:
                self._heard(kind, request_id, segment, number, content)
        return True

    def _settled(self, request_id: str, segment: _Segment, number: int, outcome: Any) -> Entry:
        constant = segment.constants.get(number, _UNKNOWN)
        budgets = segment.budgets.get(number, ())
        request = self.open.pop(request_id, None)
        notes, attempts = (request.notes, request.attempts) if request is not None else ([], [])
        charged = charged_nano(outcome, attempts) if budgets else 0
        return Entry(request_id, constant, notes, outcome, attempts, budgets, charged)

    def _define(self, segment: _Segment, number: int, content: Any) -> None:
        try:
            segment.constants[number] = constant_of(content)
            segment.budgets[number] = budgets_of(content)
        except ValueError as error:
            # Rows without an owner are better than none.
            _log.error("columns of the spend journal can't be read", {"error": str(error)})

    def _heard(
        self, kind: int, request_id: str, segment: _Segment, number: int, content: Any
    ) -> None:
        request = self.open.get(request_id)
        if request is None:
            request = self.open[request_id] = _Open(segment.number)
        if kind == _RESERVE:
            request.reservation = content
            request.constant = segment.constants.get(number, _UNKNOWN)
            request.budgets = segment.budgets.get(number, ())
        elif kind == _PROGRESS:
            request.progress = content
        elif kind == _NOTE:
            request.notes.append(content)
        elif kind == _ATTEMPT:
            request.attempts.append((segment.constants.get(number, _UNKNOWN), content))

    def _go_on(self) -> bool:
        """Turn to the next segment if this one is at its end; False: there may come more."""
        segment = self._segment
        assert segment is not None
        state = segment.reader.state
        if state == OPEN and not self.dead:
            return False
        following = self._following(segment.number)
        if state != SEALED:
            used = following is not None and _is_used(following)
            if not self.dead and not used:
                return False
            # The last record of a killed process may be half there; all else is damage.
            stranded = segment.reader.stranded()
            if stranded or state == BROKEN or used:
                self._report(segment, stranded)
        if following is None:
            return False
        self._behind.append(segment.number)
        return self._open_next()

    def _open_next(self) -> bool:
        number = self._segment.number if self._segment else 0
        while (path := self._following(number)) is not None:
            following = _number(path)
            if number and following != number + 1:
                _log.error(
                    "segments of the spend journal are missing",
                    {"epoch": self.epoch, "after": number, "before": following},
                )
            number = following
            try:
                self._segment = _Segment(path, number)
            except ValueError as error:
                _log.error(
                    "not a segment of the spend journal", {"path": str(path), "error": str(error)}
                )
                self.damaged.add(number)
                self._delete(number)
            else:
                return True
        return False

    def _following(self, number: int) -> Path | None:
        return next((path for path in _segments(self.folder) if _number(path) > number), None)

    def _report(self, segment: _Segment, stranded: int) -> None:
        if segment.number in self.damaged:
            return
        self.damaged.add(segment.number)
        _log.error(
            "a segment of the spend journal is damaged",
            {
                "path": str(segment.path),
                "offset": segment.reader.offset,
                "records_behind": stranded,
            },
        )

    def _orphans(self, entries: list[Entry]) -> None:
        """A dead worker's journal is read: what is open is over."""
        for request_id, request in self.open.items():
            reservation = request.reservation
            if reservation is None:
                if not request.attempts:
                    continue  # a note, and no request: nothing went upstream
                reservation = (request.attempts[0][1][0], 0, -1, -1)
            entries.append(
                orphan(
                    request_id,
                    request.constant,
                    request.notes,
                    reservation,
                    request.progress,
                    request.attempts,
                )._replace(
                    budgets=request.budgets, charged_nano=charged_nano(None, request.attempts)
                )
            )
        self.open.clear()
        self.finished = True

    def _delete(self, number: int) -> None:
        path = self.folder / segment_name(number)
        if number in self.damaged:
            kept = self.folder.parent / DAMAGED
            kept.mkdir(mode=0o700, exist_ok=True)
            path.rename(kept / f"{self.epoch}-{path.name}")
        else:
            path.unlink(missing_ok=True)

    def _delete_all(self) -> None:
        self._segment = None
        for path in _segments(self.folder):
            self._delete(_number(path))
        shutil.rmtree(self.folder, ignore_errors=True)


def worker_folders(home: Path) -> list[Path]:
    """Return the folders of all workers that have or had a journal in `home`, oldest first."""
    try:
        folders = [entry for entry in os.scandir(home) if _EPOCH_NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    folders.sort(key=lambda entry: entry.stat().st_mtime_ns)
    return [home / entry.name for entry in folders]


def journal_bytes(home: Path) -> int:
    """Return what the segments of all workers take on the disk, damaged ones included."""
    total = 0
    for folder in (*worker_folders(home), home / DAMAGED):
        # Posted and deleted since, or nothing is damaged; a draft got its name.
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    total += entry.stat().st_size
    return total


def _segments(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if _SEGMENT_NAME.fullmatch(name)]


def _number(path: Path) -> int:
    return int(path.stem)


def _is_used(path: Path) -> bool:
    try:
        return any(True for _ in _Segment(path, 0).reader)
    except ValueError:
        return False


def _is_free(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
