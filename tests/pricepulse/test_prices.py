"""Price histories over HTTP: hand-made rows with exact answers, and the whole market by the oracle."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from litestar.testing import TestClient

from pricepulse.app import create_app
from pricepulse.settings import Settings
from tests.oracle import Offer, Period, Spell
from tests.pipeline import Pipeline
from tests.served import Row, Served, exact, problem

SHOWN = {"currency": "EUR", "product_key": "HAND"}


def at(text: str) -> int:
    """`03-02 12:00` (UTC, of the year 2026) as Unix seconds."""
    return int(datetime.strptime(f"2026-{text}+0000", "%Y-%m-%d %H:%M%z").timestamp())


def seen(sku: str, when: str, price: str, **about: Any) -> Row:
    time = datetime.fromtimestamp(at(when), UTC).replace(tzinfo=None)
    row = {"retailer": "india", "sku": sku, "observed_at": time, "price": price}
    return row | SHOWN | about


CLAIMED = {"list_price": "25"}
OUT = {"list_price": "25", "availability": "OutOfStock"}
# 2 March 2026 is a Monday; `as_of` is 21 March, 00:00.
HAND: list[Row] = [
    seen("H", "03-02 00:00", "10"),
    seen("H", "03-02 12:00", "20", **CLAIMED),
    seen("H", "03-03 00:00", "20.00", **CLAIMED),
    seen("H", "03-03 18:00", "20", **OUT),
    # Nobody looks for more than ten days: known until 13 March, 18:00, and unknown until the 20th.
    seen("H", "03-20 06:00", "20", **OUT),
    seen("J", "03-21 00:00", "5", retailer="juliet"),
]
MIXED: list[Row] = [
    seen("M", "03-02 00:00", "10", product_key="MIXED"),
    seen("M", "03-04 00:00", "12", product_key="MIXED", currency="USD"),
    seen("M", "03-06 00:00", "11", product_key="MIXED"),
]
EXTREMES: list[Row] = [
    seen("X", "03-20 00:00", "999999999999.9998", product_key="X", list_price="999999999999.9999"),
    seen("X", "03-20 12:00", "999999999999.9999", product_key="X"),
    seen("Y", "03-20 00:00", "0.0001", product_key="Y", list_price="0.0002"),
    seen("Y", "03-20 12:00", "0.0002", product_key="Y"),
    seen("Z", "03-20 00:00", "123456789.1235", product_key="Z"),
    seen("Z2", "03-20 00:00", "19.9900", product_key="Z2"),
]

Ask = Callable[..., Any]


@pytest.fixture
def client(pipeline: Pipeline) -> Iterator[TestClient[Any]]:
    pipeline.put([*HAND, *MIXED, *EXTREMES])
    pipeline.build()
    with TestClient(create_app(Settings.from_env({}, data=pipeline.folder))) as client:
        yield client


def history_of(client: TestClient[Any], key: str) -> str:
    found = client.get("/api/v1/products/lookup", params={"product_key": key})
    return f"/api/v1/products/{found.json()['product_id']}/history"


@pytest.fixture
def ask(client: TestClient[Any]) -> Ask:
    """Series of the product HAND, or of another `key`, without their offer_id; `raw` is the query."""

    def asked(raw: str = "", key: str = "HAND") -> Any:
        answer = client.get(f"{history_of(client, key)}?{raw}")
        assert answer.status_code == 200, answer.text
        found = exact(answer)
        assert found["as_of"] == "2026-03-21T00:00:00Z"
        for one in found["series"]:
            assert one.pop("offer_id").isdigit()
        return found["series"]

    return asked


H = {"retailer": "india", "sku": "H", "currency": "EUR"}
J = {
    "retailer": "juliet",
    "sku": "J",
    "currency": "EUR",
    "t": [at("03-21 00:00")],
    "until": [at("03-21 00:00")],
    "price": [5],
    "list_price": [None],
    "availability": ["InStock"],
    "observations": [1],
}
SPELLS: dict[str, list[Any]] = {
    "t": [at("03-02 00:00"), at("03-02 12:00"), at("03-03 18:00"), at("03-20 06:00")],
    "until": [at("03-02 00:00"), at("03-03 00:00"), at("03-03 18:00"), at("03-20 06:00")],
    "price": [10, 20, 20, 20],
    "list_price": [None, 25, 25, 25],
    "availability": ["InStock", "InStock", "OutOfStock", "OutOfStock"],
    "observations": [1, 2, 1, 1],
}


def some(*places: int) -> Any:
    return H | {name: [values[p] for p in places] for name, values in SPELLS.items()}


def test_spells(ask: Ask) -> None:
    assert ask() == [H | SPELLS, J]
    assert ask("resolution=spells") == [H | SPELLS, J]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("from=2026-03-02&to=2026-03-21", [0, 1, 2, 3]),
        ("from=2026-03-03&to=2026-03-21", [1, 2, 3]),  # still seen at its first second
        ("from=2026-03-03T00:00:01Z&to=2026-03-21", [2, 3]),
        ("from=2026-03-02T00:00:00Z&to=2026-03-02T00:00:01Z", [0]),
        ("to=2026-03-02T12:00:00Z", [0]),  # `to` is not included
        ("to=2026-03-02T12:00:01Z", [0, 1]),
        ("to=2026-03-02T13:00:01%2B01:00", [0, 1]),
        ("to=2026-03-02T13:00:01+01:00", [0, 1]),  # a bare + is a space in a query
        ("to=2026-03-02T07:00:00-05:00", [0]),
        ("to=2026-03-02t12:00:01z", [0, 1]),
        ("from=0001-01-01&to=2026-03-20", [0, 1, 2]),
        ("retailer=india&from=2026-03-04&to=9999-12-31", [3]),
        ("retailer=%20India%20", [0, 1, 2, 3]),
    ],
)
def test_a_stretch_of_the_spells(ask: Ask, query: str, places: list[int]) -> None:
    assert ask(query) == [some(*places)]


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-04&to=2026-03-20",
        "to=2026-03-02",
        "from=2026-03-22",
        "retailer=nowhere",
        "from=2026-03-14&to=2026-03-20&resolution=day",
        "to=2026-03-02&resolution=month",
        "retailer=nowhere&resolution=week",
    ],
)
def test_where_nothing_is_known_there_is_no_series(ask: Ask, query: str) -> None:
    assert ask(query) == []


def days(*numbers: int) -> list[int]:
    return [at(f"03-{number:02} 00:00") for number in numbers]


def flat(price: Any, t: list[int]) -> Any:
    return {"t": t} | {n: [price] * len(t) for n in ("open", "close", "min", "max", "mean")}


def test_days(ask: Ask) -> None:
    h, j = ask("resolution=day")
    assert h == H | {
        "t": days(*range(2, 14), 20),
        "open": [10, *[20] * 12],
        "close": [20] * 13,
        "min": [10, *[20] * 12],
        "max": [20] * 13,
        "mean": [15, *[20] * 12],
    }
    juliet = {"retailer": "juliet", "sku": "J", "currency": "EUR"}
    assert j == juliet | flat(5, days(21))


def test_weeks_begin_on_monday(ask: Ask) -> None:
    h, j = ask("resolution=week")
    assert h == H | {
        "t": days(2, 9, 16),
        "open": [10, 20, 20],
        "close": [20, 20, 20],
        "min": [10, 20, 20],
        "max": [20, 20, 20],
        # 12 hours at 10 and 156 at 20: 19.285714…
        "mean": [Decimal("19.2857"), 20, 20],
    }
    assert j["t"] == days(16)


def test_months(ask: Ask) -> None:
    h, j = ask("resolution=month")
    # 12 hours at 10; at 20 the 270 until 13 March, 18:00, and the 18 of the 20th.
    assert h == H | {
        "t": days(1),
        "open": [10],
        "close": [20],
        "min": [10],
        "max": [20],
        "mean": [Decimal("19.6")],
    }
    assert j["t"] == days(1)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("from=2026-03-02T18:00:00Z&to=2026-03-03", flat(20, days(2))),
        ("from=2026-03-02&to=2026-03-02T12:00:00Z", flat(10, days(2))),
        ("from=2026-03-13&to=2026-03-21", flat(20, days(13, 20))),
        ("from=2026-03-13T18:00:00Z&to=2026-03-21", flat(20, days(20))),
    ],
)
def test_a_stretch_of_the_days(ask: Ask, query: str, expected: Any) -> None:
    assert ask(f"resolution=day&{query}") == [H | expected]


def test_the_mean_counts_only_what_is_asked_for(ask: Ask) -> None:
    (h,) = ask("resolution=week&from=2026-03-02T06:00:00Z&to=2026-03-02T15:00:00Z")
    # 6 hours at 10, 3 at 20: 13.33…
    assert (h["t"], h["open"], h["close"], h["mean"]) == (days(2), [10], [20], [Decimal("13.3333")])


def test_an_offer_in_two_currencies_is_two_series(ask: Ask) -> None:
    eur, usd = ask(key="MIXED")
    assert (eur["currency"], eur["t"], eur["price"]) == ("EUR", days(2, 6), [10, 11])
    assert (usd["currency"], usd["t"], usd["price"]) == ("USD", days(4), [12])
    eur, usd = ask("resolution=day", key="MIXED")
    assert (eur["t"], eur["mean"]) == (days(2, 3, *range(6, 16)), [10, 10, *[11] * 10])
    assert usd == {"retailer": "india", "sku": "M", "currency": "USD"} | flat(12, days(4, 5))


def test_money_is_exact(client: TestClient[Any]) -> None:
    def raw(key: str, query: str = "") -> str:
        return client.get(history_of(client, key) + query).text

    assert '"price":[999999999999.9998,999999999999.9999],' in raw("X")
    assert '"list_price":[999999999999.9999,null],' in raw("X")
    assert '"price":[0.0001,0.0002],"list_price":[0.0002,null],' in raw("Y")
    assert '"price":[123456789.1235],' in raw("Z")
    assert '"price":[19.99],' in raw("Z2")
    # Half a day at …9998 and half a day at …9999; half a ten-thousandth is rounded up.
    assert '"mean":[999999999999.9999]' in raw("X", "?resolution=day&to=2026-03-21")
    assert '"mean":[0.0002]' in raw("Y", "?resolution=day&to=2026-03-21")


@pytest.mark.parametrize("name", ["from", "to"])
@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1", "1772409600", "2026", "2026-03", "02.03.2026", "2026-3-2", "20260302"),
        *("2026-02-30", "2026-13-01", "0000-01-01", "10000-01-01", "-2026-03-02", "2026-W10-1"),
        *("2026-03-02T00:00:00", "2026-03-02T25:00:00Z", "2026-03-02T00:00:00%2B99:00"),
        *("2026-03-02T00:00Z", "NaN", "٢٠٢٦-٠٣-٠٢", "2026-03-02T00:00:00Z%00", "9" * 41),
    ],
)
def test_times_that_are_none(served: Served, name: str, text: str) -> None:
    product = served.get("/products", limit=1)["items"][0]["product_id"]
    answer = served.client.get(f"/api/v1/products/{product}/history?{name}={text}")
    told = problem(answer, 400)
    assert [each["pointer"] for each in told["errors"]] == [f"/query/{name}"]


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-02&to=2026-03-02",
        "from=2026-03-02T12:00:00Z&to=2026-03-02T13:00:00%2B01:00",
        "from=2026-03-03&to=2026-03-02",
    ],
)
def test_from_must_be_before_to(client: TestClient[Any], query: str) -> None:
    told = problem(client.get(f"{history_of(client, 'HAND')}?{query}"), 400)
    assert told["errors"] == [{"pointer": "/query/from", "detail": "must be before to"}]


def test_wrong_parameters(client: TestClient[Any]) -> None:
    for query, pointer in (("resolution=hour", "resolution"), ("form=2026-03-02", "form")):
        told = problem(client.get(f"{history_of(client, 'HAND')}?{query}"), 400)
        assert [each["pointer"] for each in told["errors"]] == [f"/query/{pointer}"]


def seconds(time: datetime) -> int:
    return int((time - datetime(1970, 1, 1)) / timedelta(seconds=1))


def columns_of_spells(spells: list[Spell]) -> Any:
    return {
        "t": [seconds(s.first) for s in spells],
        "until": [seconds(s.last) for s in spells],
        "price": [s.price for s in spells],
        "list_price": [s.list_price for s in spells],
        "availability": [s.availability for s in spells],
        "observations": [s.observations for s in spells],
    }


def columns_of_periods(periods: list[Period]) -> Any:
    return {
        "t": [seconds(p.start) for p in periods],
        "open": [p.open for p in periods],
        "close": [p.close for p in periods],
        "min": [p.low for p in periods],
        "max": [p.high for p in periods],
        "mean": [p.mean for p in periods],
    }


@pytest.mark.parametrize("resolution", ["spells", "day", "week", "month"])
def test_every_history_of_the_market_is_the_oracles(served: Served, resolution: str) -> None:
    """All offers of the shared rows: 236 generated ones in EUR and the shelf's, each of one currency."""
    compared: set[Offer] = set()
    for product in served.walk("/products", limit=200):
        address = f"/products/{product['product_id']}/history"
        for one in served.get(address, resolution=resolution)["series"]:
            offer = (one.pop("retailer"), one.pop("sku"))
            assert one.pop("offer_id").isdigit()
            spells = served.market.offers[offer].spells
            assert one.pop("currency") == spells[-1].currency
            expected = (
                columns_of_spells(spells)
                if resolution == "spells"
                else columns_of_periods(
                    served.market.periods(offer, spells[-1].currency, resolution)
                )
            )
            assert one == expected, offer
            compared.add(offer)
    assert compared == set(served.market.offers)
