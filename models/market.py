"""What a market is like: promotions, how often and how far prices move, how far shops are apart.

Definitions, each over offers of one currency:

- *usual price* of an offer: the one that half of the time of the last 90 days it did not exceed (the
  median weighted by time: a sale of three weeks does not change it, one of two months becomes it).
- *promotion share*: of fresh offers, those priced below their usual price. *List price share*: those
  whose shop names a list price above the price. The first is measured, the second is claimed.
- *changes per month*: price changes of the last 90 days per 30.4375 days for which a price was known.
- *spell length*: median days from one change of an offer's price to the next, of the last 365 days.
  Spells that an end of the data or a gap cuts off do not count, which favours short ones.
- *spread* and *variation* of a product: (highest - lowest) / lowest, and standard deviation over mean,
  of the best fresh prices of its shops; the median over products with two shops or more.
- *price position* of a retailer: geometric mean, over the products others sell too, of its best fresh
  price over the median of the others': 0.97 is 3 % below the market.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from models.categories import by_class
from models.periods import Stretches, ascending, changes, coded_stretches
from models.statistics import MONTH, weighted_median
from models.timeline import DAY, Ints, Values, ordered

FIGURES = {
    "category_slug": pl.String,
    "retailer": pl.String,
    "currency": pl.String,
    "offers": pl.Int64,
    "promotion_ratio": pl.Float64,
    "list_price_ratio": pl.Float64,
    "changes_per_month": pl.Float64,
    "median_spell_days": pl.Float64,
    "spells": pl.Int64,
    "spread_ratio": pl.Float64,
    "variation_ratio": pl.Float64,
    "price_position_ratio": pl.Float64,
    "cheapest_ratio": pl.Float64,
    "compared": pl.Int64,
}
KEY = ("category_slug", "retailer", "currency")
RECENT = 90 * DAY
YEAR = 365 * DAY
SPELLS = ("median_spell_days", "spells")


def market_figures(
    timeline: pl.DataFrame, offers: pl.DataFrame, products: pl.DataFrame, as_of: int
) -> pl.DataFrame:
    """The figures above, by category at every level ('' is all) and retailer ('' is all).

    `timeline`: TIMELINE of offers. `offers`: offer_id, product_id, retailer, currency, list_price
    (0 for none) and price in units, fresh. `products`: product_id, category_slug; an offer of
    another product counts in '' only. Gives FIGURES, sorted by key: `offers` that are fresh;
    `spells` behind the median; `compared`: products with fresh prices of another shop too, behind
    position and `cheapest_ratio` (ties count) of a retailer and, with retailer '', behind spread
    and variation. Null where there is nothing to tell it from, or it makes no sense.
    """
    timeline = timeline.filter(pl.col("start") <= as_of)
    slugs = products.select("product_id", "category_slug").unique("product_id")
    placed = offers.join(slugs, on="product_id", how="left", maintain_order="left")
    known = coded_stretches(timeline, as_of - YEAR)
    recent = coded_stretches(timeline, as_of - RECENT)
    counts = _sums(placed, recent, as_of)
    parts = [_spell_lengths(placed, known), *_between_shops(placed)]
    for part in parts:
        counts = counts.join(part, on=KEY, how="left", nulls_equal=True)
    offers_, time = pl.col("offers"), pl.col("seconds")
    return (
        counts.select(
            *KEY,
            offers_,
            pl.when(offers_ > 0).then(pl.col("promoted") / offers_).alias("promotion_ratio"),
            pl.when(offers_ > 0).then(pl.col("listed") / offers_).alias("list_price_ratio"),
            pl.when(time > 0).then(pl.col("changes") * MONTH / time).alias("changes_per_month"),
            "median_spell_days",
            pl.col("spells").fill_null(0),
            "spread_ratio",
            "variation_ratio",
            "price_position_ratio",
            "cheapest_ratio",
            pl.coalesce("compared", "dispersed", pl.lit(0)).alias("compared"),
        )
        .select(pl.col(name).cast(kind) for name, kind in FIGURES.items())
        .sort(KEY)
    )


def _sums(placed: pl.DataFrame, recent: Stretches, as_of: int) -> pl.DataFrame:
    """By key: offers (fresh), promoted, listed (of them), changes, seconds (known, of any)."""
    seconds = np.minimum(recent.until, as_of) - np.maximum(recent.start, as_of - RECENT)
    at = changes(recent)
    series = len(recent.ids)
    of_offer = pl.DataFrame(
        {
            "offer_id": pl.Series(recent.ids, dtype=pl.Int64),
            "usual": _usual_prices(recent, seconds),
            "changes": np.bincount(recent.code[at], minlength=series),
            "seconds": np.bincount(recent.code, seconds, series),
        }
    )
    fresh = pl.col("fresh")
    by_leaf = (
        placed.join(of_offer, on="offer_id", how="left")
        .group_by(KEY)
        .agg(
            fresh.sum().alias("offers"),
            (fresh & (pl.col("price") < pl.col("usual"))).sum().alias("promoted"),
            (fresh & (pl.col("list_price") > pl.col("price"))).sum().alias("listed"),
            pl.col("changes", "seconds").sum(),
        )
    )
    return _everywhere(by_leaf).group_by(KEY).agg(pl.all().sum())


def _everywhere(by_leaf: pl.DataFrame) -> pl.DataFrame:
    """The rows of leaves once for each class above, for their retailer and for all."""
    rows = by_class(by_leaf)
    return pl.concat([rows, rows.with_columns(pl.lit("").alias("retailer"))])


def _usual_prices(recent: Stretches, seconds: Ints) -> Ints:
    """Of each series the median of its prices weighted by time; of prices seen at single instants
    only, each counts the same."""
    code, series = recent.code, len(recent.ids)
    weight = np.where((np.bincount(code, seconds, series) == 0)[code], 1, seconds)
    total = np.bincount(code, weight, series).astype(np.int64)
    return weighted_median(recent.price, ordered(code, recent.price), weight, total)


def _spell_lengths(placed: pl.DataFrame, known: Stretches) -> pl.DataFrame:
    """By key: median_spell_days, spells.

    Medians cannot be added up the tree of categories. So lengths are sorted once, and for each depth
    of the tree put into groups by a stable sort of small numbers, a tenth of the work.
    """
    at = changes(known)
    run = np.cumsum(~known.follows)[at]
    within = np.flatnonzero(run[1:] == run[:-1])
    ids = pl.DataFrame({"offer_id": pl.Series(known.ids, dtype=pl.Int64)})
    keys = placed.select("offer_id", *KEY, leaf=pl.struct(KEY).rank("dense").cast(pl.Int64) - 1)
    leaf = ids.join(keys, on="offer_id", how="left", maintain_order="left")["leaf"].fill_null(-1)
    of_spell = leaf.to_numpy()[known.code[at[within]]]
    seconds = known.start[at[within + 1]] - known.start[at[within]]
    # Sorted as one number, which needs no shuffling of the other column.
    size = int(of_spell.max(initial=0)) + 1
    seconds, of_spell = np.divmod(ascending((seconds * size + of_spell)[of_spell >= 0]), size)
    leaves = keys.select("leaf", *KEY).unique("leaf")
    slug = pl.col("category_slug")
    depth = pl.when(slug == "").then(0).otherwise(slug.str.count_matches(".", literal=True) + 1)
    groups = _everywhere(leaves).with_columns(depth=depth, whole=pl.col("retailer") == "")
    frames = [pl.DataFrame(schema={name: FIGURES[name] for name in (*KEY, *SPELLS)})]
    for part in groups.partition_by("depth", "whole"):
        names = part.select(KEY).unique()
        codes = part.join(names.with_row_index("group"), on=KEY)
        group_of = np.full(leaves.height, names.height)
        group_of[codes["leaf"].to_numpy()] = codes["group"].to_numpy()
        medians, counts = _medians(seconds, group_of[of_spell], names.height)
        figures = (pl.Series(SPELLS[0], medians / DAY), pl.Series(SPELLS[1], counts))
        frames.append(names.with_columns(figures).filter(pl.col(SPELLS[1]) > 0))
    return pl.concat(frames)


def _medians(ascending: Ints, group: Ints, groups: int) -> tuple[Values, Ints]:
    """Median and count of each group of values that come in order; a group past the last is none."""
    order = np.argsort(group.astype(np.min_scalar_type(groups)), kind="stable")
    counts = np.bincount(group, minlength=groups + 1)[:groups]
    first = np.cumsum(counts) - counts
    if not len(ascending):
        return np.zeros(groups), counts
    last = len(ascending) - 1
    low, high = (
        ascending[order[np.clip(first + middle, 0, last)]]
        for middle in ((counts - 1) // 2, counts // 2)
    )
    return (low + high) / 2, counts


def _between_shops(placed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """By key of a retailer: price_position_ratio, cheapest_ratio, compared; and by key with retailer '':
    spread_ratio, variation_ratio, dispersed (products behind them)."""
    best = (
        placed.filter("fresh")
        .group_by("product_id", "retailer", "currency")
        .agg(pl.col("price").min(), pl.col("category_slug").first())
        .filter(pl.len().over("product_id", "currency") > 1)
        .sort("product_id", "currency", "price")
    )
    market = best.select(pl.struct("product_id", "currency").rle_id()).to_series().to_numpy()
    price = best["price"].to_numpy().astype(np.float64)
    first = np.flatnonzero(np.diff(market.astype(np.int64), prepend=-1))
    positions = _positions(best, price, first)
    over_lowest = price / np.repeat(price[first], np.diff(np.append(first, len(price))))
    return positions, _dispersion(best[first], over_lowest, first)


def _positions(best: pl.DataFrame, price: Values, first: Ints) -> pl.DataFrame:
    """Positions, from best prices sorted by product and price."""
    size = np.diff(np.append(first, len(price)))
    start, shops = np.repeat(first, size), np.repeat(size, size)
    rank = np.arange(len(price)) - start
    # The two middle ranks among the others; from its own rank on, theirs are one higher.
    middle = ((shops - 2) // 2, (shops - 1) // 2)
    others = sum(price[start + at + (at >= rank)] for at in middle) / 2
    rows = best.with_columns(
        pl.Series("position", np.log(price / others)),
        pl.Series("cheapest", price == price[start]),
    )
    return (
        by_class(rows)
        .group_by(KEY)
        .agg(
            pl.col("position").mean().exp().alias("price_position_ratio"),
            pl.col("cheapest").mean().alias("cheapest_ratio"),
            pl.len().alias("compared"),
        )
    )


def _dispersion(markets: pl.DataFrame, over_lowest: Values, first: Ints) -> pl.DataFrame:
    """Medians of spread and variation over the products, which come as prices over the lowest."""
    size = np.diff(np.append(first, len(over_lowest)))
    mean = np.add.reduceat(over_lowest, first) / size if len(first) else np.empty(0)
    apart = (over_lowest - np.repeat(mean, size)) ** 2
    deviation = np.sqrt(np.add.reduceat(apart, first) / size) if len(first) else np.empty(0)
    rows = markets.with_columns(
        pl.Series("spread_ratio", over_lowest[first + size - 1] - 1),
        pl.Series("variation_ratio", deviation / mean),
        pl.lit("").alias("retailer"),
    )
    return (
        by_class(rows)
        .group_by(KEY)
        .agg(pl.col("spread_ratio", "variation_ratio").median(), pl.len().alias("dispersed"))
    )
