"""The event log: one JSON object a line on stderr, through the standard `logging`.

    _log = logging.getLogger(__name__)
    _log.info("worker is ready", {"slot": 0, "pid": 4711})

gives `{"ts": ..., "level": "info", "process": "supervisor", "event": "worker is ready", "slot": 0,
...}`: the message is the event's name, a mapping as its only argument holds the fields.

Two promises. No secret leaves: fields named for one and anything that looks like a bearer token are
replaced, as a last net; callers don't log keys or prompts in the first place. And nobody waits:
when stderr is a pipe that its reader doesn't empty, lines are dropped, and the next one that gets
through says how many.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["JsonFormatter", "StderrHandler", "redact", "setup"]

_STDERR = 2

# A pipe that polls as writable has PIPE_BUF (4,096) bytes of room: a line below that never blocks.
# Of a traceback its end says most.
_TRACEBACK_CHARS = 3_000

_SECRET_NAMES = re.compile(
    r"key$|^authorization$|auth_value|secret|password|token$|cookie", re.IGNORECASE
)
_SECRET_TEXT = re.compile(r"(?i:(?<=bearer )|(?<=basic ))[^\s\"'\\]+|\bsk-[\w-]{4,}")
_HIDDEN = "[redacted]"


def redact(text: str) -> str:
    """Return `text` with whatever looks like a credential replaced."""
    return _SECRET_TEXT.sub(_HIDDEN, text)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line; `process` is which of ours speaks."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process
        self.dropped = 0
        """Lines lost since the last one; the next one says so."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "ts": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self.process,
            "event": record.getMessage(),
        }
        if isinstance(record.args, Mapping):
            for name, value in record.args.items():
                entry[name] = _HIDDEN if _SECRET_NAMES.search(name) else value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)[-_TRACEBACK_CHARS:]
        if self.dropped:
            entry["dropped_before"] = self.dropped
            self.dropped = 0
        return redact(json.dumps(entry, default=str))


class StderrHandler(logging.Handler):
    """Writes each line with one call, and only when that can't block."""

    def __init__(self, process: str, fd: int = _STDERR) -> None:
        super().__init__()
        self._fd = fd
        self._lines = JsonFormatter(process)
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._room.poll(0):
            self._lines.dropped += 1
            return
        try:
            os.write(self._fd, self._lines.format(record).encode() + b"\n")
        except OSError:
            # The reader is gone; there is no other place to say so.
            self._lines.dropped += 1


def setup(process: str, level: str) -> None:
    """Send every log record, warning and uncaught exception of this process to stderr as JSON."""
    root = logging.getLogger()
    root.handlers[:] = [StderrHandler(process)]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("fastgate").critical("uncaught", exc_info=(kind, error, trace))
