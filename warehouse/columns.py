"""The hot columns: products, offers and spells as sorted Arrow files beside the warehouse file.

Product pages and histories are what people hit most. A DuckDB point query costs about a millisecond
of planning; a slice of a sorted, memory-mapped column microseconds (bench/README.md has the figures).
This is the only place that knows their layout.

    products.arrow   sorted by product_id; `offer_start`, `offer_count` point into
    offers.arrow     what `Shown` has, by product_id, retailer, sku; `spell_start`, `spell_count` into
    spells.arrow     sorted like the offers, then by time: a product's spells are one stretch
    MARTS            likewise, what a product page or a list says of them beside (see lists.py)
"""

from __future__ import annotations

import shutil
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc

Ints = np.ndarray[Any, np.dtype[np.int64]]
# Prices are integers of 1/10,000: DECIMAL(18,4) without its point. No list price is 0.
SCALE = 10_000
MONEY = ("price", "list_price", "shipping", "unit_quantity")
SPELLS = """
SELECT offer_id, first_observed_at, last_observed_at, price, list_price, currency, availability,
    observations
FROM price_spell
"""
WORDS = ("currency", "availability")
MARTS = (
    "product_stats", "offer_stats", "deal", "product_signal", "trend", "anomaly", "price_move",
)  # fmt: skip

TOLD_OF_PRODUCT = ("title", "brand", "category", "category_slug", "image_url")
TOLD_OF_OFFER = ("retailer", "sku", "url", "condition", "last_observed_at")


class Rows(NamedTuple):
    """What the files are made of: whole, or only what differs from the version before: products and
    offers of the ids named in `affected` and `changed`."""

    products: pl.DataFrame
    offers: pl.DataFrame
    spells: pl.DataFrame
    affected: pl.DataFrame | None = None
    changed: pl.DataFrame | None = None


def read(db: duckdb.DuckDBPyConnection, *, changes_only: bool) -> Rows:
    """The rows of a warehouse file, or those named in its tables `affected` (product_id) and
    `changed` (offer_id); its transaction may still be open."""
    if not changes_only:
        return Rows(*(db.execute(sql).pl() for sql in ("FROM product", "FROM offer", SPELLS)))
    of_changed = "WHERE offer_id IN (FROM changed)"
    return Rows(
        products=db.execute("FROM product WHERE product_id IN (FROM affected)").pl(),
        offers=db.execute(f"FROM offer {of_changed}").pl(),
        spells=db.execute(f"{SPELLS} {of_changed}").pl(),
        affected=db.execute("FROM affected").pl(),
        changed=db.execute("FROM changed").pl(),
    )


class Frames(NamedTuple):
    """The three files of a version, in their order."""

    products: pl.DataFrame
    offers: pl.DataFrame
    spells: pl.DataFrame

    @classmethod
    def mapped(cls, folder: Path) -> Frames:
        return cls(*(mapped(folder / f"{name}.arrow") for name in cls._fields))

    def part(self, products: pl.Series) -> Frames:
        """Only what is of these products; `spell_start` and `offer_start` still point into the whole."""
        mine = self.offers["product_id"].is_in(products.implode())
        spells = np.repeat(mine.to_numpy(), self.offers["spell_count"].to_numpy())
        return Frames(
            self.products.filter(pl.col("product_id").is_in(products.implode())),
            self.offers.filter(mine),
            self.spells.filter(spells),
        )


def compose(rows: Rows, previous: Path | None) -> Frames:
    """The whole of a version: what `rows` do not name is taken from the folder of the version before,
    in its new order, which costs a tenth of sorting it anew."""
    spells = _numbers(rows.spells)
    counts = spells.group_by("offer_id", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("spell_count")
    )
    starts = counts.with_columns(source=pl.col("spell_count").cum_sum() - pl.col("spell_count"))
    offers = rows.offers.select(
        "product_id", *(pl.col(name).to_physical() for name in Shown._fields)
    ).with_columns(pl.col(*MONEY).cast(pl.Int64))
    offers = offers.join(starts, on="offer_id")
    spells = spells.drop("offer_id")
    products = rows.products
    if previous and rows.changed is not None and rows.affected is not None:
        old_products, old_offers, old_spells = Frames.mapped(previous)
        kept = old_offers.rename({"spell_start": "source"}).join(
            rows.changed, on="offer_id", how="anti"
        )
        offers = offers.with_columns(pl.col("source") + old_spells.height)
        offers = pl.concat([kept.select(offers.columns), offers])
        spells = pl.concat(_same_words(old_spells, spells), how="vertical_relaxed")
        kept = old_products.select(products.columns).join(
            rows.affected, on="product_id", how="anti"
        )
        products = pl.concat([kept, products])
    else:
        spells = _same_words(spells)[0]
    offers = offers.sort("product_id", "retailer", "sku").with_columns(
        spell_start=pl.col("spell_count").cum_sum() - pl.col("spell_count")
    )
    shift = (offers["source"] - offers["spell_start"]).to_numpy()
    taken = np.repeat(shift, offers["spell_count"].to_numpy())
    spells = spells[taken + np.arange(len(taken))]
    # Every product has offers, so both are in one order.
    counts = offers.group_by("product_id", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("offer_count")
    )
    products = products.sort("product_id").with_columns(
        counts["offer_count"], offer_start=counts["offer_count"].cum_sum() - counts["offer_count"]
    )
    return Frames(products, offers.drop("source"), spells)


def write(folder: Path, frames: dict[str, pl.DataFrame]) -> None:
    """One file each, to be mapped."""
    for name, frame in frames.items():
        frame.rechunk().write_ipc(folder / f"{name}.arrow", compression="uncompressed")


def write_mart(
    folder: Path, name: str, rows: pl.DataFrame, kept: tuple[Path, pl.Series] | None
) -> None:
    """One of MARTS: the rows are all of it, or those of these products, and the others are `kept` from
    the folder of the version before."""
    if kept:
        previous, products = kept
        before = mapped(previous / f"{name}.arrow")
        others = before.filter(~pl.col("product_id").is_in(products.implode()))
        rows = others.merge_sorted(rows, "product_id")
    write(folder, {name: rows})


def take_over(previous: Path, folder: Path, names: set[str]) -> None:
    """MARTS that are as they were."""
    for name in names:
        shutil.copyfile(previous / f"{name}.arrow", folder / f"{name}.arrow")


def _same_words(*frames: pl.DataFrame) -> list[pl.DataFrame]:
    """The frames with currency and availability as one Enum each, of all the words there are."""
    same = list(frames)
    for name in WORDS:
        words = {
            word
            for frame in frames
            for word in (
                _words(frame[name]) if frame[name].dtype == pl.Enum else frame[name].unique()
            )
        }
        kind = pl.Enum(sorted(words))
        same = [
            frame if frame[name].dtype == kind else frame.with_columns(pl.col(name).cast(kind))
            for frame in same
        ]
    return same


def _numbers(spells: pl.DataFrame) -> pl.DataFrame:
    """Sorted by offer and time; whole seconds, and prices without their point."""
    return spells.sort("offer_id", "first_observed_at").select(
        "offer_id",
        (pl.col("first_observed_at").to_physical() // 1_000_000).alias("first"),
        (pl.col("last_observed_at").to_physical() // 1_000_000).alias("last"),
        pl.col("price").to_physical().cast(pl.Int64),
        pl.col("list_price").to_physical().cast(pl.Int64).fill_null(0),
        *WORDS,
        "observations",
    )


def mapped(path: Path) -> pl.DataFrame:
    """The frame in the file, without reading it: pages come in as they are touched."""
    with pa.memory_map(str(path)) as file:
        frame = pl.from_arrow(pa.ipc.open_file(file).read_all(), rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _words(series: pl.Series) -> list[str]:
    assert isinstance(series.dtype, pl.Enum)
    return series.dtype.categories.to_list()


class Spells(NamedTuple):
    """Spells in the order of their offers and of time: seconds since 1970, prices in units of
    1/10,000, currency and availability as places in `Columns.currencies`, `.availabilities`."""

    first: Ints
    last: Ints
    price: Ints
    list_price: Ints
    currency: Ints
    availability: Ints
    observations: Ints


class Shown(NamedTuple):
    """An offer on its product's page: money in units of 1/10,000, times in microseconds since 1970.
    Polars makes a Decimal or a datetime of a value in some microseconds each, of a number in 0.1."""

    offer_id: int
    retailer: str
    sku: str
    url: str | None
    condition: str
    price: int
    list_price: int | None
    currency: str
    shipping: int | None
    promotion: str | None
    availability: str
    price_since: int
    last_observed_at: int
    unit_quantity: int | None
    unit: str | None
    mpn: str | None


class Page(NamedTuple):
    """A product on its page."""

    product_id: int
    title: str | None
    brand: str | None
    gtin: str | None
    category: str | None
    category_slug: str | None
    image_url: str | None
    currency: str
    best_offer_id: int | None
    unit_quantity: Decimal | None
    unit: str | None
    first_observed_at: datetime
    last_observed_at: datetime


class Usual(NamedTuple):
    """What a price usually was in one window; an offer's extremes are its own."""

    span: str
    mean: int
    median: int
    min: int
    min_at: int
    min_offer_id: int
    max: int
    max_at: int
    max_offer_id: int
    price_since: int | None
    cheaper_ratio: float | None
    change_ratio: float | None
    changes: int
    changes_per_month: float | None
    median_spell_days: float
    known_days: float
    coverage_ratio: float
    confidence: float


class Listed(NamedTuple):
    """An offer of a product and where its spells lie among the product's."""

    offer_id: int
    retailer: str
    sku: str
    spells: slice


class Columns:
    """The open files of one version; every method costs microseconds and never waits for a query."""

    def __init__(self, folder: Path) -> None:
        self._products, self._offers, spells = Frames.mapped(folder)
        self.marts = {name: mapped(folder / f"{name}.arrow") for name in MARTS}
        self._mart_products = {
            name: frame["product_id"].to_numpy() for name, frame in self.marts.items()
        }
        self._offer_at = {
            name: frame.get_column_index("offer_id")
            for name, frame in self.marts.items()
            if "offer_id" in frame.columns
        }
        self._usual = {
            name: self.marts[name].select(Usual._fields)
            for name in ("product_stats", "offer_stats")
        }
        self._listed = self._offers.select(
            "offer_id", "retailer", "sku", "spell_start", "spell_count"
        )
        self.currencies = _words(spells["currency"])
        self.availabilities = _words(spells["availability"])
        self._spells = [
            (series.to_physical() if series.dtype == pl.Enum else series).to_numpy()
            for series in spells.select(Spells._fields)
        ]
        self._shown = self._offers.select(Shown._fields)
        self._pages = self._products.select(Page._fields)
        self._told_products = self._products.select(TOLD_OF_PRODUCT)
        self._told_offers = self._offers.select(TOLD_OF_OFFER)
        self._offer_ids = self._offers["offer_id"].to_numpy()
        self._product_ids = self._products["product_id"].to_numpy()
        self._first_offer = self._products["offer_start"].to_numpy()
        self._offer_count = self._products["offer_count"].to_numpy()

    def find(self, product_id: int) -> int | None:
        """Where the product is, for the methods below; None if there is none."""
        at = int(self._product_ids.searchsorted(product_id))
        found = at < len(self._product_ids) and self._product_ids[at] == product_id
        return at if found else None

    def product(self, at: int) -> dict[str, Any]:
        """All columns of the product and its signals, as a list of products shows them."""
        signal = self.marts["product_signal"].row(at, named=True)
        return self._products.row(at, named=True) | signal

    def on_deal(self) -> list[int]:
        """The ids of products whose best price is a genuine deal, ascending."""
        signals = self.marts["product_signal"]
        return signals.filter(pl.col("score").is_not_null())["product_id"].to_list()

    def listed(self, mart: str, places: list[int]) -> list[dict[str, Any]]:
        """These rows of one of MARTS with what lists say of their product and offer: TOLD_OF_PRODUCT and
        TOLD_OF_OFFER. Money is in units of 1/10,000, times of the mart in seconds."""
        frame = self.marts[mart]
        names = (*frame.columns, *TOLD_OF_PRODUCT, *TOLD_OF_OFFER)
        products = self._product_ids.searchsorted(self._mart_products[mart][places])
        first = self._first_offer[products]
        rows = []
        for place, at, begin, end in zip(
            places,
            products.tolist(),
            first.tolist(),
            (first + self._offer_count[products]).tolist(),
            strict=True,
        ):
            # Row by row: 2 µs, while Polars takes 90 to gather any number of them.
            row = frame.row(place)
            offers = self._offer_ids[begin:end].tolist()
            offer = begin + offers.index(row[self._offer_at[mart]])
            told = self._told_products.row(at) + self._told_offers.row(offer)
            rows.append(dict(zip(names, row + told, strict=True)))
        return rows

    def mart(self, name: str, at: int) -> list[dict[str, Any]]:
        """The rows of one of MARTS about the product: money in units of 1/10,000, times in seconds."""
        begin, count = self._about(name, at)
        return self.marts[name].slice(begin, count).rows(named=True) if count else []

    def usual(self, mart: Literal["product_stats", "offer_stats"], at: int) -> list[Usual]:
        """Likewise of the statistics of the product, or of its offers."""
        return list(map(Usual._make, self._usual[mart].slice(*self._about(mart, at)).rows()))

    def _about(self, mart: str, at: int) -> tuple[int, int]:
        """Where the product's rows begin in the mart, and how many there are."""
        ids, wanted = self._mart_products[mart], self._product_ids[at]
        low = int(ids.searchsorted(wanted))
        return low, int(ids.searchsorted(wanted, side="right")) - low

    def page(self, at: int) -> tuple[Page, list[Shown]]:
        """The product and its offers, by retailer and sku."""
        offers = self._shown.slice(self._first_offer[at], self._offer_count[at]).rows()
        return Page(*self._pages.row(at)), [Shown(*row) for row in offers]

    def history(self, at: int) -> tuple[list[Listed], Spells]:
        """The product's offers, by retailer and sku, and the spells of all of them."""
        rows = self._listed.slice(self._first_offer[at], self._offer_count[at]).rows()
        base = rows[0][3]
        listed = [
            Listed(offer_id, retailer, sku, slice(start - base, start - base + count))
            for offer_id, retailer, sku, start, count in rows
        ]
        place = slice(base, base + listed[-1].spells.stop)
        return listed, Spells(*(column[place] for column in self._spells))
