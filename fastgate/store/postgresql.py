"""PostgreSQL through asyncpg: a small pool, since control is the only one that asks."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import orjson

from fastgate.store import Conflict, Row, Store, StoreError, StoreUnavailable, migrating

try:
    import asyncpg
except ModuleNotFoundError:
    raise StoreError(
        "the database's URL is PostgreSQL's: its driver is missing, pip install fastgate[postgres]"
    ) from None

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ["open_postgresql"]

# Connections: the drain, and a few people at the management API.
_POOL = 8
_TIMEOUT_S = 30.0

# "fastgate" in ASCII: the advisory lock that migrating replicas wait for each other on.
_MIGRATION_LOCK = int.from_bytes(b"fastgate", "big")

# Of a URL written for LiteLLM's driver; the server would refuse them as unknown settings.
_PRISMA_OPTIONS = frozenset(
    ("connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "connect_timeout")
)


# What another try may find gone: no connection, a server that stops or starts, a deadlock.
_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.exceptions.ConnectionDoesNotExistError,
)


async def open_postgresql(url: str) -> Store:
    """Open a pool, and migrate."""
    try:
        pool = await _open_pool(url)
        try:
            with _our_errors():
                await _migrate(pool)
        except BaseException:
            await pool.close()
            raise
    except ValueError:
        # Its text quotes the URL, or the password for a port.
        raise StoreError(
            "PostgreSQL's URL: expected postgresql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE "
            "with every : / ? # [ ] @ % of user and password as %XX"
        ) from None
    return _Postgresql(pool)


async def _open_pool(url: str) -> Any:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    settings = {"timezone": "UTC", "application_name": "fastgate"}
    if "schema" in options:
        settings["search_path"] = options.pop("schema")
    query = urlencode({name: options[name] for name in options if name not in _PRISMA_OPTIONS})
    pool = asyncpg.create_pool(
        urlunsplit(parts._replace(query=query)),
        # None is kept open for its own sake: a server that is away is not asked for again and
        # again, but when somebody wants something.
        min_size=0,
        max_size=_POOL,
        command_timeout=_TIMEOUT_S,
        timeout=_TIMEOUT_S,
        init=_prepare,
        server_settings=settings,
        # Behind PgBouncer in transaction mode a prepared statement may be another's.
        statement_cache_size=0 if options.get("pgbouncer") == "true" else 256,
    )
    with _our_errors():
        return await pool


async def _prepare(connection: Any) -> None:
    """Set what comes out of, and goes into, the types whose defaults aren't ours."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
    # The sum of a BIGINT column.
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=str, decoder=_to_number, format="text"
    )


def _to_number(text: str) -> int | Decimal:
    return Decimal(text) if "." in text else int(text)


async def _migrate(pool: Any) -> None:
    known = await asyncio.to_thread(migrating.bundled)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute(migrating.CREATE_TABLE)
        applied = await connection.fetch("SELECT version FROM schema_migrations")
        for migration in migrating.pending(known, (row["version"] for row in applied)):
            await connection.execute(migration.sql)
            await connection.execute(
                migrating.RECORD, migration.version, migration.name, datetime.now(UTC)
            )


class _Statements:
    """Statements on a pool, or on the connection of a transaction: their methods are the same."""

    dialect = "postgresql"

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        with _our_errors():
            return [dict(row) for row in await self._driver.fetch(sql, *values)]

    async def fetch_one(self, sql: str, *values: Any) -> Row | None:
        with _our_errors():
            row = await self._driver.fetchrow(sql, *values)
        return None if row is None else dict(row)

    async def execute(self, sql: str, *values: Any) -> int:
        with _our_errors():
            tag = await self._driver.execute(sql, *values)
        # "INSERT 0 3", "UPDATE 3", "CREATE TABLE"
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with _our_errors():
            # In one implicit transaction, which asyncpg promises.
            await self._driver.executemany(sql, rows)


class _Transaction(_Statements):
    """Inside BEGIN and COMMIT."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        yield self

    async def close(self) -> None:
        raise StoreError("a transaction is ended by leaving its context")


class _Postgresql(_Statements):
    """The store."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        async with AsyncExitStack() as stack:
            with _our_errors():
                connection = await stack.enter_async_context(self._driver.acquire())
                await stack.enter_async_context(connection.transaction())
            yield _Transaction(connection)
            with _our_errors():
                # COMMIT: what was deferred may fail only now.
                await stack.aclose()

    async def close(self) -> None:
        await self._driver.close()


class _our_errors:
    """Context: the driver's exceptions as ours. PostgreSQL's detail line, which quotes values, is
    left out.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncpg.IntegrityConstraintViolationError):
            raise Conflict(_words(error)) from None
        if isinstance(error, _PASSING):
            raise StoreUnavailable(f"PostgreSQL: {_words(error)}") from None
        if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
            raise StoreError(f"PostgreSQL: {_words(error)}") from None


def _words(error: BaseException) -> str:
    if isinstance(error, ValueError):
        # asyncpg's DataError and ClientConfigurationError quote the value that does not fit.
        return type(error).__name__
    message = getattr(error, "message", None) or getattr(error, "strerror", None)
    return str(message or type(error).__name__)
