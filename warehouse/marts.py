"""Marts: tables that `models` derives from the spells. This package may not know `models`, so a build
is given what makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from warehouse.columns import SCALE, Frames

SCHEMA = (Path(__file__).parent / "marts.sql").read_text()
# By table what makes it.
TABLES = {
    block.split("(")[0].split()[4]: block
    for block in SCHEMA.split("\n\n")
    if block.startswith("CREATE OR REPLACE TABLE")
}


class Made(NamedTuple):
    """`tables`: rows of tables of marts.sql, money in units of 1/10,000, times in seconds; those left
    out are as they were in the version before. `past`: what tells, with the next build, whether
    they still are."""

    tables: dict[str, pl.DataFrame]
    past: str


# Products, offers and spells of the build; `as_of` and for how long a look vouches for a price, in
# seconds; `past` of the version before, "" where there is none.
Make = Callable[[Frames, int, int, str], Made]


@dataclass(frozen=True)
class Marts:
    """`fingerprint` changes with what `make` would answer: such a version is built anew."""

    make: Make
    fingerprint: str


def insert(db: duckdb.DuckDBPyConnection, made: dict[str, pl.DataFrame]) -> None:
    """Make these tables anew, with these rows."""
    for table, frame in made.items():
        db.execute(TABLES[table])
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
