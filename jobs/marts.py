"""The marts of a build, put together from `models`."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

import models
from jobs.daily_marts import daily_marts, past_of, placed, said_of
from models.deals import LEAST_DISCOUNT, deals
from models.moves import last_moves
from models.quantity import quantities
from models.statistics import statistics
from models.timeline import DAY, Timeline, best_over_time, current, joined, payable, stretches
from warehouse.columns import SCALE, Frames
from warehouse.marts import Before, Marts, Task

SOURCES = [
    *sorted(Path(__file__).parent.glob("*marts.py")),
    *sorted(Path(models.__path__[0]).glob("*.py")),
]


class Best(NamedTuple):
    """Of each product (`series`): its lowest price over time (TIMELINE), what is usual, `current`."""

    timelines: pl.DataFrame
    usual: pl.DataFrame
    today: pl.DataFrame


def make(task: Task) -> None:
    """The rows of the tables in marts.sql.

    Within a day nothing that is said of a product depends on any other, nor on the time: what is
    affected is made anew, a tenth of all after a batch of 10,000 rows. With the day all windows move
    on; then, or if the past of a day before changed, everything is made, that of the day too."""
    frames = task.frames
    before = task.before if task.before and _goes_on(task.before, task) else None
    part = before is not None
    if before:
        frames = frames.part(before.affected)
    products, offers, spells = frames
    as_of, pool = task.as_of, task.pool
    emit = partial(task.emit, part=part)
    held = stretches(offers, spells, task.vouch)
    best = pool.submit(_best, task, frames, held)
    mine = payable(held, offers["currency"]).with_columns(series="offer_id")
    today = current(mine, _looked(offers, "offer_id"), as_of, task.vouch)
    of_offers = _statistics(joined(mine), today, pool)
    daily = None if part else pool.submit(_daily, task, held, mine, best)
    moves = pool.submit(last_moves, mine, as_of)
    places = placed(frames)
    judged = pool.submit(_judged, frames, mine, today, of_offers, best)

    names = offers.select("offer_id", "product_id", "currency")
    stats = of_offers.rename({"series": "offer_id"})
    emit("offer_stats", stats.join(names, on="offer_id", maintain_order="left"))
    currencies = products.select("currency", series="product_id")
    timelines, usual, _ = (
        frame.join(currencies, on="series", maintain_order="left").rename({"series": "product_id"})
        for frame in best.result()
    )
    emit("best_price", timelines.rename({"start": "start_at", "until": "until_at"}))
    emit("product_stats", usual)
    reduced, signals = judged.result()
    verdicts = reduced.select("offer_id", "verdict")
    moved = moves.result().join(verdicts, on="offer_id", how="left", maintain_order="left")
    emit("price_move", places(moved))
    emit("deal", places(reduced))
    emit("product_signal", signals)
    for table, rows in daily.result().items() if daily else ():
        emit(table, rows)


def _goes_on(before: Before, task: Task) -> bool:
    """Whether the day of `before` has not ended, and nothing was learnt of the days before it."""
    midnight = task.as_of // DAY * DAY
    if before.as_of < midnight:
        return False
    then, now = (
        _past(frames.part(before.affected), task.vouch, midnight)
        for frames in (before.frames, task.frames)
    )
    return all(one.equals(other) for one, other in zip(then, now, strict=True))


def _past(frames: Frames, vouch: int, midnight: int) -> tuple[pl.DataFrame, ...]:
    """All that the daily marts are made of."""
    past = past_of(stretches(frames.offers, frames.spells, vouch), frames.spells, midnight)
    words = pl.col("currency", "availability").cast(pl.String)
    return past.with_columns(words).drop("offer", "newest"), *said_of(past, frames)


def _looked(offers: pl.DataFrame, series: str) -> pl.DataFrame:
    """When each offer was last looked at, for `current`."""
    seen = pl.col("last_observed_at").cast(pl.Int64) // 1_000_000
    return offers.select(pl.col(series).alias("series"), seen.alias("last"))


def _judged(
    frames: Frames,
    mine: pl.DataFrame,
    today: pl.DataFrame,
    stats: pl.DataFrame,
    best: Future[Best],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of deal and product_signal."""
    products, offers, _ = frames
    names = offers.select("offer_id", "product_id", "currency")
    lowest = best.result().today.select(product_id="series", best_price="price").drop_nulls()
    currencies = products.select("product_id", "currency")
    comparable = names.join(lowest.join(currencies, on="product_id"), on=["product_id", "currency"])
    reduced = deals(mine, today, stats, comparable.select("offer_id", "best_price"))
    signals = _signals(products, offers, best.result(), reduced)
    currency = names.select("offer_id", "currency")
    reduced = reduced.rename({"began": "began_at"})
    return reduced.join(currency, on="offer_id", maintain_order="left"), signals


def _statistics(timeline: pl.DataFrame, today: pl.DataFrame, pool: Executor) -> pl.DataFrame:
    """In two halves, side by side: NumPy lets go of the interpreter's lock."""
    series = timeline["series"].to_numpy()
    middle = len(series) // 2
    while 0 < middle < len(series) and series[middle] == series[middle - 1]:
        middle -= 1
    other = pool.submit(_half, timeline[middle:], today)
    first = _half(timeline[:middle], today)
    return pl.concat([first, other.result()])


def _half(timeline: pl.DataFrame, today: pl.DataFrame) -> pl.DataFrame:
    return statistics(Timeline.cut(timeline, today))


def _best(task: Task, frames: Frames, held: pl.DataFrame) -> Best:
    products, offers, _ = frames
    # Among new offers, in the currency of most of the product's offers.
    new = offers.select("product_id", "condition").join(
        products.select("product_id", "currency"), on="product_id", maintain_order="left"
    )
    paid = payable(held, new["currency"].set(new["condition"] != "new", None))
    looked = _looked(offers, "product_id")
    today = current(paid.with_columns(series="product_id"), looked, task.as_of, task.vouch)
    timelines = joined(best_over_time(paid))
    return Best(timelines, _half(timelines, today), today)


def _daily(
    task: Task, held: pl.DataFrame, mine: pl.DataFrame, best: Future[Best]
) -> dict[str, pl.DataFrame]:
    midnight = task.as_of // DAY * DAY
    past = past_of(held, task.frames.spells, midnight)
    return daily_marts(past, mine, best.result().timelines, task.frames, midnight, task.vouch)


def _signals(
    products: pl.DataFrame, offers: pl.DataFrame, best: Best, reduced: pl.DataFrame
) -> pl.DataFrame:
    """What a list of products shows beside the price, one row a product, in their order."""
    stats = best.usual.rename({"series": "product_id"})
    # A list shows one price: the score is that offer's, not of a dearer one that is reduced. And only
    # where the product, too, usually costs more: a cheaper shop may just have sold out.
    usual = stats.filter(pl.col("span") == "90d").select("product_id", usual="median")
    low = pl.col("price") <= (1 - LEAST_DISCOUNT) * pl.col("usual")
    genuine = reduced.filter(pl.col("verdict") == "genuine").join(usual, on="product_id")
    score = genuine.filter(low).select("score", best_offer_id="offer_id")
    ends = best.today.select(product_id="series", ends_at="end")
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
    for each in (month, year, ends):
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
