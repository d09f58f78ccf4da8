"""Product histories in one process without HTTP: DuckDB's point query against the hot columns.

python -m bench.floor DATA prints one line of JSON: microseconds an answer, medians over products.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pricepulse.answer import ENCODER
from pricepulse.prices import History, _series
from warehouse.connection import Reader, Version

PRODUCTS = 2000
# What the history shows, as DuckDB would be asked for it; its rows are not even made JSON.
QUERY = """
SELECT o.offer_id, o.retailer, o.sku, s.currency, epoch(s.first_observed_at),
    epoch(s.last_observed_at), s.price, s.list_price, s.availability, s.observations
FROM offer AS o JOIN price_spell AS s USING (offer_id) WHERE o.product_id = ?
ORDER BY o.retailer, o.sku, s.first_observed_at
"""


def history(version: Version, product: int) -> bytes:
    """As GET /products/{id}/history answers."""
    series = [
        one
        for offer in version.columns.offers(product)
        for one in _series(version, offer, "spells", None, None)
    ]
    return ENCODER.encode(
        History(
            product_id=str(product),
            resolution="spells",
            as_of=version.as_of,
            version=version.number,
            series=series,
        )
    )


def microseconds(answer: Callable[[int], object], products: list[int]) -> float:
    times = []
    for product in products:
        began = time.perf_counter_ns()
        answer(product)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def main() -> None:
    reader = Reader(Path(sys.argv[1]))
    reader.refresh()
    version = reader.current
    assert version is not None, "the data folder has no build"
    ids = [row[0] for row in version.file.execute("SELECT product_id FROM product").fetchall()]
    products = random.Random(7).choices(ids, k=PRODUCTS)
    cursor = version.file.cursor()
    found = {
        "columns": microseconds(lambda product: version.columns.offers(product), products),
        "history": microseconds(lambda product: history(version, product), products),
        "duckdb": microseconds(
            lambda product: cursor.execute(QUERY, [product]).fetchall(), products[:300]
        ),
        "bytes": statistics.mean(len(history(version, product)) for product in products),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
