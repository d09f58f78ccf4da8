"""GET /users/me/dashboard."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import event

from tests.oracle_rates import ecb
from tests.people import refused
from tests.served import RATES
from tests.shops import Shops, seen

DASHBOARD = "/users/me/dashboard"
DAILY = range(60, 0, -1)


def add(market: Shops, token: str, *keys: str) -> None:
    for key in keys:
        answer = market.site.send("PUT", f"/users/me/favorites/{market.product(key)}", token)
        assert answer.status_code == 201, answer.text


def follow(market: Shops, token: str, slug: str) -> None:
    assert market.site.send("PUT", f"/users/me/categories/{slug}", token).status_code == 201


def test_what_moved_what_was_saved_and_deals_of_followed_categories(market: Shops) -> None:
    tea = {"category": "Kitchen > Tea"}
    market.pipeline.put_rates(ecb(RATES))
    market.deliver(
        *(seen("kettle", day, "40", **tea) for day in DAILY),
        *(seen("lamp", day, "20", "USD") for day in DAILY),
        *(seen("mug", day, "8" if day > 30 else "9") for day in DAILY),
        *(seen("bowl", day, "5") for day in DAILY),
        *(seen("vase", day, "3") for day in DAILY),
        seen("new", 1, "7"),
    )
    ann = market.signed_in()
    empty = market.get(DASHBOARD, ann)
    assert (empty["favorites"], empty["moved"], empty["deals"], empty["savings"]) == (0, [], [], [])
    assert {"as_of", "version"} < empty.keys()
    add(market, ann, "kettle", "lamp", "mug", "bowl", "vase", "new")
    follow(market, ann, "kitchen")
    follow(market, ann, "kitchen.tea")
    market.site.send("PATCH", "/users/me/settings", ann, currency="USD")
    market.deliver(
        seen("kettle", 0.5, "30", list_price="40", **tea),
        seen("lamp", 0.5, "25", "USD"),
        seen("mug", 0.5, "8.5"),
        seen("bowl", 0.5, "5"),
        seen("vase", 0.5, "3", availability="OutOfStock"),
        seen("new", 0.5, "6"),
    )
    told = market.get(DASHBOARD, ann)
    assert told["favorites"] == 6
    moved = [
        (each["favorite"]["title"], each["price_before"], each["price_now"], each["currency"],
         each["change_7d_ratio"])
        for each in told["moved"]
    ]  # fmt: skip
    assert moved == [
        # Of what is new, seven days ago nothing was known.
        ("Kettle", 40, 30, "EUR", Decimal("-0.25")),
        ("Lamp", 20, 25, "USD", Decimal("0.25")),
        ("Mug", 9, Decimal("8.5"), "EUR", Decimal("-0.0556")),
    ]
    assert told["moved"][0]["favorite"]["currency"] == "USD"
    assert told["savings"] == [{"currency": "EUR", "amount": Decimal("11.5"), "favorites": 3}]
    assert [(each["title"], each["verdict"]) for each in told["deals"]] == [("Kettle", "genuine")]
    shown = market.site.client.get("/api/v1/deals", params={"category": "kitchen"}).json()
    assert told["deals"][0]["offer_id"] == shown["items"][0]["offer_id"]


def test_however_many_favourites_the_database_is_asked_as_often(market: Shops) -> None:
    market.deliver(*(seen(f"thing{n}", 1, "9", category="Things") for n in range(30)))
    ann = market.signed_in()
    asked: list[str] = []
    engine = market.site.app.state["store"].engine.sync_engine

    @event.listens_for(engine, "before_cursor_execute")
    def count(*given: Any) -> None:
        if "favorite" in given[2] or "preferences" in given[2] or "followed" in given[2]:
            asked.append(given[2])

    follow(market, ann, "things")
    counts = []
    for keys in (range(3), range(3, 30)):
        add(market, ann, *(f"thing{n}" for n in keys))
        asked.clear()
        assert market.get(DASHBOARD, ann)["favorites"] == keys[-1] + 1
        counts.append(len(asked))
    assert counts == [3, 3]


def test_a_dashboard_is_somebodys_own(market: Shops) -> None:
    market.deliver(seen("kettle", 1, "30"))
    add(market, market.signed_in(), "kettle")
    assert market.get(DASHBOARD, market.signed_in("bob@example.org"))["favorites"] == 0
    refused(market.site.send("GET", DASHBOARD), 401)
