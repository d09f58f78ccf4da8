"""Similar products, comparison, trending: by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.pipeline import Pipeline
from tests.served import DAY, HOUR, Served, look, serving

TEA = {"category": "Drinks > Tea", "brand": "Leaf"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    def seen(sku: str, price: str, now: str | None = None, **about: Any) -> list[Any]:
        """A year at one price, and since three days at another."""
        past = [look("a", sku, day * DAY, price, **about) for day in range(363, 3, -9)]
        return [*past, look("a", sku, 3 * DAY, now or price), look("a", sku, HOUR, now or price)]

    rows = [
        *seen("green", "4", title="Green tea 20 bags", **TEA),
        *seen("black", "4.20", title="Black tea 20 bags", **TEA),
        *seen("large", "9", title="Green tea 100 bags", category="Drinks > Tea", brand="Other"),
        *seen("coffee", "4", title="Coffee beans", category="Drinks > Coffee", brand="Bean"),
        *seen("soap", "4", title="Green soap 20 bags", category="Home > Care", brand="Leaf"),
        *seen("lone", "3", title="No shelf", brand="Leaf"),
        *seen("bare", "3"),
        *seen("fell", "10", "5", title="Fell", category="Other"),
        *seen("rose", "10", "13", title="Rose", category="Other"),
        *seen("penny", "10", "9.95", title="Penny", category="Other"),
        *[look("a", "swings", day * DAY, str(5 + day % 6), title="Swings") for day in range(60)],
        look("a", "new", 8 * DAY, "10", title="New"),
        look("a", "new", HOUR, "5"),
    ]
    pipeline = Pipeline(tmp_path_factory.mktemp("neighbours"))
    pipeline.put(rows)
    pipeline.build()
    pipeline.lake.close()
    with serving(pipeline.folder) as client:
        yield Served(client, None, pipeline.folder)  # type: ignore[arg-type]


def product(shop: Served, sku: str) -> str:
    found: str = shop.get("/products/lookup", retailer="a", sku=sku)["product_id"]
    return found


def test_similar_by_words_brand_leaf_and_price(shop: Served) -> None:
    items = shop.get(f"/products/{product(shop, 'green')}/similar")["items"]
    assert [each["title"] for each in items] == [
        "Black tea 20 bags", "Green tea 100 bags", "Coffee beans",
    ]  # fmt: skip
    black, large, coffee = items
    # 3 words in common of 5, the brand, the leaf, and 5 % dearer.
    assert float(black["similarity"]) == pytest.approx(
        0.5 * 3 / 5 + 0.2 + 0.15 + 0.15 * 0.932, abs=1e-3
    )
    assert black["reason"] == "3 of 4 words in common, same brand, 5 % dearer"
    assert large["reason"] == "3 of 4 words in common, 125 % dearer"
    assert float(coffee["similarity"]) == pytest.approx(0.15)
    assert coffee["reason"] == "costs the same"
    assert len(shop.get(f"/products/{product(shop, 'green')}/similar", limit=1)["items"]) == 1


def test_similar_without_a_category_or_anything(shop: Served) -> None:
    titles = {
        each["title"] for each in shop.get(f"/products/{product(shop, 'lone')}/similar")["items"]
    }
    assert titles == {"Green tea 20 bags", "Black tea 20 bags", "Green soap 20 bags"}
    assert shop.get(f"/products/{product(shop, 'bare')}/similar")["items"] == []
    shop.refused("/products/1/similar", 404)
    shop.refused(f"/products/{product(shop, 'lone')}/similar", 400, limit=0)


def test_side_by_side(shop: Served) -> None:
    wanted = [product(shop, sku) for sku in ("large", "fell", "bare")]
    found = shop.get("/products/compare", ids=",".join(wanted))
    assert [each["product_id"] for each in found["items"]] == wanted
    assert found["currencies"] == ["EUR"]
    large, fell, bare = found["items"]
    assert large["category_path"] == ["Drinks", "Tea"]
    assert (fell["price"], fell["usual_price"], fell["lowest_year"]) == (5, 10, 5)
    assert (fell["highest_year"], fell["lowest_ever"], fell["percentile"]) == (10, 5, 0)
    assert (bare["title"], bare["percentile"]) == (None, 0)
    told = shop.refused("/products/compare", 404, ids=f"{wanted[0]},77")
    assert "77" in told["detail"]
    for wrong in ("", "x", f"{wanted[0]},", f"{wanted[0]},{wanted[0]}", ",".join(["1"] * 21)):
        shop.refused("/products/compare", 400, ids=wrong)
    shop.refused("/products/compare", 400)


def test_trending_is_far_and_rare(shop: Served) -> None:
    items = shop.walk("/trending", limit=1)
    titles = [each["title"] for each in items]
    # What swings between the same prices every week, pennies and a week's history count for little.
    assert titles[:2] == ["Fell", "Rose"]
    assert "Penny" not in titles
    fell, rose = items[:2]
    assert (fell["price_before"], float(fell["change_ratio"])) == (10, -0.5)
    assert fell["reason"] == "50 % below 10 EUR 7 days ago; it was dearer 99 % of the last year"
    assert rose["reason"] == "30 % above 10 EUR 7 days ago; it was cheaper 99 % of the last year"
    assert shop.walk("/trending", category="drinks") == []
    assert shop.walk("/trending", days=1, category="other") == []
    for wrong in ({"days": 0}, {"days": 91}, {"limit": 0}):
        shop.refused("/trending", 400, **wrong)
