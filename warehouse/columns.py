"""The hot columns: products, offers and spells as sorted Arrow files beside the warehouse file.

Product pages and histories are what people hit most. A DuckDB point query costs about a millisecond
of planning; a slice of a sorted, memory-mapped column microseconds (bench/README.md has the figures).
This is the only place that knows their layout.

    products.arrow   sorted by product_id; `offer_start`, `offer_count` point into
    offers.arrow     sorted by product_id, retailer, sku; `spell_start`, `spell_count` point into
    spells.arrow     sorted like the offers, then by time: a product's spells are one stretch
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc

Ints = np.ndarray[Any, np.dtype[np.int64]]
# Prices are integers of 1/10,000: DECIMAL(18,4) without its point. No list price is 0.
SCALE = 10_000
SPELLS = """
SELECT epoch_us(s.first_observed_at) // 1000000 AS first,
    epoch_us(s.last_observed_at) // 1000000 AS last, (s.price::DECIMAL(38, 4) * 10000)::BIGINT AS price,
    coalesce((s.list_price::DECIMAL(38, 4) * 10000)::BIGINT, 0) AS list_price, s.currency, s.availability,
    s.observations
FROM price_spell AS s JOIN place AS p USING (offer_id) ORDER BY p.place, s.first_observed_at
"""
PLACES = """
CREATE TEMP TABLE place AS
SELECT *, (sum(spell_count) OVER (ORDER BY place) - spell_count)::BIGINT AS spell_start FROM (
    SELECT offer_id, count(*) AS spell_count FROM price_spell GROUP BY offer_id
) JOIN (
    SELECT offer_id, row_number() OVER (ORDER BY product_id, retailer, sku) AS place FROM offer
) USING (offer_id)
"""
OFFERS = """
SELECT o.*, p.spell_count, p.spell_start FROM offer AS o JOIN place AS p USING (offer_id)
ORDER BY p.place
"""
PRODUCTS = """
WITH place AS (
    SELECT product_id, count(*) AS offer_count, sum(count(*)) OVER (ORDER BY product_id) AS offer_end
    FROM offer GROUP BY product_id
)
SELECT p.*, l.offer_count, (l.offer_end - l.offer_count)::BIGINT AS offer_start
FROM product AS p JOIN place AS l USING (product_id) ORDER BY p.product_id
"""


def write(folder: Path, db: duckdb.DuckDBPyConnection) -> None:
    """Write the three files of a version from its warehouse file."""
    db.execute(PLACES)
    spells = db.execute(SPELLS).pl()
    for name in ("currency", "availability"):
        words = pl.Enum(spells[name].unique().sort())
        spells = spells.with_columns(pl.col(name).cast(words))
    for name, frame in (
        ("spells", spells),
        ("offers", db.execute(OFFERS).pl()),
        ("products", db.execute(PRODUCTS).pl()),
    ):
        frame.rechunk().write_ipc(folder / f"{name}.arrow", compression="uncompressed")


def _mapped(path: Path) -> pl.DataFrame:
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


class Listed(NamedTuple):
    """An offer of a product and where its spells lie among the product's."""

    offer_id: int
    retailer: str
    sku: str
    spells: slice


class Columns:
    """The open files of one version; every method costs microseconds and never waits for a query."""

    def __init__(self, folder: Path) -> None:
        self._products, self._offers, spells = (
            _mapped(folder / f"{name}.arrow") for name in ("products", "offers", "spells")
        )
        self._listed = self._offers.select(
            "offer_id", "retailer", "sku", "spell_start", "spell_count"
        )
        self.currencies = _words(spells["currency"])
        self.availabilities = _words(spells["availability"])
        self._spells = [
            (series.to_physical() if series.dtype == pl.Enum else series).to_numpy()
            for series in spells.select(Spells._fields)
        ]
        self._product_ids = self._products["product_id"].to_numpy()
        self._first_offer = self._products["offer_start"].to_numpy()
        self._offer_count = self._products["offer_count"].to_numpy()

    def has(self, product_id: int) -> bool:
        return self._position(product_id) is not None

    def product(self, product_id: int) -> dict[str, Any] | None:
        """All columns of the product, or None."""
        at = self._position(product_id)
        return None if at is None else self._products.row(at, named=True)

    def offers(self, product_id: int) -> list[dict[str, Any]]:
        """All columns of the product's offers, by retailer and sku."""
        at = self._position(product_id)
        if at is None:
            return []
        return self._offers.slice(self._first_offer[at], self._offer_count[at]).to_dicts()

    def history(self, product_id: int) -> tuple[list[Listed], Spells]:
        """The product's offers, by retailer and sku, and the spells of all of them."""
        at = self._position(product_id)
        if at is None:
            return [], Spells(*(column[:0] for column in self._spells))
        rows = self._listed.slice(self._first_offer[at], self._offer_count[at]).rows()
        base = rows[0][3]
        listed = [
            Listed(offer_id, retailer, sku, slice(start - base, start - base + count))
            for offer_id, retailer, sku, start, count in rows
        ]
        place = slice(base, base + listed[-1].spells.stop)
        return listed, Spells(*(column[place] for column in self._spells))

    def _position(self, product_id: int) -> int | None:
        at = int(np.searchsorted(self._product_ids, product_id))
        found = at < len(self._product_ids) and self._product_ids[at] == product_id
        return at if found else None
