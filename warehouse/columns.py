"""The hot columns: products, offers and spells as sorted Arrow files beside the warehouse file.

Product pages and histories are what people hit most. A DuckDB point query costs about a millisecond
of planning; a slice of a sorted, memory-mapped column microseconds (bench/README.md has the figures).
This is the only place that knows their layout.

    products.arrow   sorted by product_id; `offer_start`, `offer_count` point into
    offers.arrow     sorted by product_id, retailer, sku; `spell_start`, `spell_count` point into
    spells.arrow     sorted by offer_id, first_observed_at
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc

# Prices are integers of 1/10,000: DECIMAL(18,4) without its point. No list price is 0.
SCALE = 10_000
SPELLS = """
SELECT epoch_us(first_observed_at) // 1000000 AS first, epoch_us(last_observed_at) // 1000000 AS last,
    (price * 10000)::BIGINT AS price, coalesce((list_price * 10000)::BIGINT, 0) AS list_price,
    currency, availability, observations
FROM price_spell ORDER BY offer_id, first_observed_at
"""
OFFERS = """
WITH place AS (
    SELECT offer_id, count(*) AS spell_count, sum(count(*)) OVER (ORDER BY offer_id) AS spell_end
    FROM price_spell GROUP BY offer_id
)
SELECT o.*, p.spell_count, (p.spell_end - p.spell_count)::BIGINT AS spell_start
FROM offer AS o JOIN place AS p USING (offer_id) ORDER BY o.product_id, o.retailer, o.sku
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


@dataclass(frozen=True)
class Spells:
    """One offer's spells, oldest first: seconds since 1970 and prices in units of 1/10,000."""

    first: np.ndarray[Any, np.dtype[np.int64]]
    last: np.ndarray[Any, np.dtype[np.int64]]
    price: np.ndarray[Any, np.dtype[np.int64]]
    list_price: np.ndarray[Any, np.dtype[np.int64]]
    currency: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
    availability: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
    observations: np.ndarray[Any, np.dtype[np.int64]]


class Columns:
    """The open files of one version; every method costs microseconds and never blocks on a query."""

    def __init__(self, folder: Path) -> None:
        frames = {
            name: _mapped(folder / f"{name}.arrow") for name in ("products", "offers", "spells")
        }
        self._products, self._offers = frames["products"], frames["offers"]
        spells = frames["spells"]
        self.currencies: list[str] = _words(spells["currency"])
        self.availabilities: list[str] = _words(spells["availability"])
        self._spells = {
            series.name: (series.to_physical() if series.dtype == pl.Enum else series).to_numpy()
            for series in spells
        }
        self._product_ids = self._products["product_id"].to_numpy()
        self._first_offer = self._products["offer_start"].to_numpy()
        self._offer_count = self._products["offer_count"].to_numpy()

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

    def spells(self, offer: dict[str, Any]) -> Spells:
        """The spells of one of `offers()`."""
        start = offer["spell_start"]
        place = slice(start, start + offer["spell_count"])
        return Spells(**{name: column[place] for name, column in self._spells.items()})

    def _position(self, product_id: int) -> int | None:
        at = int(np.searchsorted(self._product_ids, product_id))
        found = at < len(self._product_ids) and self._product_ids[at] == product_id
        return at if found else None
