"""What became of each key of a configuration: honoured, ignored (why), or unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fastgate.errors import Fault

__all__ = ["HONOURED", "IGNORED", "NOTE", "UNKNOWN", "Entry", "Report"]

HONOURED = "honoured"
IGNORED = "ignored"
UNKNOWN = "unknown"
NOTE = "note"
"""Honoured, and yet something to know about it."""

_INDEX = re.compile(r"\[\d+\]")


class Entry(NamedTuple):
    """One key."""

    path: str
    status: str
    why: str = ""

    @property
    def message(self) -> str:
        """Return status and reason as one text."""
        if self.status == NOTE:
            return self.why
        return f"{self.status}: {self.why}" if self.why else self.status


class Report:
    """All keys, in the order in which they were read."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, path: str, status: str, why: str = "") -> None:
        self.entries.append(Entry(path, status, why))

    @property
    def warnings(self) -> list[Fault]:
        """What does not do what its author may think."""
        return [
            Fault(entry.path, entry.message) for entry in self.entries if entry.status != HONOURED
        ]

    def folded(self) -> Iterator[tuple[Entry, int]]:
        """Yield each kind of entry once with its number: `model_list[*].model_name`, 1000.

        An entry that stands alone keeps its index.
        """
        kinds: dict[Entry, list[Entry]] = {}
        for entry in self.entries:
            kind = entry._replace(path=_INDEX.sub("[*]", entry.path))
            kinds.setdefault(kind, []).append(entry)
        for kind, members in kinds.items():
            yield (members[0] if len(members) == 1 else kind), len(members)
