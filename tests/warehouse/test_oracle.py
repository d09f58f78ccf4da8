"""The warehouse file against the oracle: on real groceries and on generated markets."""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.marts import assert_marts
from tests.pipeline import Pipeline, units
from tests.timelines import markets, shuffled, split
from warehouse import history
from warehouse.columns import Ints, Spells

GROCERIES = Path(__file__).parents[2] / "../shared/data/groceries.parquet"
PRODUCTS = 160  # of 2,526, whole: about 480 offers with 280,000 observations
EPOCH = datetime(1970, 1, 1)
AsPeriods = list[oracle.Period]

SPELLS = """
SELECT retailer, sku, s.first_observed_at, s.last_observed_at, s.price, s.list_price, s.currency,
    s.availability, s.observations
FROM price_spell AS s JOIN offer USING (offer_id) ORDER BY retailer, sku, s.first_observed_at
"""
SUSPECTS = """
SELECT retailer, sku, s.observed_at, s.price, s.currency, s.open
FROM suspect AS s JOIN offer USING (offer_id) ORDER BY retailer, sku, s.observed_at
"""
SUPERSEDED = """
SELECT retailer, sku, s.observed_at, s.price, s.currency
FROM superseded AS s JOIN offer USING (offer_id) ORDER BY retailer, sku, s.observed_at, batch_id, line
"""
CURRENT = """
SELECT retailer, sku, price, list_price, currency, availability, price_since, first_observed_at,
    last_observed_at, last_seen_at, observations FROM offer
"""


def by_offer(rows: list[tuple[Any, ...]]) -> dict[oracle.Offer, list[tuple[Any, ...]]]:
    found = defaultdict(list)
    for retailer, sku, *values in rows:
        found[retailer, sku].append(tuple(values))
    return dict(found)


def assert_spells(market: oracle.Market, found: Pipeline) -> None:
    spells, suspects = by_offer(found.query(SPELLS)), by_offer(found.query(SUSPECTS))
    superseded = by_offer(found.query(SUPERSEDED))
    for offer, known in market.offers.items():
        expected = [dataclasses.astuple(spell) for spell in known.spells]
        assert spells[offer] == expected, offer
        assert suspects.get(offer, []) == [dataclasses.astuple(s) for s in known.suspects], offer
        assert superseded.get(offer, []) == known.superseded, offer


def assert_current(market: oracle.Market, found: Pipeline) -> None:
    current = by_offer(found.query(CURRENT))
    names = (*oracle.NEWEST_ROW_SAYS, *oracle.NEWEST_NON_EMPTY)
    said = by_offer(found.query(f"SELECT retailer, sku, {', '.join(names)} FROM offer"))
    for offer, known in market.offers.items():
        last = known.spells[-1]
        expected = (last.price, last.list_price, last.currency, last.availability, last.first)
        bounds = (known.spells[0].first, last.last, known.last_seen)
        seen = sum(spell.observations for spell in known.spells)
        assert current[offer] == [(*expected, *bounds, seen)], offer
        (values,) = said[offer]
        assert dict(zip(names, values, strict=True)) == cleaned(known.attributes), offer


def cleaned(attributes: dict[str, Any]) -> dict[str, Any]:
    """feed.md's levels are separated by " > "; amounts are decimals."""
    category = attributes["category"]
    levels = [level.strip() for level in (category or "").split(">")]
    amounts = {
        name: attributes[name] and Decimal(attributes[name])
        for name in ("shipping", "unit_quantity")
    }
    return attributes | amounts | {"category": " > ".join(levels) or None}


def assert_products(market: oracle.Market, found: Pipeline) -> None:
    best = dict(found.query("SELECT product_id, best_price FROM product"))
    of_product = defaultdict(set)
    for product, retailer, sku in found.query("SELECT product_id, retailer, sku FROM offer"):
        of_product[product].add((retailer, sku))
    expected = market.products()
    assert {frozenset(offers) for offers in of_product.values()} == {
        frozenset(offers) for offers in expected.values()
    }
    assert set(best) == set(of_product)
    for product, offers in of_product.items():
        if (price := market.best_price(offers)) != "tie":
            assert best[product] == price, offers


def fast_periods(spells: Spells, until: Ints, of: Any, resolution: Any) -> AsPeriods:
    """As a history handler does it: of one currency, until computed over all."""
    found = history.periods(history.part(spells, of), until[of], resolution, None, None)
    columns = (found.open, found.close, found.min, found.max, found.mean)
    return [
        oracle.Period(EPOCH + timedelta(seconds=t), *map(units, prices))
        for t, *prices in zip(found.t.tolist(), *(c.tolist() for c in columns), strict=True)
    ]


def assert_history(
    market: oracle.Market, found: Pipeline, resolutions: tuple[str, ...] = ("day", "week", "month")
) -> int:
    """Series by (offer, currency); how many periods were compared."""
    compared = 0
    hot = found.hot_spells()
    ((as_of, vouch_days),) = found.query("SELECT epoch_us(as_of) // 1000000, vouch_days FROM build")
    for offer in market.offers:
        columns, spells = hot[offer]
        until = history.held_until(spells, int(vouch_days * 86400), as_of)
        for code in np.unique(spells.currency):
            currency = columns.currencies[int(code)]
            for resolution in resolutions:
                expected = market.periods(offer, currency, resolution)
                fast = fast_periods(spells, until, spells.currency == code, resolution)
                assert fast == expected, (offer, currency, resolution)
                compared += len(expected)
    return compared


def assert_same(market: oracle.Market, found: Pipeline) -> None:
    ((as_of, observations),) = found.query("SELECT as_of, observations FROM build")
    spells = [spell for known in market.offers.values() for spell in known.spells]
    assert as_of == market.as_of
    assert observations == sum(spell.observations for spell in spells)
    assert found.query("SELECT count(*) FROM price_spell") == [(len(spells),)]
    assert found.query("SELECT count(*) FROM offer") == [(len(market.offers),)]
    assert_spells(market, found)
    assert_current(market, found)
    assert_products(market, found)
    assert_history(market, found)
    assert_marts(market, found)


# Real data


@pytest.fixture(scope="module")
def groceries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    pipeline = Pipeline(tmp_path_factory.mktemp("groceries"))
    accepted = pipeline.put_file(GROCERIES)
    assert accepted.rows == 4_503_986
    assert accepted.rows - accepted.accepted == accepted.rejected
    pipeline.build()
    yield pipeline
    pipeline.lake.close()


@pytest.fixture(scope="module")
def some_groceries() -> oracle.Market:
    """The oracle on whole products; `as_of` is the newest row's of the whole file."""
    keys = pq.read_table(GROCERIES, columns=["product_key"])["product_key"]
    chosen = random.Random(20221021).sample(sorted(pc.unique(keys).to_pylist()), PRODUCTS)
    table = pq.read_table(GROCERIES, filters=[("product_key", "in", chosen)])
    rows = table.to_pylist()
    for row in rows:
        row["observed_at"] = row["observed_at"].replace(tzinfo=None)
    market = oracle.Market(rows)
    newest = pc.max(pq.read_table(GROCERIES, columns=["observed_at"])["observed_at"]).as_py()
    market.as_of = newest.replace(tzinfo=None)
    assert len(market.offers) >= 300
    return market


@pytest.mark.slow
def test_real_spells_and_current_prices(groceries: Pipeline, some_groceries: oracle.Market) -> None:
    assert groceries.query("SELECT count(*), count(DISTINCT product_id) FROM offer") == [
        (7_586, 2_526)
    ]
    assert_spells(some_groceries, groceries)
    assert_current(some_groceries, groceries)


@pytest.mark.slow
def test_real_histories(groceries: Pipeline, some_groceries: oracle.Market) -> None:
    assert assert_history(some_groceries, groceries) > 100_000


@pytest.mark.slow
def test_real_products(groceries: Pipeline, some_groceries: oracle.Market) -> None:
    rows = groceries.query("SELECT product_id, retailer, sku FROM offer")
    product = {(retailer, sku): product for product, retailer, sku in rows}
    best = dict(groceries.query("SELECT product_id, best_price FROM product"))
    for offers in some_groceries.products().values():
        (mine,) = {product[offer] for offer in offers}
        assert {offer for offer, other in product.items() if other == mine} == offers
        assert best[mine] == some_groceries.best_price(offers)


@pytest.mark.slow
def test_real_macros_agree_with_the_history(
    groceries: Pipeline, some_groceries: oracle.Market
) -> None:
    """price_on is the last price known on that day; lowest_price the lowest of the last days."""
    chance = random.Random(1)
    ids = {(r, s): i for r, s, i in groceries.query("SELECT retailer, sku, offer_id FROM offer")}
    assert some_groceries.as_of is not None
    for offer in chance.sample(sorted(some_groceries.offers), 12):
        days = some_groceries.periods(offer, "HKD", "day")
        known = {day.start.date(): day.close for day in days}
        for back in chance.sample(range(990), 8):
            day = (some_groceries.as_of - timedelta(days=back)).date()
            found = groceries.query("SELECT price_on(?, ?)", ids[offer], day)
            assert found == [(known.get(day),)], (offer, day)


# Generated data


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=markets(conflicts=True),
    order=st.integers(0, 50),
    cuts=st.lists(st.integers(0, 200), max_size=3),
    repeats=st.integers(0, 3),
)
def test_generated_markets(
    pipelines: Callable[[], Pipeline],
    rows: list[oracle.Row],
    order: int,
    cuts: list[int],
    repeats: int,
) -> None:
    """Shuffled, late, repeated rows in several batches, with builds between them."""
    chance = random.Random(order)
    delivered = shuffled(rows, order)
    delivered = delivered + chance.sample(delivered, len(delivered))[: repeats * len(rows) // 5]
    pipeline = pipelines()
    for number, batch in enumerate(split(delivered, cuts)):
        pipeline.put(batch)
        if (order + number) % 2:
            pipeline.build()
    pipeline.build()
    assert_same(oracle.Market(delivered), pipeline)


@pytest.mark.slow
def test_a_large_generated_market(pipeline: Pipeline) -> None:
    """600 offers, 20,000 rows in 4 batches of staged files, a third of them late."""
    chance = random.Random(7)
    rows: list[oracle.Row] = []
    for number in range(600):
        time, price = datetime(2024, 1, 1) + timedelta(minutes=number), Decimal(10)
        for _ in range(chance.randint(1, 66)):
            time += timedelta(minutes=chance.choice([15, 50, 60, 1440, 4320, 14399, 14401, 20000]))
            if chance.random() < 0.3:
                price = Decimal(chance.choice(["0.5", "1", "9.99", "10", "11", "20", "100", "250"]))
            rows.append(
                {
                    "retailer": f"shop-{number % 7}",
                    "sku": str(number),
                    "observed_at": time,
                    "price": price,
                    "currency": chance.choice(["EUR"] * 30 + ["CHF"]),
                    "availability": chance.choice([None] * 20 + ["OutOfStock"]),
                    "list_price": chance.choice([None] * 20 + ["12", "300"]),
                    "title": chance.choice([None, None, f"Thing {number}", f"The thing {number}"]),
                    "product_key": chance.choice([None, f"k{number % 200}"]),
                    "gtin": chance.choice([None] * 9 + ["96385074"]) if number < 30 else None,
                }
            )
    rows.sort(key=lambda row: row["observed_at"])
    late = chance.sample(rows, len(rows) // 3)
    rows = [row for row in rows if row["observed_at"].day % 5] + late
    for batch in split(rows, [8000, 12000, 12100]):
        pipeline.put(batch, chunk_rows=1500)
        pipeline.build()
    assert_same(oracle.Market(rows), pipeline)


def look(time: str, price: str, **more: Any) -> oracle.Row:
    row = {"retailer": "shop", "sku": "1", "price": Decimal(price), "currency": "EUR"}
    return row | {"observed_at": datetime.fromisoformat(time)} | more


def test_times_within_one_second(pipeline: Pipeline) -> None:
    """The hot columns count whole seconds, downwards: nothing is seen before or after its time."""
    rows = [
        look("2026-05-04T23:59:59.700000", "10"),
        look("2026-05-05T00:00:00.600000", "11"),
        look("2026-05-05T23:59:59.999999", "12"),
    ]
    pipeline.put(rows)
    pipeline.build()
    ((_, spells),) = pipeline.hot_spells().values()
    seconds = [
        datetime(2026, 5, 4, 23, 59, 59),
        datetime(2026, 5, 5),
        datetime(2026, 5, 5, 23, 59, 59),
    ]
    assert [EPOCH + timedelta(seconds=t) for t in spells.first.tolist()] == seconds
    assert [EPOCH + timedelta(seconds=t) for t in spells.last.tolist()] == seconds
    assert_same(oracle.Market(rows), pipeline)


def test_a_price_seen_only_at_the_end_has_its_period(pipeline: Pipeline) -> None:
    """Zero time long, and known all the same."""
    rows = [
        look("2026-05-30T12:00:00", "10"),
        look("2026-06-01T00:00:00", "12"),
        look("2026-06-01T00:00:00", "30", sku="2"),
    ]
    pipeline.put(rows)
    pipeline.build()
    market = oracle.Market(rows)
    whole = [Decimal(30)] * 5
    for resolution in ("day", "week", "month"):
        (only,) = market.periods(("shop", "2"), "EUR", resolution)
        assert [only.open, only.close, only.low, only.high, only.mean] == whole
    assert_same(market, pipeline)


def test_a_week_of_two_prices_by_hand(pipeline: Pipeline) -> None:
    """Mon 2026-05-04 noon 10, Thu midnight 13, last seen Fri; known until Sun, when 99 is seen
    elsewhere; then nothing for 10 days and a new price."""
    rows = [
        look("2026-05-04T12:00:00", "10"),
        look("2026-05-07T00:00:00", "13"),
        look("2026-05-08T00:00:00", "13"),
        look("2026-05-25T06:00:00", "20"),
        look("2026-05-25T18:00:00", "99", sku="2"),
    ]
    pipeline.put(rows)
    pipeline.build()
    market = oracle.Market(rows)
    ten, thirteen, twenty = Decimal(10), Decimal(13), Decimal(20)
    mean = (Decimal("2.5") * ten + 4 * thirteen) / Decimal("6.5")
    expected = [
        (datetime(2026, 5, 4), ten, thirteen, ten, thirteen, mean.quantize(Decimal("0.0001"))),
        (datetime(2026, 5, 11), *[thirteen] * 5),  # vouched for until the 18th, 0:00
        (datetime(2026, 5, 25), *[twenty] * 5),
    ]
    weeks = market.periods(("shop", "1"), "EUR", "week")
    assert [dataclasses.astuple(week) for week in weeks] == expected
    assert_same(market, pipeline)
