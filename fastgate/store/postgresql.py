"""PostgreSQL through asyncpg: a small pool, since control is the only one that asks."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
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

from fastgate.store.listening import CHANNEL, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["open_postgresql"]

_log = logging.getLogger("fastgate.store")

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
        store = await _open(url)
        try:
            with _our_errors():
                await _migrate(store.pool)
        except BaseException:
            await store.close()
            raise
    except ValueError:
        # Its text quotes the URL, or the password for a port.
        raise StoreError(
            "PostgreSQL's URL: expected postgresql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE "
            "with every : / ? # [ ] @ % of user and password as %XX"
        ) from None
    return store


async def _open(url: str) -> _Postgresql:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    settings = {"timezone": "UTC", "application_name": "fastgate"}
    if "schema" in options:
        settings["search_path"] = options.pop("schema")
    query = urlencode({name: options[name] for name in options if name not in _PRISMA_OPTIONS})
    url = urlunsplit(parts._replace(query=query))
    how = {"command_timeout": _TIMEOUT_S, "timeout": _TIMEOUT_S, "server_settings": settings}
    pool = asyncpg.create_pool(
        url,
        # None is kept open for its own sake: a server that is away is not asked for again and
        # again, but when somebody wants something.
        min_size=0,
        max_size=_POOL,
        init=_prepare,
        # Behind PgBouncer in transaction mode a prepared statement may be another's.
        statement_cache_size=0 if options.get("pgbouncer") == "true" else 256,
        **how,
    )
    with _our_errors():
        await pool
    return _Postgresql(pool, url, how, options.get("pgbouncer") == "true")


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

    def __init__(self, driver: Any, origin: str) -> None:
        self._driver = driver
        self._origin = origin
        """This gateway, for others to know its notices by."""

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

    async def notify(self, kind: str, changed_id: str) -> None:
        await self.fetch("SELECT pg_notify($1, $2)", CHANNEL, f"{self._origin} {kind} {changed_id}")


class _Transaction(_Statements):
    """Inside BEGIN and COMMIT."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        yield self

    async def listen(
        self, on_notice: Callable[[str, str], None], on_gap: Callable[[], None]
    ) -> None:
        raise StoreError("a transaction hears nothing: listen on the store")

    async def close(self) -> None:
        raise StoreError("a transaction is ended by leaving its context")


class _Postgresql(_Statements):
    """The store. `options` are those of its connections."""

    def __init__(self, driver: Any, url: str, options: dict[str, Any], pooled: bool) -> None:
        super().__init__(driver, secrets.token_hex(8))
        self.pool = driver
        self._url = url
        self._options = options
        self._pooled = pooled
        """By PgBouncer."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        async with AsyncExitStack() as stack:
            with _our_errors():
                connection = await stack.enter_async_context(self._driver.acquire())
                await stack.enter_async_context(connection.transaction())
            yield _Transaction(connection, self._origin)
            with _our_errors():
                # COMMIT: what was deferred may fail only now.
                await stack.aclose()

    async def listen(
        self, on_notice: Callable[[str, str], None], on_gap: Callable[[], None]
    ) -> None:
        # PgBouncer in transaction mode passes no notices on; LiteLLM's word for the way past it.
        direct = os.environ.get("DIRECT_URL") if self._pooled else self._url
        if not direct:
            _log.warning(
                "changes of other gateways are not heard",
                {"error": "pgbouncer=true: set DIRECT_URL to the server itself"},
            )
            return

        def connect() -> Any:
            return asyncpg.connect(direct, **self._options)

        await listen(connect, self._origin, on_notice, on_gap)

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
