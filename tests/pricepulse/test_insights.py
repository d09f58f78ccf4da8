"""Drops, rises and arrivals against the oracle's spells, and by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import duckdb
import pytest

from tests import oracle
from tests.pipeline import Pipeline
from tests.served import DAY, HOUR, VOUCH, Served, T, look, serving

Move = tuple[str, str, datetime, Any, Any]


def moves(market: oracle.Market, days: int) -> dict[Move, float]:
    """Retailer, sku, when, price before and price of each current offer's last change → its ratio."""
    assert market.as_of is not None
    found = {}
    for (retailer, sku), known in market.offers.items():
        last = known.spells[-1]
        if last.availability not in oracle.CAN_BE_BOUGHT or last.last + VOUCH < market.as_of:
            continue
        paid = [
            spell
            for spell in known.spells
            if spell.availability in oracle.CAN_BE_BOUGHT and spell.currency == last.currency
        ]
        changes = [
            (after, before.price) for before, after in pairwise(paid) if after.price != before.price
        ]
        if not changes or changes[-1][0].price != last.price:
            continue
        spell, before = changes[-1]
        if spell.currency == last.currency and spell.first >= market.as_of - timedelta(days=days):
            found[retailer, sku, spell.first, before, spell.price] = float(spell.price / before - 1)
    return found


@pytest.mark.parametrize("days", [1, 7, 45])
@pytest.mark.parametrize(("address", "sign"), [("/price-drops", -1), ("/price-rises", 1)])
def test_moves_are_those_of_the_spells(served: Served, days: int, address: str, sign: int) -> None:
    expected = {
        move: ratio for move, ratio in moves(served.market, days).items() if ratio * sign >= 0.01
    }
    items = served.walk(address, days=days, limit=7)
    found = {
        (
            each["retailer"],
            each["sku"],
            datetime.fromisoformat(each["changed_at"]).replace(tzinfo=None),
            each["price_before"],
            each["price"],
        ): float(each["change_ratio"])
        for each in items
    }
    assert found == pytest.approx(expected, abs=0.0001)
    assert days == 1 or len(found) > 3
    verdicts = {each["offer_id"]: each["verdict"] for each in served.walk("/deals")}
    assert all(each["verdict"] == verdicts.get(each["offer_id"]) for each in items)
    sizes = [abs(each["change_ratio"]) for each in items]
    assert sizes == sorted(sizes, reverse=True)


def test_moves_by_category_and_retailer(served: Served) -> None:
    whole = served.walk("/price-drops", days=45)
    retailer = whole[0]["retailer"]
    mine = [each for each in whole if each["retailer"] == retailer]
    assert served.walk("/price-drops", days=45, retailer=retailer.upper()) == mine
    slug = next(each["category_slug"] for each in whole if each["category_slug"])
    top = slug.partition(".")[0]
    below = [each for each in whole if (each["category_slug"] or "").split(".")[0] == top]
    assert served.walk("/price-drops", days=45, category=top) == below


def test_by_hand(pipeline: Pipeline) -> None:
    def seen(retailer: str, sku: str, *prices: tuple[float, str], **about: Any) -> list[Any]:
        return [look(retailer, sku, ago * DAY, price, **about) for ago, price in prices]

    pipeline.put(
        [
            *seen("a", "fell", (40, "10"), (3, "10"), (2, "8"), (0, "8"), title="Fell"),
            *seen("a", "rose", (40, "10"), (3, "10"), (2, "12.5"), (0, "12.5")),
            *seen("a", "penny", (40, "10"), (2, "9.95"), (0, "9.95")),
            *seen("a", "back", (40, "10"), (3, "8"), (2, "10"), (0, "10")),
            *seen("a", "long ago", (40, "10"), (9, "5"), (0, "5")),
            *seen("a", "gone", (40, "10"), (15, "10"), (11, "5")),
            *seen("a", "sold out", (40, "10"), (1, "5"), availability="OutOfStock"),
            *[look("a", "moved", 40 * DAY, "10"), look("a", "moved", DAY, "5", currency="USD")],
            *seen("a", "arrived", (4, "3"), title="Arrived", gtin="4006381333931"),
            *seen("b", "old shop", (30, "7")),
            *seen("b", "it too", (3, "4"), gtin="4006381333931"),
            *seen("new-shop", "all of it", (5, "1")),
            *seen("new-shop", "more", (1, "1")),
            *seen("b", "now", (0, "2"), title="Now"),
        ]
    )
    pipeline.build()
    with serving(pipeline.folder) as client:

        def ask(path: str) -> list[Any]:
            answer = client.get(f"/api/v1{path}")
            assert answer.status_code == 200, answer.text
            items: list[Any] = answer.json()["items"]
            return items

        (drop,) = ask("/price-drops")
        assert (drop["sku"], drop["title"], drop["change_ratio"]) == ("fell", "Fell", -0.2)
        day = f"{T - 3 * DAY:%Y-%m-%d}"
        assert drop["reason"] == f"20 % below the 10 EUR last seen on {day}"
        assert {each["sku"] for each in ask("/price-rises")} == {"rose", "back"}
        assert [each["sku"] for each in ask("/price-drops?days=9")] == ["long ago", "fell"]
        arrived = ask("/new-arrivals")
        assert [each["title"] for each in arrived] == ["Now", "Arrived"]
        day = f"{T - 4 * DAY:%Y-%m-%d}"
        assert arrived[1]["reason"] == f"first seen on {day} at a and in 1 more offer"
        assert [each["title"] for each in ask("/new-arrivals?days=1")] == ["Now"]
        for wrong in ("days=0", "days=366", "days=x", "day=3", "limit=0"):
            for path in ("/price-drops", "/price-rises", "/new-arrivals"):
                assert client.get(f"/api/v1{path}?{wrong}").status_code == 400
        changes = pipeline.query(
            "SELECT count(*) FROM price_change JOIN offer USING (offer_id) WHERE sku = 'back'"
        )
        assert changes == [(2,)]


def test_a_build_of_an_older_release_is_no_fault(pipeline: Pipeline) -> None:
    """It lacks a table, or a file; the first build of this release follows by itself."""
    pipeline.put([look("a", "1", DAY, "1")])
    pipeline.build()
    path = pipeline.version() / "warehouse.duckdb"
    path.chmod(0o644)
    with duckdb.connect(str(path)) as file:
        file.execute("DROP TABLE market")
    with serving(pipeline.folder) as client:
        answer = client.get("/api/v1/insights/market")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert client.get("/api/v1/products").status_code == 200
    (pipeline.version() / "trend.arrow").unlink()
    with serving(pipeline.folder) as client:
        answer = client.get("/api/v1/products")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        pipeline.put([look("a", "1", HOUR, "1")])
        pipeline.build(full=True)
        while client.get("/api/v1/products").status_code == 503:
            pass
        assert client.get("/api/v1/insights/market").status_code == 200
