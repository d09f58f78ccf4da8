"""Runs of rows as they come, against folding all rows: the same spells but for what is unclear."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import polars as pl
import pytest

from warehouse import spells

VOUCH = timedelta(days=10)
START = datetime(2026, 1, 1)


def market(draw: random.Random) -> pl.DataFrame:
    """Rows of a few offers: gaps, repeats, two prices at one instant, jumps, changes of state."""
    rows = []
    for line in range(draw.randint(1, 60)):
        price = draw.choice([10, 10, 10, 11, 12, 150])
        rows.append(
            {
                "offer_id": draw.randint(1, 5),
                "observed_at": START + timedelta(days=draw.randint(0, 40)),
                "price": price,
                "list_price": draw.choice([None, None, 20]),
                "currency": draw.choice(["EUR"] * 9 + ["GBP"]),
                "availability": draw.choice(["InStock"] * 5 + ["OutOfStock"]),
                "batch_id": 1,
                "line": line,
            }
        )
    money = pl.Decimal(18, 4)
    frame = pl.DataFrame(rows, schema_overrides={"observed_at": pl.Datetime("us")})
    return frame.with_columns(pl.col("price", "list_price").cast(money))


@pytest.mark.parametrize("seed", range(200))
def test_clear_offers_have_the_spells_that_their_rows_have(seed: int) -> None:
    draw = random.Random(seed)
    rows = market(draw)
    if seed % 2:  # as deliveries come, mostly: in order, each chunk by offer
        rows = rows.sort("observed_at")
    chunks = []
    while rows.height:
        size = draw.randint(1, 20)
        chunk, rows = rows[:size], rows[size:]
        chunks.append(chunk.sort("offer_id", "observed_at", maintain_order=True))
    runs = pl.concat([spells.runs(chunk, VOUCH) for chunk in chunks])
    runs = runs.sort("offer_id", "first_observed_at")
    unclear = spells.unclear(runs).to_list()
    clear = runs.filter(~pl.col("offer_id").is_in(unclear))
    folded = spells.fold(pl.concat(chunks), VOUCH)
    mine = ~pl.col("offer_id").is_in(unclear)
    assert spells.joined(clear, VOUCH).rows() == folded.spells.filter(mine).rows()
    assert folded.suspects.filter(mine).is_empty()
    assert folded.superseded.filter(mine).is_empty()
