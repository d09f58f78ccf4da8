"""Where a price is heading: direction and strength of its trend, robust to outliers.

Read from one price a week, the one in force at `as_of`, a week before, two weeks before …: sampled
on the axis of time, so a price counts for as long as it held, however often it was looked at. Over
more than half a year every second week will do: a quarter of the pairs, and most of the weeks left
out repeat their neighbour's price.

Slope: Theil (1950) and Sen (1968), the median of the slopes between all pairs of points; of the
logarithm of the price, so it is a ratio. Up to 29 % of the points can be outliers before it breaks.
Strength: Kendall's tau-b (1945), the share of pairs that rise less the share that fall, corrected
for pairs that tie; 1 when the price only rises, 0 when it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from models.categories import CLASS
from models.periods import WEEK, Stretches, coded_stretches
from models.timeline import DAY, Flags, Ints, Values

TREND: dict[str, type[pl.DataType]] = {
    "days": pl.Int64,
    "change_per_30d_ratio": pl.Float64,
    "strength": pl.Float64,
    "direction": pl.String,
    "points": pl.Int64,
}
WINDOWS = (90, 365)
WEEKLY = 183  # days: over longer windows every second week
# Half of the window's samples, and never fewer than 8: below, one price step decides everything.
FEWEST = 8
# A trend has a direction when its line moves the price by 1 % over the window (less is rounding: one
# step of 0.10 in a price of 9.90) and tau reaches 0.4: Mann and Kendall's 5 % point for 13 weekly
# prices. A rule, not a p-value: prices that stand for weeks are no independent observations.
LEAST_CHANGE = 0.01
LEAST_STRENGTH = 0.4
# Rows of a block times its pairs: 2 MB stay in the processor's cache.
BLOCK = 1 << 18


def trends(timeline: pl.DataFrame, as_of: int, windows: Sequence[int] = WINDOWS) -> pl.DataFrame:
    """Trend of each series of TIMELINE over each of the `windows` (days before `as_of`).

    Gives series, days, change_per_30d_ratio (0.012: 1.2 % dearer every 30 days), strength (-1 to 1),
    direction 'rising', 'falling' or 'flat', points (samples known); the middle three are null
    where fewer points are known than 8 or half the window's samples. Sorted by window, in the order
    of the timeline; a series of which nothing is known in a window is absent from it.
    """
    oldest = as_of - max(windows, default=0) * DAY
    known = coded_stretches(timeline.filter(pl.col("start") <= as_of), oldest)
    weeks = 1 + max(windows, default=0) // 7
    log = np.log(_weekly(known, as_of, weeks))
    ids = pl.DataFrame({"series": pl.Series(known.ids, dtype=pl.Int64)})
    frames = [_trend(log, days, ids) for days in windows]
    return pl.concat(frames) if frames else pl.DataFrame(schema={"series": pl.Int64, **TREND})


def category_trends(
    index: pl.DataFrame, as_of: int, windows: Sequence[int] = WINDOWS
) -> pl.DataFrame:
    """The same of each class of a weekly `category_index`: category_slug and currency in the place
    of series."""
    index = index.filter(pl.col("period_start") <= as_of).with_columns(
        of_class=pl.struct(*CLASS).rle_id().cast(pl.Int64),
        week=(as_of - pl.col("period_start")) // WEEK,
    )
    classes = index.select("of_class", *CLASS).unique("of_class", maintain_order=True)
    weeks = 1 + max(windows, default=0) // 7
    levels = np.full((classes.height, weeks), np.nan)
    recent = index.filter(pl.col("week") < weeks)
    levels[recent["of_class"].to_numpy(), weeks - 1 - recent["week"].to_numpy()] = recent["index"]
    log = np.log(levels)
    frames = [_trend(log, days, classes.select(CLASS)) for days in windows]
    schema: dict[str, type[pl.DataType]] = {
        "category_slug": pl.String,
        "currency": pl.String,
        **TREND,
    }
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def _weekly(known: Stretches, as_of: int, weeks: int) -> Values:
    """The price in force at `as_of` (last column) and 1, 2 … `weeks` - 1 weeks before, or NaN. At
    the very second where a stretch ends and the next begins, the next is in force."""
    oldest = np.minimum(weeks - 1, (as_of - known.start) // WEEK)
    newest = np.maximum(0, -(-(as_of - known.until) // WEEK))
    counts = np.maximum(0, oldest - newest + 1)
    piece = np.repeat(np.arange(len(counts)), counts)
    back = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts - newest, counts)
    prices = np.full((len(known.ids), weeks), np.nan)
    # Where two stretches touch, the later one is assigned last.
    prices[known.code[piece], weeks - 1 - back] = known.price[piece]
    return prices


def _trend(log: Values, days: int, keys: pl.DataFrame) -> pl.DataFrame:
    """`keys` with TREND of the rows of `log`, one column a week, `as_of` the last; rows with
    nothing known in the window left out."""
    step = 1 if days <= WEEKLY else 2
    samples = 1 + days // 7 // step
    log = log[:, log.shape[1] - 1 - (samples - 1) * step :: step]
    known = ~np.isnan(log)
    points = known.sum(axis=1)
    slope, tau = np.full(len(log), np.nan), np.full(len(log), np.nan)
    for rows, place, values in _blocks(log, known, points, max(FEWEST, samples // 2)):
        slope[rows], tau[rows] = theil_sen(place * np.float64(7 * step), values)
    slopes = pl.Series("slope", slope, nan_to_null=True)
    line, strength = pl.col("slope") * days, pl.col("strength")
    flat = (line.abs() < np.log1p(LEAST_CHANGE)) | (strength.abs() < LEAST_STRENGTH)
    direction = pl.when(flat).then(pl.lit("flat")).when(line > 0).then(pl.lit("rising"))
    return (
        keys.with_columns(
            slopes,
            pl.lit(days, dtype=pl.Int64).alias("days"),
            pl.Series("change_per_30d_ratio", np.expm1(slope * 30), nan_to_null=True),
            pl.Series("strength", tau, nan_to_null=True),
            pl.Series("points", points, dtype=pl.Int64),
        )
        .filter(pl.col("points") > 0)
        .with_columns(
            pl.when(line.is_not_null())
            .then(direction.otherwise(pl.lit("falling")))
            .alias("direction")
        )
        .select(*keys.columns, *TREND)
    )


def _blocks(
    log: Values, known: Flags, points: Ints, fewest: int
) -> Iterator[tuple[Ints, Ints, Values]]:
    """Rows with the same number of points: which, and the places and values of their points."""
    for count in range(fewest, log.shape[1] + 1):
        rows = np.flatnonzero(points == count)
        size = max(1, BLOCK // (count * (count - 1) // 2))
        for begin in range(0, len(rows), size):
            block = rows[begin : begin + size]
            place = np.nonzero(known[block])[1].reshape(-1, count)
            yield block, place, np.take_along_axis(log[block], place, axis=1)


def theil_sen(times: Values, values: Values) -> tuple[Values, Values]:
    """Slope and Kendall's tau-b of each row; times rise along a row and do not repeat."""
    early, late = np.triu_indices(times.shape[1], 1)
    rise = values[:, late] - values[:, early]
    slope: Values = np.median(rise / (times[:, late] - times[:, early]), axis=1)
    up, down = (rise > 0).sum(axis=1), (rise < 0).sum(axis=1)
    # Times never tie: tau-b is (up - down) / sqrt(pairs that do not tie in price * all pairs).
    return slope, (up - down) / np.sqrt(np.maximum(up + down, 1) * float(rise.shape[1]))
