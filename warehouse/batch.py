"""A batch on its way into the lake: checked, staged as Parquet, committed whole or not at all."""

from __future__ import annotations

import hashlib
import json
import operator
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl

from warehouse import quality
from warehouse.feed import Feed
from warehouse.lake import INLINE_ROWS, OFFER_ID, Lake
from warehouse.spells import superseded

OBSERVED = ("observed_at", "price", "list_price", "currency", "availability")
DETAILS = (
    "condition", "shipping", "promotion", "title", "brand", "gtin", "mpn", "url", "image_url",
    "category", "unit_quantity", "unit", "product_key",
)  # fmt: skip
TABLES = ("observation", "offer_detail", "rejected", "offer")


Item = TypeVar("Item")


class IdempotencyConflict(ValueError):
    """The same Idempotency-Key came with other content."""


@dataclass(frozen=True)
class Batch:
    """What became of a delivery; `duplicate` where the lake had it already and nothing changed."""

    batch_id: int
    content_hash: str
    received_at: datetime
    rows: int
    accepted: int
    rejected: int
    new_offers: int
    rejected_by_rule: dict[str, int]
    unknown_columns: list[str]
    source: str = ""
    duplicate: bool = False


def content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append(
    lake: Lake,
    feed: Feed,
    *,
    content: str,
    now: datetime,
    source: str = "",
    idempotency_key: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Batch:
    """Check every row of `feed` and commit the batch: observations, rejections and batch row.

    `content` is the file's hash and `now` the time of delivery (UTC). The same content, or the same
    idempotency key, is the same batch: it is answered and not written again. Raises `FeedError` for
    a feed that cannot be read and `IdempotencyConflict`; the lake is then as it was.
    """
    if known := find_batch(lake, content, idempotency_key):
        return known
    # Three threads: one reads and checks ahead, one writes, this one sorts.
    with ThreadPoolExecutor(2) as pool:
        staged = _Staged(lake, _new_batch_id(now), now, pool)
        try:
            checked = ((chunk.height, quality.check(chunk, now)) for chunk in feed.chunks())
            for rows, judged in _one_ahead(checked, pool):
                staged.add(rows, judged)
                progress(staged.rows)
            staged.report_two_prices()
            batch = staged.batch(content, source, list(feed.unknown_columns))
            staged.finish_writing()
            return _commit(lake, staged, batch, idempotency_key)
        finally:
            staged.remove_unused()


def find_batch(lake: Lake, content: str, idempotency_key: str | None = None) -> Batch | None:
    """The batch of this content, if the lake has it; its new key is remembered with it."""
    with lake.cursor() as cursor:
        known, new_key = _known(cursor, content, idempotency_key)
    if known and new_key:
        lake.commit(lambda cursor: _remember(cursor, idempotency_key, content))
    return known


def _known(
    cursor: duckdb.DuckDBPyConnection, content: str, idempotency_key: str | None
) -> tuple[Batch | None, bool]:
    """The batch of this content, and whether the key is new. Raises `IdempotencyConflict`."""
    sql = "SELECT content_hash FROM lake.delivery_key WHERE idempotency_key = ?"
    used = cursor.execute(sql, [idempotency_key]).fetchone()
    if used and used[0] != content:
        raise IdempotencyConflict(
            f"the Idempotency-Key {idempotency_key!r} was used before for other content; "
            "send the same bytes again, or choose a new key"
        )
    sql = "SELECT * FROM lake.batch WHERE content_hash = ? ORDER BY batch_id LIMIT 1"
    rows = cursor.execute(sql, [content]).pl().to_dicts()
    new_key = idempotency_key is not None and used is None
    return (batch_from_row(rows[0], duplicate=True) if rows else None), new_key


def _remember(cursor: duckdb.DuckDBPyConnection, key: str | None, content: str) -> None:
    cursor.execute("INSERT INTO lake.delivery_key VALUES (?, ?)", [key, content])


def batch_from_row(row: dict[str, Any], *, duplicate: bool = False) -> Batch:
    return Batch(
        batch_id=row["batch_id"],
        content_hash=row["content_hash"],
        received_at=row["received_at"].replace(tzinfo=UTC),
        rows=row["rows"],
        accepted=row["accepted"],
        rejected=row["rejected"],
        new_offers=row["new_offers"],
        rejected_by_rule=json.loads(row["rejected_by_rule"]),
        unknown_columns=row["unknown_columns"] or [],
        source=row["source"],
        duplicate=duplicate,
    )


def _new_batch_id(now: datetime) -> int:
    """Ids grow with the time of delivery; 10 random bits keep two writers of one moment apart."""
    return (int(now.timestamp() * 1_000_000) << 10) | int.from_bytes(os.urandom(2)) & 1023


def _commit(lake: Lake, staged: _Staged, batch: Batch, idempotency_key: str | None) -> Batch:
    """Register the staged files and write the batch row, unless another writer was first."""
    outcome = batch

    def write(cursor: duckdb.DuckDBPyConnection) -> None:
        nonlocal outcome
        outcome = batch
        known, new_key = _known(cursor, batch.content_hash, idempotency_key)
        if new_key:
            _remember(cursor, idempotency_key, batch.content_hash)
        if known:
            outcome = known
            return
        for table in TABLES:
            staged.register(cursor, table)
        cursor.execute(
            "INSERT INTO lake.batch BY NAME SELECT ? AS batch_id, ? AS content_hash, "
            "? AS source, ?::TIMESTAMP AS received_at, ? AS rows, "
            "? AS accepted, ? AS rejected, ? AS new_offers, ? AS rejected_by_rule, "
            "?::VARCHAR[] AS unknown_columns",
            [
                batch.batch_id, batch.content_hash, batch.source,
                batch.received_at.replace(tzinfo=None), batch.rows, batch.accepted, batch.rejected,
                batch.new_offers, json.dumps(batch.rejected_by_rule), batch.unknown_columns,
            ],
        )  # fmt: skip

    # Until it is certain that the lake does not refer to the files they must stay; what a crash
    # leaves is removed as orphans.
    staged.committed = True
    try:
        lake.commit(write)
    except duckdb.Error:
        staged.committed = False
        raise
    staged.committed = outcome is batch
    return outcome


@dataclass
class _Staged:
    """The Parquet files of one batch, written beside the lake's own and not yet part of it."""

    lake: Lake
    batch_id: int
    now: datetime
    pool: ThreadPoolExecutor
    writing: list[Future[None]] = field(default_factory=list)
    rows: int = 0
    rejected: int = 0
    committed: bool = False
    by_rule: dict[str, int] = field(default_factory=dict)
    files: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    offers: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"retailer": pl.String, "sku": pl.String, "offer_id": pl.Int64}
        )
    )
    spans: list[pl.DataFrame] = field(default_factory=list)
    repeated: list[pl.Series] = field(default_factory=list)
    inlined: set[str] = field(default_factory=set)

    def add(self, height: int, checked: quality.Checked) -> None:
        self.rows += height
        self._reject(checked.rejected)
        if checked.accepted.is_empty():
            return
        rows = self._with_offer_ids(checked.accepted)
        # Sorted by offer: spells then fold without another sort, and the file is half the size.
        # Only the narrow part is sorted whole: what is said besides prices repeats, and is taken
        # where it changes. It is compared by hash (64 bits: one change in 10^19 is overlooked).
        order = rows.select(pl.arg_sort_by("offer_id", "observed_at", "line")).to_series()
        batch = pl.lit(self.batch_id, dtype=pl.Int64).alias("batch_id")
        narrow = rows.select("offer_id", *OBSERVED, batch, "line", _said(rows))[order]
        self._stage("observation", narrow.drop("said"))
        starts, ends = _runs(narrow, "offer_id", "said")
        details = rows[order[ends]].select(
            "offer_id",
            narrow["observed_at"][starts].alias("first_seen_at"),
            pl.col("observed_at").alias("last_seen_at"),
            *DETAILS,
            batch,
            "line",
        )
        self._stage("offer_detail", details)
        starts, ends = _runs(narrow, "offer_id")
        times = narrow["observed_at"]
        again = (pl.col("offer_id") == pl.col("offer_id").shift()) & (
            pl.col("observed_at") == pl.col("observed_at").shift()
        )
        self.repeated.append(narrow.filter(again)["offer_id"])
        self.spans.append(narrow[starts].select("offer_id", first=times[starts], last=times[ends]))

    def _with_offer_ids(self, rows: pl.DataFrame) -> pl.DataFrame:
        key = ["retailer", "sku"]
        found = rows.join(self.offers, on=key, how="left", maintain_order="left")
        if not found["offer_id"].null_count():
            return found
        new = found.filter(pl.col("offer_id").is_null()).select(key).unique()  # noqa: F841 (in SQL)
        with self.lake.cursor() as cursor:
            hashed = cursor.execute(f"SELECT retailer, sku, {OFFER_ID} AS offer_id FROM new").pl()
        self.offers = pl.concat([self.offers, hashed])
        return rows.join(self.offers, on=key, how="left", maintain_order="left")

    def report_two_prices(self) -> None:
        """Report the earlier of two prices of one offer at one instant, wherever in the batch.

        The row stays in the lake, where the build lets the later delivery win. Only offers whose
        chunks overlap in time, or that repeat an instant within one, are looked at.
        """
        if not self.spans:
            return
        spans = pl.concat(self.spans).sort("offer_id", "first")
        overlap = pl.col("first") <= pl.col("last").cum_max().shift().over("offer_id")
        offers = pl.concat([*self.repeated, spans.filter(overlap)["offer_id"]]).unique()
        if offers.is_empty():
            return
        self.finish_writing()
        rows = (
            pl.scan_parquet([path for path, _ in self.files["observation"]], glob=False)
            .filter(pl.col("offer_id").is_in(offers.implode()))
            .sort("offer_id", "observed_at", "line")
            .collect()
        )
        lost = superseded(rows)
        self._reject(
            lost.select(
                "line",
                field=pl.lit("price"),
                rule=pl.lit("two_prices_one_instant"),
                value=pl.col("price").cast(pl.String),
                kept=pl.lit(value=False),
            )
        )

    def _reject(self, rejected: pl.DataFrame) -> None:
        if rejected.is_empty():
            return
        self.rejected += rejected.filter(~pl.col("kept"))["line"].n_unique()
        for rule, count in rejected.group_by("rule").len().iter_rows():
            self.by_rule[rule] = self.by_rule.get(rule, 0) + count
        self._stage(
            "rejected",
            rejected.select(
                pl.lit(self.batch_id, dtype=pl.Int64).alias("batch_id"),
                "line", "field", "rule", "value", "kept",
            ),
        )  # fmt: skip

    def batch(self, content: str, source: str, unknown_columns: list[str]) -> Batch:
        known = self.lake.rows_of("offer", self.lake.snapshot(), self.offers["offer_id"])
        new = self.offers.join(known, on="offer_id", how="anti")
        if new.height:
            self._stage(
                "offer",
                new.select(
                    "offer_id", "retailer", "sku",
                    pl.lit(self.batch_id, dtype=pl.Int64).alias("batch_id"),
                ),
            )  # fmt: skip
        return Batch(
            batch_id=self.batch_id,
            content_hash=content,
            received_at=self.now,
            rows=self.rows,
            accepted=self.rows - self.rejected,
            rejected=self.rejected,
            new_offers=new.height,
            rejected_by_rule=dict(sorted(self.by_rule.items())),
            unknown_columns=unknown_columns,
            source=source,
        )

    def _stage(self, table: str, rows: pl.DataFrame) -> None:
        files = self.files.setdefault(table, [])
        folder = f"{self.lake.data_url}/main/{table}"
        if "://" not in folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        path = f"{folder}/{self.batch_id}-{len(files):05}.parquet"
        files.append((path, rows.height))
        self.finish_writing(but=2)  # Memory holds the files of three chunks at most.
        self.writing.append(self.pool.submit(_write, rows, path))

    def finish_writing(self, but: int = 0) -> None:
        while len(self.writing) > but:
            self.writing.pop(0).result()

    def register(self, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """Make the staged files part of the table; few rows go into the catalog instead."""
        files = self.files.get(table, [])
        if files and sum(height for _, height in files) < INLINE_ROWS:
            rows = pl.concat([pl.read_parquet(path, glob=False) for path, _ in files])  # noqa: F841 (in SQL)
            cursor.execute(f"INSERT INTO lake.{table} BY NAME SELECT * FROM rows")
            self.inlined.add(table)
        elif files:
            # One pattern for all of them; the folder's own name is no pattern.
            folder, name = files[0][0].rsplit("/", 1)
            folder = re.sub(r"([\[\]*?])", r"[\1]", folder)
            pattern = f"{folder}/{name.replace('-00000.parquet', '-*.parquet')}"
            cursor.execute(f"CALL ducklake_add_data_files('lake', '{table}', ?)", [pattern])

    def remove_unused(self) -> None:
        wait(self.writing)
        for table, files in self.files.items():
            if not self.committed or table in self.inlined:
                for path, _ in files:
                    if "://" not in path:
                        Path(path).unlink(missing_ok=True)


def _write(rows: pl.DataFrame, path: str) -> None:
    if "://" in path:
        rows.write_parquet(path, compression="zstd")
        return
    with Path(path).open("wb") as file:
        rows.write_parquet(file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _said(rows: pl.DataFrame) -> pl.Expr:
    """One hash of what each row says besides prices."""
    said = [name for name in DETAILS if rows[name].null_count() < rows.height]
    hashes = [pl.col(name).hash(seed=place) for place, name in enumerate(said)]
    return reduce(operator.xor, hashes, pl.lit(0, dtype=pl.UInt64)).alias("said")


def _runs(rows: pl.DataFrame, *names: str) -> tuple[pl.Series, pl.Series]:
    """First and last row of each stretch in which the columns do not change."""
    begins = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in names)
    starts = rows.select(begins.fill_null(value=True).arg_true()).to_series()
    return starts, pl.concat([starts[1:], pl.Series([rows.height], dtype=starts.dtype)]) - 1


def _one_ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    """The items, each made in another thread while the one before is being used."""
    coming = pool.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item
