"""A real lake and real builds in a folder, and what a warehouse file then says, as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from jobs.marts import MARTS
from warehouse import batch, build, columns, images
from warehouse.feed import open_feed
from warehouse.lake import Lake
from warehouse.rates import Stored, remove_rate, store_rates
from warehouse.rates_file import read_rates
from warehouse.search import Filters, SearchIndex

NOW = datetime(2026, 11, 22, 17, tzinfo=UTC)
# Where a row came from differs with the split into batches; what it says does not.
DELIVERY = {"batch_id", "line", "superseded_by", "version"}


def open_lake(folder: Path) -> Lake:
    folder.mkdir(parents=True, exist_ok=True)
    return Lake(f"sqlite:///{folder}/catalog.sqlite", str(folder / "lake"))


def ndjson(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of `tests.oracle` as a feed: times are naive UTC there, and Decimal."""

    def plain(value: Any) -> str:
        return value.isoformat() + "Z" if isinstance(value, datetime) else str(value)

    return "".join(json.dumps(row, default=plain) + "\n" for row in rows)


class Pipeline:
    def __init__(self, folder: Path, lake: Lake | None = None, delivered: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lake = lake or open_lake(folder)
        self.delivered = delivered

    @classmethod
    def reading(cls, folder: Path) -> Pipeline:
        """Of somebody else's folder, only to ask its warehouse file."""
        made = cls.__new__(cls)
        made.folder = folder
        return made

    def beside(self, name: str) -> Pipeline:
        """Other builds of the same lake, in a folder of their own."""
        return Pipeline(self.folder / name, self.lake)

    def put(self, rows: Iterable[dict[str, Any]], **how: Any) -> batch.Batch:
        """Deliver rows as one batch, a second after the one before."""
        return self.put_text(ndjson(rows), **how)

    def put_text(self, text: str, *, chunk_rows: int = 1_000_000, **how: Any) -> batch.Batch:
        self.delivered += 1
        path = self.folder / f"delivery-{self.delivered}"
        path.write_text(text)
        return self.put_file(path, chunk_rows=chunk_rows, **how)

    def put_file(self, path: Path, *, chunk_rows: int = 1_000_000, **how: Any) -> batch.Batch:
        now = NOW + timedelta(seconds=self.delivered)
        content = batch.content_hash(path)
        feed = open_feed(path, chunk_rows=chunk_rows)
        return batch.append(self.lake, feed, content=content, now=now, **how)

    def put_rates(self, text: str, now: datetime = NOW, **how: bool) -> Stored:
        """Deliver a file of reference rates."""
        path = self.folder / "rates.csv"
        path.write_text(text)
        return store_rates(self.lake, read_rates(path, NOW.date()).rates, now, **how)

    def remove_rate(self, day: date, currency: str) -> None:
        remove_rate(self.lake, day, currency, NOW)

    def build(self, **how: Any) -> build.Built:
        return build.build(self.folder, self.lake, MARTS, **how)

    def version(self) -> Path:
        """Folder of the version in service."""
        return (self.folder / "warehouse.duckdb").resolve().parent

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as file:
            return file.execute(sql, parameters).fetchall()

    def link(self, offer_id: int, product_id: int | None, at: datetime) -> None:
        self.lake.commit(
            lambda cursor: cursor.execute(
                "INSERT INTO lake.offer_link VALUES (?, ?, ?)", [offer_id, product_id, at]
            )
        )

    def offers_of(self, product_id: int) -> list[int]:
        """The first is to carry the product's picture."""
        return [row[0] for row in self.query(images.OFFERS, product_id)]

    def give(self, offers: list[int], image: str | None, now: datetime = NOW) -> None:
        """Let their product show another picture, or none but the shops'."""
        images.give_image(self.lake, offers, image, now)

    def content(self) -> dict[str, list[str]]:
        """Every table's rows, the hot columns and the search index, sorted, without DELIVERY."""
        return self.tables() | self.hot_columns() | {"search": self.searched()}

    def tables(self) -> dict[str, list[str]]:
        found = {}
        named = self.query(
            "SELECT table_name, list(column_name) FROM duckdb_columns() "
            "WHERE table_name IN (SELECT table_name FROM duckdb_tables()) GROUP BY ALL"
        )
        for table, names in named:
            shown = ", ".join(sorted(set(names) - DELIVERY))
            found[table] = sorted(map(repr, self.query(f"SELECT {shown} FROM {table}")))
        assert {"build", "price_spell", "offer", "product", "category", "suspect"} <= set(found)
        return found

    def hot_columns(self) -> dict[str, list[str]]:
        """In their order: readers rely on it."""
        files = {path.name: pl.read_ipc(path) for path in self.version().glob("*.arrow")}
        assert {"spells.arrow", "product_stats.arrow", "trend.arrow"} <= set(files)
        return {name: [repr(row) for row in frame.rows()] for name, frame in files.items()}

    def searched(self) -> list[str]:
        """What the index answers to the words of every product there is, and its facets."""
        index = SearchIndex.open(self.version() / "search")
        words = {"", "tea", "green tea", "nosuchword"}
        for title, gtin in self.query("SELECT title, gtin FROM product"):
            words |= {title or "", gtin or ""}
        found = []
        for text in sorted(words):
            page = index.search(text, Filters(), limit=1000, offset=0)
            found.append(f"{text}: {page} {index.facets(text, Filters(), top=50)}")
            found.append(f"{text}: {index.suggest(text, limit=20)}")
        return found

    def hot_spells(self) -> dict[tuple[str, str], tuple[columns.Columns, columns.Spells]]:
        """By (retailer, sku), as product pages read them."""
        hot = columns.Columns(self.version())
        found = {}
        for (product_id,) in self.query("SELECT product_id FROM product"):
            at = hot.find(product_id)
            assert at is not None
            listed, of_product = hot.history(at)
            for offer in listed:
                mine = columns.Spells(*(column[offer.spells] for column in of_product))
                found[offer.retailer, offer.sku] = (hot, mine)
        return found


def units(value: int) -> Decimal:
    """A price of the hot columns, which count 1/10,000."""
    return Decimal(value).scaleb(-4)
