"""Marts: tables that `models` derives from the spells. This package may not know `models`, so a build
is given what makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from warehouse.columns import SCALE, Frames

SCHEMA = (Path(__file__).parent / "marts.sql").read_text()
# Products, offers and spells of the build, `as_of` and for how long a look vouches for a price
# (seconds) → the rows of each table of marts.sql: money in units of 1/10,000, times in seconds.
Make = Callable[[Frames, int, int], dict[str, pl.DataFrame]]


@dataclass(frozen=True)
class Marts:
    """`fingerprint` changes with what `make` would answer: such a version is built anew."""

    make: Make
    fingerprint: str


def insert(db: duckdb.DuckDBPyConnection, made: dict[str, pl.DataFrame]) -> None:
    """Make the tables anew with these rows; empty where there are none."""
    db.execute(SCHEMA)
    for table, frame in made.items():
        kinds = db.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table]
        ).fetchall()
        rows = frame.select(_stored(name, kind) for name, kind in kinds)  # noqa: F841 (by name)
        db.execute(f"INSERT INTO {table} SELECT * FROM rows")


def _stored(name: str, kind: str) -> pl.Expr:
    column = pl.col(name)
    if kind.startswith("DECIMAL"):
        return (column.cast(pl.Decimal(38, 4)) / SCALE).cast(pl.Decimal(18, 4))
    if kind == "TIMESTAMP":
        return (column.cast(pl.Int64) * 1_000_000).cast(pl.Datetime("us"))
    return column
