"""The price index and the market's figures: textbook examples, an oracle, and what breaks them."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from models.market import FIGURES, market_figures
from models.periods import Period
from models.price_index import INDEX, category_index
from tests.models import slow
from tests.models.slow import AS_OF, DAY, HOUR, OFFERS, PRODUCTS, WEEK

MONDAY = slow.period_of(AS_OF - 60 * WEEK, "week")
SEEDS = range(6)
Prices = dict[int, list[int | None]]


def monthly(prices: Prices, year: int = 2025) -> pl.DataFrame:
    """A TIMELINE of products with one price for each month from January; None: not known."""
    starts = [
        int(datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp())
        for month in range(25)
    ]
    return slow.timeline(
        {
            product: [
                (starts[month], starts[month + 1], price)
                for month, price in enumerate(mine)
                if price is not None
            ]
            for product, mine in prices.items()
        }
    )


def weekly(prices: Prices) -> pl.DataFrame:
    return slow.timeline(
        {
            product: [
                (MONDAY + week * WEEK, MONDAY + (week + 1) * WEEK, price)
                for week, price in enumerate(mine)
                if price is not None
            ]
            for product, mine in prices.items()
        }
    )


def products(*ids: int, slug: str | None = None, currency: str = "EUR") -> pl.DataFrame:
    rows = [{"product_id": each, "currency": currency, "category_slug": slug} for each in ids]
    return pl.DataFrame(rows, schema=PRODUCTS)


def levels(timeline: pl.DataFrame, of: pl.DataFrame, period: Period = "week") -> list[float]:
    index = category_index(timeline, of, AS_OF, period)
    return index.filter(pl.col("category_slug") == "")["index"].to_list()


def test_the_worked_example_of_the_cpi_manual() -> None:
    # Consumer Price Index Manual (ILO and others 2004), table 9.1, items A to C: the printed Jevons
    # index, chained or direct, is 100, 114.47, 125.99, 135.72, 100.00, 115.55 and 110.00.
    timeline = monthly(
        {
            1: [60_000, 60_000, 70_000, 60_000, 60_000, 60_000, 66_000],
            2: [70_000, 70_000, 60_000, 70_000, 70_000, 72_000, 77_000],
            3: [20_000, 30_000, 40_000, 50_000, 20_000, 30_000, 22_000],
        }
    )
    found = levels(timeline, products(1, 2, 3), "month")
    printed = [100, 114.47, 125.99, 135.72, 100, 115.55, 110]
    assert [round(each, 2) for each in found] == printed


def test_a_product_enters_and_a_product_leaves() -> None:
    # By hand. Link 2: products 1 and 2, sqrt(1.1 * 0.9). Link 3: 3 is matched for the first time,
    # 2 is gone: sqrt(12/11 * 4/5). The first price of 3, a hundredth of the others, moves nothing.
    timeline = weekly({1: [1000, 1100, 1200], 2: [1000, 900, None], 3: [None, 10, 8]})
    index = category_index(timeline, products(1, 2, 3), AS_OF)
    second = 100 * math.sqrt(1.1 * 0.9)
    assert index["index"].to_list() == pytest.approx(
        [100, second, second * math.sqrt(12 / 11 * 0.8)]
    )
    assert index.select("products", "entered", "left").rows() == [(0, 2, 0), (2, 1, 0), (2, 0, 1)]
    assert index["period_start"].to_list() == [MONDAY, MONDAY + WEEK, MONDAY + 2 * WEEK]


def test_a_missing_price_moves_with_its_class_and_corrects_itself() -> None:
    # While 2 is missing the class rises by 10 %, so 2 is imputed 1100; it returns at 1100: no
    # further change. A chain that only compared neighbours would never learn of its 10 %.
    timeline = weekly({1: [1000, 1100, 1100], 2: [1000, None, 1100]})
    assert levels(timeline, products(1, 2)) == pytest.approx([100, 110, 110])
    # It returns at its old price: half of what was imputed is taken back.
    timeline = weekly({1: [1000, 1100, 1100], 2: [1000, None, 1000]})
    assert levels(timeline, products(1, 2))[-1] == pytest.approx(100 * math.sqrt(1.1))


def test_a_week_in_which_nothing_was_known_is_bridged() -> None:
    timeline = weekly({1: [1000, None, None, 1500], 2: [1000, None, None, 1500]})
    index = category_index(timeline, products(1, 2), AS_OF)
    assert index["index"].to_list() == pytest.approx([100, 150])
    assert index.select("products", "entered", "left").rows() == [(0, 2, 0), (2, 0, 0)]


def test_with_nothing_in_common_the_index_stands() -> None:
    timeline = weekly({1: [1000, 1200, None, None, 1800], 2: [None, None, 700, 770, None]})
    index = category_index(timeline, products(1, 2), AS_OF)
    # 1 returns 50 % dearer; 10 % of it is what the class had moved meanwhile.
    assert index["index"].to_list() == pytest.approx([100, 120, 120, 132, 180])
    assert index.select("products", "entered", "left").rows() == [
        (0, 1, 0),
        (1, 0, 0),
        (0, 1, 1),
        (1, 0, 0),
        (1, 0, 1),
    ]


def test_time_reversal_and_transitivity_on_a_matched_set() -> None:
    chance = random.Random(1)
    there: Prices = {each: [chance.randrange(50, 5000) for _ in range(12)] for each in range(9)}
    found = levels(weekly(there), products(*there))
    back: Prices = {each: mine[::-1] for each, mine in there.items()}
    assert levels(weekly(back), products(*there))[-1] == pytest.approx(1e4 / found[-1])
    # The chain over all weeks is the direct comparison of the last with the first.
    ends: Prices = {each: [mine[0], mine[-1]] for each, mine in there.items()}
    assert levels(weekly(ends), products(*there))[-1] == pytest.approx(found[-1])
    # A sale that comes and goes leaves nothing behind.
    sale: Prices = {1: [100, 50, 100, 70, 100], 2: [100] * 5}
    assert levels(weekly(sale), products(1, 2))[-1] == pytest.approx(100)


def test_prices_are_weighted_by_the_time_they_held() -> None:
    half = MONDAY + WEEK + WEEK // 4
    known = [(MONDAY, half, 1000), (half, MONDAY + 2 * WEEK, 2000)]
    assert levels(slow.timeline({1: known}), products(1)) == pytest.approx([100, 175])
    # An instant counts where nothing else is known, and not beside what lasted.
    seen = [
        (MONDAY, MONDAY + DAY, 1000),
        (MONDAY + 2 * DAY, MONDAY + 2 * DAY, 9000),
        (MONDAY + 8 * DAY, MONDAY + 8 * DAY, 3000),
        (MONDAY + 9 * DAY, MONDAY + 9 * DAY, 1000),
    ]
    assert levels(slow.timeline({1: seen}), products(1)) == pytest.approx([100, 200])


def test_every_level_and_each_currency_has_its_own_index() -> None:
    timeline = weekly({1: [100, 110], 2: [100, 130], 3: [100, 170], 4: [100, 200], 5: [100, 900]})
    of = pl.concat(
        [
            products(1, slug="food.drinks.tea"),
            products(2, slug="food.drinks"),
            products(3, slug="foodstuff"),
            products(4, slug=None),
            products(5, slug="food.drinks", currency="USD"),
        ]
    )
    index = category_index(timeline, of, AS_OF).filter(pl.col("products") > 0)
    found = {(slug, currency): level for slug, currency, _, level, *_ in index.iter_rows()}
    food = 100 * math.sqrt(1.1 * 1.3)
    assert found == pytest.approx(
        {
            ("", "EUR"): 100 * (1.1 * 1.3 * 1.7 * 2) ** 0.25,
            ("", "USD"): 900,
            ("food", "EUR"): food,
            ("food", "USD"): 900,
            ("food.drinks", "EUR"): food,
            ("food.drinks", "USD"): 900,
            ("food.drinks.tea", "EUR"): 110,
            ("foodstuff", "EUR"): 170,
        }
    )


@pytest.mark.parametrize("period", ["week", "month"])
@pytest.mark.parametrize("seed", SEEDS)
def test_index_equals_the_oracle(seed: int, period: Period) -> None:
    market = slow.market(seed)
    timeline, _, _, of = market.frames()
    index = category_index(timeline, of, AS_OF, period)
    assert dict(index.schema) == INDEX
    found = {row[:3]: row[3:] for row in index.iter_rows()}
    expected = slow.index(market, period)
    assert list(found) == sorted(expected)
    for key, (level, *counts) in expected.items():
        assert found[key][0] == pytest.approx(level, rel=1e-9), key
        assert list(found[key][1:]) == counts, key


def test_an_empty_category_is_none() -> None:
    index = category_index(weekly({1: [100, 110]}), products(1, slug=""), AS_OF)
    assert index["category_slug"].to_list() == ["", ""]
    assert index["products"].to_list() == [0, 1]


def test_no_data_no_index() -> None:
    timeline, empty = weekly({1: [100]}), products()
    for index in (
        category_index(slow.timeline({}), empty, AS_OF),
        category_index(timeline, empty, AS_OF),
        category_index(timeline, products(1), MONDAY - 1),
    ):
        assert index.is_empty()
        assert dict(index.schema) == INDEX


# --- figures --------------------------------------------------------------------------------------


def offer(number: int, product: int, retailer: str, price: int, **more: Any) -> dict[str, Any]:
    row = {"offer_id": number, "product_id": product, "retailer": retailer, "price": price}
    return row | {"currency": "EUR", "list_price": 0, "fresh": True} | more


def of_all(figures: pl.DataFrame, retailer: str = "", slug: str = "") -> dict[str, Any]:
    (row,) = figures.filter(
        (pl.col("retailer") == retailer) & (pl.col("category_slug") == slug)
    ).to_dicts()
    return row


def test_shops_apart_by_hand() -> None:
    rows = [
        offer(1, 1, "alder", 90),
        offer(2, 1, "birch", 100),
        offer(3, 1, "cedar", 120),
        offer(4, 2, "alder", 200),
        offer(5, 2, "alder", 150),  # its second listing, the one that counts
        offer(6, 2, "birch", 150),
        offer(7, 3, "alder", 500),  # nobody else sells it
        offer(8, 1, "dingy", 1, fresh=False),
        offer(9, 1, "cedar", 2, currency="USD"),
    ]
    frame = pl.DataFrame(rows, schema=OFFERS)
    figures = market_figures(slow.timeline({}), frame, products(1, 2, 3, slug="tea"), AS_OF)
    euro = figures.filter(pl.col("currency") == "EUR")
    dollar = of_all(figures.filter(pl.col("currency") == "USD"), "cedar")
    assert (dollar["offers"], dollar["compared"], dollar["price_position_ratio"]) == (1, 0, None)
    alder = of_all(euro, "alder")
    assert alder["price_position_ratio"] == pytest.approx(math.sqrt(90 / 110 * 1))
    assert (alder["cheapest_ratio"], alder["compared"], alder["offers"]) == (1, 2, 4)
    birch = of_all(euro, "birch", "tea")
    assert birch["price_position_ratio"] == pytest.approx(math.sqrt(100 / 105 * 1))
    assert (birch["cheapest_ratio"], birch["compared"]) == (0.5, 2)
    market = of_all(euro, slug="tea")
    assert market["spread_ratio"] == pytest.approx((30 / 90 + 0) / 2)
    assert market["variation_ratio"] == pytest.approx(math.sqrt(1400 / 9) / (310 / 3) / 2)
    assert (market["compared"], market["offers"], market["price_position_ratio"]) == (2, 7, None)


def test_promotions_changes_and_spells_by_hand() -> None:
    now = AS_OF
    timeline = slow.timeline(
        {
            # 100 for 60 of the last 90 days, then 80: a promotion. Two changes in 90 days.
            1: [
                (now - 400 * DAY, now - 100 * DAY, 90),
                (now - 100 * DAY, now - 30 * DAY, 100),
                (now - 30 * DAY, now - 20 * DAY, 70),
                (now - 20 * DAY, now, 80),
            ],
            # 80 for 60 of 90 days: its usual price by now. Unknown for 10 days: no change there.
            2: [(now - 90 * DAY, now - 70 * DAY, 100), (now - 60 * DAY, now, 80)],
        }
    )
    rows = [offer(1, 1, "alder", 80, list_price=100), offer(2, 1, "birch", 80, list_price=80)]
    figures = market_figures(timeline, pl.DataFrame(rows, schema=OFFERS), products(1), now)
    market = of_all(figures)
    assert market["promotion_ratio"] == 0.5
    assert market["list_price_ratio"] == 0.5
    assert market["changes_per_month"] == pytest.approx(2 / (170 / 30.4375))
    # 70 and 10 days; the first and the last spell are cut off, and so are both of offer 2.
    assert (market["median_spell_days"], market["spells"]) == (40, 2)
    assert of_all(figures, "birch")["promotion_ratio"] == 0
    assert of_all(figures, "birch")["median_spell_days"] is None


def test_a_price_seen_once_is_the_usual_one() -> None:
    timeline = slow.timeline({1: [(AS_OF - DAY, AS_OF, 50)], 2: [(AS_OF - DAY, AS_OF - DAY, 100)]})
    rows = [offer(1, 1, "alder", 50), offer(2, 1, "birch", 90)]
    figures = market_figures(timeline, pl.DataFrame(rows, schema=OFFERS), products(1), AS_OF)
    assert of_all(figures, "birch")["promotion_ratio"] == 1
    assert of_all(figures, "alder")["promotion_ratio"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_figures_equal_the_oracle(seed: int) -> None:
    market = slow.market(seed)
    _, timeline, offers, of = market.frames()
    figures = market_figures(timeline, offers, of, AS_OF)
    assert dict(figures.schema) == FIGURES
    expected = slow.figures(market)
    assert figures.select(figures.columns[:3]).rows() == sorted(expected)
    for row in figures.to_dicts():
        wanted = expected[row["category_slug"], row["retailer"], row["currency"]]
        for name, value in wanted.items():
            exact = value is None or isinstance(value, int)
            assert row[name] == (value if exact else pytest.approx(value, rel=1e-9)), (name, row)


def test_hourly_changes_and_huge_prices_stay_finite() -> None:
    hours = [
        (AS_OF - (left + 1) * HOUR, AS_OF - left * HOUR, 10**16 - left % 2) for left in range(2000)
    ][::-1]
    rows = [offer(1, 1, "alder", 10**16), offer(2, 1, "birch", 1)]
    timeline = slow.timeline({1: hours, 2: [(AS_OF, AS_OF, 1)]})
    figures = market_figures(timeline, pl.DataFrame(rows, schema=OFFERS), products(1), AS_OF)
    market = of_all(figures)
    assert market["median_spell_days"] == pytest.approx(1 / 24)
    assert market["changes_per_month"] == pytest.approx(30.4375 * 24 * 1999 / 2000)
    assert market["spread_ratio"] == pytest.approx(1e16)
    numbers = figures.select(pl.selectors.float())
    assert numbers.select(pl.all().is_finite().all()).row(0) == (True,) * numbers.width


def test_no_offers_no_figures() -> None:
    none = pl.DataFrame(schema=OFFERS)
    figures = market_figures(slow.timeline({}), none, products(), AS_OF)
    assert figures.is_empty()
    assert dict(figures.schema) == FIGURES
    # An offer whose product is not known, and never had a price: it is there, with nothing to say.
    rows = [offer(1, 99, "alder", 100, fresh=False)]
    figures = market_figures(
        slow.timeline({}), pl.DataFrame(rows, schema=OFFERS), products(), AS_OF
    )
    assert figures.rows() == [
        ("", retailer, "EUR", 0, None, None, None, None, 0, *(None,) * 4, 0)
        for retailer in ("", "alder")
    ]
