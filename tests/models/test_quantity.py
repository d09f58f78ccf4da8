"""Quantities read from titles: by hand, and against what the made-up market's feed says."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from models.quantity import quantities
from pricepulse.demo import market

CASES: list[tuple[str | None, float | None, str | None]] = [
    ("Cola 6 x 330 ml", 1980, "ml"),
    ("Cola 6x330ml", 1980, "ml"),
    ("Beer Can 330mL x 12", 3960, "ml"),
    ("Sandwich (Tray Pack 47g x 8 packs) 376g", 376, "g"),
    ("CAPELLINI 500G", 500, "g"),
    ("CHERRY TOMATO 250 GM", 250, "g"),
    ("Milk 1,5 l", 1.5, "l"),
    ("Wine 75 cl", 750, "ml"),
    ("Huggies Natural Pants (XL) 40pcs", 40, "pcs"),
    ("Egg Rolls 3pcs x 6", 18, "pcs"),
    ("Dumpling 8pcs 112g", 112, "g"),  # a weight tells more than a count
    ("Brown Eggs - S 30'S", 30, "pcs"),
    ("Muesli 75g + 25g", None, None),
    ("Seasoning 205mL (240g)", None, None),
    ("Smartphone 5G 128 GB", None, None),
    ('OLED TV 55" 4K', None, None),
    ("Part AB1.5L7", None, None),
    ("0 g", None, None),
    ("Flour 1,000 g", None, None),  # a kilogram or a gram
    ("Flour 1.000 g", None, None),
    ("Juice 0.750 l", 0.75, "l"),
    ("Bars 12 pcs x 50g", None, None),
    ("", None, None),
    (None, None, None),
]


@pytest.mark.parametrize(("title", "quantity", "unit"), CASES, ids=str)
def test_by_hand(title: str | None, quantity: float | None, unit: str | None) -> None:
    said = quantities(pl.DataFrame({"title": [title]}, schema={"title": pl.String}))
    assert said.rows() == [(title, quantity, unit)]


def test_no_titles() -> None:
    assert quantities(pl.DataFrame({"title": []}, schema={"title": pl.String})).height == 0


def test_titles_agree_with_the_feed_that_knows() -> None:
    rows = market(products=2000, days=3, until=datetime(2026, 1, 1, tzinfo=UTC))
    known = rows.drop_nulls(["unit_quantity", "title"]).unique("title")
    said = quantities(known.select("title")).with_columns(
        feed=known["unit_quantity"].cast(pl.Float64), feed_unit=known["unit"]
    )
    found = said.drop_nulls("unit")
    wrong = found.filter(
        (pl.col("unit") != pl.col("feed_unit")) | (pl.col("unit_quantity") != pl.col("feed"))
    )
    assert found.height > 0.95 * known.height > 100
    assert wrong.height == 0, wrong
