"""The stores: SQLite (the embedded default) and PostgreSQL, behind one small interface.

Only the control process opens one. SQL is the same text on both, with `$1, $2` for values, which
are always bound, never written into the text. What differs in kind is converted at this edge, both
ways: times are aware datetimes in UTC, JSON columns hold what JSON holds, money is integer
nano-dollars. The tables stand in `migrations/`, in plain names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

__all__ = ["Conflict", "Row", "Store", "StoreError", "StoreUnavailable", "open_store"]

Row = dict[str, Any]


class StoreError(Exception):
    """The store can't do what it was asked. Its text holds no values and no passwords."""


class StoreUnavailable(StoreError):
    """The database can't be reached now; later it may."""


class Conflict(StoreError):
    """A row with this unique value is there already, or one that others refer to would go."""


class Store(Protocol):
    """A database. Any task of the loop may call; each call outside a transaction is one by itself.

    All raise StoreUnavailable, Conflict or StoreError.
    """

    dialect: str
    """`sqlite` or `postgresql`."""

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """Return the rows, each a dict in the order of its columns."""

    async def fetch_one(self, sql: str, *values: Any) -> Row | None:
        """Return the first row; None: there is none."""

    async def execute(self, sql: str, *values: Any) -> int:
        """Return how many rows the statement touched."""

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute the statement once for each of `rows`: all of them, or none."""

    def transaction(self) -> AbstractAsyncContextManager[Store]:
        """Return a context with these same methods; an exception in it undoes all of it.

        One that is begun inside another is a part of that one. On SQLite there is one writer at a
        time: others wait here.
        """

    async def notify(self, kind: str, changed_id: str) -> None:
        """Tell the other gateways on this database that something changed; in a transaction, when
        that commits. On SQLite there are none.
        """

    async def listen(
        self, on_notice: Callable[[str, str], None], on_gap: Callable[[], None]
    ) -> None:
        """Call `on_notice(kind, id)` for what others tell, and `on_gap()` whenever some of it may
        have been missed; until cancelled. Returns at once when nothing will ever come.
        """

    async def close(self) -> None:
        """Close all connections. The store is of no use afterwards."""


async def open_store(url: str) -> Store:
    """Open the database at `url`, made and migrated where needed: `sqlite:///PATH` (four slashes
    for an absolute path) or `postgresql://USER:PASSWORD@HOST:PORT/NAME`.

    Any number of processes may do so at once. Raises StoreError.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        from fastgate.store import sqlite  # noqa: PLC0415  only one of the drivers is needed

        return await sqlite.open_sqlite(rest[1:])
    if scheme in ("postgresql", "postgres") and rest:
        from fastgate.store import postgresql  # noqa: PLC0415  with the extra [postgres]

        return await postgresql.open_postgresql(url)
    # Without `://` what comes first may be a password.
    got = f"got {scheme[:20]}://" if rest and scheme.isalnum() else "got no SCHEME://"
    raise StoreError(
        "the database's URL: expected sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME, "
        f"{got}..."
    )
