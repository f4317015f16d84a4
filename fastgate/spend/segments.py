"""The files of a worker's spend journal: made ahead, synced by a thread, each written once.

    $FASTGATE_HOME/journal/<epoch>/00000001.segment, 00000002.segment, ...

The folder is locked (flock) for as long as the worker lives: a folder that can be locked is that of
a dead one, and final. A segment appears under its name only when its whole size is allocated and
its header is on the disk, so a full disk shows here, never as a fault in the middle of an append,
and whoever finds a segment can read it. A segment is written by one process, once, in one go.

The loop appends to a mapping (what is killed loses nothing) and rolls over to the next segment. The
thread does all that can wait for a disk: syncing, every SYNC_INTERVAL_S or SYNC_RECORDS, which
bounds what a power failure can take; and making the next segment ready.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import threading
from typing import TYPE_CHECKING

from fastgate._core.journal import HEADER_BYTES, Journal, format_segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SEGMENT_BYTES", "SYNC_RECORDS", "SpendJournal", "segment_name"]

SEGMENT_BYTES = 16 * 1024 * 1024
"""Some 50,000 requests, at about 300 bytes each. A worker has two at a time, both allocated."""

# What a power failure may take. PostgreSQL with synchronous_commit = off risks 0.6 s (three times
# wal_writer_delay), Redis with appendfsync everysec 1 s. A sync takes 0.15 ms here, 4 ms at worst.
SYNC_INTERVAL_S = 0.1
SYNC_RECORDS = 1_000

# A disk that is full is asked again after this time.
_RETRY_S = 1.0

_log = logging.getLogger(__name__)


def segment_name(number: int) -> str:
    """Return the name of a worker's nth segment; names sort as numbers do."""
    return f"{number:08}.segment"


class _Segment:
    """A file, all of it allocated, mapped and with a header."""

    def __init__(self, folder: Path, epoch: int, number: int, size: int) -> None:
        draft = folder / f".{segment_name(number)}"
        self.fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self.fd, 0, size)
            self.map = mmap.mmap(self.fd, size)
            format_segment(self.map, epoch, number)
            os.fsync(self.fd)
            os.rename(draft, folder / segment_name(number))
            _sync_folder(folder)
        except BaseException:
            os.close(self.fd)
            draft.unlink(missing_ok=True)
            raise

    def sync(self) -> None:
        # What was written through the mapping is in the page cache, which is what this writes.
        os.fdatasync(self.fd)

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


class SpendJournal:
    """One worker's journal. Everything is the loop's to call, and nothing waits for a disk, but
    making and closing it.
    """

    def __init__(
        self,
        home: Path,
        epoch: int,
        *,
        call_in_loop: Callable[[Callable[[], object]], object],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """`home`: the folder of all journals; `epoch`: 64 bits that no other worker has or had;
        `call_in_loop`: the loop's call_soon_threadsafe.
        """
        self.journal = Journal()
        """Append here; when that says False, `roll` and append again."""
        self.refused = 0
        """How often there was no segment to roll over to."""
        self.synced_records = 0
        """Of `journal.records`, those that are on the disk."""
        self._home = home
        self._epoch = epoch
        self._segment_bytes = segment_bytes
        self._call_in_loop = call_in_loop
        self._number = 0
        self._folder: Path | None = None
        self._lock_fd = -1
        self._current: _Segment | None = None
        self._next: _Segment | None = None
        self._retired: list[_Segment] = []
        self._full = False
        self._retry = False
        self._ended = False
        self._wake = threading.Event()
        self._prepare()
        if self._next is not None:
            self.roll()
        self._thread = threading.Thread(target=self._run, name="spend-journal", daemon=True)
        self._thread.start()

    def roll(self) -> bool:
        """Go over to the next segment; False: none is ready (the disk is full), or the present one
        is as empty as it would be.
        """
        fresh = self._next
        if fresh is None or self.journal.position == HEADER_BYTES:
            self.refused += 1
            self.wake()
            return False
        self._next = None
        self.journal.attach(fresh.map)
        if self._current is not None:
            self._retired.append(self._current)
        self._current = fresh
        self.wake()
        return True

    def wake(self) -> None:
        """Sync now. To be called when SYNC_RECORDS were appended since the last time."""
        self._wake.set()

    def close(self) -> None:
        """Seal and sync; what is open stays so, for recovery to find. Blocks."""
        if self._ended:
            return
        self._ended = True
        self.wake()
        self._thread.join()
        self.journal.seal()
        for segment in (*self._retired, self._current, self._next):
            if segment is not None:
                self._sync(segment)
                segment.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    # The rest is the thread's.

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(_RETRY_S if self._retry else SYNC_INTERVAL_S)
            self._wake.clear()
            self._sync_all()
            if self._next is None:
                self._prepare()
                if self._current is None and self._next is not None:
                    self._call_in_loop(self.roll)

    def _sync_all(self) -> None:
        while True:
            while self._retired:
                segment = self._retired.pop(0)
                self._sync(segment)
                segment.close()
            current, records = self._current, self.journal.records
            # Unless the loop rolled over meanwhile, all of these records are in here or synced.
            if not self._retired:
                break
        if current is None or records == self.synced_records:
            return
        if not self._sync(current):
            # What the pages hold now is unknown, and a second sync would say that all is well:
            # leave the file.
            self._call_in_loop(self.roll)
        self.synced_records = records

    def _prepare(self) -> None:
        """Make the next segment ready, if the disk has room."""
        try:
            if self._folder is None:
                self._folder = self._locked_folder()
            self._next = _Segment(self._folder, self._epoch, self._number + 1, self._segment_bytes)
        except OSError as error:
            self._retry = True
            if not self._full:
                self._full = True
                _log.error(
                    "no room for the spend journal",
                    {
                        "path": str(self._home),
                        "error": error.strerror,
                        "needed_bytes": self._segment_bytes,
                    },
                )
            return
        self._number += 1
        self._retry = False
        if self._full:
            self._full = False
            _log.warning("the spend journal has room again", {"refused": self.refused})

    def _locked_folder(self) -> Path:
        """Make the worker's folder, which no one finds before it is locked."""
        name = f"{self._epoch:016x}"
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._home / f".{name}"
        draft.mkdir(mode=0o700, exist_ok=True)
        if self._lock_fd < 0:
            self._lock_fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(self._home / name)
        _sync_folder(self._home)
        return self._home / name

    def _sync(self, segment: _Segment) -> bool:
        try:
            segment.sync()
        except OSError as error:
            _log.error("a segment of the spend journal was not synced", {"error": error.strerror})
            return False
        return True


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
