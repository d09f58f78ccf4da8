"""Timelines: which price could be paid, from when until when. What every statistic is made from.

A *timeline* has one row per stretch: `series` (Int64, an offer or a product), `offer_id` (Int64, where
the price was), `start` and `until` (Int64, Unix seconds), `price` (Int64, units of 1/10,000). Rows
lie series by series, in the order of time, and never overlap; what is unknown is absent. One series
is in one currency. `until` is when the price stopped being known or true, whatever `as_of` is.

What is said of a series ends at its own `end`: when an offer of it was last looked at or grew stale, at
the earliest the last midnight. So within a day it changes only with what is known of it, and not
with every other price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

Ints = np.ndarray[Any, np.dtype[np.int64]]
CAN_BE_BOUGHT = ("InStock", "LimitedAvailability", "PreOrder", "BackOrder")
TIMELINE = ("series", "offer_id", "start", "until", "price")
Values = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
DAY = 86_400
NEVER = np.iinfo(np.int64).max


def stretches(offers: pl.DataFrame, spells: pl.DataFrame, vouch: int) -> pl.DataFrame:
    """Every spell with its offer and the second at which it ends: the columns of both, `offer_id`,
    `product_id`, `offer` (its row), `start`, `last` (seen),
    `until` and `newest` (the offer's last spell).

    `offers`: offer_id, product_id, spell_count, in the order of `spells`: first, last (seconds),
    price, list_price, currency, availability. A price holds until the next spell of the offer, but
    not for longer than `vouch` seconds after it was last seen.
    """
    counts = offers["spell_count"].to_numpy()
    row = np.repeat(np.arange(len(counts)), counts)
    until = spells["last"].to_numpy() + vouch
    following = np.append(spells["first"].to_numpy()[1:], NEVER)[: spells.height]
    ends = np.cumsum(counts) - 1
    following[ends] = NEVER
    newest = np.zeros(len(following), bool)
    newest[ends] = True
    return spells.select(
        pl.Series("offer_id", offers["offer_id"].to_numpy()[row]),
        pl.Series("product_id", offers["product_id"].to_numpy()[row]),
        pl.Series("offer", row),
        pl.col("first").alias("start"),
        "last",
        pl.Series("until", np.minimum(until, following)),
        pl.Series("newest", newest),
        "price",
        "list_price",
        "currency",
        "availability",
    )


def payable(stretches: pl.DataFrame, currency: pl.Series) -> pl.DataFrame:
    """The stretches in which the thing could be bought in this currency (of each offer, as text;
    null for an offer that does not count)."""
    kind = stretches["currency"].dtype
    wanted = currency.cast(kind, strict=False).gather(stretches["offer"])
    return stretches.filter(
        (pl.col("currency") == wanted) & pl.col("availability").cast(pl.String).is_in(CAN_BE_BOUGHT)
    )


def current(paid: pl.DataFrame, looked: pl.DataFrame, as_of: int, vouch: int) -> pl.DataFrame:
    """Of each `series`: its `end`, and its lowest `price` that can be paid at `as_of`, up to the very
    second at which the last look stops to vouch; null where there is none.

    `paid`: from `payable`, with `series`. `looked`: of every offer the `series` and when it was `last`
    looked at, which vouches for its price for `vouch` seconds."""
    now = paid.filter(pl.col("newest") & (pl.col("until") >= as_of))
    lowest = now.group_by("series").agg(pl.col("price").min())
    stale = pl.col("last") + vouch
    known = (
        pl.when(stale < as_of).then(stale).otherwise("last").clip(lower_bound=as_of // DAY * DAY)
    )
    ends = looked.group_by("series", maintain_order=True).agg(end=known.max())
    return ends.join(lowest, on="series", how="left", maintain_order="left")


def joined(timeline: pl.DataFrame) -> pl.DataFrame:
    """TIMELINE with touching stretches of one price at one offer as one."""
    rows = timeline.select(TIMELINE)
    goes_on = pl.col("start") == pl.col("until").shift()
    for name in ("series", "offer_id", "price"):
        goes_on = goes_on & (pl.col(name) == pl.col(name).shift())
    begins = rows.select(~goes_on.fill_null(value=False)).to_series()
    until = rows["until"].filter(begins.shift(-1, fill_value=True))
    return rows.filter(begins).with_columns(until=until)


def best_over_time(stretches: pl.DataFrame) -> pl.DataFrame:
    """The timeline of each product's lowest price (`series` is the product_id).

    `stretches`: product_id, offer_id, start, until, price, in one currency per product; of equal
    prices the lower offer_id counts. All products at once: between two instants at which anything
    begins or ends lies a *piece*, and each stretch lowers the pieces that it covers. It does so in
    two overlapping halves of a power of two, which are handed down level by level (a sparse table
    built backwards): O(n log n) also where a product has thousands of offers.
    """
    rows = stretches.filter(pl.col("until") > pl.col("start"))
    if rows.is_empty():
        return rows.select(pl.col("product_id").alias("series"), *TIMELINE[1:])
    product = rows["product_id"].rank("dense").to_numpy().astype(np.int64) - 1
    start, until = rows["start"].to_numpy(), rows["until"].to_numpy()
    origin = int(start.min())
    span = int(until.max()) - origin + 1
    begins, ends = product * span + start - origin, product * span + until - origin
    edges = pl.Series(np.concatenate([begins, ends])).unique().sort().to_numpy()
    by_price = rows.select(pl.arg_sort_by("price", "offer_id")).to_series().to_numpy()
    rank = np.empty(rows.height, np.int64)
    rank[by_price] = np.arange(rows.height)
    first, end = np.searchsorted(edges, begins), np.searchsorted(edges, ends)
    lowest = _lowest_rank(first, end, rank, len(edges))
    # Neighbouring pieces of one stretch are one; a piece that nobody covers is left out.
    changes = np.flatnonzero(np.diff(lowest, prepend=-1, append=-1))
    known = lowest[changes[:-1]] < rows.height
    low, high = changes[:-1][known], changes[1:][known]
    winner = by_price[lowest[low]]
    shift = product[winner] * span - origin
    return pl.DataFrame(
        {
            "series": rows["product_id"].to_numpy()[winner],
            "offer_id": rows["offer_id"].to_numpy()[winner],
            "start": edges[low] - shift,
            "until": edges[high] - shift,
            "price": rows["price"].to_numpy()[winner],
        }
    )


def _lowest_rank(first: Ints, end: Ints, rank: Ints, pieces: int) -> Ints:
    """Per piece the lowest `rank` among the intervals [first, end) of pieces that cover it; the
    number of intervals where none does."""
    level = np.frexp((end - first).astype(float))[1] - 1
    lowest = np.full(pieces, len(first))
    for power in range(int(level.max()), -1, -1):
        half = 1 << power
        # What holds for 2 × half pieces from here holds for half of them, here and half further on.
        handed = lowest.copy()
        np.minimum(lowest[:-half], handed[half:], out=handed[half:])
        lowest = handed
        mine = np.flatnonzero(level == power)
        np.minimum.at(lowest, first[mine], rank[mine])
        np.minimum.at(lowest, end[mine] - half, rank[mine])
    return lowest


def known_rows(frame: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """The rows that held for a while before the `end` of their series, or hold just since it, with
    that and the price of `today`, 0 where there is none. `now` comes from `current`."""
    today = now.rename({"price": "today"})
    rows = frame.join(today, on="series", how="left", maintain_order="left")
    begun = (pl.col("start") < pl.col("end")) | (
        (pl.col("start") == pl.col("end")) & (pl.col("price") == pl.col("today"))
    )
    return rows.filter(begun & (pl.col("until") > pl.col("start"))).with_columns(
        pl.col("today").fill_null(0)
    )


@dataclass(frozen=True)
class Timeline:
    """A timeline's columns as arrays. Of each row: `of`, the number of its series
    among those here; `same`: the row before is of the same series; `changed`: at another price. Of
    each series: `ids`, `place` (its number in the timeline that this is a part of), `first` row,
    `begun` and `end` (seconds), `current` price, 0 where it is not `fresh`: still known at `as_of`,
    and `price_since`, when its last price became what it is."""

    of: Ints
    offer_id: Ints
    start: Ints
    until: Ints
    price: Ints
    same: Flags
    changed: Flags
    ids: Ints
    place: Ints
    first: Ints
    begun: Ints
    end: Ints
    fresh: Flags
    current: Ints
    price_since: Ints

    @classmethod
    def cut(cls, frame: pl.DataFrame, now: pl.DataFrame) -> Timeline:
        """What of a frame (TIMELINE) is known: `known_rows`."""
        rows = known_rows(frame, now)
        ids, start, price = (rows[name].to_numpy() for name in ("series", "start", "price"))
        end = rows["end"].to_numpy()
        until = np.minimum(rows["until"].to_numpy(), end)
        same = np.append(False, ids[1:] == ids[:-1])[: len(ids)]
        first = np.flatnonzero(~same)
        changed = same & np.append(False, price[1:] != price[:-1])[: len(ids)]
        last = np.append(first[1:], len(ids))[: len(first)] - 1
        today = rows["today"].to_numpy()[last]
        turns = np.where(changed | ~same, np.arange(len(ids)), 0)
        turned = np.maximum.reduceat(turns, first) if len(first) else first
        return cls(
            of=np.cumsum(~same) - 1,
            offer_id=rows["offer_id"].to_numpy(),
            start=start,
            until=until,
            price=price,
            same=same,
            changed=changed,
            ids=ids[first],
            place=np.arange(len(first)),
            first=first,
            begun=start[first],
            end=end[first],
            fresh=today > 0,
            current=today,
            price_since=start[turned],
        )

    def part(self, rows: Flags) -> Timeline:
        """Only these rows, and the series that have some; what is said of a series stays."""
        if rows.all():
            return self
        of = self.of[rows]
        begins = np.append(True, of[1:] != of[:-1])[: len(of)]
        place = of[begins]
        by_row = {name: getattr(self, name)[rows] for name in BY_ROW}
        by_series = {name: getattr(self, name)[place] for name in BY_SERIES}
        return Timeline(
            of=np.cumsum(begins) - 1,
            place=place,
            first=np.flatnonzero(begins),
            **by_row,
            **by_series,
        )

    def sum(self, values: Any) -> Ints:
        """Of each series the sum of its rows."""
        return self._reduced(np.add, np.asarray(values, np.int64))

    def least(self, values: Ints) -> Ints:
        """Of each series the lowest of its rows."""
        return self._reduced(np.minimum, values)

    def _reduced(self, how: np.ufunc, values: Ints) -> Ints:
        return how.reduceat(values, self.first) if len(self.first) else values[:0]

    def in_force(self, instant: Ints) -> Ints:
        """The price of each series at its instant; 0 where it was unknown."""
        then = instant[self.of]
        return self.sum(np.where((self.start <= then) & (then < self.until), self.price, 0))


def ordered(of: Ints, values: Ints) -> Ints:
    """Positions by group, then value."""
    if len(of) and int(of[-1]) < 1 << 22 and int(values.max()) < 1 << 40:
        # As one number, in half of the time.
        return pl.Series((of << 40) + values).arg_sort().cast(pl.Int64).to_numpy()
    frame = pl.DataFrame({"of": of, "value": values})
    return frame.select(pl.arg_sort_by("of", "value").cast(pl.Int64)).to_series().to_numpy()


BY_ROW = ("offer_id", "start", "until", "price", "same", "changed")
BY_SERIES = ("ids", "begun", "end", "fresh", "current", "price_since")
