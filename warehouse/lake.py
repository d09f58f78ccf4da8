"""The lake: every observation for ever, in DuckLake (Parquet files and a SQL catalog).

A batch is staged first, as Parquet files beside the lake's own, and becomes part of the lake in one
short transaction that only registers those files. So a commit holds the catalog for milliseconds
however large the batch, a retry after a conflict costs nothing, and a crash before the commit leaves
files that nobody refers to (`remove_orphans` takes them away).
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_ducklake
import duckdb_extension_sqlite_scanner
import polars as pl

SCHEMA = (Path(__file__).parent / "lake.sql").read_text()
# Fewer rows than this are kept as rows in the catalog until `merge_small_files` writes them out: a
# batch a minute of a handful of rows would otherwise be half a million tiny files a year.
INLINE_ROWS = 200
MEMORY_LIMIT = "2GB"
STREAM_ROWS = 1_000_000
COMMIT_ATTEMPTS = 40
# DuckLake says so when two commits meet; both are safe to try again.
TRANSIENT = ("database is locked", "conflict", "could not serialize", "Failed to commit")
# Trying again makes no space; that sentence also begins with "Failed to commit".
FULL = ("disk is full", "disk I/O error", "No space left")

# 63 bits of MD5: deterministic across machines and versions, positive in every tool's integers. Two
# of 10 million offers share an id with a probability of 5e-6.
ID = "(md5_number_lower({}) >> 1)::BIGINT"
OFFER_ID = ID.format("retailer || chr(31) || sku")


class LakeError(RuntimeError):
    """The lake could not be opened or written; the message says what to do."""


class Lake:
    """One process's connection to the lake; `cursor()` gives each thread its own."""

    def __init__(self, catalog_url: str, data_url: str) -> None:
        """Open, and create on first use.

        `catalog_url`: `sqlite:///path` or `postgresql://…`; `data_url`: a folder or `s3://…`.
        """
        # Absolute: the same lake whatever the working directory; the catalog keeps paths relative.
        local = "://" not in data_url
        self.data_url = str(Path(data_url).resolve()) if local else data_url.rstrip("/")
        self._lock: Path | None = None
        # Merging sorts: beyond the limit on disk, beside the lake and not in the working directory.
        # A folder for each, made when needed: two that spill into one would crash.
        beside = Path(f"{self.data_url}.tmp" if local else tempfile.gettempdir())
        beside.mkdir(parents=True, exist_ok=True)
        self._spilled = beside / f"spill-{os.getpid()}-{os.urandom(4).hex()}"
        self._db = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",
                # Each signature takes 0.2 s of a processor to check, at every start of the command; that
                # the file is the one on record is pip's to check, as of all else that is loaded.
                "allow_unsigned_extensions": "true",
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": str(self._spilled),
            }
        )
        self._db.execute("SET TimeZone = 'UTC'")
        _load(self._db, duckdb_extension_ducklake, "ducklake")
        if local:
            Path(self.data_url).mkdir(parents=True, exist_ok=True)
        else:
            _load_optional(self._db, "httpfs")
        if catalog_url.startswith("sqlite:///"):
            path = Path(catalog_url.removeprefix("sqlite:///"))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(path.name + ".lock")
            _load(self._db, duckdb_extension_sqlite_scanner, "sqlite_scanner")
            # DuckLake keeps a second connection to its catalog: without WAL its own commit waits for it.
            target, meta = f"sqlite:{path}", ", META_BUSY_TIMEOUT 10000, META_JOURNAL_MODE 'WAL'"
        elif catalog_url.startswith(("postgresql://", "postgres://")):
            _load_optional(self._db, "postgres_scanner")
            target, meta = f"postgres:{catalog_url}", ""
        else:
            raise LakeError("the lake's catalog URL must begin with sqlite:/// or postgresql://")
        attach = (
            f"ATTACH '{_quoted('ducklake:' + target)}' AS lake (DATA_PATH '{_quoted(self.data_url)}/'"
            f", OVERRIDE_DATA_PATH true, DATA_INLINING_ROW_LIMIT {INLINE_ROWS}{meta})"
        )
        with self.writing():
            _retrying(lambda: self._db.execute(attach))
            _retrying(self._create_tables)

    def _create_tables(self) -> None:
        found = self._db.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'lake'"
        ).fetchone()
        if found == (SCHEMA.count("CREATE TABLE"),):
            return
        with transaction(self._db):
            self._db.execute(SCHEMA)
            # Compaction sorts, so that a build's range of offers reads only its own row groups.
            self._db.execute("ALTER TABLE lake.observation SET SORTED BY (offer_id, observed_at)")
            self._db.execute("ALTER TABLE lake.offer_detail SET SORTED BY (offer_id, last_seen_at)")
            self._db.execute("CALL lake.set_option('parquet_compression', 'zstd')")
            # With differences for times and lines: 11 MB instead of 148 for 20 M rows in order.
            self._db.execute("CALL lake.set_option('parquet_version', '2')")

    def close(self) -> None:
        self._db.close()
        shutil.rmtree(self._spilled, ignore_errors=True)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._db.cursor()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let one local process commit at a time; SQLite would answer "database is locked"."""
        if self._lock is None:
            yield
            return
        with self._lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def commit(self, write: Any) -> None:
        """Run `write(cursor)` in one transaction, again from its start when commits collide."""

        def attempt() -> None:
            with self.cursor() as cursor, transaction(cursor):
                write(cursor)

        with self.writing():
            _retrying(attempt)

    def identity(self) -> str:
        """The same for a lake and its copies: DuckLake's id of the schema that it began with."""
        sql = "SELECT schema_uuid FROM __ducklake_metadata_lake.ducklake_schema ORDER BY schema_id"
        return str(self.frame(f"{sql} LIMIT 1").item())

    def snapshot(self) -> int:
        """Number of the newest committed snapshot: grows with every commit."""
        with self.cursor() as cursor:
            row = cursor.execute("FROM lake.current_snapshot()").fetchone()
        return int(row[0]) if row else 0

    def frame(self, sql: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        with self.cursor() as cursor:
            return cursor.execute(sql, parameters or []).pl()

    def count(self, table: str, snapshot: int) -> int:
        sql = f"SELECT count(*) FROM lake.{table} AT (VERSION => {snapshot})"
        return int(self.frame(sql).item())

    def count_inserted(self, table: str, after: int, upto: int) -> int:
        """Rows committed after snapshot `after`, up to and with `upto`, as `inserted` reads them."""
        if upto <= after:
            return 0
        return int(self.frame(f"SELECT count(*) FROM {_inserted(table, after, upto)}").item())

    def rows(self, table: str, snapshot: int, low: int, high: int) -> pl.DataFrame:
        """All rows of `table` as of `snapshot` for the offers from `low` up to and with `high`."""
        return self.frame(
            f"SELECT * FROM lake.{table} AT (VERSION => {snapshot}) WHERE offer_id BETWEEN ? AND ?",
            [low, high],
        )

    def stream(
        self, table: str, columns: Sequence[str], snapshot: int, low: int
    ) -> Iterator[pl.DataFrame]:
        """Columns of all rows of `table` as of `snapshot` for the offers from `low` on, STREAM_ROWS at
        a time, about in the order of delivery; one empty frame at least."""
        with self.cursor() as cursor:
            reader = cursor.execute(
                f"SELECT {', '.join(columns)} FROM lake.{table} AT (VERSION => {snapshot}) "
                "WHERE offer_id >= ?",
                [low],
            ).to_arrow_reader(STREAM_ROWS)
            yield pl.DataFrame(reader.schema.empty_table())
            for batch in reader:
                yield pl.DataFrame(batch)

    def rows_of(self, table: str, snapshot: int, offers: pl.Series) -> pl.DataFrame:
        """All rows of `table` as of `snapshot` for the given offers."""
        wanted = offers.unique().to_frame("offer_id")  # noqa: F841 (DuckDB reads it by name)
        with self.cursor() as cursor:
            return cursor.execute(
                f"SELECT * FROM lake.{table} AT (VERSION => {snapshot}) "
                "WHERE offer_id BETWEEN ? AND ? AND offer_id IN (SELECT offer_id FROM wanted)",
                [offers.min(), offers.max()],
            ).pl()

    def inserted(self, table: str, after: int, upto: int) -> pl.DataFrame:
        """Rows committed after snapshot `after`, up to and with `upto`: reads only their files.

        Raises `duckdb.InvalidInputException` where `after + 1` has been expired: a full build is due.
        """
        if upto <= after:
            return self.frame(f"SELECT * FROM lake.{table} LIMIT 0")
        return self.frame(f"FROM {_inserted(table, after, upto)}")

    def merge_small_files(self) -> int:
        """Write inlined rows out and merge adjacent small files, sorted by offer; files merged."""
        with self.writing(), self.cursor() as cursor:
            _retrying(lambda: cursor.execute("CALL ducklake_flush_inlined_data('lake')"))
            merged = _retrying(
                lambda: cursor.execute("CALL ducklake_merge_adjacent_files('lake')").fetchall()
            )
        return sum(int(row[2]) for row in merged)

    def expire(self, before: datetime, keep_from: int) -> int:
        """Forget snapshots older than `before`, but none from `keep_from` on; how many.

        Snapshots are named one by one: on a SQLite catalog DuckLake's own `older_than` takes all of
        them, because it compares a text with a number there.
        """
        with self.writing(), self.cursor() as cursor:
            old = [
                row[0]
                for row in cursor.execute(
                    "SELECT snapshot_id FROM ducklake_snapshots('lake') "
                    "WHERE snapshot_time::TIMESTAMP < ?::TIMESTAMP AND snapshot_id < ?",
                    [before.astimezone(UTC).replace(tzinfo=None), keep_from],
                ).fetchall()
            ]
            for first in range(0, len(old), 1000):
                names = ", ".join(map(str, old[first : first + 1000]))
                sql = f"CALL ducklake_expire_snapshots('lake', versions => [{names}])"
                _retrying(partial(cursor.execute, sql))
        return len(old)

    def remove_merged(self) -> None:
        """Delete files that merging replaced. No build may be reading meanwhile."""
        with self.writing(), self.cursor() as cursor:
            sql = "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)"
            _retrying(lambda: cursor.execute(sql))

    def remove_orphans(self, older_than: timedelta = timedelta(days=1)) -> None:
        """Delete files that no commit refers to: what a crash left behind while it was staging, and
        what it had spilled."""
        for spilled in self._spilled.parent.glob("spill-*"):
            if time.time() - spilled.stat().st_mtime > older_than.total_seconds():
                shutil.rmtree(spilled, ignore_errors=True)
        with self.writing(), self.cursor() as cursor:
            cursor.execute(
                "CALL ducklake_delete_orphaned_files('lake', older_than => now() - ?::INTERVAL)",
                [f"{int(older_than.total_seconds())} seconds"],
            )


@contextmanager
def transaction(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # A commit that failed has ended its transaction already.
            cursor.execute("ROLLBACK")
        raise


def _retrying(action: Any) -> Any:
    for attempt in range(COMMIT_ATTEMPTS):
        try:
            return action()
        except duckdb.Error as error:
            last = attempt == COMMIT_ATTEMPTS - 1
            full = any(text in str(error) for text in FULL)
            if last or full or not any(text in str(error) for text in TRANSIENT):
                raise
            # Full jitter, at most 250 ms: a commit takes 5 to 30 ms.
            time.sleep(random.uniform(0, min(0.25, 0.01 * 2**attempt)))  # noqa: S311
    raise AssertionError("unreachable")


def _inserted(table: str, after: int, upto: int) -> str:
    return f"ducklake_table_insertions('lake', 'main', '{table}', {after + 1}, {upto})"


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _load(db: duckdb.DuckDBPyConnection, package: Any, name: str) -> None:
    """Load a DuckDB extension from the package that carries it: nothing is downloaded."""
    found = Path(package.__file__).parent.glob(f"extensions/*/{name}.duckdb_extension")
    db.execute(f"LOAD '{_quoted(str(next(found)))}'")


def _load_optional(db: duckdb.DuckDBPyConnection, name: str) -> None:
    import importlib

    try:
        package = importlib.import_module(f"duckdb_extension_{name}")
    except ImportError as error:
        raise LakeError(
            f"this lake's URL needs DuckDB's {name}: pip install 'pricepulse[cluster]'"
        ) from error
    _load(db, package, name)
