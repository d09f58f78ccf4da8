"""Categories, brands and retailers over HTTP, counted by hand from the oracle's products."""

from collections import Counter
from typing import Any

import pytest

from tests.oracle import Offer
from tests.served import Known, Served, problem, slug


def test_categories_are_a_tree_with_counts(served: Served, known: Known) -> None:
    counted: Counter[str] = Counter()
    paths: dict[str, str] = {}
    for product in known.values():
        levels = product["category"].split(" > ") if product["category"] else []
        for depth in range(1, len(levels) + 1):
            here = ".".join(product["category_slug"].split(".")[:depth])
            counted[here] += 1
            paths[here] = " > ".join(levels[:depth])
    found = served.walk("/categories", limit=10)
    assert [each["slug"] for each in found] == sorted(counted, key=paths.__getitem__)
    for each in found:
        above, _, _ = each["slug"].rpartition(".")
        assert each == {
            "slug": each["slug"],
            "parent_slug": above or None,
            "name": paths[each["slug"]].split(" > ")[-1],
            "path": paths[each["slug"]],
            "depth": each["slug"].count(".") + 1,
            "products": counted[each["slug"]],
        }
        one = served.get(f"/categories/{each['slug']}")
        assert {name: one[name] for name in each} == each
        assert [a["slug"] for a in one["ancestors"]] == [
            a["slug"] for a in found if each["slug"].startswith(a["slug"] + ".")
        ]
        assert one["children"] == [a for a in found if a["parent_slug"] == each["slug"]]
    assert counted["kuche"] == 2
    assert paths["kuche.wasser-tee.kannen"].count(">") == 2


@pytest.mark.parametrize(
    "slug_of", ["nowhere", "Groceries", "groceries.", "%25", "groceries'--", "%00"]
)
def test_unknown_categories(served: Served, slug_of: str) -> None:
    told = problem(served.client.get(f"/api/v1/categories/{slug_of}"), 404)
    assert told["detail"] == "there is no such category; /api/v1/categories lists all"


def test_brands_and_retailers(served: Served, known: Known) -> None:
    brands = Counter(product["brand"] for product in known.values() if product["brand"])
    assert served.walk("/brands") == [
        {"slug": slug(name), "name": name, "products": brands[name]} for name in sorted(brands)
    ]
    mine = {
        shop: [o for o in served.market.offers if o[0] == shop]
        for shop, _ in sorted(served.market.offers)
    }
    expected = [
        {
            "retailer": shop,
            "offers": len(offers),
            "products": sum(shop in product["retailers"] for product in known.values()),
            "first_observed_at": min(spells_of(served, o)[0].first for o in offers).isoformat()
            + "Z",
            "last_observed_at": max(spells_of(served, o)[-1].last for o in offers).isoformat()
            + "Z",
        }
        for shop, offers in mine.items()
    ]
    assert served.walk("/retailers", limit=4) == expected


def spells_of(served: Served, offer: Offer) -> Any:
    return served.market.offers[offer].spells
