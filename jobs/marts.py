"""The marts of a build, put together from `models`."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import polars as pl

import models
from jobs.daily_marts import daily_marts, fingerprint, past_of, placed, said_of
from models.deals import deals
from models.moves import last_moves
from models.quantity import quantities
from models.statistics import statistics
from models.timeline import DAY, Timeline, best_over_time, current, joined, payable, stretches
from warehouse.columns import SCALE
from warehouse.marts import Marts, Task

SOURCES = [
    *sorted(Path(__file__).parent.glob("*marts.py")),
    *sorted(Path(models.__path__[0]).glob("*.py")),
]


def make(task: Task) -> str:
    """The rows of the tables in marts.sql.

    Windows end at `as_of`, so with every build they move for every offer: statistics and deals are
    made anew for all, which at 1.5 million spells takes less than finding out for which of them
    nothing changed. The best price over time does not depend on `as_of`: only that of
    affected products is. What is made once a day is made if its past is another."""
    products, offers, spells = task.frames
    as_of, pool, emit = task.as_of, task.pool, task.emit
    held = stretches(offers, spells, task.vouch)
    best = pool.submit(_best, task, held)
    mine = payable(held, offers["currency"]).with_columns(series="offer_id")
    today = current(mine, as_of, "offer_id")
    timeline = joined(mine)
    of_offers = _statistics(timeline, as_of, today, pool)
    daily = pool.submit(_daily, task, held, mine, best)
    moves = pool.submit(last_moves, mine, as_of)
    places = placed(task.frames)

    currencies = products.select("product_id", "currency")
    names = offers.select("offer_id", "product_id", "currency")

    def with_currency(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.join(currencies, on="product_id", maintain_order="left")

    judged = pool.submit(_judged, task, mine, today, of_offers, best)
    stats = of_offers.rename({"series": "offer_id"})
    emit("offer_stats", stats.join(names, on="offer_id", maintain_order="left"))
    anew, whole, _, of_best = best.result()
    emit("product_stats", with_currency(of_best))
    named = {"start": "start_at", "until": "until_at"}
    emit("best_price", with_currency(anew).rename(named), whole)
    emit("price_move", places(moves.result()))
    reduced, signals = judged.result()
    emit("deal", places(reduced))
    emit("product_signal", signals)
    past, tables = daily.result()
    for table, rows in tables.items():
        emit(table, rows)
    return past


def _judged(
    task: Task, mine: pl.DataFrame, today: pl.DataFrame, stats: pl.DataFrame, best: Future[Any]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of deal and product_signal."""
    products, offers, _ = task.frames
    names = offers.select("offer_id", "product_id", "currency")
    _, _, best_today, of_best = best.result()
    currencies = products.select("product_id", "currency")
    comparable = names.join(
        best_today.join(currencies, on="product_id"), on=["product_id", "currency"]
    )
    reduced = deals(mine, task.as_of, today, stats, comparable.select("offer_id", "best_price"))
    signals = _signals(products, offers, of_best, reduced)
    currency = names.select("offer_id", "currency")
    reduced = reduced.rename({"began": "began_at"})
    return reduced.join(currency, on="offer_id", maintain_order="left"), signals


def _statistics(
    timeline: pl.DataFrame, as_of: int, today: pl.DataFrame, pool: Executor
) -> pl.DataFrame:
    """In two halves, side by side: NumPy lets go of the interpreter's lock."""
    series = timeline["series"].to_numpy()
    middle = len(series) // 2
    while 0 < middle < len(series) and series[middle] == series[middle - 1]:
        middle -= 1
    other = pool.submit(_half, timeline[middle:], as_of, today)
    first = _half(timeline[:middle], as_of, today)
    return pl.concat([first, other.result()])


def _half(timeline: pl.DataFrame, as_of: int, today: pl.DataFrame) -> pl.DataFrame:
    return statistics(Timeline.cut(timeline, as_of, today))


def _best(
    task: Task, held: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Timelines of the affected products and of all; the best prices today; the statistics of all."""
    products, offers, _ = task.frames
    # Among new offers, in the currency of most of the product's offers.
    new = offers.select("product_id", "condition").join(
        products.select("product_id", "currency"), on="product_id", maintain_order="left"
    )
    paid = payable(held, new["currency"].set(new["condition"] != "new", None))
    today = current(paid, task.as_of, "product_id")
    if task.before is None:
        anew = whole = joined(best_over_time(paid)).rename({"series": "product_id"})
    else:
        touched = pl.col("product_id").is_in(task.before.affected.implode())
        anew = joined(best_over_time(paid.filter(touched))).rename({"series": "product_id"})
        whole = task.before.best.filter(~touched).merge_sorted(anew, "product_id")
    stats = _half(whole.rename({"product_id": "series"}), task.as_of, today)
    best_today = today.rename({"series": "product_id", "price": "best_price"})
    return anew, whole, best_today, stats.rename({"series": "product_id"})


def _daily(
    task: Task, held: pl.DataFrame, mine: pl.DataFrame, best: Future[Any]
) -> tuple[str, dict[str, pl.DataFrame]]:
    midnight = task.as_of // DAY * DAY
    earlier = past_of(held, task.frames.spells["observations"], midnight)
    said = said_of(earlier, task.frames)
    past = fingerprint(earlier, *said, midnight)
    if task.before and past == task.before.past:
        return past, {}
    timelines = best.result()[1].rename({"product_id": "series"})
    return past, daily_marts(earlier, mine, timelines, said, task.frames, midnight, task.vouch)


def _signals(
    products: pl.DataFrame, offers: pl.DataFrame, stats: pl.DataFrame, reduced: pl.DataFrame
) -> pl.DataFrame:
    """What a list of products shows beside the price, one row a product, in their order."""
    # A list shows one price: the score is that offer's, not of a dearer one that is reduced.
    score = reduced.filter(pl.col("verdict") == "genuine").select("score", best_offer_id="offer_id")
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
    signals = signals.join(score, on="best_offer_id", how="left", maintain_order="left")
    for each in (month, year):
        signals = signals.join(each, on="product_id", how="left", maintain_order="left")
    inferred = quantities(products.select("title"))
    unsaid = products["unit_quantity"].is_null()
    return signals.with_columns(
        inferred_quantity=(inferred["unit_quantity"] * SCALE)
        .round()
        .cast(pl.Int64)
        .set(~unsaid, None),
        inferred_unit=inferred["unit"].set(~unsaid, None),
    )


def _fingerprint() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()


MARTS = Marts(make, _fingerprint())
