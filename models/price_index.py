"""A price index for each category: matched-model, chained Jevons.

Source: ILO, IMF, Eurostat, UNECE, OECD, World Bank, Consumer Price Index Manual: Concepts and
Methods (2020), the chapter on elementary indices (Jevons: the geometric mean of price relatives, the
one that passes the tests of time reversal and transitivity) and the one on missing prices.

A product counts in a link of the chain when its price is known in this period and was before. Its
relative starts from the period in which it was last seen; the periods between are imputed by the
movement of its class, as the manual does with prices that are missing for a time (self-correcting:
what was imputed is taken back when the true price returns). In logarithms, over the matched products:

    index(t) = mean of [ index(last seen) + log price(t) - log price(last seen) ]

Where each product was seen in the period before, this is the chained Jevons index of the textbook.
A new product enters with its second period: its first price is compared with nothing, so it moves
the index neither up nor down. A vanished one leaves after its last, and moves as its class does.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from models.categories import CLASS, by_class, leaves
from models.periods import Means, Period, coded_stretches, period_means, period_starts
from models.timeline import Ints, Values

INDEX = {
    "category_slug": pl.String,
    "currency": pl.String,
    "period_start": pl.Int64,
    "index": pl.Float64,
    "products": pl.Int64,
    "entered": pl.Int64,
    "left": pl.Int64,
}
BASE = 100.0
NEVER = -1


def category_index(
    timeline: pl.DataFrame, products: pl.DataFrame, as_of: int, period: Period = "week"
) -> pl.DataFrame:
    """Price index of every category at every level and of all products (slug ''), by currency.

    `timeline`: TIMELINE of products, known until `as_of`. `products`: product_id, currency,
    category_slug (dotted, may be null). Gives INDEX, sorted by class and time; `period_start` in
    seconds (weeks from Monday 00:00 UTC); `index` is 100 in a class's first period; `products`
    matched behind the link; `entered`: seen for the first time; `left`: known in the row before
    and not in this one. Periods in which nothing of a class is known are absent. Where all of its
    products are new (`products` 0 in a later row) the index stands, for want of anything to compare.
    The last period is the one of `as_of`, as far as it has come.
    """
    known = coded_stretches(timeline.filter(pl.col("start") <= as_of))
    means = period_means(known, period)
    links = _links(means, products)
    if links.is_empty():
        return pl.DataFrame(schema=INDEX)
    links = (
        by_class(links)
        .group_by(*CLASS, "number", "last")
        .agg(pl.col("relative", "count").sum())
        .sort(*CLASS, "number", "last")
    )
    starts = period_starts(int(means.number.min()), int(means.number.max()), period)
    return _chained(links, starts)


def _links(means: Means, products: pl.DataFrame) -> pl.DataFrame:
    """Log relatives summed over the products of a category: category_slug, currency, `number` of the
    period (0 is the first of all), that in which they were `last` seen or NEVER, relative, count."""
    names, of_series = leaves(means.ids, products)
    number = means.number - means.number.min(initial=2**62)
    log = np.log(means.price)
    again = np.append(False, means.code[1:] == means.code[:-1])[: len(log)]
    last = np.where(again, np.roll(number, 1), NEVER)
    relative = np.where(again, np.diff(log, prepend=0.0), 0.0)
    # Three columns in one number: grouping takes half the time.
    size = int(number.max(initial=0)) + 2
    place = (of_series[means.code] * size + number) * size + last + 1
    links = pl.DataFrame({"place": place, "relative": relative}).filter(pl.col("place") >= 0)
    links = links.group_by("place").agg(
        pl.col("relative").sum(), pl.len().cast(pl.Int64).alias("count")
    )
    return links.select(
        leaf=pl.col("place") // size**2,
        number=pl.col("place") // size % size,
        last=pl.col("place") % size - 1,
        relative="relative",
        count="count",
    ).join(names.with_row_index("leaf").cast({"leaf": pl.Int64}), on="leaf")


def _chained(links: pl.DataFrame, starts: Ints) -> pl.DataFrame:
    """INDEX of `links` summed by class and sorted by class, number and last."""
    number, last, count = (links[name].to_numpy() for name in ("number", "last", "count"))
    of_class = links.select(pl.struct(*CLASS).rle_id()).to_series().to_numpy().astype(np.int64)
    matched = np.where(last == NEVER, 0, count)
    level = _levels(of_class, links, matched, len(starts))
    same = np.append(False, of_class[1:] == of_class[:-1])
    row = np.flatnonzero(~same | (np.diff(number, prepend=-1) != 0))
    products, known = np.add.reduceat(matched, row), np.add.reduceat(count, row)
    begins = ~same[row]
    # `last` of those that were there in the row before, whichever period that was.
    before = np.where(begins, NEVER, np.roll(number[row], 1))
    of_row = np.repeat(before, np.diff(np.append(row, len(number))))
    stayed = np.add.reduceat(np.where(last == of_row, matched, 0), row)
    return links[row].select(
        *CLASS,
        pl.Series("period_start", starts[number[row]]),
        pl.Series("index", np.exp(level[of_class[row], number[row]])),
        pl.Series("products", products),
        pl.Series("entered", known - products),
        pl.Series("left", np.where(begins, 0, np.roll(known, 1) - stayed)),
    )


def _levels(of_class: Ints, links: pl.DataFrame, matched: Ints, periods: int) -> Values:
    """Logarithm of the index by class and period."""
    number, last, relative = (links[name].to_numpy() for name in ("number", "last", "relative"))
    classes = int(of_class.max()) + 1
    level = np.full((classes, periods), np.log(BASE))
    by_period = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[by_period], np.arange(periods + 1))
    for period in range(periods):
        at = by_period[edges[period] : edges[period + 1]]
        seen = of_class[at]
        reached = relative[at] + matched[at] * level[seen, last[at]]
        total = np.bincount(seen, reached, classes)
        count = np.bincount(seen, matched[at], classes)
        stands = level[:, max(period - 1, 0)]
        # Where a price comes back, so must the index, whatever order the sums were made in.
        reached = np.round(total / np.maximum(count, 1), 12)
        level[:, period] = np.where(count > 0, reached, stands)
    return level
