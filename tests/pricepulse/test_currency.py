"""`currency=` over HTTP: hand-made rows with exact answers, and whole markets by the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from litestar.testing import TestClient

from pricepulse.app import create_app
from pricepulse.settings import Settings
from tests import oracle
from tests.oracle_rates import (
    Table,
    converted,
    converted_periods,
    converted_spells,
    days_converted,
    ecb,
    rates_on,
    working_days,
)
from tests.pipeline import Pipeline
from tests.pricepulse.test_prices import columns_of_periods, columns_of_spells
from tests.served import RATES, Row, Served, T, exact, problem

VOUCH = oracle.VOUCH
FRIDAY = date(2026, 11, 20)
SOURCE = "ECB euro reference rates"
Client = TestClient[Any]
Open = Callable[[list[Row], Table], Client]


def seen(sku: str, ago: float, price: str, currency: str, **about: Any) -> Row:
    """`ago`: days before T, which is 22 November 2026, 17:00, a Sunday."""
    time = T - timedelta(seconds=round(ago * 86400))
    row = {"retailer": "shop", "sku": sku, "observed_at": time, "price": Decimal(price)}
    return row | {"currency": currency, "product_key": "ONE"} | about


@contextmanager
def opened(pipeline: Pipeline, rows: list[Row], table: Table) -> Iterator[Client]:
    pipeline.put(rows)
    if table:
        pipeline.put_rates(ecb(table))
    pipeline.build()
    with TestClient(create_app(Settings.from_env({}, data=pipeline.folder))) as client:
        yield client


def address(client: Client, key: str = "ONE") -> str:
    found = client.get("/api/v1/products/lookup", params={"product_key": key})
    return f"/api/v1/products/{found.json()['product_id']}"


def ask(client: Client, below: str = "", key: str = "ONE", **query: str) -> Any:
    answer = client.get(address(client, key) + below, params=query)
    assert answer.status_code == 200, answer.text
    return exact(answer)


# The page of a product


HAND: Table = {
    FRIDAY: {"USD": Decimal("1.25"), "JPY": Decimal("178.05"), "IDR": Decimal(18000)},
    FRIDAY - timedelta(days=1): {"USD": Decimal("1.3"), "GBP": Decimal("0.8")},
    # Sunday's own, were there any, and one of the week before.
    FRIDAY - timedelta(days=4): {"USD": Decimal(1), "SEK": Decimal(11)},
    FRIDAY - timedelta(days=6): {"USD": Decimal(1), "PLN": Decimal(4)},
}
SHELF = [
    seen("eur", 0, "10", "EUR", list_price="12.5", shipping="4.95", unit_quantity="250", unit="g"),
    seen("usd", 0, "12", "USD"),
    seen("jpy", 0, "1600", "JPY", availability="OutOfStock"),
    seen("gbp", 0, "7", "GBP", condition="used"),
    seen("sek", 0, "1", "SEK"),  # of Monday: 6 days before that Sunday
    seen("pln", 0, "1", "PLN"),  # 8 days before
    seen("chf", 0, "1", "CHF"),
    seen("old", 11, "0.01", "USD"),
    seen("big", 0, "999999999999.9999", "EUR", availability="OutOfStock"),
]


def test_the_score_is_of_the_best_offer_shown(pipeline: Pipeline) -> None:
    """20 until a week ago and 15 since, in euro; 16 dollars elsewhere."""
    reduced = [seen("eur", ago, "15" if ago < 7 else "20", "EUR") for ago in range(60, -1, -1)]
    shelf = [*reduced, seen("dear", 0, "30", "EUR"), seen("usd", 0, "16", "USD")]
    with opened(pipeline, shelf, HAND) as client:
        plain, dollars = ask(client), ask(client, currency="USD")
    assert (plain["best"]["sku"], dollars["best"]["sku"]) == ("eur", "usd")
    assert plain["score"] > 0
    assert dollars["score"] is None  # the cheapest is another offer now, and no deal


def test_a_page_in_dollars(pipeline: Pipeline) -> None:
    with opened(pipeline, SHELF, HAND) as client:
        plain = ask(client)
        page = ask(client, currency="usd")
        rupiah = ask(client, currency="IDR")
    assert plain["conversion"] is None
    assert not any("original_price" in offer for offer in plain["offers"])
    assert page["currency"] == "USD"
    # Pounds have no rate on Friday, so both are of Thursday; crowns and dollars of Monday.
    assert page["conversion"] == {
        "currency": "USD",
        "rates_of": "2026-11-16",
        "source": SOURCE,
        "left_out": 2,
    }
    offers = {offer["sku"]: offer for offer in page["offers"]}
    told = {
        sku: (o["price"], o["currency"], o["original_price"], o["original_currency"])
        for sku, o in offers.items()
    }
    assert told == {
        "eur": (Decimal("12.5"), "USD", 10, "EUR"),
        "usd": (12, "USD", 12, "USD"),
        "jpy": (Decimal("11.2328"), "USD", 1600, "JPY"),  # 1600 × 1.25 / 178.05 = 11.23280…
        "gbp": (Decimal("11.375"), "USD", 7, "GBP"),
        "sek": (Decimal("0.0909"), "USD", 1, "SEK"),
        "old": (Decimal("0.01"), "USD", Decimal("0.01"), "USD"),
        "big": (Decimal("1249999999999.9999"), "USD", Decimal("999999999999.9999"), "EUR"),
    }
    in_euro = offers["eur"]
    assert in_euro["list_price"] == Decimal("15.625")
    assert in_euro["shipping"] == Decimal("6.1875")
    assert (in_euro["unit_price"], in_euro["unit_price_unit"]) == (50, "kg")
    assert page["best"] == offers["sek"]
    same = ("offer_id", "retailer", "sku", "observed_at", "fresh", "availability", "price_since")
    for before in plain["offers"]:
        if before["sku"] in offers:
            assert {n: before[n] for n in same} == {n: offers[before["sku"]][n] for n in same}
    # 1.8 × 10^16 rupiah would be no price any more; pounds, crowns and złoty lack a common day.
    assert {offer["sku"] for offer in rupiah["offers"]} == {"eur", "usd", "jpy", "old"}
    assert rupiah["conversion"]["left_out"] == 5
    assert rupiah["conversion"]["rates_of"] == "2026-11-20"


def test_what_needs_no_rate_has_none(pipeline: Pipeline) -> None:
    old = {day - timedelta(days=30): rates for day, rates in HAND.items()}
    rows = [seen("a", 0, "0.0001", "EUR"), seen("b", 0, "1", "USD")]
    with opened(pipeline, rows, old) as client:
        page = ask(client, currency="EUR")
        history = ask(client, "/history", currency="EUR")
    assert [offer["sku"] for offer in page["offers"]] == ["a"]
    assert page["best"]["price"] == Decimal("0.0001")
    told = {"currency": "EUR", "rates_of": None, "source": SOURCE, "left_out": 1}
    assert page["conversion"] == told
    assert history["conversion"] == told | {"incomplete": 0}
    assert [one["price"] for one in history["series"]] == [[Decimal("0.0001")]]


def test_all_left_out(pipeline: Pipeline) -> None:
    with opened(pipeline, [seen("a", 0, "3", "CHF")], HAND) as client:
        page = ask(client, currency="USD")
        history = ask(client, "/history", currency="USD", resolution="day")
        nothing = ask(client, "/history", currency="USD", to="2020-01-01")
    assert (page["offers"], page["best"], page["currency"]) == ([], None, "USD")
    assert page["conversion"]["left_out"] == 1
    assert (history["series"], history["conversion"]["left_out"]) == ([], 1)
    assert (nothing["series"], nothing["conversion"]["left_out"]) == ([], 0)


def test_currencies_that_are_none(pipeline: Pipeline) -> None:
    with opened(pipeline, SHELF, HAND) as client:
        for below in ("", "/history", "/history?resolution=week"):
            there = address(client) + below
            mark = "&" if "?" in there else "?"
            told = problem(client.get(f"{there}{mark}currency=chf"), 400)
            (error,) = told["errors"]
            assert error["pointer"] == "/query/currency"
            assert error["detail"].endswith("there are EUR, GBP, IDR, JPY, PLN, SEK, USD")
            for wrong in ("", "US", "USDX", "U1D", "null", "ÜSD", "USD%0A"):
                answer = client.get(f"{there}{mark}currency={wrong}")
                assert [each["pointer"] for each in problem(answer, 400)["errors"]] == [
                    "/query/currency"
                ]
        assert problem(client.get("/api/v1/products/1?currency=USD"), 404)


def test_without_rates_it_says_where_they_come_from(pipeline: Pipeline) -> None:
    with opened(pipeline, SHELF, {}) as client:
        for below in ("", "/history"):
            told = problem(client.get(address(client) + below, params={"currency": "GBP"}), 400)
            assert "`pricepulse rates FILE`" in told["errors"][0]["detail"]
        assert ask(client)["conversion"] is None


def test_a_product_in_its_own_currency_needs_no_rates(pipeline: Pipeline) -> None:
    with opened(pipeline, SHELF, {}) as client:
        plain = ask(client)
        page = ask(client, currency="eur")
        for resolution in ("spells", "month"):
            history = ask(client, "/history", resolution=resolution, currency="EUR")
            assert {each["sku"] for each in history["series"]} == {"eur", "big"}
            assert history["conversion"]["left_out"] == 7
    assert plain["currency"] == page["currency"] == "EUR"
    assert (page["best"]["sku"], page["best"]["price"]) == ("eur", 10)
    assert {each["sku"] for each in page["offers"]} == {"eur", "big"}
    assert page["conversion"] == {
        "currency": "EUR", "rates_of": None, "source": SOURCE, "left_out": 7
    }  # fmt: skip


def test_lookup_converts_as_the_page_does(pipeline: Pipeline) -> None:
    with opened(pipeline, SHELF, HAND) as client:
        query = {"retailer": "shop", "sku": "jpy", "currency": "usd"}
        found = client.get("/api/v1/products/lookup", params=query)
        assert exact(found) == ask(client, currency="USD")


# Histories


def test_a_history_in_dollars(pipeline: Pipeline) -> None:
    """From Thursday's rate to Friday's, and from euros to dollars on one day."""
    rows = [
        seen("a", 8.5, "9", "EUR"),  # Saturday the 14th, 05:00; 1 dollar, also of that day
        seen("a", 3, "10", "EUR", list_price="20"),  # Thursday, 17:00
        seen("a", 1.5, "10", "EUR", list_price="20"),
        seen("a", 1, "15", "USD"),  # Saturday, 17:00
        seen("a", 0, "15", "USD"),
    ]
    with opened(pipeline, rows, HAND) as client:
        spells = ask(client, "/history", currency="USD")
        days = ask(client, "/history", currency="USD", resolution="day", **{"from": "2026-11-18"})
        weeks = ask(client, "/history", currency="USD", resolution="week")
    (one,) = spells["series"]
    assert one["currency"] == "USD"
    assert one["price"] == [9, 13, 15]
    assert one["list_price"] == [None, 26, None]
    assert one["observations"] == [1, 2, 2]
    assert spells["conversion"] == {
        "currency": "USD",
        "rates_of": "2026-11-19",
        "source": SOURCE,
        "left_out": 0,
        "incomplete": 0,
    }
    (one,) = days["series"]
    # Wednesday still has Monday's rate; Saturday and Sunday Friday's.
    assert one["open"] == [9, Decimal("11.7"), Decimal("12.5"), Decimal("12.5"), 15]
    assert one["close"] == [9, 13, Decimal("12.5"), 15, 15]
    # Thursday 17 hours at 9 euros, 7 at 10; Saturday likewise at 12.50 and 15 dollars.
    assert one["mean"] == [
        9, Decimal("12.0792"), Decimal("12.5"), Decimal("13.2292"), 15,
    ]  # fmt: skip
    assert days["conversion"]["rates_of"] == "2026-11-20"
    (one,) = weeks["series"]
    assert one["open"] == [9, 9]
    assert one["close"] == [9, 15]
    assert (one["min"][1], one["max"][1]) == (9, 15)
    # From Monday in hours: 72 and 0 at 9, 17 at 11.70, 7 at 13, 24 + 17 at 12.50, 7 + 17 at 15.
    assert one["mean"][1] == (
        (72 * 9 + 17 * Decimal("11.7") + 7 * 13 + 41 * Decimal("12.5") + 24 * 15) / 161
    ).quantize(Decimal("0.0001"))


def test_stretches_without_a_rate_are_absent_and_counted(pipeline: Pipeline) -> None:
    rows = [
        seen("a", 30, "1", "EUR"),
        seen("a", 0, "2", "EUR"),
        seen("b", 30, "1", "EUR"),
        seen("c", 0, "4", "USD", list_price="5"),
        # The list price is what is too large: then neither is told.
        seen("d", 0, "1", "EUR", list_price="999999999999.9999", retailer="other"),
    ]
    with opened(pipeline, rows, HAND) as client:
        spells = ask(client, "/history", currency="USD")
        days = ask(client, "/history", currency="USD", resolution="day", retailer="shop")
        early = ask(client, "/history", currency="USD", to="2026-11-01")
        rupiah = ask(client, "/history", currency="IDR", retailer="other")
    assert {one["sku"]: one["price"] for one in spells["series"]} == {
        "a": [Decimal("2.5")],
        "c": [4],
        "d": [Decimal("1.25")],
    }
    counted = ("left_out", "incomplete")
    assert [spells["conversion"][name] for name in counted] == [1, 1]
    assert {one["sku"]: one["mean"] for one in days["series"]} == {"a": [Decimal("2.5")], "c": [4]}
    assert [days["conversion"][name] for name in counted] == [1, 1]
    assert early["series"] == []
    assert [early["conversion"][name] for name in counted] == [2, 0]
    assert rupiah["series"] == []
    assert [rupiah["conversion"][name] for name in counted] == [1, 0]


# By the oracle


def check_page(page: Any, offers: dict[oracle.Offer, oracle.History], table: Table) -> None:
    """A page that was asked for in `page["currency"]`."""
    assert page["conversion"]["currency"] == page["currency"]
    wanted, made, used = page["currency"], {}, set()
    for offer, mine in offers.items():
        last, shipping = mine.spells[-1], mine.attributes["shipping"]
        known = [last.price, last.list_price, Decimal(shipping) if shipping is not None else None]
        money = [each and converted(table, each, last.currency, wanted, T.date()) for each in known]
        if money.count(None) == known.count(None):
            made[offer] = money
            rate = rates_on(table, last.currency, wanted, T.date())
            if last.currency != wanted and rate is not None:
                used.add(rate[0])
    found = {(o["retailer"], o["sku"]): o for o in page["offers"]}
    assert found.keys() == made.keys()
    for offer, told in found.items():
        last = offers[offer].spells[-1]
        assert [told["price"], told["list_price"], told["shipping"]] == made[offer]
        assert told["currency"] == wanted
        assert (told["original_price"], told["original_currency"]) == (last.price, last.currency)
    assert page["conversion"]["left_out"] == len(offers) - len(made)
    assert page["conversion"]["rates_of"] == (str(min(used)) if used else None)
    fit = [
        told
        for offer, told in found.items()
        if offers[offer].spells[-1].last >= T - VOUCH
        and offers[offer].attributes["condition"] == "new"
        and told["availability"] in oracle.CAN_BE_BOUGHT
    ]
    expected = min(fit, key=lambda o: (o["price"], int(o["offer_id"])), default=None)
    assert page["best"] == expected


def check_history(
    found: Any, offers: dict[oracle.Offer, oracle.History], table: Table, as_of: datetime
) -> None:
    told, resolution = found["conversion"], found["resolution"]
    wanted, left_out, incomplete = told["currency"], 0, 0
    used: set[date] = set()
    series = {(one["retailer"], one["sku"]): one for one in found["series"]}
    assert len(series) == len(found["series"])
    for offer, mine in offers.items():
        if resolution == "spells":
            pieces = converted_spells(table, mine.spells, wanted)
            expected = columns_of_spells(pieces.found)
        else:
            pieces = days_converted(table, mine.spells, wanted, VOUCH, as_of)
            expected = columns_of_periods(converted_periods(pieces.found, resolution))
        left_out += bool(pieces.lost and not pieces.found)
        incomplete += bool(pieces.lost and pieces.found)
        used |= pieces.used
        if not pieces.found:
            assert offer not in series
            continue
        one = series.pop(offer)
        assert one.pop("currency") == wanted
        assert {name: one[name] for name in expected} == expected, offer
    assert series == {}
    assert (told["left_out"], told["incomplete"]) == (left_out, incomplete)
    assert told["rates_of"] == (str(max(used)) if used else None)


@pytest.mark.parametrize("wanted", ["USD", "EUR", "KRW"])
def test_every_page_and_history_of_the_market(served: Served, wanted: str) -> None:
    resolutions = {"USD": ("spells", "day", "week"), "KRW": ("spells", "month"), "EUR": ("day",)}
    compared = 0
    for product in served.walk("/products", limit=200):
        there = f"/products/{product['product_id']}"
        mine = {
            (offer["retailer"], offer["sku"]): served.market.offers[offer["retailer"], offer["sku"]]
            for offer in served.get(there)["offers"]
        }
        compared += len(mine)
        check_page(served.get(there, currency=wanted), mine, RATES)
        for resolution in resolutions[wanted]:
            query = {"currency": wanted, "resolution": resolution}
            check_history(served.get(f"{there}/history", **query), mine, RATES, T)
    assert compared == len(served.market.offers)


def mixed_market(seed: int) -> list[Row]:
    """Offers of a few products, whose prices and currencies change at any second."""
    chance = random.Random(seed)
    rows = [seen("end", 0, "1", "EUR", product_key="END")]
    for number in range(24):
        currencies = chance.sample(["EUR", "USD", "GBP", "JPY", "KRW", "IDR", "CHF"], 3)
        ago, price = chance.uniform(20, 70), Decimal(chance.randrange(10**5, 10**7)).scaleb(-4)
        while ago > 0:
            if chance.random() < 0.4:
                price += Decimal(chance.randrange(1, 10**5)).scaleb(-4)
            more: Row = {}
            if chance.random() < 0.3:
                more["list_price"] = price + 1
            if chance.random() < 0.2:
                more["availability"] = "OutOfStock"
            currency = currencies[int(chance.random() ** 3 * 3)]
            key = f"P{number % 4}"
            rows.append(seen(str(number), ago, str(price), currency, product_key=key, **more))
            ago -= chance.choice([0.01, 0.5, 1, 3, 12]) * chance.random()
    return rows


@pytest.mark.parametrize("seed", [1, 2])
def test_offers_that_change_their_currency(pipeline: Pipeline, seed: int) -> None:
    rows, table = mixed_market(seed), working_days(FRIDAY, 75)
    for back in range(33, 48):
        table.pop(FRIDAY - timedelta(days=back), None)
    market = oracle.Market(rows)
    with opened(pipeline, rows, table) as client:
        for key in ("P0", "P1", "P2", "P3"):
            mine = {
                ("shop", str(n)): market.offers["shop", str(n)] for n in range(int(key[1]), 24, 4)
            }
            for wanted in ("USD", "EUR", "JPY", "KRW", "IDR"):
                check_page(ask(client, key=key, currency=wanted), mine, table)
                for resolution in ("spells", "day", "week", "month"):
                    query = {"currency": wanted, "resolution": resolution}
                    check_history(ask(client, "/history", key, **query), mine, table, T)


def test_bounds_of_a_converted_history(pipeline: Pipeline) -> None:
    """As without conversion: the same places of the same spells, and days cut at `from` and `to`."""
    rows = [seen("a", n / 2, str(n + 1), "USD") for n in range(30)]
    with opened(pipeline, rows, working_days(FRIDAY, 60)) as client:
        for bounds in (
            {"from": "2026-11-15"},
            {"to": "2026-11-15T05:00:00Z"},
            {"from": "2026-11-15T05:00:00Z", "to": "2026-11-17T17:00:01Z"},
        ):
            for resolution in ("spells", "day", "week"):
                plain, in_euro, own = (
                    ask(client, "/history", resolution=resolution, **bounds, **more)["series"]
                    for more in ({}, {"currency": "EUR"}, {"currency": "USD"})
                )
                assert own == plain
                assert [one["t"] for one in in_euro] == [one["t"] for one in plain]
