"""Index, market, retailers and anomalies over HTTP: what the tables say, and a market by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.marts import rows_by
from tests.pipeline import Pipeline
from tests.served import DAY, HOUR, Served, T, look, serving

MIDNIGHT = T.replace(hour=0)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three shops, a year: north asks 10, south 11, west 9 for tea; coffee rises by 1 % a week."""

    def daily(shop: str, sku: str, price: Any, until: int = 0, **about: Any) -> list[Any]:
        return [
            look(shop, sku, day * DAY + HOUR, str(price(day)), product_key=sku, **about)
            for day in range(364, until - 1, -1)
        ]

    tea: dict[str, Any] = {"category": "Drinks > Tea", "title": "Tea"}
    beans: dict[str, Any] = {"category": "Drinks > Coffee", "title": "Beans"}
    rows = [
        *daily("north", "tea", lambda day: 10, **tea),
        *daily("south", "tea", lambda day: 11, **tea),
        *daily("west", "tea", lambda day: 9, **tea),
        *daily("north", "beans", lambda day: round(20 * 1.01 ** ((364 - day) // 7), 2), **beans),
        # A day at ten times the price, a week ago; it was 30 before and after.
        *daily("north", "soap", lambda day: 300 if day == 7 else 30, category="Home", title="Soap"),
        # Its shop is seen every day; it is not any more.
        *daily("south", "gone", lambda day: 5, until=15, category="Home", title="Gone"),
        look("far", "lamp", 2 * DAY, "50", currency="USD", category="Light"),
    ]
    pipeline = Pipeline(tmp_path_factory.mktemp("town"))
    pipeline.put(rows)
    pipeline.build()
    pipeline.lake.close()
    with serving(pipeline.folder) as client:
        yield Served(client, None, pipeline.folder)  # type: ignore[arg-type]


def test_index_of_a_category(town: Served) -> None:
    (series,) = town.get("/categories/drinks.coffee/index")["series"]
    assert series["currency"] == "EUR"
    assert (series["index"][0], series["products"][0], series["entered"][0]) == (100, 0, 1)
    assert [b - a for a, b in zip(series["t"], series["t"][1:], strict=False)] == [7 * 86400] * (
        len(series["t"]) - 1
    )
    weeks = [b / a for a, b in zip(series["index"], series["index"][1:], strict=False)]
    assert all(float(each) == pytest.approx(1.01, abs=0.002) for each in weeks[1:-1])
    year = series["trends"][-1]
    assert (year["days"], year["direction"]) == (365, "rising")
    assert float(year["change_per_30d_ratio"]) == pytest.approx(1.01 ** (30 / 7) - 1, abs=0.002)
    (flat,) = town.get("/categories/drinks.tea/index")["series"]
    assert set(flat["index"]) == {100}
    (both,) = town.get("/categories/drinks/index", currency="eur")["series"]
    # Two products: the geometric mean of one that stands and one that rises.
    assert float(both["index"][-1]) ** 2 == pytest.approx(
        100 * float(series["index"][-1]), rel=1e-4
    )
    assert town.get("/categories/drinks/index", currency="JPY")["series"] == []
    town.refused("/categories/nothing/index", 404)
    town.refused("/categories/drinks/index", 400, currency="euro")


def test_market_by_category_and_retailer(town: Served) -> None:
    whole = town.get("/insights/market")
    assert [each["currency"] for each in whole["overall"]] == ["EUR", "USD"]
    assert {each["category_slug"] for each in whole["categories"]} == {"drinks", "home", "light"}
    tea = town.get("/insights/market", category="drinks.tea")
    assert tea["categories"] == []
    (all_shops,) = tea["overall"]
    assert (all_shops["offers"], all_shops["compared"], all_shops["changes_per_month"]) == (3, 1, 0)
    assert float(all_shops["spread_ratio"]) == pytest.approx(11 / 9 - 1, abs=1e-4)
    position = {each["retailer"]: each for each in tea["retailers"]}
    assert (
        float(position["north"]["price_position_ratio"]) == 1
    )  # 10 against the median of 9 and 11
    assert float(position["west"]["price_position_ratio"]) == pytest.approx(9 / 10.5, abs=1e-4)
    assert position["west"]["cheapest_ratio"] == 1
    drinks = town.get("/insights/market", category="drinks", currency="EUR")
    assert {each["category_slug"] for each in drinks["categories"]} == {
        "drinks.coffee", "drinks.tea",
    }  # fmt: skip
    nothing = town.get("/insights/market", category="nothing")
    assert (nothing["category_slug"], nothing["overall"], nothing["index"]) == ("nothing", [], [])


def test_a_retailer(town: Served) -> None:
    west = town.get("/retailers/west")
    assert (west["retailer"], west["offers"], west["fresh_offers"]) == ("west", 1, 1)
    assert float(west["figures"][0]["price_position_ratio"]) == pytest.approx(9 / 10.5, abs=1e-4)
    assert {each["category_slug"] for each in west["categories"]} == {"drinks"}
    assert town.get("/retailers/WEST")["retailer"] == "west"
    assert town.get("/retailers/south")["fresh_offers"] == 1
    assert float(west["median_hours_since_seen"]) == 1 - 1
    town.refused("/retailers/nobody", 404)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def test_anomalies(town: Served) -> None:
    items = town.walk("/anomalies", limit=1)
    by_title = {each["title"]: each for each in items}
    soap, gone = by_title["Soap"], by_title["Gone"]
    assert soap["kind"] in ("suspected_error", "spike")
    assert (soap["price"], soap["expected_high"]) == (300, 30)
    assert moment(soap["began_at"]) == T - 7 * DAY - HOUR
    assert (gone["kind"], gone["expected_low"], gone["price"]) == ("stale", None, 5)
    assert moment(gone["began_at"]) == T - 5 * DAY - HOUR
    assert town.walk("/anomalies", kind="stale") == [gone]
    assert town.walk("/anomalies", retailer=" North ", category="home") == [soap]
    assert town.walk("/anomalies", days=6) == [gone]
    assert soap not in town.walk("/anomalies", min_severity=float(soap["severity"]) + 0.001)
    worst = [each["severity"] for each in town.walk("/anomalies", sort="severity")]
    assert worst == sorted(worst, reverse=True)
    for wrong in ({"kind": "odd"}, {"days": 0}, {"min_severity": 2}, {"sort": "price"}):
        town.refused("/anomalies", 400, **wrong)


def test_a_products_trend_is_in_its_statistics(town: Served) -> None:
    product = town.get("/products/lookup", retailer="north", sku="beans")["product_id"]
    trends = town.get(f"/products/{product}/stats")["trends"]
    assert [(each["days"], each["direction"]) for each in trends] == [
        (90, "rising"), (365, "rising"),
    ]  # fmt: skip


def test_once_a_day_and_when_the_past_changes(pipeline: Pipeline) -> None:
    """What comes later on the same day leaves these marts as they are, as a full build has them; what
    comes late changes them."""

    def seen(ago: timedelta, price: str, sku: str = "tea") -> Any:
        return look("a", sku, ago, price, category="Drinks", product_key=sku)

    def compare(name: str) -> Any:
        pipeline.build()
        afresh = pipeline.beside(name)
        afresh.build(full=True)
        assert pipeline.content() == afresh.content()
        return (
            rows_by(pipeline, "category_index", "week", "category_slug"),
            (pipeline.version() / "trend.arrow").stat().st_ino,
            pipeline.query("SELECT count(*) FROM anomaly")[0][0],
        )

    pipeline.put([seen(day * DAY, "10") for day in range(1, 120)])
    pipeline.put([seen(9 * HOUR, "10"), seen(9 * HOUR, "4", "new")])
    first = compare("one")
    pipeline.put([seen(2 * HOUR, "99"), seen(HOUR, "7", "newer")])
    assert T - 9 * HOUR > MIDNIGHT
    second = compare("two")
    assert second[0] == first[0]
    pipeline.put([seen(20 * DAY + HOUR, "30")])
    late = compare("three")
    assert late[0] != first[0]
    pipeline.put([look("a", "tea", -10 * HOUR, "10", category="Drinks", product_key="tea")])
    assert len(compare("four")[0]) >= len(late[0])
