"""Products over HTTP against the oracle: lists, pages, lookup, and tags that hold until a build."""

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from pricepulse.app import create_app
from pricepulse.settings import Settings
from tests.pipeline import Pipeline
from tests.served import DAY, HOUR, Known, Served, T, exact, fits, look, problem, serving

UNKNOWN_IDS = [
    *("99999999999999999999", "9223372036854775808", "1", "0", "-1", "1e3", "+1", "%201", "0x1f"),
    *("٣", "１２３", "%00", "9" * 5000, "None", "..%2f"),
]


def in_order(products: Known, sort: str) -> list[str]:
    """Ties, and what has no value (last), by id."""
    found = sorted(products, key=int)
    if sort == "newest":
        return sorted(found, key=lambda pid: products[pid]["first"], reverse=True)
    name = sort.removeprefix("-")
    valued = [pid for pid in found if products[pid][name] is not None]
    valued.sort(key=lambda pid: products[pid][name], reverse=sort.startswith("-"))
    return valued + [pid for pid in found if products[pid][name] is None]


FILTERS: list[dict[str, str]] = [
    {},
    {"category": "groceries"},
    {"category": "groceries.drinks"},
    {"category": "kuche.wasser-tee"},
    {"category": "groc"},  # the beginning of a slug is not one
    {"category": "groceries.%"},
    {"brand": "kohler-sohne"},
    {"brand": "Köhler & Söhne"},  # a name is no slug
    {"retailer": "haywain"},
    {"retailer": " HAYWAIN "},
    {"retailer": "nowhere"},
    {"availability": "OutOfStock"},
    {"availability": "LimitedAvailability", "retailer": "foxtrot"},
    {"currency": "usd"},
    {"currency": "CHF"},
    {"currency": "EUR", "min_price": "28", "max_price": "28"},
    {"currency": "EUR", "min_price": "28.0001"},
    {"currency": "EUR", "max_price": "0.0001"},
    {"currency": "EUR", "min_price": "999999999999.9999"},
    {"currency": "EUR", "min_price": "0"},
    {"currency": "USD", "max_price": "0.3333"},
    {"category": "groceries", "currency": "EUR", "max_price": "4.5", "retailer": "alder-market"},
    {"brand": "null"},  # a word like any other
]


@pytest.mark.parametrize("sort", ["title", "price", "-price", "newest"])
@pytest.mark.parametrize("query", FILTERS, ids=str)
def test_every_filter_and_sort(
    served: Served, known: Known, query: dict[str, str], sort: str
) -> None:
    if "price" in sort:
        query = {"currency": "EUR"} | query
    expected = in_order({pid: p for pid, p in known.items() if fits(p, query)}, sort)
    items = served.walk("/products", sort=sort, limit=17, **query)
    assert [item["product_id"] for item in items] == expected
    for item in items:
        told = known[item.pop("product_id")]
        # What moved and what is on sale: test_deals.py.
        best, _, _ = (item.pop(name) for name in ("best", "score", "change_30d_ratio"))
        assert (best and best["price"]) == told["price"]
        assert item == {name: told[name] for name in item}


def test_the_filters_of_the_test_above_find_something(known: Known) -> None:
    found = [sum(fits(product, query) for product in known.values()) for query in FILTERS]
    none = [query for query, count in zip(FILTERS, found, strict=True) if not count]
    assert none == [FILTERS[i] for i in (4, 5, 7, 10, 14, 22)]


@pytest.mark.parametrize("limit", [1, 2, 50, 200])
@pytest.mark.parametrize("address", ["/products", "/categories", "/brands", "/retailers"])
def test_pages_have_no_repeats_and_no_holes(served: Served, address: str, limit: int) -> None:
    whole = served.get(address, limit=200)
    assert whole["next_cursor"] is None
    assert len(whole["items"]) > 2
    assert served.walk(address, limit=limit) == whole["items"]


def test_pages_may_change_their_size_on_the_way(served: Served) -> None:
    whole = served.get("/products", limit=200)["items"]
    first = served.get("/products", limit=3)
    second = served.get("/products", limit=200, cursor=first["next_cursor"])
    assert first["items"] + second["items"] == whole


def test_cursors_of_other_lists_are_refused(served: Served) -> None:
    cursor = served.get("/products", limit=1)["next_cursor"]
    others: list[tuple[str, dict[str, str]]] = [
        ("/brands", {}),
        ("/products", {"sort": "newest"}),
        ("/products", {"brand": "kohler-sohne"}),
        ("/search", {"q": "tea"}),
    ]
    for address, query in others:
        told = served.refused(address, 400, **query, cursor=cursor)
        assert [each["pointer"] for each in told["errors"]] == ["/query/cursor"]
    for bad in ("", "x", "é", "====", cursor[:-2], cursor + "A", "WzAsMV0", "AAAA" * 100, "null"):
        told = served.refused("/products", 400, cursor=bad)
        assert told["errors"][0]["pointer"] == "/query/cursor"


def test_prices_in_several_currencies_are_not_compared(served: Served) -> None:
    for query in ({"min_price": "1"}, {"max_price": "1"}, {"sort": "price"}, {"sort": "-price"}):
        told = served.refused("/products", 400, **query)
        assert told["errors"] == [
            {
                "pointer": "/query/currency",
                "detail": "is needed to compare prices; products here have EUR, USD",
            }
        ]
    assert served.refused("/search", 400, q="tea", min_price="1")["errors"]
    told = served.refused("/products", 400, currency="EUR", min_price="2", max_price="1.9999")
    assert told["errors"][0]["pointer"] == "/query/min_price"
    zero = served.refused("/products", 400, currency="EUR", min_price="1", max_price="0")
    assert zero["errors"][0]["pointer"] == "/query/min_price"


def test_one_currency_need_not_be_named(pipeline: Pipeline) -> None:
    rows = [look("a", sku, HOUR, price, title=sku) for sku, price in (("X", "2"), ("Y", "1"))]
    pipeline.put(rows)
    pipeline.build()
    app = create_app(Settings.from_env({}, data=pipeline.folder))
    with TestClient(app) as client:

        def titles(query: str) -> list[str]:
            return [p["title"] for p in client.get(f"/api/v1/products?{query}").json()["items"]]

        assert titles("sort=price") == ["Y", "X"]
        assert titles("sort=-price") == ["X", "Y"]
        assert titles("min_price=1.5") == ["X"]
        assert titles("max_price=1.5&sort=newest") == ["Y"]


@pytest.mark.parametrize(
    "query",
    [
        {"min_price": "-1"},
        {"min_price": "1e3"},
        {"min_price": "NaN"},
        {"min_price": "1.00001"},
        {"min_price": ""},
        {"min_price": "1234567890123"},
        {"currency": "EURO"},
        {"currency": "€€€"},
        {"availability": "instock"},
        {"availability": "null"},
        {"sort": "name"},
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "1.5"},
        {"limit": "x"},
        {"brand": "x" * 201},
        {"colour": "red"},
        {"min-price": "1"},
    ],
    ids=str,
)
def test_wrong_filters_are_refused_where_they_stand(served: Served, query: dict[str, str]) -> None:
    told = served.refused("/products", 400, **query)
    assert [each["pointer"] for each in told["errors"]] == [f"/query/{name}" for name in query]


def kettle(served: Served) -> Any:
    return served.get("/products/lookup", gtin="4006381333931")


def test_a_product_page_whole(served: Served) -> None:
    page = kettle(served)
    offers = {offer["sku"]: offer for offer in page.pop("offers")}
    best = page.pop("best")
    version = page.pop("version")
    assert isinstance(version, int)
    assert page.pop("product_id").isdigit()
    assert page == {
        "title": "Zebra Kettle 1.7 l",
        "brand": "Köhler & Söhne",
        "gtin": "04006381333931",
        "category": "Küche > Wasser & Tee",
        "category_slug": "kuche.wasser-tee",
        "category_path": ["Küche", "Wasser & Tee"],
        "image_url": "https://alpha.example/k.png",
        "attributes": {"unit_quantity": Decimal("0.5"), "unit": "kg", "mpn": "ZK-17"},
        "currency": "EUR",
        "conversion": None,
        "change_30d_ratio": None,
        "score": None,
        "first_observed_at": "2026-11-02T17:00:00Z",
        "last_observed_at": "2026-11-22T16:00:00Z",
        "as_of": "2026-11-22T17:00:00Z",
    }
    assert best == offers["K6"]
    assert best["offer_id"].isdigit()
    assert {name: value for name, value in best.items() if name != "offer_id"} == {
        "retailer": "foxtrot",
        "sku": "K6",
        "url": None,
        "condition": "new",
        "price": 28,
        "list_price": 35,
        "currency": "EUR",
        "shipping": Decimal("4.95"),
        "promotion": "2 for 50",
        "availability": "LimitedAvailability",
        "price_since": "2026-11-12T17:00:00Z",
        "observed_at": "2026-11-12T17:00:00Z",
        "fresh": True,
        "unit_price": 56,
        "unit_price_unit": "kg",
        "unit_price_inferred": False,
    }
    told = [
        (o["sku"], o["price"], o["currency"], o["condition"], o["availability"], o["fresh"])
        for o in offers.values()
    ]
    assert told == [
        ("K1", 30, "EUR", "new", "InStock", True),
        ("K2", 25, "EUR", "new", "OutOfStock", True),
        ("K3", 20, "EUR", "used", "InStock", True),
        ("K4", 10, "EUR", "new", "InStock", False),
        ("K5", 5, "USD", "new", "InStock", True),
        ("K6", 28, "EUR", "new", "LimitedAvailability", True),
    ]
    assert offers["K1"]["price_since"] == "2026-11-22T16:00:00Z"


def test_every_product_page_has_the_oracles_offers(served: Served, known: Known) -> None:
    for pid, told in known.items():
        page = served.get(f"/products/{pid}")
        assert (page["title"], page["offers"][0]["retailer"]) == (
            told["title"],
            told["retailers"][0],
        )
        assert (page["best"] and page["best"]["price"]) == told["price"]
        assert [(o["retailer"], o["sku"]) for o in page["offers"]] == sorted(
            (o["retailer"], o["sku"]) for o in page["offers"]
        )
        for offer in page["offers"]:
            mine = served.market.offers[offer["retailer"], offer["sku"]]
            last = mine.spells[-1]
            assert (offer["price"], offer["list_price"]) == (last.price, last.list_price)
            assert (offer["currency"], offer["availability"]) == (last.currency, last.availability)
            assert offer["price_since"] == last.first.isoformat() + "Z"
            assert offer["observed_at"] == last.last.isoformat() + "Z"
            assert offer["fresh"] == (last.last + 10 * DAY >= T)
            for name in ("condition", "promotion", "shipping", "url"):
                assert offer[name] == mine.attributes[name] or (
                    name == "shipping" and offer[name] == Decimal(mine.attributes[name])
                )


def test_prices_are_printed_exactly(served: Served) -> None:
    def raw(sku: str) -> str:
        address = "/api/v1/products/lookup"
        return served.client.get(address, params={"retailer": "golf", "sku": sku}).text

    assert raw("X1").count('"price":999999999999.9999,') == 2
    assert raw("X2").count('"price":0.0001,') == 2
    # 0.0001 for 0.0003 g is 333.3333 a kg.
    assert raw("X2").count('"unit_price":333.3333,"unit_price_unit":"kg"') == 2
    bulb = served.get("/products/lookup", gtin="036000291452")
    # 0.3333 for three pieces is 0.1111 a piece.
    assert (bulb["best"]["unit_price"], bulb["best"]["unit_price_unit"]) == (
        Decimal("0.1111"),
        "pcs",
    )
    assert "1E" not in raw("X1") + raw("X2")


def test_a_product_without_an_offer_in_stock(served: Served) -> None:
    page = served.get("/products/lookup", product_key="TEAPOT 1")
    assert page["best"] is None
    assert [o["price"] for o in page["offers"]] == [Decimal("12.5"), 11]
    assert [(o["unit_price"], o["unit_price_unit"]) for o in page["offers"]] == [
        (50, "l"),
        (44, "l"),  # what one shop says of the quantity holds for all
    ]


def test_unit_prices_by_a_quantity_in_the_title(pipeline: Pipeline) -> None:
    pipeline.put(
        [
            look("a", "1", HOUR, "6.60", title="Cola 6 x 330 ml"),
            look("a", "2", HOUR, "5", title="Lamp"),
            look("a", "3", HOUR, "5", title="Rice 2 kg", unit_quantity="2500", unit="g"),
        ]
    )
    pipeline.build()
    with TestClient(create_app(Settings.from_env({}, data=pipeline.folder))) as client:
        found = {}
        for sku in "123":
            answer = client.get(f"/api/v1/products/lookup?retailer=a&sku={sku}").json()
            names = ("unit_price", "unit_price_unit", "unit_price_inferred")
            found[sku] = [answer["offers"][0][name] for name in names]
    assert found == {"1": [3.3333, "l", True], "2": [None, None, False], "3": [2, "kg", False]}


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ({"gtin": "4006381333931"}, "Zebra Kettle 1.7 l"),
        ({"gtin": "04006381333931"}, "Zebra Kettle 1.7 l"),
        ({"gtin": " 400-6381 333931 "}, "Zebra Kettle 1.7 l"),
        ({"gtin": "96385074"}, "Quagga Lamp"),
        ({"gtin": "000096385074"}, "Quagga Lamp"),
        ({"gtin": "036000291452"}, "Quagga Bulb"),
        ({"gtin": "0036000291452"}, "Quagga Bulb"),
        ({"retailer": "alpha", "sku": "K1"}, "Zebra Kettle 1.7 l"),
        ({"retailer": " ALPHA ", "sku": "K1"}, "Zebra Kettle 1.7 l"),
        ({"retailer": "delta", "sku": "N/1 ä+b&c=%"}, None),
        ({"product_key": "TEAPOT 1"}, "Zebra Teapot"),
        ({"url": "https://www.hotel.example/p/kettle?id=7&utm_source=feed#top"}, "Seven"),
        ({"url": "http://HOTEL.example/p/kettle?id=7"}, "Seven"),
        ({"url": "hotel.example/p/kettle?id=7"}, "Seven"),
        (
            {"url": "HTTPS://WWW.HOTEL.EXAMPLE/p/kettle?gclid=1&id=7&utm_campaign=a&fbclid=b"},
            "Seven",
        ),
        ({"url": "https://hotel.example/p/kettle/?utm_medium=x&id=7"}, "Seven"),
        ({"url": "https://hotel.example/p/kettle?id=8"}, "Eight"),
        ({"url": "https://hotel.example/P/Kettle"}, "Nine"),
        ({"url": "https://hotel.example/P/Kettle/?utm_source=x"}, "Nine"),
        ({"url": "https://hotel.example/P/Kettle/?gclid=x#a"}, "Nine"),
    ],
    ids=str,
)
def test_lookup(served: Served, query: dict[str, str], title: str | None) -> None:
    found = served.get("/products/lookup", **query)
    assert found["title"] == title
    assert served.get(f"/products/{found['product_id']}") == found


@pytest.mark.parametrize(
    "query",
    [
        {"gtin": "4006381333948"},
        {"retailer": "alpha", "sku": "k1"},  # skus are told apart by case
        {"retailer": "bravo", "sku": "K1"},
        {"product_key": "teapot 1"},
        {"product_key": ""},
        {"url": "https://hotel.example/p/kettle"},
        {"url": "https://hotel.example/p/KETTLE?id=7"},
        {"url": "https://other.example/p/kettle?id=7"},
        {"url": "https://hotel.example/p/kettle?id=7&colour=red"},
        {"url": ""},
        {"url": "'; DROP TABLE offer; --"},
    ],
    ids=str,
)
def test_lookup_of_what_is_not_there(served: Served, query: dict[str, str]) -> None:
    assert "no offer here has that" in served.refused("/products/lookup", 404, **query)["detail"]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"retailer": "alpha"},
        {"sku": "K1"},
        {"gtin": "4006381333931", "sku": "K1"},
        {"gtin": "4006381333931", "product_key": "TEAPOT 1"},
        {"retailer": "alpha", "sku": "K1", "url": "https://hotel.example/P/Kettle/"},
    ],
    ids=str,
)
def test_lookup_takes_one_way_at_a_time(served: Served, query: dict[str, str]) -> None:
    told = served.refused("/products/lookup", 400, **query)
    assert told["detail"] == "give one of: gtin; retailer and sku; url; product_key"


@pytest.mark.parametrize(
    "gtin", ["4006381333932", "", "x", "123", "0" * 13, "٤٠٠٦٣٨١٣٣٣٩٣١", "1e7"]
)
def test_lookup_refuses_what_is_no_gtin(served: Served, gtin: str) -> None:
    told = served.refused("/products/lookup", 400, gtin=gtin)
    assert told["errors"] == [
        {
            "pointer": "/query/gtin",
            "detail": "must have 8, 12, 13 or 14 digits and a right check digit",
        }
    ]


@pytest.mark.parametrize("pid", UNKNOWN_IDS, ids=lambda pid: pid[:24])
@pytest.mark.parametrize("tail", ["", "/history"])
def test_unknown_products(served: Served, pid: str, tail: str) -> None:
    told = problem(served.client.get(f"/api/v1/products/{pid}{tail}"), 404)
    assert told["type"] == "/problems/not-found"


ADDRESSES = [
    *("/products", "/products?sort=newest&limit=3", "/products/lookup?gtin=4006381333931"),
    *("/search?q=zebra", "/search/suggest?q=ze", "/categories", "/categories/kuche", "/brands"),
    "/retailers",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_head_is_get_without_its_body(served: Served, address: str) -> None:
    whole = served.client.get("/api/v1" + address)
    head = served.client.head("/api/v1" + address)
    assert (head.status_code, head.content) == (200, b"")
    changing = {"x-request-id", "date"}
    assert {n: v for n, v in head.headers.items() if n not in changing} == {
        n: v for n, v in whole.headers.items() if n not in changing
    }
    assert exact(whole)["as_of"] == "2026-11-22T17:00:00Z"


def test_tags_hold_until_the_next_build(pipeline: Pipeline) -> None:
    pipeline.put([look("a", "X", 2 * HOUR, "2", title="Lamp")])
    pipeline.build()
    with serving(pipeline.folder) as client:
        pid = client.get("/api/v1/products").json()["items"][0]["product_id"]
        addresses = [
            f"/api/v1{each}" for each in (f"/products/{pid}", *ADDRESSES[:2], "/search?q=lamp")
        ]
        tags = {each: client.get(each).headers["etag"] for each in addresses}
        assert len(set(tags.values())) == len(tags)

        def answers() -> list[int]:
            sent = (client.get(a, headers={"if-none-match": tag}) for a, tag in tags.items())
            return [answer.status_code for answer in sent]

        assert answers() == [304] * len(tags)
        pipeline.put([look("a", "X", HOUR, "3"), look("b", "Y", HOUR, "4", title="Lamp two")])
        assert answers() == [304] * len(tags), "a batch alone changes nothing"
        built = pipeline.build()
        moved = poll_version(client, built.version)
        assert moved["items"][0]["price"] == 3
        assert answers() == [200] * len(tags)
        page = client.get(f"/api/v1/products/{pid}").json()
        assert (page["best"]["price"], page["version"]) == (3, built.version)
        assert client.get("/api/v1/search?q=lamp").json()["total"] == 2


def poll_version(client: httpx.Client, version: int) -> Any:
    """The first page of products, once the server shows this build (promised within a second)."""
    deadline = time.monotonic() + 10
    while (page := client.get("/api/v1/products").json())["version"] != version:
        assert time.monotonic() < deadline, f"the server still shows {page['version']}"
    return page


def test_an_empty_build_answers_with_empty_lists(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.build()
    with TestClient(create_app(Settings.from_env({}, data=pipeline.folder))) as client:
        for address in (
            "/products",
            "/products?sort=price",
            "/categories",
            "/brands",
            "/retailers",
        ):
            page = client.get("/api/v1" + address).json()
            assert (page["items"], page["next_cursor"], page["as_of"]) == ([], None, None)
        found = client.get("/api/v1/search?q=x&min_price=1").json()
        assert (found["items"], found["total"]) == ([], 0)
        assert client.get("/api/v1/search/suggest?q=x").json()["items"] == []
        assert client.get("/api/v1/products/1").status_code == 404
