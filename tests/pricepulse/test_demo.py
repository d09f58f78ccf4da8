"""The made-up market is a valid feed and has the statistics of real shelf prices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from bench.generate import next_batch, observations
from pricepulse.demo import COLUMNS, market
from pricepulse.demo_catalogue import LEAVES, gtin13
from tests.pipeline import Pipeline
from tests.served import serving

UNTIL = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OFFER = ["retailer", "sku"]


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return market(until=UNTIL)


@pytest.fixture(scope="module")
def priced(frame: pl.DataFrame) -> pl.DataFrame:
    """Offer by offer in the order of time, with `changed` against the look before; no slips."""
    usual = pl.col("price").median().over(OFFER)
    rows = frame.filter(pl.col("price") < usual * 5).sort(*OFFER, "observed_at")
    changed = pl.col("price") != pl.col("price").shift(1).over(OFFER)
    return rows.with_columns(changed=changed.fill_null(value=False))


def spells_of(priced: pl.DataFrame) -> pl.DataFrame:
    """One row per price spell with `days` until the next one (null for an offer's last)."""
    run = pl.col("changed").cum_sum().over(OFFER)
    spells = (
        priced.with_columns(run=run)
        .group_by(*OFFER, "run", maintain_order=True)
        .agg(pl.first("price", "list_price", "observed_at"))
    )
    until = pl.col("observed_at").shift(-1).over(OFFER)
    return spells.with_columns(days=(until - pl.col("observed_at")).dt.total_seconds() / 86_400)


def check_digit(gtin: str) -> int:
    """By the GS1 specification: from the right, weights 3, 1, 3, 1, ..."""
    total = sum(int(digit) * (3, 1)[at % 2] for at, digit in enumerate(reversed(gtin[:-1])))
    return -total % 10


def test_has_the_columns_of_the_feed(frame: pl.DataFrame) -> None:
    assert frame.columns == COLUMNS
    assert frame.schema["observed_at"] == pl.Datetime("us", "UTC")
    for name in ("price", "list_price", "shipping", "unit_quantity"):
        assert frame.schema[name] == pl.Decimal(18, 4)
    required = frame.select("retailer", "sku", "observed_at", "price", "currency", "title")
    assert sum(required.null_count().row(0)) == 0
    assert not frame.select(*OFFER, "observed_at").is_duplicated().any()
    assert frame["observed_at"].is_sorted()
    newest = frame["observed_at"].max()
    assert isinstance(newest, datetime)
    assert UNTIL - timedelta(days=1) < newest <= UNTIL
    assert 500_000 <= len(frame) <= 1_000_000


def test_values_keep_the_rules_of_the_feed(frame: pl.DataFrame) -> None:
    assert (frame["price"] > 0).all()
    assert (frame["price"].cast(pl.Decimal(18, 2)).cast(pl.Decimal(18, 4)) == frame["price"]).all()
    assert set(frame["condition"].unique()) == {"new", "refurbished"}
    assert set(frame["unit"].drop_nulls().unique()) <= {"g", "kg", "ml", "l", "m", "pcs"}
    assert set(frame["availability"].unique()) == {
        "InStock", "OutOfStock", "LimitedAvailability", "PreOrder", "Discontinued"
    }  # fmt: skip
    below = frame.filter(pl.col("list_price") <= pl.col("price"))
    assert len(below) <= len(frame) // 25_000 + 1, "only slips may lie above their list price"
    texts = frame["promotion"].drop_nulls().unique().to_list()
    assert all(re.fullmatch(r"[23] for \d+\.\d\d", text) for text in texts)


def test_gtins_have_valid_check_digits(frame: pl.DataFrame) -> None:
    found = frame["gtin"].drop_nulls().unique().to_list()
    assert {len(gtin) for gtin in found} == {13, 14}
    assert all(int(gtin[-1]) == check_digit(gtin) for gtin in found)
    assert check_digit("4006381333931") == 1, "the example of the GS1 specification"
    assert len(set(gtin13(np.arange(20_000)))) == 20_000


def test_the_same_arguments_give_the_same_market() -> None:
    first, again = (market(until=UNTIL, products=40, days=60) for _ in range(2))
    assert first.equals(again)
    assert not first.equals(market(until=UNTIL, products=40, days=60, seed=8))


@pytest.mark.parametrize("looks_per_day", [0.5, 2.0])
def test_looks_as_often_as_asked(looks_per_day: float) -> None:
    rows = market(until=UNTIL, products=60, days=50, looks_per_day=looks_per_day)
    most = rows.group_by(OFFER).len()["len"].max()
    assert isinstance(most, int)
    assert 50 * looks_per_day - 2 <= most <= 50 * looks_per_day


@pytest.mark.parametrize(("products", "days"), [(1, 1), (1, 400), (3, 9)])
def test_small_markets_stand(products: int, days: int) -> None:
    until = UNTIL.replace(hour=23)
    rows = market(until=until, products=products, days=days)
    assert len(rows) > 0
    assert rows["observed_at"].is_between(until - timedelta(days=days), until).all()


def test_refuses_a_time_without_zone() -> None:
    with pytest.raises(ValueError, match="needs a time zone"):
        market(until=datetime(2026, 11, 22))


def test_spells_last_as_long_as_real_ones(priced: pl.DataFrame) -> None:
    days = spells_of(priced)["days"].drop_nulls()
    assert 6.9 <= float(np.median(days)) <= 9
    assert 35 <= float(np.quantile(days, 0.9)) <= 63


def test_prices_change_on_one_weekday(priced: pl.DataFrame) -> None:
    shares = priced.group_by(day=pl.col("observed_at").dt.weekday()).agg(pl.mean("changed"))
    by_day = dict(shares.iter_rows())
    friday = by_day.pop(5)
    assert 0.16 <= friday <= 0.22
    assert max(by_day.values()) < 0.025


def test_sales_return_to_the_price_before(priced: pl.DataFrame) -> None:
    before = pl.col("price").shift(2).over(OFFER)
    spells = spells_of(priced).with_columns(back=pl.col("price") == before)
    assert 0.3 <= spells["back"].drop_nulls().sum() / spells["back"].count() <= 0.65


def test_some_list_prices_were_never_charged(priced: pl.DataFrame) -> None:
    spells = spells_of(priced)
    highest = pl.col("price").cum_max().shift(1).over(OFFER)
    sales = spells.with_columns(highest=highest).filter(
        pl.col("list_price").is_not_null() & pl.col("highest").is_not_null()
    )
    charged = sales["highest"] >= sales["list_price"]
    assert 0.3 <= charged.sum() / len(charged) <= 0.95


def test_a_follower_copies_its_leader_days_later(frame: pl.DataFrame) -> None:
    day = pl.col("observed_at").dt.date()
    rows = frame.filter(pl.col("gtin").is_not_null()).select("retailer", "gtin", "price", day=day)
    leads = rows.filter(pl.col("retailer") == "alder-market").sort("gtin", "day")
    follows = rows.filter(pl.col("retailer") == "copper-lane").sort("gtin", "day")
    moved = pl.col("price") != pl.col("price").shift(1).over("gtin")
    leads, follows = (side.filter(moved).select("gtin", "day") for side in (leads, follows))
    shares = {}
    for lag in (1, 2, 4):
        due = leads.with_columns(pl.col("day") + timedelta(days=lag))
        shares[lag] = len(due.join(follows, on=["gtin", "day"])) / len(leads)
    assert shares[1] + shares[2] > 0.3
    assert shares[4] < 0.1


def test_has_what_happens_in_markets(frame: pl.DataFrame) -> None:
    seen = frame.group_by(OFFER).agg(
        first=pl.min("observed_at"), last=pl.max("observed_at"), gtin=pl.first("gtin"),
        key=pl.first("product_key"), longest=pl.col("observed_at").diff().max(),
    )  # fmt: skip
    start, end = frame["observed_at"].min(), frame["observed_at"].max()
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    new = (seen["first"] > start + timedelta(days=10)).sum()
    ended = (seen["last"] < end - timedelta(days=10)).sum()
    assert 0.05 < new / len(seen) < 0.25
    assert 0.02 < ended / len(seen) < 0.10
    key_only = seen.filter(pl.col("gtin").is_null() & pl.col("key").is_not_null())
    neither = seen.filter(pl.col("gtin").is_null() & pl.col("key").is_null())
    assert set(key_only["retailer"]) == {"daybreak-grocers"}
    assert set(neither["retailer"]) == {"ivory-lane"}
    gaps = seen.filter(pl.col("longest") > timedelta(days=10))
    assert set(gaps["retailer"]) == {"fernhill-outlet"}
    usual = pl.col("price").median().over(OFFER)
    assert 3 <= len(frame.filter(pl.col("price") > usual * 20)) <= 40, "slips"


@pytest.fixture(scope="module")
def built(frame: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    pipeline = Pipeline(tmp_path_factory.mktemp("demo"))
    path = pipeline.folder / "demo.parquet"
    frame.write_parquet(path)
    pipeline.put_file(path)
    pipeline.build()
    yield pipeline
    pipeline.lake.close()


@pytest.mark.slow
def test_every_list_of_the_api_has_something_to_show(built: Pipeline) -> None:
    kinds = [
        f"/anomalies?kind={kind}" for kind in ("spike", "level_shift", "suspected_error", "stale")
    ]
    verdicts = [f"/deals?verdict={verdict}" for verdict in ("genuine", "inflated", "unproven")]
    lists = ["/products?on_deal=true", "/price-drops", "/price-rises", "/new-arrivals", "/trending"]
    with serving(built.folder) as client:
        for address in (*kinds, *verdicts, *lists, "/brands", "/retailers", "/categories"):
            assert client.get(f"/api/v1{address}").json()["items"], address
        inflated = client.get("/api/v1/deals?verdict=inflated&limit=200").json()["items"]
    assert {each["really_reduced"] for each in inflated} >= {True, False}


@pytest.mark.slow
def test_the_index_is_level(built: Pipeline) -> None:
    """A market whose first day had no promotions fell by a tenth in its first two months."""
    of_all = "SELECT index FROM category_index WHERE category_slug = '' ORDER BY week"
    index = [value for (value,) in built.query(of_all)]
    assert len(index) > 50
    assert 95 < min(index) < max(index) < 105


def test_categories_are_a_tree_and_titles_are_searchable(frame: pl.DataFrame) -> None:
    paths = frame["category"].unique().to_list()
    assert set(paths) == {leaf.path for leaf in LEAVES}
    assert len(paths) == 25
    assert all(path.count(" > ") == 2 for path in paths)
    offers = frame.unique(OFFER)
    assert all(t.startswith(b) for t, b in offers.select("title", "brand").iter_rows())
    drinks = offers.filter(pl.col("title").str.ends_with(" 6 x 330 ml"))
    assert len(drinks) > 0
    assert (drinks["unit_quantity"] == Decimal(1980)).all()
    assert drinks["unit"].unique().to_list() == ["ml"]


def test_the_benchmark_delivers_in_the_order_of_time(tmp_path: Path) -> None:
    size = (400, 5, 200)
    files = [observations(*size, tmp_path), *(next_batch(*size, tmp_path, n) for n in range(2))]
    rows = pl.concat([pl.read_parquet(file) for file in files])
    assert len(rows) == 400 * 5 * 200 + 20_000
    assert rows["observed_at"].is_sorted()
    assert not rows.select(*OFFER, "observed_at").is_duplicated().any()
    assert (rows["gtin"].is_null() != rows["product_key"].is_null()).all()
    types = duckdb.sql(f"DESCRIBE SELECT * FROM '{files[0]}'").fetchall()
    found = {name: kind for name, kind, *_ in types}
    assert found["observed_at"] == "TIMESTAMP WITH TIME ZONE"
    assert found["price"] == found["list_price"] == "DECIMAL(18,4)"
    assert {found[name] for name in ("retailer", "title", "availability")} == {"VARCHAR"}

    state = ["price", "list_price", "availability"]
    looks = rows.sort(*OFFER, "observed_at")
    same = [pl.col(name).eq_missing(pl.col(name).shift(1).over(OFFER)) for name in state]
    changed = looks.select((~pl.all_horizontal(same)).mean()).item()
    assert 0.06 <= changed <= 0.09
