"""Marts: tables that `models` derives from the spells. This package may not know `models`, so a build
is given what makes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

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


class Before(NamedTuple):
    """The version that a build extends, and the products that anything has changed of since: what was
    observed of them, or which of their offers are still known at `as_of`."""

    frames: Frames
    as_of: int
    affected: pl.Series


class Emit(Protocol):
    def __call__(self, table: str, rows: pl.DataFrame, *, part: bool) -> None:
        """Takes the rows of a table of marts.sql as soon as they are there, money in units of
        1/10,000, times in seconds: all of them, or the `part` that is of affected products."""


class Task(NamedTuple):
    """What marts are made of: products, offers and spells of the build, `as_of` and for how long a
    look vouches for a price (seconds). Tables that are not emitted stay as they were `before`. `pool`
    has two threads."""

    frames: Frames
    as_of: int
    vouch: int
    before: Before | None
    pool: Executor
    emit: Emit


# To make a table anew with its comments takes 15 ms, to delete many rows longer.
FEW = 10_000


@dataclass(frozen=True)
class Marts:
    """`fingerprint` changes with what `make` would answer: such a version is built anew."""

    make: Callable[[Task], None]
    fingerprint: str


def insert(
    db: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, *, extends: bool, part: bool
) -> None:
    """Make the table anew with these rows, or only the `part` of products in the table `affected`; it
    is there already in a version that `extends` another."""
    if part:
        db.execute(f"DELETE FROM {table} WHERE product_id IN (FROM affected)")
    elif extends and frame.height < FEW:
        db.execute(f"DELETE FROM {table}")
    else:
        db.execute(TABLES[table])
    # Ten times faster than a look into duckdb_columns().
    kinds = db.execute(f"DESCRIBE {table}").fetchall()
    rows = frame.select(_stored(name, kind) for name, kind, *_ in kinds)  # noqa: F841 (by name)
    db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows")


def _stored(name: str, kind: str) -> pl.Expr:
    column = pl.col(name)
    if kind.startswith("DECIMAL"):
        return (column.cast(pl.Decimal(38, 4)) / SCALE).cast(pl.Decimal(18, 4))
    if kind == "TIMESTAMP":
        return (column.cast(pl.Int64) * 1_000_000).cast(pl.Datetime("us"))
    return column
