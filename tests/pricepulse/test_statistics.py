"""GET /products/{id}/stats against the oracle, and what it says of odd products."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests import oracle_prices
from tests.marts import WINDOWS, Ids, best_price, product_timeline
from tests.pipeline import Pipeline
from tests.served import DAY, HOUR, Served, look, serving

PLAIN = (
    "cheaper_ratio", "change_ratio", "changes", "changes_per_month", "median_spell_days",
    "known_days", "coverage_ratio", "confidence", "mean", "median",
)  # fmt: skip


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def assert_window(said: Any, made: oracle_prices.Statistics | None, ids: Ids, about: Any) -> None:
    assert (said is None) == (made is None), about
    if said is None or made is None:
        return
    for name in PLAIN:
        expected = getattr(made, name)
        if isinstance(expected, Fraction):
            assert float(said[name]) == pytest.approx(float(expected), abs=1e-4), about
        else:
            assert said[name] == expected, (about, name)
    for end in ("min", "max"):
        offer = getattr(made, f"{end}_offer")
        assert said[end]["price"] == getattr(made, end), about
        assert moment(said[end]["at"]) == getattr(made, f"{end}_at"), about
        if "offer_id" in said[end]:  # an offer's own statistics do not repeat which it is
            where = (said[end]["offer_id"], said[end]["retailer"])
            assert where == (str(ids.offer[offer]), offer[0])


def test_every_product_as_the_oracle_has_it(served: Served) -> None:
    market, ids = served.market, Ids(Pipeline.reading(served.folder))
    judged = 0
    for offers in market.products().values():
        (number,) = {ids.product[offer] for offer in offers}
        said = served.get(f"/products/{number}/stats")
        timeline = product_timeline(market, offers, ids)
        for name, days in WINDOWS.items():
            made = oracle_prices.statistics(timeline, oracle_prices.end_of(market, offers), days)
            assert_window(said["windows"][name], made, ids, (offers, name))
            if name == "365d":
                cheaper = made.cheaper_ratio if made else None
                assert (said["percentile"] is None) == (cheaper is None)
                if cheaper is not None:
                    percentile = float(said["percentile"])
                    assert percentile == pytest.approx(float(cheaper * 100), abs=0.01)
            if name == "all":
                assert made is None or "offer_id" in said["windows"]["all"]["min"]
                assert said["all_time_low"] == (said["windows"]["all"] or {}).get("min")
        best = best_price(market, offers, ids)
        assert (said["current"] or {}).get("price") == best
        listed = {(each["retailer"], each["sku"]): each for each in said["offers"]}
        assert set(listed) == offers
        for offer, each in listed.items():
            mine = oracle_prices.offer_timeline(market, offer)
            assert each["fresh"] == bool(mine and mine[-1].now)
            for name, days in WINDOWS.items():
                made = oracle_prices.statistics(mine, oracle_prices.end_of(market, {offer}), days)
                assert_window(each["windows"][name], made, ids, (offer, name))
            same = market.offers[offer].spells[-1].currency == ids.currency[number]
            deal = oracle_prices.deal(market, offer, best if same else None)
            assert (each["deal"] is None) == (deal is None), offer
            if deal is not None:
                assert each["deal"]["verdict"] == deal.verdict
                assert each["deal"]["prior_price"] == deal.prior_price
                judged += 1
    assert judged > 20


@pytest.fixture
def odd(pipeline: Pipeline) -> Any:
    """Products that break what is not careful."""
    hours = range(24 * 40)
    rows = [
        look("a", "once", 0 * DAY, "5"),
        look("a", "old", 400 * DAY, "5"),
        *(look("a", "still", days * DAY, "7") for days in range(0, 1500, 9)),
        *(look("a", "hourly", hour * HOUR, str(10 + hour % 7)) for hour in hours),
        *(look("a", "out", days * DAY, "3", availability="OutOfStock") for days in range(0, 50, 5)),
        look("a", "three", DAY, "1", product_key="p"),
        look("b", "three", DAY, "1", product_key="p", currency="USD"),
        look("c", "three", DAY, "100", product_key="p", currency="JPY"),
        look("a", "huge", 2 * DAY, "999999999999.9999"),
        look("a", "huge", DAY, "999999999999.9998"),
    ]
    pipeline.put(rows)
    pipeline.build()
    with serving(pipeline.folder) as client:
        yield Served(client, Any, pipeline.folder)  # type: ignore[arg-type]


def test_odd_products(odd: Served) -> None:
    def stats(sku: str) -> Any:
        product = odd.get("/products/lookup", retailer="a", sku=sku)
        return odd.get(f"/products/{product['product_id']}/stats")

    once = stats("once")
    assert once["current"]["price"] == 5
    assert once["windows"]["all"]["mean"] == 5
    assert once["windows"]["all"]["coverage_ratio"] == 0
    assert once["windows"]["30d"]["confidence"] == 0
    old = stats("old")
    assert old["current"] is None
    assert old["windows"]["365d"] is None
    assert old["windows"]["all"]["known_days"] == 10
    assert old["percentile"] is None
    still = stats("still")["windows"]["365d"]
    assert (still["changes"], still["change_ratio"], still["confidence"]) == (0, 0, 1)
    assert stats("still")["percentile"] == 0
    hourly = stats("hourly")["windows"]["30d"]
    assert hourly["changes"] == 24 * 30
    assert (hourly["min"]["price"], hourly["max"]["price"]) == (10, 16)
    out = stats("out")
    assert out["current"] is None
    assert list(out["windows"].values()) == [None] * 4
    three = stats("three")
    assert {each["currency"] for each in three["offers"]} == {"EUR", "JPY", "USD"}
    assert three["current"]["price"] in (1, 100)
    huge = stats("huge")["windows"]["all"]
    assert huge["max"]["price"] == Decimal("999999999999.9999")
    assert huge["mean"] == Decimal("999999999999.9999")  # …98.5 of the last place, half up


def test_who_asks_wrongly(odd: Served) -> None:
    odd.refused("/products/1/stats", 404)
    odd.refused("/products/x/stats", 404)
    product = odd.get("/products/lookup", retailer="a", sku="once")["product_id"]
    odd.refused(f"/products/{product}/stats", 400, window="30d")
