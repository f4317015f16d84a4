"""The numbered migrations: `migrations/0001_name.sql`, each applied once, in order.

Each store runs them in one transaction that excludes every other process doing the same, so any
number of replicas may start at once: the first does the work, the others find it done. A file that
was released is never changed; what follows is a new file.
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from fastgate.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CREATE_TABLE", "RECORD", "Migration", "bundled", "pending", "statements"]

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL
)
"""
RECORD = "INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)"


class Migration(NamedTuple):
    """One file."""

    version: int
    name: str
    sql: str


def bundled() -> list[Migration]:
    """Return the migrations that come with this version, in order. Reads files."""
    folder = resources.files("fastgate.store") / "migrations"
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        version, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(int(version), name, file.read_text(encoding="utf-8")))
    return found


def pending(known: list[Migration], applied: Iterable[int]) -> list[Migration]:
    """Return those that are still to do. Raises StoreError when the database is ahead of us."""
    done = set(applied)
    unknown = done - {migration.version for migration in known}
    if unknown:
        raise StoreError(
            f"the database has migration {max(unknown)}, which this fastgate does not know: "
            "a newer version wrote it; run that one, or restore a backup made before"
        )
    return [migration for migration in known if migration.version not in done]


def statements(sql: str) -> list[str]:
    """Split a script, for a driver that takes one statement at a time."""
    found, piece = [], ""
    for line in sql.splitlines(keepends=True):
        piece += line
        if sqlite3.complete_statement(piece):
            found.append(piece)
            piece = ""
    return found
