"""The transactional store: both databases, the schema, and when a transaction ends."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from litestar import post
from litestar.testing import TestClient
from sqlalchemy import func, inspect, select, update
from sqlalchemy.exc import DBAPIError

from pricepulse import audit, migrations
from pricepulse.access import public
from pricepulse.app import create_app
from pricepulse.audit import Audit
from pricepulse.errors import ConflictError
from pricepulse.settings import Settings
from pricepulse.store import Database, Db, SchemaError, Store, shown

NOTHING: list[object] = []


def count(url: str) -> int:
    database = Database(url)
    with database.begin(write=False) as db:
        found = db.scalar(select(func.count()).select_from(Audit))
    database.close()
    return found or 0


def test_migrations_go_up_and_down_and_up_again(blank_database: str) -> None:
    newest = migrations.upgrade(blank_database)
    assert newest == migrations.HEAD
    assert migrations.downgrade(blank_database, "base") == ""
    database = Database(blank_database)
    with database.engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    assert migrations.upgrade(blank_database) == newest
    assert migrations.upgrade(blank_database) == newest
    database.close()


def test_the_migrations_make_the_tables_that_the_code_has(database: str) -> None:
    opened = Database(database)
    with opened.engine.connect() as connection:
        assert migrations.differences(connection) == NOTHING
    opened.close()


def test_of_processes_that_start_at_once_one_migrates(blank_database: str) -> None:
    failed: list[BaseException] = []

    def start() -> None:
        try:
            migrations.upgrade(blank_database)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []
    assert count(blank_database) == 0


def test_a_server_database_must_be_migrated_by_hand(blank_database: str) -> None:
    if blank_database.startswith("sqlite"):
        migrations.prepare(blank_database)
        assert count(blank_database) == 0
        return
    with pytest.raises(SchemaError, match="run `pricepulse migrate` once"):
        migrations.prepare(blank_database)


def test_sqlite_is_durable_and_keeps_foreign_keys(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.sqlite")
    with database.engine.connect() as connection:
        told = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    database.close()
    assert told == ["wal", 2, 1]


def test_sqlite_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "a.sqlite"
    for old in (False, True):
        if old:
            for each in tmp_path.iterdir():
                each.chmod(0o644)
        database = Database(f"sqlite:///{file}")
        with database.begin() as db:
            db.connection().exec_driver_sql(f"CREATE TABLE t{int(old)} (a)")
            modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
        assert modes == {"a.sqlite": 0o600, "a.sqlite-wal": 0o600, "a.sqlite-shm": 0o600}
    database.close()


def test_writers_wait_for_each_other(database: str) -> None:
    """40 transactions that read before they write, eight at a time: none is refused."""

    async def write(store: Store, number: int) -> None:
        async with store.begin(write=True) as db:
            await db.scalar(select(func.count()).select_from(Audit))
            audit.record(db, "test", f"number:{number}")

    async def run() -> None:
        store = Store(database)
        await asyncio.gather(*(write(store, number) for number in range(40)))
        await store.close()

    asyncio.run(run())
    assert count(database) == 40


def test_readers_do_not_wait_for_writers(tmp_path: Path) -> None:
    """WAL lets them read; they must not wait for a connection either. PostgreSQL has no such queue."""
    url = f"sqlite:///{tmp_path}/people.sqlite"
    migrations.upgrade(url)

    async def write(store: Store) -> None:
        async with store.begin(write=True) as db:
            await db.scalar(select(func.count()).select_from(Audit))

    async def run() -> None:
        store = Store(url)
        lock = sqlite3.connect(tmp_path / "people.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        writers = [asyncio.create_task(write(store)) for _ in range(12)]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5), store.begin(write=False) as db:
            assert await db.scalar(select(func.count()).select_from(Audit)) == 0
        assert not any(each.done() for each in writers)
        lock.close()
        await asyncio.gather(*writers)
        await store.close()

    asyncio.run(run())


def test_the_audit_can_only_grow(database: str) -> None:
    opened = Database(database)
    with opened.begin() as db:
        audit.record(db, "test", "thing:1", number=1)
    for change in (update(Audit).values(action="other"), Audit.__table__.delete()):  # type: ignore[attr-defined]
        with pytest.raises(DBAPIError, match="the audit can only grow"), opened.begin() as db:
            db.execute(change)
    opened.close()
    assert count(database) == 1


def test_times_are_aware_and_in_utc(database: str) -> None:
    opened = Database(database)
    before = datetime.now(UTC)
    with opened.begin() as db:
        audit.record(db, "test", "thing:1")
    with opened.begin(write=False) as db:
        at = db.scalars(select(Audit.at)).one()
    opened.close()
    assert at.tzinfo is UTC
    assert before <= at <= datetime.now(UTC)


@post("/kept", **public())
async def kept(db: Db) -> str:
    audit.record(db, "kept", "thing:1")
    return "kept"


@post("/refused", **public())
async def refused(db: Db) -> str:
    audit.record(db, "refused", "thing:1")
    await db.flush()
    raise ConflictError("no")


@post("/broken", **public())
async def broken(db: Db) -> str:
    """Its commit fails: the database refuses what is only sent with it."""
    db.add(Audit(at=datetime.now(UTC), actor=None, action="", target="", address="", request_id="", detail={}))  # fmt: skip
    return "kept"


LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    # SQLite's SHARED lock (its os.h): whoever has the database open holds one of these bytes.
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
"""


def test_another_look_at_the_file_takes_no_locks_from_who_has_it_open(tmp_path: Path) -> None:
    """POSIX drops all locks of a process when it closes any descriptor of the file: then another process that ends
    takes itself for the last one and removes the WAL under us (sqlite.org/howtocorrupt.html, 2.2)."""
    url = f"sqlite:///{tmp_path}/a.sqlite"
    migrations.upgrade(url)
    database = Database(url)
    with database.begin() as db:
        db.scalar(select(func.count()).select_from(Audit))
    Database(url).close()
    asyncio.run(Store(url).close())
    command = [sys.executable, "-c", LOCK, str(tmp_path / "a.sqlite")]
    tried = subprocess.run(command, capture_output=True, text=True)
    database.close()
    assert "BlockingIOError" in tried.stderr, "nothing is locked"
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def client(database: str, tmp_path: Path) -> Iterator[TestClient[Any]]:
    settings = Settings.from_env({}, data=tmp_path, database_url=database)
    app = create_app(settings, routes=[kept, refused, broken])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_transaction_ends_before_the_answer(client: TestClient[Any], database: str) -> None:
    assert client.post("/api/v1/kept").status_code == 201
    assert count(database) == 1
    assert client.post("/api/v1/refused").status_code == 409
    answer = client.post("/api/v1/broken")
    assert answer.status_code == 500
    assert "kept" not in answer.text
    assert count(database) == 1


def test_a_database_that_is_busy_for_too_long_is_a_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pricepulse.store.BUSY_SECONDS", 0.05)
    settings = Settings.from_env({}, data=tmp_path)
    with TestClient(create_app(settings, routes=[kept])) as client:
        lock = sqlite3.connect(tmp_path / "people.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        answer = client.post("/api/v1/kept")
        lock.close()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.post("/api/v1/kept").status_code == 201


def test_a_url_is_shown_without_its_password() -> None:
    assert "secret" not in shown("postgresql://user:secret@db/people")
