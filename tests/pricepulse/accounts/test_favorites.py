"""Favourites and followed categories: what is said of them as their products' prices move."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from pricepulse.accounts import favorites, followed
from pricepulse.accounts.belongings import Favorite
from tests.oracle_rates import ecb
from tests.people import refused
from tests.pipeline import NOW
from tests.served import RATES
from tests.shops import Shops, seen

FAVORITES = "/users/me/favorites"
CHANGES = ("price", "price_when_added", "change", "change_ratio", "change_unknown")
OUT = {"availability": "OutOfStock"}


def said(item: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(item[name] for name in CHANGES)


def add(market: Shops, token: str, key: str, status: int = 201) -> Any:
    answer = market.site.send("PUT", f"{FAVORITES}/{market.product(key)}", token)
    assert answer.status_code == status, answer.text
    return answer.json()


def by_title(page: Any) -> dict[str, Any]:
    return {item["title"]: item for item in page["items"]}


def test_what_became_of_each_since_it_was_added(market: Shops) -> None:
    market.deliver(
        seen("kettle", 40, "30", category="Kitchen > Kettles"),
        seen("kettle", 1, "30"),
        seen("teapot", 1, "12", **OUT),
        seen("lamp", 1, "50"),
        seen("radio", 1, "10"),
        seen("mug", 1, "8"),
        seen("vase", 1, "4"),
        seen("bowl", 1, "5"),
    )
    ann = market.signed_in()
    keys = ("kettle", "teapot", "lamp", "radio", "mug", "vase", "bowl")
    ids = {key: market.product(key) for key in keys}
    for key in keys:
        made = add(market, ann, key)
        assert (made["product_id"], made["title"]) == (ids[key], key.title())
        assert made["change"] == (None if key == "teapot" else 0)
    (offer,) = market.get_product(ids["mug"])["offers"]
    market.pipeline.link(int(offer["offer_id"]), int(ids["kettle"]), NOW.replace(tzinfo=None))
    with market.site.database.begin() as db:
        db.execute(
            update(Favorite)
            .where(Favorite.product_id == int(ids["vase"]))
            .values(product_id=7, offer_id=7)
        )
    market.deliver(
        seen("kettle", 0.5, "24"),
        seen("teapot", 0.5, "11"),
        seen("lamp", 0.5, "45", **OUT),
        seen("radio", 0.5, "11", "USD"),
        seen("bowl", 0.5, "5"),
    )
    keys_of = {each: key for key, each in (ids | {"vase": "7"}).items()}
    items = market.get(FAVORITES, ann)["items"]
    found = {keys_of[each["product_id"]]: each for each in items}
    money = {key: said(item) for key, item in found.items() if key != "mug"}
    assert money == {
        "kettle": (Decimal(8), 30, Decimal(-22), Decimal("-0.7333"), None),
        "teapot": (11, None, None, None, "no_price_when_added"),
        "lamp": (None, 50, None, None, "no_price_now"),
        "radio": (11, 10, None, None, "other_currency"),
        "vase": (None, 4, None, None, "gone"),
        "bowl": (5, 5, 0, 0, None),
    }
    assert (found["radio"]["currency"], found["radio"]["currency_when_added"]) == ("USD", "EUR")
    assert found["vase"]["product"] is None
    mug = found["mug"]
    assert (mug["moved_to"], mug["title"], mug["price_when_added"]) == (ids["kettle"], "Kettle", 8)
    assert mug["product"]["product_id"] == ids["kettle"]
    assert found["kettle"]["product"]["category_slug"] == "kitchen.kettles"
    # One that moved, and one that is gone, are taken off under the id that they were added with.
    for each in (ids["mug"], "7"):
        assert market.get(f"{FAVORITES}/{each}", ann)["product_id"] == each
        assert market.site.send("PUT", f"{FAVORITES}/{each}", ann).status_code == 200
        assert market.site.send("DELETE", f"{FAVORITES}/{each}", ann).status_code == 204
        refused(market.site.send("PUT", f"{FAVORITES}/{each}", ann), 404)


def test_prices_come_in_the_own_currency_and_the_change_stays_the_shops(market: Shops) -> None:
    market.pipeline.put_rates(ecb(RATES))
    market.deliver(
        seen("kettle", 1, "30"), seen("lamp", 1, "20", "USD"), seen("mug", 1, "7", "AED")
    )
    ann = market.signed_in()
    for key in ("kettle", "lamp", "mug"):
        add(market, ann, key)
    market.deliver(seen("kettle", 0.5, "24"), seen("lamp", 0.5, "25", "USD"))
    market.site.send("PATCH", "/users/me/settings", ann, currency="USD")
    found = by_title(market.get(FAVORITES, ann))
    day, rates = max(RATES.items())

    def dollars(euros: int) -> Decimal:
        return (euros * rates["USD"]).quantize(Decimal("0.0001"))

    kettle = found["Kettle"]
    assert said(kettle) == (
        dollars(24),
        dollars(30),
        dollars(24) - dollars(30),
        Decimal("-0.2"),
        None,
    )
    assert (kettle["currency"], kettle["currency_when_added"]) == ("USD", "USD")
    assert kettle["rates_of"] == str(day)
    assert kettle["product"]["currency"] == "EUR"
    assert said(found["Lamp"]) == (25, 20, 5, Decimal("0.25"), None)
    assert found["Lamp"]["rates_of"] is None
    # Dirhams have no reference rates: the price is what it is, and says so.
    assert (found["Mug"]["price"], found["Mug"]["currency"], found["Mug"]["rates_of"]) == (
        7,
        "AED",
        None,
    )


def test_a_favourite_is_one_however_often_it_is_added(market: Shops) -> None:
    market.deliver(seen("kettle", 1, "30"))
    ann, address = market.signed_in(), f"{FAVORITES}/{market.product('kettle')}"
    refused(market.site.send("GET", address, ann), 404)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: market.site.send("PUT", address, ann), range(8)))
    assert sorted(each.status_code for each in answers) == [200] * 7 + [201]
    market.deliver(seen("kettle", 0.5, "24"))
    assert said(add(market, ann, "kettle", 200)) == (24, 30, -6, -0.2, None)
    for bad in ("0", "7", "-1", "1e3", "9" * 19, "9" * 40, "x", "%00", "..%2F1"):
        for method in ("GET", "PUT", "DELETE"):
            assert market.site.send(method, f"{FAVORITES}/{bad}", ann).status_code in {400, 404}, (
                bad
            )
    assert market.site.send("DELETE", address, ann).status_code == 204
    refused(market.site.send("DELETE", address, ann), 404)
    assert market.get(FAVORITES, ann)["items"] == []


def test_everybody_has_their_own_and_not_too_many(
    market: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.deliver(*(seen(f"thing{n}", 1, "9", category="Things") for n in range(4)))
    monkeypatch.setattr(favorites, "MOST", 3)
    monkeypatch.setattr(followed, "MOST", 0)
    ann, bob = market.signed_in(), market.signed_in("bob@example.org")
    ids = [market.product(f"thing{n}") for n in range(4)]
    answers = [market.site.send("PUT", f"{FAVORITES}/{each}", ann) for each in ids]
    assert [each.status_code for each in answers] == [201, 201, 201, 409]
    assert "3 favourites" in refused(answers[3], 409)["detail"]
    refused(market.site.send("PUT", "/users/me/categories/things", ann), 409)
    first = market.get(f"{FAVORITES}?limit=2", ann)
    second = market.get(f"{FAVORITES}?limit=2&cursor={first['next_cursor']}", ann)
    assert [each["product_id"] for each in first["items"] + second["items"]] == ids[2::-1]
    assert second["next_cursor"] is None
    # The same address, one after the other: nothing is shared, nothing is told.
    assert market.get(FAVORITES, bob)["items"] == []
    refused(market.site.send("GET", f"{FAVORITES}/{ids[0]}", bob), 404)
    refused(market.site.send("DELETE", f"{FAVORITES}/{ids[0]}", bob), 404)
    refused(market.site.send("GET", FAVORITES), 401)
    with market.site.database.begin(write=False) as db:
        assert len(db.scalars(select(Favorite.product_id)).all()) == 3


def test_categories_are_followed_with_what_is_in_them(market: Shops) -> None:
    market.deliver(seen("kettle", 1, "30", category="Kitchen > Kettles"))
    ann = market.signed_in()
    address = "/users/me/categories"
    for slug in ("kitchen", "kitchen.kettles"):
        made = market.site.send("PUT", f"{address}/{slug}", ann)
        assert (made.status_code, made.json()["slug"]) == (201, slug)
    assert market.site.send("PUT", f"{address}/kitchen", ann).status_code == 200
    refused(market.site.send("PUT", f"{address}/garden", ann), 404)
    items = market.get(address, ann)["items"]
    assert [(each["slug"], each["category"]["products"]) for each in items] == [
        ("kitchen", 1), ("kitchen.kettles", 1),
    ]  # fmt: skip
    market.deliver(seen("kettle", 0.5, "30", category="Garden"))
    left = {each["slug"]: each["category"] for each in market.get(address, ann)["items"]}
    assert left == {"kitchen": None, "kitchen.kettles": None}
    assert market.site.send("DELETE", f"{address}/kitchen", ann).status_code == 204
    refused(market.site.send("DELETE", f"{address}/kitchen", ann), 404)


def test_without_a_build_there_is_nothing_to_say_yet(market: Shops) -> None:
    ann = market.signed_in()
    for method, address in (("GET", FAVORITES), ("PUT", f"{FAVORITES}/1")):
        told = refused(market.site.send(method, address, ann), 503)
        assert told["type"] == "/problems/no-data-yet"
