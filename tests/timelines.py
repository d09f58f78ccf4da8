"""Generated offers: price jumps, gaps, other currencies, list prices, identities that change."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]
START = datetime(2026, 1, 30, 22, 30)
NEVER_TWICE = [
    timedelta(seconds=1),
    timedelta(minutes=59, seconds=59),
    timedelta(hours=1),
    timedelta(hours=7),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=10),  # the last second of what an observation vouches for
    timedelta(days=10, seconds=1),
    timedelta(days=40),
]
# Around the factors 2 and 10, and prices that stand.
PRICES = ["10", "10", "10", "19.99", "1", "0.9999", "2", "2.0001", "20", "100", "100.0001", "201"]
STATES: list[Row] = [
    *({} for _ in range(12)),
    {"list_price": "25"},
    {"list_price": "25"},
    {"list_price": "250"},
    {"availability": "OutOfStock"},
    {"availability": "OutOfStock", "list_price": "1000"},
    {"availability": "PreOrder"},
    {"currency": "USD"},
    {"condition": "used"},
    {"shipping": "4.95"},
    {"promotion": "3 for 39.50"},
]
ABOUT: list[Row] = [
    *({} for _ in range(10)),
    {"title": "Green tea", "brand": "Leaf", "category": "Drinks > Tea"},
    {"title": "Black tea", "brand": "Léaf", "category": "Drinks>Tea>Black"},
    {"title": 'Ben\'s "best" \\ tea, 50 % 茶', "url": "https://shop.example/?a=1&b=2"},
    {"gtin": "4006381333931"},
    {"gtin": "96385074"},
    {"gtin": "4006381333932"},  # wrong check digit
    {"product_key": "A"},
    {"product_key": "A", "gtin": "00096385074"[-8:]},
    {"product_key": "B", "unit_quantity": "0.5", "unit": "kg"},
    {"product_key": "B", "mpn": "M-1", "image_url": "https://shop.example/1.png"},
]


def looks(gaps: list[timedelta]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    return st.lists(
        st.tuples(*(st.sampled_from(each) for each in (gaps, PRICES, STATES, ABOUT))),
        min_size=2,
        max_size=12,
    )


def rows_of(offers: list[list[tuple[Any, ...]]]) -> list[Row]:
    """All looks of all offers, in the order of time."""
    rows = []
    for number, timeline in enumerate(offers):
        time = START + timedelta(days=number)
        for gap, price, state, about in timeline:
            time += gap
            row = {
                "retailer": f"shop-{number % 3}",
                "sku": f"sku {number}",
                "observed_at": time,
                "price": Decimal(price),
                "currency": "EUR",
            }
            rows.append(row | state | about)
    return sorted(rows, key=lambda row: row["observed_at"])


def markets(*, conflicts: bool = False) -> st.SearchStrategy[list[Row]]:
    """Rows in the order of time; with `conflicts` some tell another price of the same instant."""
    gaps = [timedelta(0), timedelta(0), *NEVER_TWICE] if conflicts else NEVER_TWICE
    # A lake with a build costs a second however small: better a dozen offers in one example.
    return st.lists(looks(gaps), min_size=4, max_size=14).map(rows_of)


def split(rows: list[Row], cuts: list[int]) -> list[list[Row]]:
    """The rows in batches, cut at these places (modulo their number)."""
    edges = sorted({0, len(rows), *(cut % len(rows) for cut in cuts)})
    return [rows[low:high] for low, high in pairwise(edges)]


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    """Some orders a pipeline delivers in: that of time (0), backwards (1), nearly in time, any."""
    chance = random.Random(seed)
    if seed < 2:
        return rows if seed == 0 else rows[::-1]
    if seed % 2 == 0:
        late = {index for index in range(len(rows)) if chance.random() < 0.15}
        held_back = [rows[index] for index in sorted(late)]
        return [row for index, row in enumerate(rows) if index not in late] + held_back
    return chance.sample(rows, len(rows))
