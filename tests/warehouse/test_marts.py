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
from tests.served import look
from tests.warehouse.test_build import assert_incremental_is_full

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
    assert len(grounds) == 6  # every ground has a case


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
def test_a_day_in_small_batches(pipeline: Pipeline) -> None:
    """Within a day only what is affected is made anew: looked at, late, in another product, or grown
    stale by the hour; each build equals one from the beginning."""
    midnight = NOW.replace(hour=0)
    rows = [row for row in dense(2) if row["observed_at"] < midnight]
    today = [row for row in rows if row["observed_at"] >= midnight - DAY]
    late = [row | {"observed_at": row["observed_at"] - 2 * DAY} for row in today[5:7]]
    batches = [today[at : at + 3] for at in range(0, len(today), 3)]
    batches = [*batches[:3], late, *batches[3:]]
    assert len(batches) > 6
    pipeline.put(rows[: -len(today)])
    pipeline.build()
    stale = pipeline.query("SELECT count(*) FROM offer_stats WHERE price_since IS NULL")
    for number, batch in enumerate(batches):
        pipeline.put(batch)
        if number == 4:
            first, other = (
                pipeline.query("SELECT offer_id, product_id FROM offer ORDER BY 1")[at]
                for at in (7, 60)
            )
            pipeline.link(first[0], other[1], NOW)
        assert_incremental_is_full(pipeline)
    assert pipeline.query("SELECT count(*) FROM offer_stats WHERE price_since IS NULL") != stale


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


def test_a_price_in_the_wrong_currency_stops_no_build(pipeline: Pipeline) -> None:
    """What would have been expected of it is more than any price can be."""
    pipeline.put(
        [
            look("a", "1", day * DAY, "5000000000", currency="VND" if day < 4 else "USD")
            for day in range(1, 32)
        ]
    )
    pipeline.build()
    assert pipeline.query("SELECT count(*) FROM anomaly WHERE expected_low IS NOT NULL") == [(1,)]


def test_a_standing_claim_does_not_hide_when_the_price_came_down(pipeline: Pipeline) -> None:
    """100 for 195 days and 70 since 5, whatever the shop says that it once was."""
    days = [*range(200, 5, -5), *range(5, -1, -1)]
    for sku, listed in (("plain", None), ("small claim", "100.5"), ("standing claim", "105")):
        rows = [
            look("a", sku, day * DAY, "70" if day <= 5 else "100", list_price=listed)
            for day in days
        ]
        pipeline.put(rows)
    pipeline.build()
    said = pipeline.query(
        "SELECT sku, prior_price, ground FROM deal JOIN offer USING (offer_id) ORDER BY sku"
    )
    assert said == [
        ("plain", 100, "below_prior_price"),
        ("small claim", 100, "below_prior_price"),
        ("standing claim", 100, "list_price_not_charged"),
    ]


def test_used_offers_are_no_part_of_the_market(pipeline: Pipeline) -> None:
    about: dict[str, Any] = {"product_key": "thing", "category": "Things"}
    for shop, price, condition in (("a", "100", "new"), ("b", "110", "new"), ("c", "20", "used")):
        pipeline.put(
            [look(shop, "1", day * DAY, price, condition=condition, **about) for day in range(90)]
        )
    pipeline.build()
    assert pipeline.query("SELECT spread_ratio FROM market WHERE category_slug = '' AND retailer = ''") == [
        (0.1,)
    ]  # fmt: skip
    position = dict(
        pipeline.query("SELECT retailer, price_position_ratio FROM market WHERE category_slug = ''")
    )
    assert position["a"] == 0.9091
    assert "c" not in position


def test_a_price_that_could_not_be_paid_is_no_move(pipeline: Pipeline) -> None:
    looks = [("10", "InStock", 9), ("2", "OutOfStock", 5), ("10", "InStock", 1)]
    pipeline.put([look("a", "1", ago * DAY, p, availability=word) for p, word, ago in looks])
    pipeline.build()
    assert pipeline.query("FROM price_move") == []
