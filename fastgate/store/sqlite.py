"""SQLite, on a thread of its own per connection (aiosqlite): one that writes, one that reads.

WAL lets the reader go on while a transaction is under way; it sees what was committed. Another
process may write too (a second gateway on the same file): `busy_timeout` waits for it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiosqlite
import orjson

from fastgate.store import Conflict, Row, Store, StoreError, StoreUnavailable, migrating

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["open_sqlite"]

# How long a statement waits for another process's transaction; ours end within some 10 ms.
_BUSY_TIMEOUT_S = 10.0

# FULL: the journal's segments are deleted once they are in here, so a commit must survive a power
# failure. With batches of 1,000 rows that costs 4 us a row.
_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON")


async def open_sqlite(path: str) -> Store:
    """Open the file at `path`, made with its folder where there is none."""
    # Key hashes, spend and names: for nobody else.
    folder = os.path.dirname(path)
    await asyncio.to_thread(_make_private, folder, path)
    try:
        writer = await _connect(path)
        try:
            await _migrate(writer)
            reader = await _connect(path)
        except BaseException:
            await writer.close()
            raise
    except sqlite3.Error as error:
        raise StoreUnavailable(f"SQLite {path}: {error}") from None
    return _Sqlite(writer, reader)


def _make_private(folder: str, path: str) -> None:
    try:
        if folder:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"SQLite {path}: {error.strerror}") from None


async def _connect(path: str) -> aiosqlite.Connection:
    sqlite3.register_converter("TIMESTAMPTZ", _to_time)
    sqlite3.register_converter("JSONB", orjson.loads)
    sqlite3.register_converter("BOOLEAN", lambda text: text != b"0")
    connection = await aiosqlite.connect(
        path,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        detect_types=sqlite3.PARSE_DECLTYPES,
        cached_statements=256,
    )
    try:
        for pragma in _PRAGMAS:
            await _set(connection, pragma)
    except BaseException:
        # Its thread would keep the process from ending.
        await connection.close()
        raise
    return connection


async def _set(connection: aiosqlite.Connection, pragma: str) -> None:
    # Several that turn a new file to WAL at once find it locked, whatever the busy timeout is.
    deadline = asyncio.get_running_loop().time() + _BUSY_TIMEOUT_S
    while True:
        try:
            await connection.execute(f"PRAGMA {pragma}")
            return
        except sqlite3.OperationalError as error:
            late = asyncio.get_running_loop().time() > deadline
            if late or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            await asyncio.sleep(0.01)


def _to_time(text: bytes) -> datetime:
    return datetime.fromisoformat(text.decode())


async def _migrate(connection: aiosqlite.Connection) -> None:
    known = await asyncio.to_thread(migrating.bundled)
    await connection.execute("BEGIN IMMEDIATE")
    try:
        await connection.execute(migrating.CREATE_TABLE)
        applied = await connection.execute_fetchall("SELECT version FROM schema_migrations")
        for migration in migrating.pending(known, (row[0] for row in applied)):
            for statement in migrating.statements(migration.sql):
                await connection.execute(statement)
            done = (migration.version, migration.name, _bound(datetime.now(UTC)))
            await connection.execute(_numbered(migrating.RECORD), done)
    except BaseException:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


@lru_cache(maxsize=512)
def _numbered(sql: str) -> str:
    """Write PostgreSQL's `$1` as SQLite's `?1`. No text of ours holds a dollar otherwise."""
    return re.sub(r"\$(\d+)", r"?\1", sql)


# What SQLite takes as it is; of a row of 39 values, looking costs 1.5 us and asking `_bound` 11.
_PLAIN = frozenset({bool, bytes, float, int, str, type(None)})


def _bound(value: Any) -> Any:
    """Return a value as it is stored; times at a fixed width, so that text sorts as time does."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return value


class _Alone:
    """A file has one machine, whose control tells its own workers what changed."""

    async def notify(self, kind: str, changed_id: str) -> None:
        """Nobody else is there."""

    async def listen(
        self, on_notice: Callable[[str, str], None], on_gap: Callable[[], None]
    ) -> None:
        """Nothing will come."""


class _Statements(_Alone):
    """Statements on one connection; SQLite's errors in our words."""

    dialect = "sqlite"

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        with _our_errors():
            async with self._connection.execute(
                _numbered(sql), [_bound(value) for value in values]
            ) as cursor:
                rows = await cursor.fetchall()
                names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def fetch_one(self, sql: str, *values: Any) -> Row | None:
        rows = await self.fetch(sql, *values)
        return rows[0] if rows else None

    async def execute(self, sql: str, *values: Any) -> int:
        with _our_errors():
            async with self._connection.execute(
                _numbered(sql), [_bound(value) for value in values]
            ) as cursor:
                return max(cursor.rowcount, 0)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with _our_errors():
            bound = [
                [value if type(value) in _PLAIN else _bound(value) for value in row] for row in rows
            ]
            async with self._connection.executemany(_numbered(sql), bound):
                pass


class _Transaction(_Statements):
    """Inside BEGIN and COMMIT."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        yield self

    async def close(self) -> None:
        raise StoreError("a transaction is ended by leaving its context")


class _Sqlite(_Alone):
    """The store: reads on one connection, everything else on the other, one at a time."""

    dialect = "sqlite"

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reads = _Statements(reader)
        self._reader = reader
        self._writing = asyncio.Lock()

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        if sql.lstrip()[:6].upper() == "SELECT":
            return await self._reads.fetch(sql, *values)
        async with self.transaction() as transaction:
            return await transaction.fetch(sql, *values)

    async def fetch_one(self, sql: str, *values: Any) -> Row | None:
        rows = await self.fetch(sql, *values)
        return rows[0] if rows else None

    async def execute(self, sql: str, *values: Any) -> int:
        async with self.transaction() as transaction:
            return await transaction.execute(sql, *values)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        async with self.transaction() as transaction:
            await transaction.execute_many(sql, rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        async with self._writing:
            with _our_errors():
                await self._to_the_end("BEGIN IMMEDIATE")
            try:
                yield _Transaction(self._writer)
                with _our_errors():
                    await self._to_the_end("COMMIT")
            finally:
                if self._writer.in_transaction:
                    await self._to_the_end("ROLLBACK")

    async def _to_the_end(self, sql: str) -> None:
        """Execute, and wait for its end even when cancelled: the thread executes it in any case,
        and the next user of the connection must find it done.
        """
        done = asyncio.ensure_future(self._writer.execute(sql))
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    async def close(self) -> None:
        async with self._writing:
            await self._reader.close()
            await self._writer.close()


class _our_errors:
    """Context: the driver's exceptions as ours. SQLite's texts name columns, never values."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.IntegrityError):
            raise Conflict(str(error)) from None
        if isinstance(error, sqlite3.OperationalError) and "syntax" not in str(error):
            raise StoreUnavailable(f"SQLite: {error}") from None
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"SQLite: {error}") from None
