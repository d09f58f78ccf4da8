"""The transactional store: people, mails, audit. SQLite by default, PostgreSQL by URL.

A handler takes `db: Db` and nothing else: one transaction per request, which is
committed before the first byte of the answer leaves and rolled back on every error. Litestar ends
its dependencies after the response is made and before it is sent, so a commit that fails is a 503
and never a 201.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from litestar import Request
from litestar.di import NamedDependency, Provide
from sqlalchemy import DateTime, Dialect, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import (
    AsyncAttrs,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

T = TypeVar("T")
# A writer waits for its turn so long. SQLite lets one write at a time; a write takes 1 to 5 ms.
BUSY_SECONDS = 10
# Connections of a process. Readers and writers have their own: those who wait for the write lock must
# not keep out whoever only reads, the gate among them. Of two writers on SQLite one writes.
READERS, WRITERS, WRITERS_EMBEDDED = 6, 6, 2
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class SchemaError(RuntimeError):
    """The schema is not the one of this release; the sentence says what to run."""


class Instant(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite keeps text without a zone, which would come back naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time: say of which zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Base(AsyncAttrs, DeclarativeBase):
    """The tables. Every constraint has a name, so that a migration can drop it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant}  # noqa: RUF012 (SQLAlchemy's own name and form)


class Store:
    """Two engines per process, to read and to write. Connections are made when they are needed, not here."""

    def __init__(self, url: str) -> None:
        _make_private(url)
        self.engine = _engine(url, READERS)
        self._reading = async_sessionmaker(self.engine, expire_on_commit=False)
        self._engine = _engine(url, WRITERS_EMBEDDED if is_embedded(url) else WRITERS)
        writing = self._engine.execution_options(begin="IMMEDIATE")
        self._writing = async_sessionmaker(writing, expire_on_commit=False)

    @asynccontextmanager
    async def begin(self, *, write: bool) -> AsyncIterator[AsyncSession]:
        """A session whose transaction is committed at the end and rolled back on an error.

        `write`: on SQLite it takes the write lock with its first statement. Begun as a reader, it
        could not become a writer once somebody else has written: "database is locked", at once.
        A handler that computes for long between reading and writing (Argon2) commits before it, and so
        does one that asks for a second session: whoever holds a connection must not wait for another.
        """
        async with (self._writing if write else self._reading)() as session:
            yield session
            await session.commit()

    async def close(self) -> None:
        await self.engine.dispose()
        await self._engine.dispose()


class Patience:
    """Waits so long for work at the database, and while that hangs refuses what comes after it at once.

    The work is left to itself: cancelled, its session would wait for the connection all the same."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._work: asyncio.Task[Any] | None = None

    async def wait(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What it gives; TimeoutError if not in time. One at a time: the caller holds a lock."""
        if self._work is not None and not self._work.done():
            raise TimeoutError("the database still does not answer")
        self._work = task = asyncio.create_task(work())
        # Whatever becomes of it when nobody waits any more, somebody has looked.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.wait_for(asyncio.shield(task), self.seconds)


def _engine(url: str, connections: int) -> AsyncEngine:
    options: dict[str, Any] = {
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": BUSY_SECONDS,
    }
    options = shared(options, url)
    if not is_embedded(url):
        # Of requests only: a migration may take longer.
        given = make_url(url).query.get("options", "")
        limits = f"-c statement_timeout={BUSY_SECONDS * 1000} -c lock_timeout={BUSY_SECONDS * 1000}"
        options["connect_args"] |= {"options": f"{limits} {given}".rstrip()}
    engine = create_async_engine(driver(url, "aiosqlite"), **options)
    _prepare(engine.sync_engine)
    return engine


class Database:
    """The same database for threads without an event loop: jobs, the command, migrations."""

    def __init__(self, url: str, *, foreign_keys: bool = True) -> None:
        _make_private(url)
        options: dict[str, Any] = {"pool_size": 2, "max_overflow": 2, "pool_timeout": BUSY_SECONDS}
        self.engine: Engine = create_engine(driver(url, "pysqlite"), **shared(options, url))
        _prepare(self.engine, foreign_keys=foreign_keys)

    @contextmanager
    def begin(self, *, write: bool = True) -> Iterator[Session]:
        bind = self.engine.execution_options(begin="IMMEDIATE") if write else self.engine
        with Session(bind, expire_on_commit=False) as session:
            yield session
            session.commit()

    def checkpoint(self) -> None:
        """On SQLite empty the write-ahead log, in which what was deleted is legible until then. Where
        somebody reads at that moment, the next time does it."""
        if self.engine.dialect.name == "sqlite":
            with closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self.engine.dispose()


def _make_private(url: str) -> None:
    """The file is its owner's: analysts read the warehouse beside it. SQLite gives what it makes with it,
    -wal and -shm, the same mode."""
    if not is_embedded(url):
        return
    path = Path(url.removeprefix("sqlite:///"))
    with suppress(FileNotFoundError):  # the folder comes later
        # Only a new file is opened: to close one takes SQLite's locks of it from this process, and then
        # another that ends removes the WAL under us.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            with suppress(FileNotFoundError):
                each.chmod(0o600)


def driver(url: str, sqlite: str) -> str:
    """The URL with the driver that we use; psycopg serves with and without an event loop."""
    if is_embedded(url):
        return f"sqlite+{sqlite}:///" + url.removeprefix("sqlite:///")
    return "postgresql+psycopg://" + url.partition("://")[2]


def is_embedded(url: str) -> bool:
    """Whether the database is a file of this machine, made and migrated at the start."""
    return url.startswith("sqlite:///")


def shared(options: dict[str, Any], url: str) -> dict[str, Any]:
    """Options of both engines. An error's text would show the values of its statement, hashes and
    addresses among them: hide_parameters."""
    options |= {"hide_parameters": True, "pool_recycle": 1800}
    if is_embedded(url):
        # The wait for the write lock. isolation_level None: Python begins no transactions of its own.
        return options | {"connect_args": {"timeout": BUSY_SECONDS, "isolation_level": None}}
    # A server behind a route that is gone says nothing: neither a connection nor an answer may be waited
    # for without an end (libpq's own words).
    patience = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10}
    return options | {"pool_pre_ping": True, "connect_args": patience}


def shown(url: str) -> str:
    """The URL without its password, for logs and the command."""
    return make_url(url).render_as_string(hide_password=True)


def _prepare(engine: Engine, *, foreign_keys: bool = True) -> None:
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        # FULL: in WAL mode NORMAL may lose the last commits in a power cut, and an answered
        # registration or sign-out must not be undone by one.
        # secure_delete: else what was deleted stays legible in the file's free pages.
        keys = f"foreign_keys={int(foreign_keys)}"
        _begin_wal(cursor)
        for pragma in ("synchronous=FULL", "secure_delete=ON", keys):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        mode = connection.get_execution_options().get("begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")


def _begin_wal(cursor: Any) -> None:
    """Of several that open a new file at once one changes it, and for that lock alone SQLite does not wait."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def insert(db: AsyncSession, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """INSERT that may go on with ON CONFLICT, which both dialects write alike and SQLAlchemy keeps apart."""
    if db.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


async def _transaction(request: Request[Any, Any, Any]) -> AsyncIterator[AsyncSession]:
    store: Store = request.app.state["store"]
    async with store.begin(write=request.method not in SAFE_METHODS) as session:
        yield session


Db = NamedDependency[AsyncSession]
DEPENDENCIES = {"db": Provide(_transaction)}  # of the whole application
