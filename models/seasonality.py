"""On which weekday, in which month prices are lower than usual, where the history bears it.

Weekdays: in a week of which a product's price is known throughout, how far the (geometric) mean
price of the day is from that of the week; a weekday needs products with 8 such weeks.

Months: the classical decomposition, the index of a category against its mean over the twelve months
around (2 x 12, so that every month weighs the same), averaged over the years; needs 24 whole months
in a row. With just 24 each month has been seen once: `observations` says how often.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from models.categories import CLASS, by_class, leaves
from models.price_index import category_index
from models.timeline import (
    DAY,
    MONDAY,
    WEEK,
    Floats,
    Ints,
    Stretches,
    changes,
    period_number,
    stretches,
)

SEASON = {
    "category_slug": pl.String,
    "currency": pl.String,
    "cycle": pl.String,
    "place": pl.Int64,
    "effect": pl.Float64,
    "drop_share": pl.Float64,
    "observations": pl.Int64,
    "series": pl.Int64,
}
FEWEST_WEEKS = 8
FEWEST_MONTHS = 24


def seasonality(timeline: pl.DataFrame, products: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """Effect of weekday and month on prices, by class and currency; `timeline`: of products.

    Gives SEASON, a row for each of `cycle` 'weekday' (`place` 0 is Monday, UTC) or 'month' (1 to
    12). `effect`: price there over the mean of its week or year (0.98: 2 % cheaper). `drop_share`:
    of the price drops of whole weeks, those that happen on this weekday (null without any, and for
    months). `observations`: weeks of a product, or years. `series`: products with enough weeks, or
    the median number behind a link of the monthly index. Classes with too little are absent.
    """
    timeline = timeline.filter(pl.col("start") <= as_of)
    parts = [_weekdays(stretches(timeline), products)]
    span = np.array([timeline["start"].to_numpy().min(initial=as_of), as_of])
    if np.diff(period_number(span, "month"))[0] >= FEWEST_MONTHS:
        parts.append(_months(category_index(timeline, products, as_of, "month"), as_of))
    return pl.concat(parts).sort(*CLASS, "cycle", "place", descending=[False, False, True, False])


def _weekdays(known: Stretches, products: pl.DataFrame) -> pl.DataFrame:
    """SEASON of the weekdays."""
    names, of_series = leaves(known.ids, products)
    weeks, at = _whole_weeks(known)
    weeks = np.where((weeks >= FEWEST_WEEKS) & (of_series >= 0), weeks, 0)
    at = at[weeks[known.code[at]] > 0]
    jump = np.log(known.price[at] / known.price[at - 1])
    day, second = np.divmod((known.start[at] - MONDAY) % WEEK, DAY)
    place = of_series[known.code[at]] * 7 + day
    of_leaf = np.maximum(of_series, 0)
    size = names.height
    sums = pl.DataFrame(
        {
            "place": np.tile(np.arange(7), size),
            "jump": np.bincount(place, jump, size * 7),
            "passed": np.bincount(place, jump * second / DAY, size * 7),
            "drops": np.bincount(place, jump < 0, size * 7),
            "observations": np.repeat(np.bincount(of_leaf, weeks, size), 7),
            "series": np.repeat(np.bincount(of_leaf, weeks > 0, size), 7),
        }
    )
    by_leaf = names.select(pl.all().repeat_by(7).explode()).with_columns(sums)
    rows = by_class(by_leaf).group_by(*CLASS, "place").agg(pl.all().sum())
    rows = rows.filter(pl.col("observations") > 0).sort(*CLASS, "place")
    jumps, passed, drops, observed = (
        rows[name].to_numpy().reshape(-1, 7) for name in ("jump", "passed", "drops", "observations")
    )
    effect = np.exp(_day_to_week(jumps, passed) / observed)
    total = drops.sum(axis=1, keepdims=True)
    share = np.where(total > 0, drops / np.maximum(total, 1), np.nan)
    return rows.with_columns(
        pl.lit("weekday").alias("cycle"),
        pl.Series("effect", effect.ravel()),
        pl.Series("drop_share", share.ravel(), nan_to_null=True),
    ).select(pl.col(name).cast(kind) for name, kind in SEASON.items())


def _whole_weeks(known: Stretches) -> tuple[Ints, Ints]:
    """How many weeks each series is known throughout, and the changes of price within them."""
    run = np.cumsum(~known.follows) - 1
    opens = np.flatnonzero(~known.follows)
    closes = np.append(opens[1:], len(run))[: len(opens)] - 1
    first = -((MONDAY - known.start[opens]) // WEEK)
    end = (known.until[closes] - MONDAY) // WEEK
    weeks = np.bincount(known.code[opens], np.maximum(0, end - first), len(known.ids))
    at = changes(known)
    week = (known.start[at] - MONDAY) // WEEK
    return weeks.astype(np.int64), at[(week >= first[run[at]]) & (week < end[run[at]])]


def _day_to_week(jumps: Floats, passed: Floats) -> Floats:
    """Log of each weekday's price less that of its week, summed over weeks, from sums over changes.

    A change by c at the fraction x of weekday j adds c to every later day, c (1 - x) to j itself
    and c (1 - (j + x) / 7) to the week. So only changes are read, and most weeks have none.
    """
    of_day: Floats = np.cumsum(jumps, axis=1) - passed
    of_week = (jumps - (jumps * np.arange(7) + passed) / 7).sum(axis=1, keepdims=True)
    of_day -= of_week
    return of_day


def _months(index: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """SEASON of the months, of a monthly `category_index`; the first month of a chain and that of
    `as_of` are not whole and do not count."""
    number = period_number(index["period_start"].to_numpy(), "month")
    this = period_number(np.array([as_of]), "month")[0]
    index = index.with_columns(pl.Series("number", number)).filter(
        (pl.col("products") > 0) & (pl.col("number") < this)
    )
    # A new chain, or a month without a price, begins anew.
    run = (pl.struct(*CLASS).rle_id() != pl.struct(*CLASS).rle_id().shift()) | (
        pl.col("number") != pl.col("number").shift() + 1
    )
    index = index.with_columns(run=run.fill_null(value=True).cum_sum())
    index = index.filter(pl.len().over("run") >= FEWEST_MONTHS)
    # 2 x 12: the mean of the twelve months up to the half year after and of those a month earlier.
    log = pl.col("index").log()
    twelve = log.rolling_mean(12)
    around = ((twelve + twelve.shift()) / 2).shift(-6).over("run")
    apart = index.select(
        *CLASS,
        (pl.col("number") % 12 + 1).alias("place"),
        (log - around).alias("apart"),
        pl.col("products").median().over(CLASS).round().alias("series"),
    ).drop_nulls("apart")
    means = apart.group_by(*CLASS, "place").agg(
        pl.col("apart").mean(), pl.len().alias("observations"), pl.col("series").first()
    )
    return means.select(
        *CLASS,
        pl.lit("month").alias("cycle"),
        "place",
        (pl.col("apart") - pl.col("apart").mean().over(CLASS)).exp().alias("effect"),
        pl.lit(None).alias("drop_share"),
        "observations",
        "series",
    ).select(pl.col(name).cast(kind) for name, kind in SEASON.items())
