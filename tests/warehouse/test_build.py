"""Builds: however the rows came and whatever was built between, the file says the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.oracle_rates import ecb, working_days
from tests.pipeline import Pipeline
from tests.timelines import markets, shuffled, split
from warehouse import build as building
from warehouse import lake
from warehouse.connection import Reader

PROPERTY = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
MAY = datetime(2026, 5, 1)
Pipelines = Callable[[], Pipeline]
Content = dict[str, list[str]]


def look(day: float, price: str, sku: str = "1", **more: Any) -> oracle.Row:
    """One row; `day` counts from 1 May 2026."""
    time = MAY + timedelta(seconds=round(day * 86400))
    row = {"retailer": "shop", "sku": sku, "observed_at": time, "currency": "EUR"}
    return row | {"price": Decimal(price)} | more


def spells(pipeline: Pipeline, sku: str = "1") -> list[tuple[Any, ...]]:
    """(first day, last day, price, observations) of an offer, days from 1 May 2026."""
    rows = pipeline.query(
        "SELECT s.first_observed_at, s.last_observed_at, s.price, s.observations "
        "FROM price_spell AS s JOIN offer USING (offer_id) WHERE sku = ? ORDER BY 1",
        sku,
    )
    day = timedelta(days=1)
    return [((a - MAY) / day, (z - MAY) / day, price, seen) for a, z, price, seen in rows]


def suspects(pipeline: Pipeline, sku: str) -> list[tuple[Any, ...]]:
    return pipeline.query(
        "SELECT s.price, s.open FROM suspect AS s JOIN offer USING (offer_id) WHERE sku = ? "
        "ORDER BY s.observed_at",
        sku,
    )


def offer_id(pipeline: Pipeline, sku: str) -> int:
    return int(pipeline.query("SELECT offer_id FROM offer WHERE sku = ?", sku)[0][0])


def product_of(pipeline: Pipeline, sku: str) -> int:
    return int(pipeline.query("SELECT product_id FROM offer WHERE sku = ?", sku)[0][0])


def assert_content(found: Content, expected: Content, when: str = "") -> None:
    """Table by table, so that a failure shows the rows that differ and not the whole file."""
    assert set(found) == set(expected)
    for name in expected:
        assert found[name] == expected[name], f"{name} {when}"


def assert_incremental_is_full(pipeline: Pipeline, kind: str = "incremental") -> None:
    """Build what came since, and everything from the beginning elsewhere."""
    assert pipeline.build().kind == kind
    afresh = pipeline.beside("afresh")
    afresh.build(full=True)
    assert_content(pipeline.content(), afresh.content(), "of the incremental and the full build")


def some_pictures(pipeline: Pipeline, seed: int) -> list[tuple[list[int], str | None]]:
    """Offers of some products, and which picture these are to show: one another, one none of its own."""
    products = [row[0] for row in pipeline.query("SELECT product_id FROM product ORDER BY ALL")]
    chosen = random.Random(seed).choices(products, k=4)
    return [
        (pipeline.offers_of(product), image)
        for product, image in zip(chosen, ("a", "b", None, "c"), strict=True)
    ]


# Properties


@pytest.mark.slow
@PROPERTY
@given(
    rows=markets(),
    order=st.integers(0, 50),
    cuts=st.lists(st.integers(0, 100), min_size=1, max_size=2),
    repeated=st.integers(0, 100),
)
def test_any_split_in_any_order_with_repeats_gives_the_same(
    pipelines: Pipelines, rows: list[oracle.Row], order: int, cuts: list[int], repeated: int
) -> None:
    """No instant has two prices here, so nothing may depend on the delivery."""
    whole, parts = pipelines(), pipelines()
    whole.put(rows)
    whole.build()
    for number, batch in enumerate(split(shuffled(rows, order), cuts)):
        parts.put(batch)
        if number % 3 == 0:
            parts.put([*batch, rows[repeated % len(rows)], *batch])
        if (order + number) % 4:
            parts.build()
    parts.build()
    assert_content(parts.content(), whole.content())


@pytest.mark.slow
@PROPERTY
@given(
    rows=markets(conflicts=True),
    order=st.integers(0, 50),
    cuts=st.lists(st.integers(0, 100), min_size=1, max_size=2),
)
def test_incremental_equals_full_after_every_batch(
    pipelines: Pipelines, rows: list[oracle.Row], order: int, cuts: list[int]
) -> None:
    """Two prices of one instant too: delivered in the same order, split or not; and between them
    reference rates, of which each delivery corrects those before, and pictures."""
    delivered = shuffled(rows, order)
    parts, whole = pipelines(), pipelines()
    afresh = parts.beside("afresh")
    for number, batch in enumerate(split(delivered, cuts)):
        parts.put(batch)
        rates = working_days(date(2026, 6, 1 + number), 20 + order)
        rates[min(rates)]["USD"] += number
        parts.put_rates(ecb(rates))
        whole.put_rates(ecb(rates))
        for offers, image in some_pictures(parts, order + number) if number else ():
            parts.give(offers, image)
            whole.give(offers, image)
        assert parts.build().kind == ("incremental" if number else "full")
        afresh.build(full=True)
        assert_content(parts.content(), afresh.content(), f"after batch {number}")
    whole.put(delivered)
    whole.build()
    assert_content(parts.content(), whole.content())


def test_a_full_build_in_many_ranges(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the offers some whose price jumps, and some with late rows."""
    rows = [look(n % 7, f"{n % 5 + 1}", sku=str(n % 40), title=f"Tea {n % 40}") for n in range(240)]
    rows += [look(n, "77" if n == 8 else "1", sku=str(n % 3)) for n in range(7, 11)]
    pipeline.put(rows)
    pipeline.build()
    at_once = pipeline.content()
    monkeypatch.setattr(building, "RANGE_ROWS", 13)
    monkeypatch.setattr(building, "MOST_RUNS", 13)
    monkeypatch.setattr(lake, "STREAM_ROWS", 3)
    assert pipeline.build(full=True).kind == "full"
    assert_content(pipeline.content(), at_once)
    pipeline.put([look(9 + n, "3") for n in range(14)])
    assert pipeline.build().kind == "full", "more is new than a range holds"
    monkeypatch.undo()
    in_ranges = pipeline.content()
    pipeline.build(full=True)
    assert_content(pipeline.content(), in_ranges)


# Spells by hand


# The first build sees 10 on days 0, 4 and 8, 12 on days 9 and 12; then comes 12 on day 25; then the
# late rows, and all together make these spells: first day, last day, price, observations.
LATE: list[tuple[list[tuple[float, str]], list[tuple[float, float, int, int]]]] = [
    ([], [(0, 8, 10, 3), (9, 12, 12, 2), (25, 25, 12, 1)]),
    # Another price inside an old spell splits it; the same one, or a price again, does not.
    ([(6, "11")], [(0, 4, 10, 2), (6, 6, 11, 1), (8, 8, 10, 1), (9, 12, 12, 2), (25, 25, 12, 1)]),
    ([(6, "10")], [(0, 8, 10, 4), (9, 12, 12, 2), (25, 25, 12, 1)]),
    ([(4, "10")], [(0, 8, 10, 3), (9, 12, 12, 2), (25, 25, 12, 1)]),
    ([(25, "12")], [(0, 8, 10, 3), (9, 12, 12, 2), (25, 25, 12, 1)]),
    # Before all others, within what an observation vouches for, and beyond it.
    ([(-3, "10")], [(-3, 8, 10, 4), (9, 12, 12, 2), (25, 25, 12, 1)]),
    ([(-11, "10")], [(-11, -11, 10, 1), (0, 8, 10, 3), (9, 12, 12, 2), (25, 25, 12, 1)]),
    ([(8.5, "12")], [(0, 8, 10, 3), (8.5, 12, 12, 3), (25, 25, 12, 1)]),
    # A look into the gap of 13 days joins the spells at its ends, or only one of them.
    ([(18, "12")], [(0, 8, 10, 3), (9, 25, 12, 4)]),
    ([(22, "12")], [(0, 8, 10, 3), (9, 25, 12, 4)]),
    ([(23, "12")], [(0, 8, 10, 3), (9, 12, 12, 2), (23, 25, 12, 2)]),
    # A later delivery takes the place of what was seen at an instant, also at a spell's end.
    ([(9, "10"), (12, "10")], [(0, 12, 10, 5), (25, 25, 12, 1)]),
    ([(8, "12")], [(0, 4, 10, 2), (8, 12, 12, 3), (25, 25, 12, 1)]),
    ([(25, "13")], [(0, 8, 10, 3), (9, 12, 12, 2), (25, 25, 13, 1)]),
    # In order: still vouched for, and no more.
    ([(35, "12")], [(0, 8, 10, 3), (9, 12, 12, 2), (25, 35, 12, 2)]),
    ([(35.25, "12")], [(0, 8, 10, 3), (9, 12, 12, 2), (25, 25, 12, 1), (35.25, 35.25, 12, 1)]),
]  # fmt: skip


def test_late_rows_split_and_merge_spells(pipeline: Pipeline) -> None:
    """Each case is an offer of its own."""
    skus = {str(number): case for number, case in enumerate(LATE)}
    known = [(0, "10"), (4, "10"), (8, "10"), (9, "12"), (12, "12")]
    pipeline.put([look(day, price, sku) for sku in skus for day, price in known])
    pipeline.build()
    pipeline.put([look(25, "12", sku) for sku in skus])
    assert pipeline.build().kind == "incremental"
    pipeline.put([look(day, price, sku) for sku, (late, _) in skus.items() for day, price in late])
    assert_incremental_is_full(pipeline)
    for sku, (late, expected) in skus.items():
        assert spells(pipeline, sku) == expected, late


def test_whatever_changes_of_an_offer_ends_its_spell(pipeline: Pipeline) -> None:
    changes: list[oracle.Row] = [
        {"availability": "OutOfStock"},
        {"list_price": "15"},
        {"currency": "CHF"},
    ]
    pipeline.put([look(0, "12", str(sku)) for sku in range(4)])
    pipeline.build()
    pipeline.put([look(1, "12", str(sku), **change) for sku, change in enumerate(changes)])
    pipeline.put([look(1, "12", "3", list_price="11", title="Tea", promotion="3 for 30")])
    assert_incremental_is_full(pipeline)
    for sku in range(3):
        assert spells(pipeline, str(sku)) == [(0, 0, 12, 1), (1, 1, 12, 1)]
    assert spells(pipeline, "3") == [(0, 1, 12, 2)]


HOUR = 1 / 24
# Rounds of delivery of one offer (day, price), the good prices, and the suspects (price, open).
Case = tuple[list[list[tuple[float, str]]], list[str], list[tuple[str, bool]]]
JUMPS: list[Case] = [
    # Ten times is no jump, a hair more is; an hour later and alike confirms it.
    ([[(0, "1"), (1, "10")]], ["1", "10"], []),
    ([[(0, "1")], [(1, "10.0001")]], ["1"], [("10.0001", True)]),
    ([[(0, "10")], [(1, "0.9999")]], ["10"], [("0.9999", True)]),
    ([[(0, "1"), (1, "11")], [(1 + HOUR, "22")]], ["1", "11", "22"], []),
    ([[(0, "1"), (1, "11")], [(1 + HOUR, "22.0001")]], ["1"], [("11", True), ("22.0001", True)]),
    ([[(0, "1"), (1, "11")], [(1.041, "11")]], ["1"], [("11", True), ("11", True)]),
    ([[(0, "1"), (1, "11")], [(1.02, "11")], [(1.042, "11")]], ["1", "11"], []),
    # A good price ends the run: its suspects stay aside whatever follows.
    ([[(0, "1"), (1, "11")], [(2, "1.05")], [(3, "11")]], ["1", "1.05"],
     [("11", False), ("11", True)]),
    ([[(0, "1"), (1, "11")], [(2, "2")], [(3, "11")]], ["1", "2", "11"], [("11", False)]),
    # Of a run that is confirmed, what is not alike stays aside, decided.
    ([[(0, "1"), (1, "500")], [(2, "20")], [(3, "21")]], ["1", "20", "21"], [("500", False)]),
    # A late row changes what was the last good price.
    ([[(0, "1")], [(2, "50")], [(1, "6")]], ["1", "6", "50"], []),
    ([[(0, "1")], [(2, "50"), (2.5, "60")], [(1, "6")]], ["1", "6", "50", "60"], []),
    ([[(1, "50")], [(2, "50")], [(0, "1")]], ["1", "50"], []),
    ([[(1, "50")], [(0, "1")]], ["1"], [("50", True)]),
    # A suspect that waits while others are built, then a good price, then a jump from that.
    ([[(0, "100")], [(1, "5")], [], [(1.2, "6")], [(9, "90")]], ["100", "5", "6"], [("90", True)]),
    # Later delivered for the instant of a suspect: it never was.
    ([[(0, "1"), (1, "50")], [(1, "1")], [(2, "50")]], ["1"], [("50", True)]),
]  # fmt: skip


def test_suspects_are_judged_in_the_order_of_time(pipeline: Pipeline) -> None:
    """Each case is an offer of its own; every round of delivery is followed by a build."""
    for number in range(max(len(rounds) for rounds, _, _ in JUMPS)):
        rows = [
            look(day, price, str(sku))
            for sku, (rounds, _, _) in enumerate(JUMPS)
            for day, price in (rounds[number] if number < len(rounds) else [])
        ]
        pipeline.put([*rows, look(number, "1", "other")])
        pipeline.build()
    for sku, (rounds, good, aside) in enumerate(JUMPS):
        found = [price for _, _, price, _ in spells(pipeline, str(sku))]
        assert found == list(map(Decimal, good)), rounds
        expected = [(Decimal(price), is_open) for price, is_open in aside]
        assert suspects(pipeline, str(sku)) == expected, rounds
    before = pipeline.content()
    pipeline.build(full=True)
    assert_content(before, pipeline.content(), "of the incremental and the full build")


# Products


def test_a_manual_link_moves_an_offer_and_can_be_taken_back(pipeline: Pipeline) -> None:
    pipeline.put(
        [look(0, "5", "1", gtin="4006381333931", title="Tea"), look(0, "4", "2", title="Te")]
    )
    pipeline.build()
    tea, own = product_of(pipeline, "1"), product_of(pipeline, "2")
    assert tea != own
    second = offer_id(pipeline, "2")
    pipeline.link(second, tea, MAY)
    assert_incremental_is_full(pipeline)
    assert product_of(pipeline, "2") == tea
    assert pipeline.query("SELECT offers, best_price, best_offer_id FROM product") == [
        (2, Decimal(4), second)
    ]
    # A link is stronger than a GTIN, and the newest one counts.
    pipeline.put([look(1, "4", "2", gtin="96385074"), look(1, "5", "3", gtin="96385074")])
    pipeline.link(second, own, MAY - timedelta(days=1))
    assert_incremental_is_full(pipeline)
    assert product_of(pipeline, "2") == tea
    pipeline.link(second, None, MAY + timedelta(days=1))
    assert_incremental_is_full(pipeline)
    assert product_of(pipeline, "2") == product_of(pipeline, "3") != tea


def test_a_link_made_before_the_offer_is_known(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5", "1")])
    pipeline.build()
    first = product_of(pipeline, "1")
    other = Pipeline(pipeline.folder.with_name("other"))
    other.put([look(0, "4", "2")])
    other.build()
    pipeline.link(offer_id(other, "2"), first, MAY)
    pipeline.build()
    pipeline.put([look(0, "4", "2")])
    assert_incremental_is_full(pipeline)
    assert product_of(pipeline, "2") == first


def test_a_product_key_follows_its_only_gtin(pipeline: Pipeline) -> None:
    """The GTIN comes, then a second one, and the offers without one move with each."""
    pipeline.put([look(0, "5", str(n), product_key="A", title=f"Tea {n}") for n in range(3)])
    pipeline.build()
    by_key = product_of(pipeline, "0")
    assert pipeline.query("SELECT product_id, offers FROM product") == [(by_key, 3)]
    pipeline.put([look(1, "5", "0", gtin="4006381333931")])
    assert_incremental_is_full(pipeline)
    by_gtin = product_of(pipeline, "1")
    assert by_gtin != by_key
    assert pipeline.query("SELECT product_id, offers FROM product") == [(by_gtin, 3)]
    pipeline.put([look(1, "5", "1", gtin="96385074")])
    assert_incremental_is_full(pipeline)
    assert product_of(pipeline, "0") == by_gtin
    assert product_of(pipeline, "2") == by_key
    assert len(pipeline.query("FROM product")) == 3


def test_a_product_goes_stale_by_another_ones_newer_observation(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5", "1", title="Tea"), look(0, "7", "2", title="Mug")])
    pipeline.build()
    pipeline.put([look(10, "7", "2")])
    assert_incremental_is_full(pipeline)
    best = "SELECT best_price FROM product ORDER BY title DESC"
    assert pipeline.query(best) == [(Decimal(5),), (Decimal(7),)]
    pipeline.put([look(10.001, "7", "2")])
    assert_incremental_is_full(pipeline)
    assert pipeline.query(best) == [(None,), (Decimal(7),)]
    pipeline.put([look(10.002, "6", "1")])
    assert_incremental_is_full(pipeline)
    assert pipeline.query(best) == [(Decimal(6),), (Decimal(7),)]


def test_a_suspect_makes_others_stale_but_is_no_price(pipeline: Pipeline) -> None:
    """as_of is the newest observation of any kind."""
    pipeline.put([look(0, "5", "1", title="Tea"), look(9, "7", "2", title="Mug")])
    pipeline.build()
    pipeline.put([look(11, "700", "2")])
    assert_incremental_is_full(pipeline)
    assert pipeline.query("SELECT best_price FROM product ORDER BY title") == [
        (Decimal(7),),
        (None,),
    ]
    assert pipeline.query("SELECT as_of FROM build") == [(MAY + timedelta(days=11),)]


def test_categories_brands_and_search_forget_what_is_gone(pipeline: Pipeline) -> None:
    old = {"title": "Green tea", "brand": "Leaf", "category": "Drinks > Tea"}
    pipeline.put([look(0, "5", "1", **old), look(0, "5", "2", title="Mug")])
    pipeline.build()
    pipeline.put(
        [look(1, "5", "1", title="Espresso", brand="Bean", category="Drinks > Coffee > Dark")]
    )
    assert_incremental_is_full(pipeline)
    assert pipeline.query("SELECT slug, parent_slug, depth, products FROM category ORDER BY 1") == [
        ("drinks", None, 1, 1),
        ("drinks.coffee", "drinks", 2, 1),
        ("drinks.coffee.dark", "drinks.coffee", 3, 1),
    ]
    assert pipeline.query("SELECT slug, name, products FROM brand") == [("bean", "Bean", 1)]


# Versions, crashes and readers


def test_an_empty_lake_gives_an_empty_file_that_serves(pipeline: Pipeline) -> None:
    assert pipeline.build().kind == "full"
    reader = Reader(pipeline.folder)
    assert reader.refresh()
    assert reader.current is not None
    assert reader.current.as_of is None
    assert reader.current.columns.find(1) is None
    pipeline.put([look(0, "5", title="Tea")])
    assert_incremental_is_full(pipeline)
    assert reader.refresh()


def test_a_refurbished_offer_does_not_name_the_product(pipeline: Pipeline) -> None:
    """It was there first, and its title says what the new ones are not."""
    both = {"product_key": "set"}
    pipeline.put(
        [
            look(1, "5", "1", title="Set (refurbished)", condition="refurbished", **both),
            look(2, "9", "2", title="Set", **both),
        ]
    )
    pipeline.build()
    assert pipeline.query("SELECT title, offers FROM product") == [("Set", 2)]
