"""The marts: by hand, on dense made-up markets, on real prices; all against the slow oracle."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests import oracle
from tests.deal_cases import CASES
from tests.marts import Ids, assert_marts, rows_by
from tests.pipeline import Pipeline

NOW = datetime(2026, 6, 1, 12)
DAY = timedelta(days=1)
GROCERIES = Path(__file__).parents[2] / "../shared/data/groceries.parquet"
PRODUCTS = 300  # about 900 offers


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All cases in one market: some are stale because the others are seen today."""
    rows = [
        {
            "retailer": "shop", "sku": str(number), "observed_at": NOW - ago * DAY, "price": price,
            "currency": "EUR", "list_price": listed, "availability": availability,
        }
        for number, case in enumerate(CASES)
        for ago, price, listed, availability in case.rows
    ]  # fmt: skip
    pipeline = Pipeline(tmp_path_factory.mktemp("cases"))
    pipeline.put(rows)
    pipeline.build()
    yield rows, pipeline
    pipeline.lake.close()


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda at: CASES[at].name)
def test_a_rule_by_hand(by_hand: Any, number: int) -> None:
    _, pipeline = by_hand
    case = CASES[number]
    deals = rows_by(pipeline, "deal", "offer_id")
    said = deals.get((Ids(pipeline).offer["shop", str(number)],))
    assert (said is None) == (case.expected is None), case.rule
    if said is None or case.expected is None:
        return
    said["began_days_ago"] = (NOW - said["began_at"]) / DAY
    for name, value in case.expected.items():
        about = f"{case.rule}: {name}"
        if isinstance(value, int | float) or hasattr(value, "numerator"):
            assert said[name] == pytest.approx(float(value), abs=0.000051), about
        else:
            assert said[name] == value, about


def test_the_cases_and_the_oracle_agree(by_hand: Any) -> None:
    rows, pipeline = by_hand
    grounds = assert_marts(oracle.Market(rows), pipeline)
    assert len(grounds) == 5  # every ground has a case


def dense(seed: int) -> list[oracle.Row]:
    """120 offers of 40 products over a year, whose prices jump between five levels, many claimed."""
    chance = random.Random(seed)
    rows = []
    for number in range(120):
        at = datetime(2025, 6, 1) + timedelta(days=chance.randint(0, 300), hours=number % 24)
        price, listed, stock = "100", None, "InStock"
        while at < NOW:
            if chance.random() < 0.15:
                price = chance.choice(["100", "100", "99", "90", "80", "70"])
                listed = chance.choice([None, None, "100", "100", "120", "100.5"])
                stock = chance.choice(["InStock"] * 30 + ["OutOfStock", "PreOrder"])
            rows.append(
                {
                    "retailer": f"shop-{number % 3}", "sku": str(number), "observed_at": at,
                    "price": price, "list_price": listed, "availability": stock,
                    "currency": "USD" if number % 29 == 0 and at.month == 1 else "EUR",
                    "condition": "used" if number % 17 == 0 else "new",
                    "product_key": f"key {number // 3}",
                }
            )  # fmt: skip
            at += timedelta(days=chance.choice([1, 1, 2, 3, 5, 7, 9, 12, 25]))
    return sorted(rows, key=lambda row: row["observed_at"])


@pytest.mark.slow
def test_dense_markets_built_step_by_step(pipeline: Pipeline) -> None:
    """Each batch moves `as_of`, and with it every window."""
    rows = dense(1)
    grounds: Counter[str] = Counter()
    for part in (rows[: len(rows) // 2], rows[len(rows) // 2 : -50], rows[-50:]):
        pipeline.put(part)
        pipeline.build()
    grounds = assert_marts(oracle.Market(rows), pipeline)
    assert len(grounds) >= 4, grounds
    assert sum(grounds.values()) >= 30, grounds


@pytest.mark.slow
def test_real_offers_with_claims(pipeline: Pipeline) -> None:
    """The real file has no list prices: a third of the offers claim the highest price of the last
    eight weeks, a third always 1.3 × what they ask, a third nothing."""
    whole = pl.scan_parquet(GROCERIES)
    keys = whole.select(pl.col("product_key").unique().sort()).collect()["product_key"].to_list()
    chosen = random.Random(6).sample(keys, PRODUCTS)
    rows = whole.filter(pl.col("product_key").is_in(chosen)).collect()
    rows = rows.sort("retailer", "sku", "observed_at").with_columns(
        highest=pl.col("price")
        .cast(pl.Float64)
        .rolling_max_by("observed_at", "56d")
        .over("retailer", "sku")
        .round(2)
        .cast(pl.Decimal(18, 4)),
        kind=pl.concat_str("retailer", "sku").hash(1) % 3,
    )
    claim = (
        pl.when(pl.col("kind") == 0).then("highest")
        .when(pl.col("kind") == 1).then((pl.col("price") * Decimal("1.3")).cast(pl.Decimal(18, 4)))
    )  # fmt: skip
    rows = rows.with_columns(list_price=claim).drop("highest", "kind")
    path = pipeline.folder / "claims.parquet"
    rows.write_parquet(path)
    pipeline.put_file(path)
    pipeline.build()
    plain = rows.with_columns(pl.col("observed_at").dt.replace_time_zone(None)).to_dicts()
    market = oracle.Market(plain)
    assert len(market.offers) >= 300
    grounds = assert_marts(market, pipeline)
    assert min(grounds["list_price_not_charged"], grounds["below_prior_price"]) > 20, grounds
