"""The access log: lines gathered on the hot path, written by a thread of their own.

The loop only fills a buffer; when that is full, and a few times a second, a writer thread gets
what is in it. When the output is stuck, lines past MAX_WAITING_BYTES are dropped and counted,
never waited for.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from fastgate._core.fields import Lines

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AccessLog"]

# Some 250 lines: small enough to stay in a core's cache, and to wake the thread seldom.
BUFFER_BYTES = 128 * 1024

# Some 30,000 lines: seconds of a busy worker.
MAX_WAITING_BYTES = 16 * 1024 * 1024


class AccessLog:
    """`target`: stdout, or a path (appended to, made with mode 0640)."""

    def __init__(self, target: str, on_dropped: Callable[[int], None]) -> None:
        if target == "stdout":
            self._fd = os.dup(sys.stdout.fileno())
        else:
            self._fd = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._on_dropped = on_dropped
        self.lines = Lines(BUFFER_BYTES)
        """Filled by the recorder; when it has no room, it calls `flush`."""
        self._writing_bytes = 0
        self._batches: list[bytes] = []
        self._wake = threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Hand the gathered lines to the thread. Called by the worker's sweeper, too."""
        if not self.lines.used:
            return
        batch = self.lines.take()
        if self._writing_bytes + len(batch) > MAX_WAITING_BYTES:
            self._on_dropped(batch.count(b"\n"))
            return
        self._writing_bytes += len(batch)
        self._batches.append(batch)
        self._wake.release()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left; not longer than `timeout_s`."""
        self.flush()
        self._ended = True
        self._wake.release()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            while self._batches:
                batch = self._batches.pop(0)
                self._put(batch)
                self._writing_bytes -= len(batch)
            if self._ended:
                os.close(self._fd)
                return

    def _put(self, batch: bytes) -> None:
        view = memoryview(batch)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # An inherited pipe may be non-blocking. Waiting here holds up nobody.
                threading.Event().wait(0.05)
            except OSError:
                # The reader is gone (EPIPE) or the disk is full: requests must not notice.
                self._on_dropped(batch.count(b"\n"))
                return
