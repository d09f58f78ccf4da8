"""The Parquet files of a batch, written beside the lake's own and not yet part of it.

data/main/observation/1838475866900189768-00000.parquet    one file a chunk, sorted by offer
"""

from __future__ import annotations

import operator
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq

from warehouse import quality
from warehouse.lake import INLINE_ROWS, OFFER_ID, Lake
from warehouse.spells import superseded

OBSERVED = ("observed_at", "price", "list_price", "currency", "availability")
DETAILS = (
    "condition", "shipping", "promotion", "title", "brand", "gtin", "mpn", "url", "image_url",
    "category", "unit_quantity", "unit", "product_key",
)  # fmt: skip
PLACES = {name: place for place, name in enumerate(("retailer", "sku", *DETAILS))}
ROW_GROUP_ROWS = 1 << 18  # what a build of a range of offers reads at least
RANGE_ROWS = 4_000_000  # looked at together for two prices at one instant
# Offers whose last details are held back; about 300 MB.
MOST_OPEN_DETAILS = 500_000


@dataclass
class Staged:
    """The Parquet files of one batch, written beside the lake's own and not yet part of it."""

    lake: Lake
    batch_id: int
    pool: ThreadPoolExecutor
    writing: list[Future[None]] = field(default_factory=list)
    # Nobody can know which texts would share a hash.
    seed: int = field(default_factory=lambda: int.from_bytes(os.urandom(7)))
    rows: int = 0
    rejected: int = 0
    committed: bool = False
    by_rule: dict[str, int] = field(default_factory=dict)
    files: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    offers: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"retailer": pl.String, "sku": pl.String, "key": pl.UInt64, "offer_id": pl.Int64}
        )
    )
    spans: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"offer_id": pl.Int64, "first": pl.Datetime("us"), "last": pl.Datetime("us")}
        )
    )
    repeated: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Int64))
    open_details: pl.DataFrame | None = None
    inlined: set[str] = field(default_factory=set)

    @property
    def _batch(self) -> pl.Expr:
        return pl.lit(self.batch_id, dtype=pl.Int64).alias("batch_id")

    def add(self, height: int, checked: quality.Checked) -> None:
        self.rows += height
        self._reject(checked.rejected)
        if checked.accepted.is_empty():
            return
        rows = self._with_offer_ids(checked.accepted)
        # Sorted by offer: spells then fold without another sort, and the file is half the size.
        # Only the narrow part is sorted whole: what is said besides prices repeats, and is taken
        # where it changes. It is compared by hash (64 bits: one change in 10^19 is overlooked).
        # Rows come by line; in the order of time a sort by offer alone takes a third.
        keys = ["offer_id"] if rows["observed_at"].is_sorted() else ["offer_id", "observed_at"]
        order = rows.select(pl.arg_sort_by(*keys, maintain_order=True)).to_series()
        said = [name for name in DETAILS if rows[name].null_count() < rows.height]
        narrow = rows.select(
            "offer_id", *OBSERVED, self._batch, "line", _hash(self.seed, said).alias("said")
        )[order]
        self._stage("observation", narrow.drop("said"))
        starts, ends = _runs(narrow, "offer_id", "said")
        details = rows[order[ends]].select(
            "offer_id",
            narrow["observed_at"][starts].alias("first_seen_at"),
            pl.col("observed_at").alias("last_seen_at"),
            *DETAILS,
            self._batch,
            "line",
            narrow["said"][ends],
        )
        self._say(details)
        starts, ends = _runs(narrow, "offer_id")
        times = narrow["observed_at"]
        again = (pl.col("offer_id") == pl.col("offer_id").shift()) & (
            pl.col("observed_at") == pl.col("observed_at").shift()
        )
        spans = narrow[starts].select("offer_id", first=times[starts], last=times[ends])
        met = spans.join(self.spans, on="offer_id")
        overlap = (pl.col("first") <= pl.col("last_right")) & (
            pl.col("last") >= pl.col("first_right")
        )
        found = (self.repeated, narrow.filter(again)["offer_id"], met.filter(overlap)["offer_id"])
        self.repeated = pl.concat(found).unique()
        both = pl.concat([self.spans, spans]).group_by("offer_id")
        self.spans = both.agg(pl.col("first").min(), pl.col("last").max())

    def _say(self, details: pl.DataFrame) -> None:
        """Stage what is said besides prices, but for each offer's last: the next rows may repeat it."""
        both = details
        if self.open_details is not None:  # In one piece it sorts in a third of the time.
            both = pl.concat([self.open_details, details], rechunk=True)
        both = both.sort("offer_id", "last_seen_at", "line")
        starts, ends = _runs(both, "offer_id", "said")
        run = pl.int_range(pl.len()).is_in(starts.implode()).cum_sum()
        first = both.group_by(run, maintain_order=True).agg(pl.col("first_seen_at").min())
        said = both[ends].with_columns(first["first_seen_at"])
        last = said["offer_id"] != said["offer_id"].shift(-1)
        last = last.fill_null(value=True)
        closed = said.filter(~last)
        self.open_details = said.filter(last)
        if self.open_details.height > MOST_OPEN_DETAILS:
            closed, self.open_details = said, None
        if closed.height:
            self._stage("offer_detail", closed.drop("said"))

    def finish(self) -> None:
        """Stage the last that is said of each offer, and report two prices at one instant."""
        if self.open_details is not None:
            self._stage("offer_detail", self.open_details.drop("said"))
        self._report_two_prices()

    def _with_offer_ids(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Joined by a hash of retailer and sku, which takes a third of joining two texts."""
        hashed = rows.with_columns(key=_hash(self.seed, ["retailer", "sku"]))
        new = hashed.select("retailer", "sku", "key")[hashed["key"].arg_unique()]
        new = new.join(self.offers, on="key", how="anti")
        if new.height:
            with self.lake.cursor() as cursor:
                ids = cursor.execute(f"SELECT *, {OFFER_ID} AS offer_id FROM new").pl()
            self.offers = pl.concat([self.offers, ids])
        known = self.offers.select("key", "offer_id")
        return hashed.join(known, on="key", how="left", maintain_order="left").drop("key")

    def _report_two_prices(self) -> None:
        """Report the earlier of two prices of one offer at one instant, wherever in the batch.

        The row stays in the lake, where the build lets the later delivery win. Only offers whose
        chunks overlap in time, or that repeat an instant within one, are looked at.
        """
        offers = self.repeated.sort()
        if offers.is_empty():
            return
        self.finish_writing()
        files = pl.scan_parquet([path for path, _ in self.files["observation"]], glob=False)
        # As many offers at a time as have about RANGE_ROWS rows; all have about as many.
        size = max(1, len(self.spans) * RANGE_ROWS // self.rows)
        for start in range(0, len(offers), size):
            part = offers[start : start + size]
            rows = files.filter(
                pl.col("offer_id").is_between(part[0], part[-1])
                & pl.col("offer_id").is_in(part.implode())
            ).select("offer_id", "observed_at", "price", "currency", "batch_id", "line")
            lost = superseded(rows.sort("offer_id", "observed_at", "line").collect())
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
            rejected.select(self._batch, "line", "field", "rule", "value", "kept"),
        )

    def new_offers(self) -> int:
        """Stage the offers that the lake does not know; how many."""
        known = self.lake.rows_of("offer", self.lake.snapshot(), self.offers["offer_id"])
        new = self.offers.join(known, on="offer_id", how="anti")
        if new.height:
            self._stage("offer", new.select("offer_id", "retailer", "sku", self._batch))
        return new.height

    def _stage(self, table: str, rows: pl.DataFrame) -> None:
        files = self.files.setdefault(table, [])
        folder = f"{self.lake.data_url}/main/{table}"
        if "://" not in folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        path = f"{folder}/{self.batch_id}-{len(files):05}.parquet"
        files.append((path, rows.height))
        self.finish_writing(but=2)  # Memory holds three files at most.
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
    """By PyArrow: ids, times and lines as differences make the file a third of what Polars writes."""
    if "://" in path:
        rows.write_parquet(path, compression="zstd")
        return
    whole = [name for name, kind in rows.schema.items() if kind in (pl.Int64, pl.Datetime("us"))]
    with Path(path).open("wb") as file:
        pq.write_table(
            rows.to_arrow(),
            file,
            compression="zstd",
            column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
            use_dictionary=[name for name in rows.columns if name not in whole],
            store_decimal_as_integer=True,
            store_schema=False,
            row_group_size=ROW_GROUP_ROWS,
        )
        file.flush()
        os.fsync(file.fileno())


def _hash(seed: int, names: list[str]) -> pl.Expr:
    """One hash of what the columns say together; `names` are all of one tuple of columns, whose
    places keep what one says apart from what another says."""
    # An empty value counts as if its column were not there: in other chunks it is not.
    hashes = [
        pl.when(pl.col(name).is_not_null())
        .then(pl.col(name).hash(seed=seed + PLACES[name]))
        .otherwise(0)
        for name in names
    ]
    return reduce(operator.xor, hashes, pl.lit(0, dtype=pl.UInt64))


def _runs(rows: pl.DataFrame, *names: str) -> tuple[pl.Series, pl.Series]:
    """First and last row of each stretch in which the columns do not change."""
    begins = pl.any_horizontal(pl.col(name) != pl.col(name).shift() for name in names)
    starts = rows.select(begins.fill_null(value=True).arg_true()).to_series()
    return starts, pl.concat([starts[1:], pl.Series([rows.height], dtype=starts.dtype)]) - 1
