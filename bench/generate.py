"""The benchmark's observations: 20,000 products at 5 shops, looked at 200 times in two years.

python -m bench.generate [--products N] [--retailers N] [--looks N] [--batches N] OUT

writes OUT/observations.parquet (20 million rows with the defaults) and, for each of `--batches`, a
following OUT/batch-0000.parquet of 10,000 rows. Rows come in the order of time, as a pipeline
delivers them: round after round over all offers, one row group per million rows, so memory stays
bounded whatever the size. Prices come from the same process as the demo's, slower: price, list
price or availability differ from the look before in about 7.5 % of looks (1.5 million spells).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pricepulse.demo import (
    DAY,
    ENDINGS,
    Outages,
    Spells,
    outages,
    price_spells,
)
from pricepulse.demo_catalogue import Ints, catalogue

START = datetime(2024, 1, 1, tzinfo=UTC)
YEARS_SECONDS = 730 * DAY
FURTHER_DAYS = 90  # prices known beyond the last look, for `next_batch`: 2.4 million rows
ROW_GROUP = 1_000_000
BUSY = 0.08  # of offers; gives the 7.5 %


@dataclass(frozen=True)
class Plan:
    """Who sells what at which price; row n is look n // offers at offer n % offers."""

    offers: int
    step: int
    spells: Spells
    stock: Outages
    words: dict[str, tuple[pa.Array, Ints]]

    def rows(self, first: int, count: int) -> pa.Table:
        """Rows `first` to `first + count`; text as dictionaries (written as plain text)."""
        look, offer = np.divmod(np.arange(first, first + count), self.offers)
        # A round over all offers takes nine tenths of the step: looks never overtake each other.
        second = look * self.step + offer * (self.step * 9 // 10) // self.offers
        day = second // DAY
        if day[-1] >= self.spells.span:
            raise ValueError(f"row {first + count} is past the last known price; generate more")
        at = self.spells.at(offer, day)
        out = self.stock.covers(offer, day).astype(np.int8)
        columns = {
            "observed_at": pa.array(
                (second + int(START.timestamp())) * 1_000_000, pa.timestamp("us", "UTC")
            ),
            "price": decimals(self.spells.price[at]),
            "currency": pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), ["EUR"]),
            "list_price": decimals(self.spells.list_price[at]),
            "availability": pa.DictionaryArray.from_arrays(out, ["InStock", "OutOfStock"]),
        }
        for name, (values, code) in self.words.items():
            index = pa.array(code[offer].astype(np.int32), mask=code[offer] < 0)
            columns[name] = pa.DictionaryArray.from_arrays(index, values)
        return pa.table(columns).select(COLUMNS)


# fmt: off
COLUMNS = [
    "retailer", "sku", "observed_at", "price", "currency", "list_price", "availability", "title",
    "brand", "category", "gtin", "product_key",
]
# fmt: on


def plain(schema: pa.Schema) -> pa.Schema:
    """The same columns with text in place of dictionaries."""
    text = pa.types.is_dictionary
    return pa.schema([(f.name, pa.string() if text(f.type) else f.type) for f in schema])


def decimals(cents: Ints) -> pa.Array:
    """DECIMAL(18,4) from cents, null where 0: the 128-bit numbers are laid out directly."""
    wide = np.zeros((len(cents), 2), np.int64)
    wide[:, 0] = cents * 100
    known = pa.py_buffer(np.packbits(cents != 0, bitorder="little"))
    return pa.Array.from_buffers(
        pa.decimal128(18, 4), len(cents), [known, pa.py_buffer(wide)], int((cents == 0).sum())
    )


@lru_cache(maxsize=1)
def plan(products: int, retailers: int, looks: int, seed: int = 7) -> Plan:
    """The market of a benchmark. Half of the products carry a GTIN, the others a product_key."""
    rng = np.random.default_rng(seed)
    goods = catalogue(rng, products)
    offers = products * retailers
    # Products in random order, the shops' rows interleaved: the pipeline looks at all at once.
    product = np.repeat(rng.permutation(products), retailers)
    shop = np.tile(np.arange(retailers), products)
    step = YEARS_SECONDS // 200
    days = looks * step // DAY + FURTHER_DAYS
    below = np.array(list(ENDINGS.values()))[shop % len(ENDINGS)]
    level = (0.9 + 0.05 * shop) * rng.normal(1, 0.03, offers)
    base = goods["base"].to_numpy()[product] * level
    inflates = np.full(offers, 0.2)
    spells = price_spells(rng, base, below, inflates, days=days, weekday=START.weekday(), busy=BUSY)
    keyed = product % 2 == 1
    words = {
        "retailer": (pa.array([f"shop-{n + 1:02}" for n in range(retailers)]), shop),
        "sku": (
            pa.array([f"{s + 1}{p:07}" for s, p in zip(shop, product, strict=True)]),
            np.arange(offers),
        ),
        "title": (goods["title"].to_arrow().cast(pa.string()), product),
        "brand": (goods["brand"].to_arrow().cast(pa.string()), product),
        "category": (goods["category"].to_arrow().cast(pa.string()), product),
        "gtin": (goods["gtin13"].to_arrow().cast(pa.string()), np.where(keyed, -1, product)),
        "product_key": (
            goods["product_key"].to_arrow().cast(pa.string()),
            np.where(keyed, product, -1),
        ),
    }
    return Plan(offers, step, spells, outages(rng, offers, spells.span), words)


def write(path: Path, market: Plan, first: int, count: int) -> Path:
    """Writes rows as one Parquet file, a row group at a time, whole or not at all."""
    part = path.with_suffix(".part")
    schema = market.rows(first, 1).schema
    # A small batch would drag the dictionaries of all offers along.
    schema = schema if count >= ROW_GROUP else plain(schema)
    # Without the Arrow schema in the file, dictionaries come back as plain text.
    with pq.ParquetWriter(part, schema, compression="snappy", store_schema=False) as to:
        for start in range(first, first + count, ROW_GROUP):
            rows = market.rows(start, min(ROW_GROUP, first + count - start))
            to.write_table(rows.cast(schema), row_group_size=ROW_GROUP)
    return part.replace(path)


def observations(products: int, retailers: int, looks: int, folder: Path) -> Path:
    """Writes products * retailers * looks rows to folder/observations.parquet, 3.65 days a look."""
    folder.mkdir(parents=True, exist_ok=True)
    market = plan(products, retailers, looks)
    return write(folder / "observations.parquet", market, 0, market.offers * looks)


def next_batch(
    products: int, retailers: int, looks: int, folder: Path, number: int = 0, rows: int = 10_000
) -> Path:
    """Writes the batch that follows the observations, number 0 right after the last of them, 1
    after that, ..., to folder/batch-0000.parquet. ValueError beyond 90 days."""
    folder.mkdir(parents=True, exist_ok=True)
    market = plan(products, retailers, looks)
    first = market.offers * looks + number * rows
    return write(folder / f"batch-{number:04}.parquet", market, first, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description="see bench/")
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--retailers", type=int, default=5)
    parser.add_argument("--looks", type=int, default=200)
    parser.add_argument("--batches", type=int, default=0, help="further batches of 10,000 rows")
    parser.add_argument("out", type=Path, metavar="OUT")
    asked = parser.parse_args()
    size = (asked.products, asked.retailers, asked.looks)
    path = observations(*size, asked.out)
    print(f"{path}: {asked.products * asked.retailers * asked.looks:,} rows")
    for number in range(asked.batches):
        print(next_batch(*size, asked.out, number))


if __name__ == "__main__":
    main()
