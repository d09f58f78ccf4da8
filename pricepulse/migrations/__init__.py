"""The schema of the transactional store, step by step (Alembic).

`upgrade` is what `pricepulse migrate` and the start on an embedded database run: the whole way in one
transaction, so that a migration that fails leaves the schema as it was, and of several processes
that start at once the first migrates and the others find it done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, func, inspect, select

from pricepulse.store import Base, Database, SchemaError, is_embedded

# Alembic is imported where something is to be migrated: a start on a schema that fits, which is
# almost every one, is spared 0.2 s.
if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0003"  # the newest of `versions/`
VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
# Any number, the same for all: PostgreSQL's lock that lets one process migrate at a time.
MIGRATING = 0x70726963


def upgrade(url: str, revision: str = "head") -> str:
    """Bring the schema to `revision`; the revision that it then has."""
    from alembic import command

    return _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> str:
    """Take migrations back to `revision` (`base` is all of them), and with them what they hold."""
    from alembic import command

    return _run(url, lambda config: command.downgrade(config, revision))


def prepare(url: str) -> None:
    """What a start does: an embedded database is made and migrated, another must have been.

    Raises SchemaError if `pricepulse migrate` must be run first: with a server's database that is a
    decision of its own, since older processes may still be running on it."""
    if is_embedded(url):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            there = _revision(connection)
    finally:
        database.close()
    if there == HEAD:
        return
    if is_embedded(url):
        upgrade(url)
    else:
        raise SchemaError(
            f"the database has schema {there or 'none'} and this release needs {HEAD}: run "
            "`pricepulse migrate` once, then start again"
        )


def differences(connection: Connection) -> list[object]:
    """What the tables in the code have and the database has not, or the other way round."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def _run(url: str, step: Callable[[Config], None]) -> str:
    config = _config()
    # Foreign keys are off meanwhile: SQLite changes a table by making it anew, and dropping the
    # old one would delete all rows that refer to it.
    database = Database(url, foreign_keys=False)
    try:
        with database.engine.execution_options(begin="IMMEDIATE").begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATING)))
            config.attributes["connection"] = connection
            step(config)
            return _revision(connection)
    finally:
        database.close()


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table(VERSION.name):
        return ""
    return connection.scalar(select(VERSION.c.version_num)) or ""


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
