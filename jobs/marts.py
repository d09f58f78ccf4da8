"""The marts of a build, put together from `models`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

import models
from jobs.daily_marts import daily_marts, fingerprint, past_of
from models.deals import deals
from models.moves import last_moves
from models.quantity import quantities
from models.statistics import statistics
from models.timeline import DAY, Timeline, best_over_time, current, joined, payable, stretches
from warehouse.columns import SCALE, Frames
from warehouse.marts import Made, Marts

SOURCES = [
    *sorted(Path(__file__).parent.glob("*marts.py")),
    *sorted(Path(models.__path__[0]).glob("*.py")),
]


def make(frames: Frames, as_of: int, vouch: int, past: str) -> Made:
    """The rows of the tables in marts.sql, from scratch: windows end at `as_of`, so with every build
    they move for every offer; a pass over 1.5 million spells takes less than finding out for which
    of them nothing changed. `past`: on which that of the daily marts was made which are there."""
    products, offers, spells = frames
    held = stretches(offers, spells, vouch)
    # Best is among new ones, in the currency of most of the product's offers.
    new = offers.select("product_id", "condition").join(
        products.select("product_id", "currency"), on="product_id", maintain_order="left"
    )
    currency = new["currency"].set(new["condition"] != "new", None)
    with ThreadPoolExecutor(1) as pool:  # NumPy and Polars release the interpreter's lock
        of_products = pool.submit(_best, payable(held, currency), as_of)
        mine = payable(held, offers["currency"])
        mine = mine.with_columns(series="offer_id")
        today = current(mine, as_of, "offer_id")
        of_offers = statistics(Timeline.cut(joined(mine), as_of, today))
        best, best_today, of_best = of_products.result()
    currencies = products.select("product_id", "currency")
    names = offers.select("offer_id", "product_id", "currency")
    best_today = best_today.rename({"series": "product_id", "price": "best_price"})
    comparable = names.join(
        best_today.join(currencies, on="product_id"), on=["product_id", "currency"]
    )
    reduced = deals(mine, as_of, today, of_offers, comparable.select("offer_id", "best_price"))
    of_best = of_best.rename({"series": "product_id"})
    tables = {
        "offer_stats": of_offers.rename({"series": "offer_id"}).join(
            names, on="offer_id", maintain_order="left"
        ),
        "product_stats": of_best.join(currencies, on="product_id", maintain_order="left"),
        "best_price": best.rename({"series": "product_id", "start": "start_at", "until": "until_at"})
        .join(currencies, on="product_id", maintain_order="left"),
        "deal": reduced.rename({"began": "began_at"}).join(
            names.select("offer_id", "currency"), on="offer_id", maintain_order="left"
        ),
        "price_move": last_moves(held, as_of),
        "product_signal": _signals(products, offers, of_best, reduced),
    }  # fmt: skip
    midnight = as_of // DAY * DAY
    earlier = past_of(held, spells["observations"], midnight)
    now = fingerprint(earlier, frames, midnight)
    if now != past:
        tables |= daily_marts(earlier, mine, best, frames, midnight, vouch)
    return Made(tables, now)


def _best(paid: pl.DataFrame, as_of: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    best, today = joined(best_over_time(paid)), current(paid, as_of, "product_id")
    return best, today, statistics(Timeline.cut(best, as_of, today))


def _signals(
    products: pl.DataFrame, offers: pl.DataFrame, stats: pl.DataFrame, reduced: pl.DataFrame
) -> pl.DataFrame:
    """What a list of products shows beside the price, one row a product, in their order."""
    genuine = reduced.filter(pl.col("verdict") == "genuine")
    score = genuine.group_by("product_id").agg(pl.col("score").max())
    month = stats.filter(pl.col("span") == "30d").select(
        "product_id", change_30d_ratio="change_ratio"
    )
    year = stats.filter(pl.col("span") == "365d").select(
        "product_id", "cheaper_ratio", "no_dearer_ratio", year_confidence="confidence"
    )
    shops = offers.select("offer_id", best_retailer="retailer")
    signals = products.select("product_id", "best_offer_id").join(
        shops, left_on="best_offer_id", right_on="offer_id", how="left", maintain_order="left"
    )
    for each in (month, year, score):
        signals = signals.join(each, on="product_id", how="left", maintain_order="left")
    inferred = quantities(products.select("title"))
    unsaid = products["unit_quantity"].is_null()
    return signals.with_columns(
        inferred_quantity=(inferred["unit_quantity"] * SCALE).cast(pl.Int64).set(~unsaid, None),
        inferred_unit=inferred["unit"].set(~unsaid, None),
    )


def _fingerprint() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()


MARTS = Marts(make, _fingerprint())
