"""GET /deals, and what lists of products say of deals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests import oracle, oracle_prices
from tests.marts import Ids, best_price, product_timeline
from tests.pipeline import Pipeline
from tests.served import DAY, Row, Served, look, serving

Deals = dict[tuple[str, str], oracle_prices.Deal]


@pytest.fixture(scope="module")
def judged(served: Served) -> Deals:
    """Retailer and sku → what the oracle says of it."""
    market, ids = served.market, Ids(Pipeline.reading(served.folder))
    found = {}
    for offers in market.products().values():
        best = best_price(market, offers, ids)
        for offer in offers:
            same = market.offers[offer].spells[-1].currency == ids.currency[ids.product[offer]]
            deal = oracle_prices.deal(market, offer, best if same else None)
            if deal is not None:
                found[offer] = deal
    return found


def test_deals_are_those_of_the_oracle(served: Served, judged: Deals) -> None:
    items = served.walk("/deals", limit=7)
    found = {(each["retailer"], each["sku"]): each for each in items}
    assert len(items) == len(found)
    assert set(found) == set(judged)
    for offer, deal in judged.items():
        said = found[offer]
        assert (said["verdict"], said["price"]) == (deal.verdict, deal.price)
        assert said["really_reduced"] is deal.really_reduced
        assert (said["prior_price"], said["usual_price"]) == (deal.prior_price, deal.usual_price)
        assert abs(said["score"] - deal.points) <= 0.5
        assert (said["lowest_in_days"], said["is_all_time_low"]) == (
            deal.lowest_in_days, deal.is_all_time_low,
        )  # fmt: skip
        assert said["reasons"]
    scores = [each["score"] for each in items]
    assert scores == sorted(scores, reverse=True)


def test_filters(served: Served, judged: Deals) -> None:
    whole = served.walk("/deals")
    for verdict in ("genuine", "inflated", "unproven"):
        mine = [each for each in whole if each["verdict"] == verdict]
        assert served.walk("/deals", verdict=verdict) == mine
    shop = whole[0]["retailer"]
    assert served.walk("/deals", retailer=f" {shop.upper()} ") == [
        each for each in whole if each["retailer"] == shop
    ]
    slug = next(each["category_slug"] for each in whole if each["category_slug"])
    top = slug.partition(".")[0]
    assert served.walk("/deals", category=top) == [
        each for each in whole if (each["category_slug"] or "").split(".")[0] == top
    ]
    least = sorted(each["score"] for each in whole)[len(whole) // 2]
    assert served.walk("/deals", min_score=least) == [e for e in whole if e["score"] >= least]
    for item in served.walk("/deals", best_only="true"):
        page = served.get(f"/products/{item['product_id']}")
        assert item["price"] == page["best"]["price"]
    for wrong in ({"verdict": "real"}, {"min_score": 101}, {"min_score": -1}, {"best_only": "1"}):
        served.refused("/deals", 400, **wrong)


def usual_of_product(served: Served, offer: oracle.Offer, ids: Ids) -> Decimal:
    market = served.market
    offers = next(each for each in market.products().values() if offer in each)
    end = oracle_prices.end_of(market, offers)
    usual = oracle_prices.statistics(product_timeline(market, offers, ids), end, 90)
    assert usual is not None
    return usual.median


def test_products_by_deal(served: Served, judged: Deals) -> None:
    ids = Ids(Pipeline.reading(served.folder))
    best_offers = {item["best"]["offer_id"] for item in served.walk("/products") if item["best"]}
    genuine = [offer for offer, deal in judged.items() if deal.verdict == "genuine"]
    shown = [offer for offer in genuine if str(ids.offer[offer]) in best_offers]
    expected = {
        str(ids.product[offer]): judged[offer].score
        for offer in shown
        if judged[offer].price <= Decimal("0.97") * usual_of_product(served, offer, ids)
    }
    assert 0 < len(expected) < len(shown) < len(genuine)
    found = served.walk("/products", on_deal="true", sort="score", limit=9)
    assert {each["product_id"]: each["score"] for each in found} == expected
    assert [each["score"] for each in found] == sorted(expected.values(), reverse=True)
    others = served.walk("/products", on_deal="false")
    assert {each["score"] for each in others} == {None}
    assert len(others) + len(found) == len(served.walk("/products"))
    for each in (found[0], others[0]):
        page = served.get(f"/products/{each['product_id']}")
        for name in ("score", "change_30d_ratio"):
            assert page[name] == each[name]
        best = page["best"]
        assert each["best"] == (
            best and {name: best[name] for name in ("offer_id", "retailer", "price", "currency")}
        )
    moved = [each["change_30d_ratio"] for each in served.walk("/products", sort="change_30d")]
    known = [ratio for ratio in moved if ratio is not None]
    assert moved == [*sorted(known), *[None] * (len(moved) - len(known))]
    assert known[0] < 0
    served.refused("/products", 400, on_deal="yes")


@pytest.fixture
def told(pipeline: Pipeline) -> dict[str, list[str]]:
    """Sku → the reasons of its deal."""

    def seen(sku: str, *looks: tuple[int, str, str | None], **about: str) -> list[Row]:
        """(first of these days ago, price, list price), every 5 days until the next, and today."""
        rows = []
        ends = [*(first for first, _, _ in looks[1:]), -1]
        for (first, price, listed), end in zip(looks, ends, strict=True):
            days = {*range(first, end, -5), *([0] if end < 0 else [])}
            rows += [look("a", sku, day * DAY, price, list_price=listed, **about) for day in days]
        return rows

    pipeline.put(
        [
            *seen("genuine", (200, "20", None), (3, "15", "20"), product_key="same"),
            look("b", "cheaper", 0 * DAY, "14.50", product_key="same"),
            *seen("never", (200, "15", "30")),
            *seen("overstated", (200, "20", None), (3, "15", "30")),
            *seen(
                "no higher", (200, "15", None), (100, "20", None), (20, "15", None), (4, "15", "20")
            ),
            *seen("raised", (200, "15", None), (40, "20", None), (3, "15", "20")),
            *seen("new", (9, "20", None), (2, "15", "20")),
        ]
    )
    pipeline.build()
    with serving(pipeline.folder) as client:
        items = client.get("/api/v1/deals").json()["items"]
    return {each["sku"]: [each["verdict"], *each["reasons"]] for each in items}


def test_reasons_in_words(told: dict[str, list[str]]) -> None:
    assert told["genuine"] == [
        "genuine",
        "25 % below 20 EUR, its lowest price in the 30 days before 2026-11-19",
        "25 % below its usual price of 20 EUR (median of 90 days)",
        "never cheaper at this shop in the 200 days since it was first seen",
        "another shop asks 14.5 EUR",
    ]
    assert told["never"][:2] == [
        "inflated", "the list price of 30 EUR was not charged in what is known of the last 180 days",
    ]  # fmt: skip
    assert told["overstated"][:4] == [
        "inflated",
        "a real reduction of 25 %, not the claimed 50 %: its lowest price in the 30 days before 2026-11-19 was 20 EUR",
        "the list price of 30 EUR was not charged in what is known of the last 180 days",
        "25 % below its usual price of 20 EUR (median of 90 days)",
    ]
    assert told["no higher"][:2] == [
        "inflated",
        "15 EUR was its price already in the 30 days before the reduction of 2026-11-18",
    ]
    assert told["raised"][:2] == [
        "inflated",
        "raised before it was reduced: in the 90 days before 2026-11-19 it usually cost 15 EUR",
    ]
    assert told["new"][:2] == [
        "unproven", "too little history: 7 of the 30 days before 2026-11-20 are known",
    ]  # fmt: skip
