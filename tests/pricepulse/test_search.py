"""Search over HTTP: ranking, filters, facets, pages, completions, and text that means harm."""

import itertools
from collections import Counter
from typing import Any

import pytest

from tests.served import Known, Served, fits


def titles(found: Any) -> list[str]:
    return [item["title"] for item in found["items"]]


def test_search_finds_and_ranks(served: Served) -> None:
    found = served.get("/search", q="zebra")
    assert titles(found) == ["Zebra Kettle 1.7 l", "Zebra Teapot"]
    assert found["total"] == 2
    assert titles(served.get("/search", q="zebra teapot"))[0] == "Zebra Teapot"
    assert titles(served.get("/search", q="zebar tepot"))[0] == "Zebra Teapot"
    assert titles(served.get("/search", q="KOHLER sohne")) == titles(
        served.get("/search", q="Köhler & Söhne")
    )
    assert titles(served.get("/search", q="4006381333931")) == ["Zebra Kettle 1.7 l"]
    assert sorted(titles(served.get("/search", q="quagga"))) == ["Quagga Bulb", "Quagga Lamp"]
    item = found["items"][0]
    assert item == next(
        each for each in served.walk("/products") if each["product_id"] == item["product_id"]
    )


@pytest.mark.parametrize("q", ["tea", "organic", "zebra", "light", "500 g"])
def test_facets_are_what_their_filters_find(served: Served, known: Known, q: str) -> None:
    whole = served.get("/search", q=q, limit=200)
    ids = [item["product_id"] for item in whole["items"]]
    assert whole["total"] == len(ids) == len(set(ids)) > 0
    hits = [known[pid] for pid in ids]
    for name in ("category", "brand", "retailer"):
        assert whole["facets"][name], name
        for facet in whole["facets"][name]:
            query = {name: facet["value"]}
            found = served.get("/search", q=q, **query)
            assert found["total"] == facet["count"] == sum(fits(hit, query) for hit in hits)
    priced = Counter(hit["currency"] for hit in hits if hit["price"] is not None)
    for currency, ranges in itertools.groupby(whole["facets"]["price"], lambda r: r["currency"]):
        together = list(ranges)
        assert sum(each["count"] for each in together) == priced[currency]
        for each in together:
            inside = [h for h in hits if h["price"] is not None and h["currency"] == currency]
            inside = [h for h in inside if each["low"] <= h["price"] < each["high"]]
            assert len(inside) == each["count"]


@pytest.mark.parametrize(
    "query",
    [
        {"retailer": " HAYWAIN "},
        {"availability": "OutOfStock"},
        {"currency": "eur", "min_price": "3", "max_price": "12.5"},
        {"category": "groceries.drinks", "currency": "EUR", "max_price": "5"},
        {"currency": "CHF"},
    ],
    ids=str,
)
def test_search_takes_the_filters_of_products(
    served: Served, known: Known, query: dict[str, str]
) -> None:
    hits = [item["product_id"] for item in served.walk("/search", q="organic classic tea")]
    found = served.walk("/search", q="organic classic tea", limit=3, **query)
    assert [item["product_id"] for item in found] == [p for p in hits if fits(known[p], query)]


def test_search_by_deal_is_what_the_items_say(served: Served) -> None:
    whole = served.walk("/search", q="organic classic tea")
    for asked in ("true", "false"):
        mine = [each for each in whole if (each["score"] is not None) == (asked == "true")]
        assert mine
        assert served.walk("/search", q="organic classic tea", on_deal=asked, limit=7) == mine
        found = served.get("/search", q="organic classic tea", on_deal=asked)
        assert found["total"] == len(mine)
        counted = Counter(shop for each in mine for shop in each["retailers"])
        facets = {each["value"]: each["count"] for each in found["facets"]["retailer"]}
        assert facets == counted
    served.refused("/search", 400, q="tea", on_deal="1")


def test_search_pages_have_no_repeats_and_no_holes(served: Served) -> None:
    whole = served.get("/search", q="organic", limit=200)
    assert whole["total"] > 5
    for limit in (1, 3, whole["total"], whole["total"] - 1):
        assert served.walk("/search", q="organic", limit=limit) == whole["items"]
    first = served.get("/search", q="organic", limit=2)
    assert (first["total"], first["facets"]) == (whole["total"], whole["facets"])


HOSTILE = [
    *(
        '"',
        "'",
        "\\",
        "*",
        "?",
        "(",
        "title:*",
        "a AND",
        "NOT",
        "[1 TO 2]",
        "+-&&||!(){}^~:/",
        "%00",
    ),
    *(
        "\x00",
        "\x1f",
        "ｚｅｂｒａ",
        "🦓",
        "a" * 300,
        "zebra " * 50,
        "\u202e",
        "' OR 1=1 --",
        "💥" * 300,
    ),
]


@pytest.mark.parametrize("q", HOSTILE, ids=lambda q: ascii(q)[:30])
def test_no_search_text_breaks_anything(served: Served, q: str) -> None:
    found = served.get("/search", q=q)
    assert found["total"] == len(found["items"]) or found["total"] > 50
    suggested = served.get("/search/suggest", q=q[:100])
    assert len(suggested["items"]) <= 10


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("/search", {}),
        ("/search", {"q": ""}),
        ("/search", {"q": "x" * 301}),
        ("/search/suggest", {"q": ""}),
        ("/search/suggest", {"q": "x" * 101}),
        ("/search/suggest", {"q": "x", "limit": "51"}),
        ("/search", {"q": "x", "sort": "price"}),
    ],
    ids=str,
)
def test_wrong_searches(served: Served, address: str, query: dict[str, str]) -> None:
    assert served.refused(address, 400, **query)["errors"]


def test_suggestions_complete_products_brands_and_categories(served: Served, known: Known) -> None:
    found = served.get("/search/suggest", q="zebra te")["items"]
    teapot = served.get("/products/lookup", product_key="TEAPOT 1")["product_id"]
    assert {"kind": "product", "text": "Zebra Teapot", "id": teapot} in found
    brand = served.get("/search/suggest", q="köh")["items"]
    assert brand[0] == {"kind": "brand", "text": "Köhler & Söhne", "id": "kohler-sohne"}
    category = served.get("/search/suggest", q="kann")["items"]
    assert category[0]["kind"] == "category"
    assert category[0]["id"] == "kuche.wasser-tee.kannen"
    for item in served.get("/search/suggest", q="o", limit=50)["items"]:
        if item["kind"] == "product":
            assert known[item["id"]]["title"] == item["text"]
        else:
            assert served.get("/products", **{item["kind"]: item["id"]})["items"]
    assert len(served.get("/search/suggest", q="o", limit=1)["items"]) == 1
    assert served.get("/search/suggest", q="§§§")["items"] == []
