"""On which weekday, in which month prices are lower than usual, where the history bears it.

Weekdays: in a week of which a product's price is known throughout, how far the (geometric) mean
price of the day is from that of the week; a weekday needs products with 8 such weeks.

Months: the index of a category against the mean of its year, less the drift within the year, averaged
over the years (years of twelve months, back from the last whole month); needs two of them. Not the
centred moving average of the textbook: that one loses half a year at either end, so that two years
would show each month once, and what was seen once is no season.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from models.categories import CLASS, by_class, leaves
from models.periods import MONDAY, WEEK, Stretches, changes, coded_stretches, period_number
from models.price_index import category_index
from models.timeline import DAY, Ints, Values

SEASON = {
    "category_slug": pl.String,
    "currency": pl.String,
    "cycle": pl.String,
    "place": pl.Int64,
    "effect_ratio": pl.Float64,
    "drop_ratio": pl.Float64,
    "agreement_ratio": pl.Float64,
    "observations": pl.Int64,
    "series": pl.Int64,
}
FEWEST_WEEKS = 8
FEWEST_YEARS = 2


def seasonality(timeline: pl.DataFrame, products: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """Effect of weekday and month on prices, by class and currency; `timeline`: of products.

    Gives SEASON, a row for each of `cycle` 'weekday' (`place` 0 is Monday, UTC) or 'month' (1 to
    12). `effect_ratio`: price there over the mean of its week or year (0.98: 2 % cheaper). `drop_ratio`:
    of the price drops of whole weeks, those that happen on this weekday (null without any, and for
    months). `agreement_ratio`: share of the years on the side of 1 where `effect_ratio` is (null for weekdays): a
    level that moved once looks like a season in one year of two. `observations`: weeks of a product,
    or years. `series`: products with enough weeks, or the median number behind that month's links.
    Classes with too little are absent.
    """
    timeline = timeline.filter(pl.col("start") <= as_of)
    parts = [_weekdays(coded_stretches(timeline), products)]
    span = np.array([timeline["start"].to_numpy().min(initial=as_of), as_of])
    if np.diff(period_number(span, "month"))[0] >= 12 * FEWEST_YEARS:
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
    ).cast(pl.Float64)
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
        pl.Series("effect_ratio", effect.ravel()),
        pl.Series("drop_ratio", share.ravel(), nan_to_null=True),
        pl.lit(None).alias("agreement_ratio"),
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


def _day_to_week(jumps: Values, passed: Values) -> Values:
    """Log of each weekday's price less that of its week, summed over weeks, from sums over changes.

    A change by c at the fraction x of weekday j adds c to every later day, c (1 - x) to j itself
    and c (1 - (j + x) / 7) to the week. So only changes are read, and most weeks have none.
    """
    of_day: Values = np.cumsum(jumps, axis=1) - passed
    of_week = (jumps - (jumps * np.arange(7) + passed) / 7).sum(axis=1, keepdims=True)
    of_day -= of_week
    return of_day


def _months(index: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """SEASON of the months, of a monthly `category_index`; the first month and that of `as_of`
    are not whole and do not count, nor does one in which nothing was compared."""
    number = pl.Series("number", period_number(index["period_start"].to_numpy(), "month"))
    this = period_number(np.array([as_of]), "month")[0]
    whole = index.with_columns(number).filter((pl.col("products") > 0) & (pl.col("number") < this))
    # A month that is missing breaks the row; the newest row of months counts.
    back = pl.col("number").max() - pl.col("number")
    missing = back - pl.int_range(pl.len()).reverse()
    row = whole.with_columns(back=back.over(CLASS), missing=missing.over(CLASS))
    row = row.filter(pl.col("missing") == 0).with_columns(
        year=pl.col("back") // 12, years=(pl.len() // 12).cast(pl.Int64).over(CLASS)
    )
    row = row.filter((pl.col("years") >= FEWEST_YEARS) & (pl.col("year") < pl.col("years")))
    log = pl.col("index").log()
    drift = (
        log.filter(pl.col("year") == 0).mean() - log.filter(pl.col("back") >= pl.len() - 12).mean()
    ) / (pl.col("years") - 1)
    return (
        row.with_columns(
            place=pl.col("number") % 12 + 1,
            drift=drift.over(CLASS),
            apart=log - log.mean().over(*CLASS, "year"),
        )
        .with_columns(pl.col("apart") - pl.col("drift") * (5.5 - pl.col("back") % 12) / 12)
        .group_by(*CLASS, "place")
        .agg(
            pl.lit("month").alias("cycle"),
            pl.col("apart").mean().exp().alias("effect_ratio"),
            pl.lit(None).alias("drop_ratio"),
            (pl.col("apart") * pl.col("apart").mean() > 0).mean().alias("agreement_ratio"),
            pl.len().alias("observations"),
            pl.col("products").median().round().alias("series"),
        )
        .select(pl.col(name).cast(kind) for name, kind in SEASON.items())
    )
