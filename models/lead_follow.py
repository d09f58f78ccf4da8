"""Which retailer moves first: how often one's price change is followed by another's.

The rule. A change is a day (UTC) on which a retailer's price of a product rose, or fell; two on one
day in one direction are one. It is *followed* by another retailer of the product whose price moves
in the same direction 1 to 7 days later, and moved *together* when that is the same day already.
Of changes not together, `followed_ratio` were followed. `chance_ratio` is what would be without any
connection: how much of the time a window of the next 1 to 7 days holds such a change, for the very
products and directions the leader moved (a follower with a sale every week "follows" everybody; a
window of a week holds each weekday once, so a weekday on which all change does not count as
following). `lead_ratio` is one over the other: 1 is chance. Who moves first is told by both ways of
a pair: a leader's ratio is above 1 and its follower's is not. Where both are, and alike, the two
answer to something else, a brand's promotion that begins on another weekday at each.

A listing counts where its price is known for 80 % of the time, a pair where 20 products are common.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from models.periods import Stretches, ascending, changes, coded_stretches
from models.timeline import DAY, Ints

LEAD = {
    "leader": pl.String,
    "follower": pl.String,
    "currency": pl.String,
    "products": pl.Int64,
    "changes": pl.Int64,
    "together": pl.Int64,
    "followed": pl.Int64,
    "followed_ratio": pl.Float64,
    "chance_ratio": pl.Float64,
    "lead_ratio": pl.Float64,
    "median_lag_days": pl.Float64,
}
WITHIN = 7
FEWEST_PRODUCTS = 20
KNOWN_SHARE = 0.8


def lead_follow(
    timeline: pl.DataFrame,
    offers: pl.DataFrame,
    as_of: int,
    days: int = 365,
    fewest_products: int = FEWEST_PRODUCTS,
) -> pl.DataFrame:
    """Every ordered pair of retailers with enough common products, over the last `days`.

    `timeline`: TIMELINE of offers. `offers`: offer_id, product_id, retailer, currency. Gives LEAD,
    sorted by pair: `changes` of the leader on `products` both sell, of which `together` and
    `followed`, the shares and ratio above (null where there is nothing to divide by) and the median
    lag of those followed. The leader's changes count up to 8 days before `as_of`, so that all
    days in which they can be followed are over.
    """
    timeline = timeline.filter(pl.col("start") <= as_of)
    first = max(as_of // DAY - days, int(timeline["start"].to_numpy().min(initial=as_of)) // DAY)
    last = as_of // DAY - WITHIN - 1
    known = coded_stretches(timeline, first * DAY)
    listings, shops = _listings(known, offers, first * DAY, as_of)
    if last < first or listings.is_empty():
        return pl.DataFrame(schema=LEAD)
    moves = _moves(known, listings, first, shops.height)
    exposed = _exposed(listings, moves, last - first).filter(pl.col("products") >= fewest_products)
    found = exposed.join(_answered(moves, last - first), on=["leader", "follower"], how="left")
    names = ("leader", "follower")
    for name in names:
        found = found.join(shops.rename({"shop": name, "retailer": f"{name}_name"}), on=name)
    return _shares(found.drop(names).rename({f"{name}_name": name for name in names}))


def _shares(found: pl.DataFrame) -> pl.DataFrame:
    """LEAD from counts."""
    counts = found.with_columns(pl.col("together", "followed").fill_null(0))
    apart = pl.col("changes") - pl.col("together")
    return (
        counts.with_columns(
            followed_ratio=pl.when(apart > 0).then(pl.col("followed") / apart),
            chance_ratio=pl.when(pl.col("changes") > 0).then(
                pl.col("expected") / pl.col("changes")
            ),
        )
        .with_columns(
            lead_ratio=pl.when(pl.col("expected") > 0).then(
                pl.col("followed_ratio") / pl.col("chance_ratio")
            )
        )
        .select(pl.col(name).cast(kind) for name, kind in LEAD.items())
        .sort("leader", "follower", "currency")
    )


def _listings(
    known: Stretches, offers: pl.DataFrame, begin: int, end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What has known prices for long enough: `code` of the offer, `item` and `shop` as numbers from
    0; and the shops: shop, retailer, currency. A retailer is one shop in each of its currencies."""
    seconds = np.minimum(known.until, end) - np.maximum(known.start, begin)
    share = np.bincount(known.code, seconds, len(known.ids)) / max(end - begin, 1)
    listings = (
        pl.DataFrame({"offer_id": pl.Series(known.ids, dtype=pl.Int64), "share": share})
        .with_columns(code=pl.int_range(pl.len()))
        .filter(pl.col("share") >= KNOWN_SHARE)
        .join(offers.select("offer_id", "product_id", "retailer", "currency"), on="offer_id")
    )
    shop = ("retailer", "currency")
    shops = listings.select(shop).unique().sort(shop).with_columns(shop=pl.int_range(pl.len()))
    numbered = listings.join(shops, on=shop).select(
        "code", "shop", pl.struct("product_id", "currency").rank("dense").alias("item") - 1
    )
    return numbered.cast(pl.Int64), shops.cast({"shop": pl.Int64})


class _Moves(NamedTuple):
    """Days on which a price moved, by `kind` (2 item, and 1 if it rose), day from the first, and
    shop; in that order, none twice. Kinds are `span` days apart, so far that no window reaches over:
    kind * span + day is `time`."""

    kind: Ints
    day: Ints
    shop: Ints
    time: Ints
    span: int
    shops: int


def _moves(known: Stretches, listings: pl.DataFrame, first: int, shops: int) -> _Moves:
    item, shop = (np.full(len(known.ids), -1) for _ in range(2))
    item[listings["code"].to_numpy()] = listings["item"].to_numpy()
    shop[listings["code"].to_numpy()] = listings["shop"].to_numpy()
    at = changes(known)
    at = at[item[known.code[at]] >= 0]
    code = known.code[at]
    kind = item[code] * 2 + (known.price[at] > known.price[at - 1])
    day = known.start[at] // DAY - first
    span = int(day.max(initial=0)) + WITHIN + 1
    # One number for all three sorts in a tenth of the time of three columns.
    moves = ascending((kind * span + day) * shops + shop[code])
    time, mover = np.divmod(moves[np.diff(moves, prepend=-1) != 0], shops)
    return _Moves(*np.divmod(time, span), mover, time, span, shops)


def _exposed(listings: pl.DataFrame, moves: _Moves, last: int) -> pl.DataFrame:
    """By pair of shops (numbers): common products, the leader's changes, and how many of them would
    be followed by chance."""
    sold = listings.select("item", "shop").unique().sort("item", "shop")
    place = sold["item"].to_numpy() * moves.shops + sold["shop"].to_numpy()
    # By item and shop, then direction, then day.
    kind_and_shop = (moves.kind // 2 * moves.shops + moves.shop) * 2 + moves.kind % 2
    series, day = np.divmod(ascending(kind_and_shop * moves.span + moves.day), moves.span)
    again = np.append(False, series[1:] == series[:-1])[: len(series)]
    # Days whose next 7 hold this move and no earlier one of its kind: what it adds to the covered.
    since = np.maximum(np.where(again, np.roll(day, 1), 0), day - WITHIN)
    covered = np.maximum(0, np.minimum(day - 1, last) - since + 1)
    row = np.searchsorted(place, series // 2) * 2 + series % 2
    count = np.bincount(row, day <= last, 2 * sold.height).reshape(-1, 2)
    share = np.bincount(row, covered / (last + 1), 2 * sold.height).reshape(-1, 2)
    sold = sold.with_columns(
        pl.Series("changes", count.sum(axis=1)),
        *(pl.Series(f"count_{way}", count[:, way]) for way in (0, 1)),
        *(pl.Series(f"share_{way}", share[:, way]) for way in (0, 1)),
    )
    expected = (pl.col(f"count_{way}") * pl.col(f"share_{way}_of_follower") for way in (0, 1))
    return (
        sold.join(sold, on="item", suffix="_of_follower")
        .filter(pl.col("shop") != pl.col("shop_of_follower"))
        .group_by(leader="shop", follower="shop_of_follower")
        .agg(
            pl.len().alias("products"),
            pl.col("changes").sum(),
            pl.sum_horizontal(expected).sum().alias("expected"),
        )
    )


def _answered(moves: _Moves, last: int) -> pl.DataFrame:
    """By pair of shops (numbers): leader's changes together with the follower's, followed by one,
    and the median lag of those."""
    leader, follower, lag = _near(moves)
    whole = moves.day[leader] <= last
    lags = WITHIN + 1
    event = leader[whole] * moves.shops + moves.shop[follower[whole]]
    found = ascending(event * lags + lag[whole])
    event, lag = np.divmod(found[np.diff(found // lags, prepend=-1) != 0], lags)
    first = pl.DataFrame(
        {"leader": moves.shop[event // moves.shops], "follower": event % moves.shops, "lag": lag}
    )
    days = pl.col("lag")
    return first.group_by("leader", "follower").agg(
        (days == 0).sum().alias("together"),
        (days > 0).sum().alias("followed"),
        days.filter(days > 0).median().alias("median_lag_days"),
    )


def _near(moves: _Moves) -> tuple[Ints, Ints, Ints]:
    """Moves of one kind within a week: places of the earlier and the later one, lag; on one day, both
    ways. A shop's own next move is among them, and belongs to no pair of shops."""
    leaders, followers, lags = [], [], []
    place, ahead = np.arange(len(moves.time)), 0
    while len(place):
        ahead += 1
        place = place[: np.searchsorted(place, len(moves.time) - ahead)]
        lag = moves.time[place + ahead] - moves.time[place]
        place, lag = place[lag <= WITHIN], lag[lag <= WITHIN]
        same_day = place[lag == 0]
        leaders += [place, same_day + ahead]
        followers += [place + ahead, same_day]
        lags += [lag, np.zeros(len(same_day), np.int64)]
    if not leaders:
        return (np.empty(0, np.int64),) * 3
    return np.concatenate(leaders), np.concatenate(followers), np.concatenate(lags)
