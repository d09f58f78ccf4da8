"""Product histories in one process, without HTTP and JSON: DuckDB's query and the hot columns.

python -m bench.floor DATA prints one line of JSON: microseconds an answer, medians over products.
Both end with the values as Python's objects.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from warehouse.connection import Reader, Version

PRODUCTS = 2000
# What a history shows, as DuckDB would be asked for it.
QUERY = """
SELECT o.offer_id, o.retailer, o.sku, s.currency, epoch(s.first_observed_at),
    epoch(s.last_observed_at), s.price, s.list_price, s.availability, s.observations
FROM offer AS o JOIN price_spell AS s USING (offer_id) WHERE o.product_id = ?
ORDER BY o.retailer, o.sku, s.first_observed_at
"""


def of_columns(version: Version, product: int) -> object:
    at = version.columns.find(product)
    assert at is not None
    offers, spells = version.columns.history(at)
    return offers, [column.tolist() for column in spells]


def microseconds(answer: Callable[[int], object], products: list[int]) -> float:
    times = []
    for product in products:
        began = time.perf_counter_ns()
        answer(product)
        times.append(time.perf_counter_ns() - began)
    return median(times) / 1000


def main() -> None:
    reader = Reader(Path(sys.argv[1]))
    reader.refresh()
    version = reader.current
    assert version is not None, "the data folder has no build"
    ids = [row["product_id"] for row in version.query("SELECT product_id FROM product ORDER BY 1")]
    products = random.Random(7).choices(ids, k=PRODUCTS)
    cursor = version.file.cursor()
    found = {
        "columns": microseconds(lambda key: of_columns(version, key), products),
        "duckdb": microseconds(lambda key: cursor.execute(QUERY, [key]).fetchall(), products[:300]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
