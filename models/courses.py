"""Stretches of one price, and what held in a window around one, for all offers at once.

A spell also ends where availability or list price change, or where nobody looked. For the course of
the price that is no change: equal neighbours of an offer and currency are one stretch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DAY = 86_400
# So many stretches a window holds at most. The median stretch of a supermarket's price lasts 8 days,
# so 12 reach back about 100 days; twice as many found no more and took twice the time.
REACH = 12
MICRO = 1_000_000
NEIGHBOURS = 8  # offers before and after one, in the order of their ids
ALIKE = np.log(1.1)
CHUNK = 1 << 14  # rows of a window that stay in a processor's cache


class Stretches(NamedTuple):
    """Sorted by offer, currency and time. `series` numbers offer and currency, the same currency of the
    next offer being `currencies` further; `row`: the first spell
    of each in the frame; `level`: natural logarithm of the price in units of 1/10,000."""

    series: Ints
    row: Ints
    start: Ints
    until: Ints
    level: Floats
    looks: Ints
    currencies: int

    def neighbour(self, shift: int) -> Bools:
        """Whether the stretch before (-1) or after (1) is of the same series."""
        same = self.series[1:] == self.series[:-1]
        return np.append(False, same) if shift < 0 else np.append(same, False)


class Window(NamedTuple):
    """What held in a stretch of time: levels at 5, 50 and 95 % of it, weighted by time; how much of it
    is known (0: nothing, then the levels say nothing), in how many stretches."""

    low: Floats
    middle: Floats
    high: Floats
    known: Ints
    pieces: Ints


class Mean(NamedTuple):
    """The mean level in a stretch of time, weighted by time, and how much of it is known."""

    level: Floats
    known: Ints


class Found(NamedTuple):
    """Indices of stretches, and what is said of each. `low`, `high`: logarithms of what was expected;
    `beyond`: by how much that was missed, likewise."""

    stretch: Ints
    until: Ints
    low: Floats
    high: Floats
    beyond: Floats

    def keep(self, those: Bools) -> Found:
        parts = self.stretch[those], self.until[those], self.low[those]
        return Found(*parts, self.high[those], self.beyond[those])


class Span(NamedTuple):
    """The `reach` seconds before or after each of some stretches, or from its beginning on; the
    stretches that `window` looks at are `steps` from it."""

    at: Ints
    start: Ints
    end: Ints
    steps: Ints

    @classmethod
    def before(cls, among: Stretches, at: Ints, reach: int) -> Span:
        start = among.start[at]
        return cls(at, start - reach, start, -np.arange(1, REACH + 1))

    @classmethod
    def after(cls, among: Stretches, at: Ints, reach: int) -> Span:
        until = among.until[at]
        return cls(at, until, until + reach, np.arange(1, REACH + 1))

    @classmethod
    def since(cls, among: Stretches, at: Ints, reach: int) -> Span:
        start = among.start[at]
        return cls(at, start, start + reach, np.arange(REACH))

    def chunks(self) -> Iterator[Span]:
        for i in range(0, max(len(self.at), 1), CHUNK):
            part = slice(i, i + CHUNK)
            yield Span(self.at[part], self.start[part], self.end[part], self.steps)


def price_stretches(rows: pl.DataFrame) -> Stretches:
    """`rows`: offer_id, start, until, price, currency, observations; an offer's rows together, in the
    order of time."""
    offer = rows["offer_id"].to_numpy()
    number = np.cumsum(np.append(False, offer[1:] != offer[:-1]))
    currency = rows["currency"].to_physical().to_numpy().astype(np.int64)
    currencies = int(currency.max()) + 1
    series = number * currencies + currency
    # Already sorted but for offers with several currencies: a stable sort sees that in one pass.
    order = np.argsort(series, kind="stable")
    series, price = series[order], rows["price"].to_numpy()[order]
    begins = np.append(True, (series[1:] != series[:-1]) | (price[1:] != price[:-1]))
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(series)) - 1
    start = rows["start"].to_numpy()[order][firsts]
    until = rows["until"].to_numpy()[order][lasts]
    return Stretches(
        series=series[firsts],
        row=order[firsts],
        start=start,
        until=np.maximum(until, start),
        level=np.log(np.maximum(price[firsts], 1).astype(np.float64)),
        looks=np.add.reduceat(rows["observations"].to_numpy()[order], firsts),
        currencies=currencies,
    )


def window(among: Stretches, span: Span) -> Window:
    parts = [_quantiles(*_held(among, part)) for part in span.chunks()]
    return Window(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def at_least(among: Stretches, span: Span, floor: Floats) -> Ints:
    """How many stretches of each span were at a level of `floor` or above."""
    counts = []
    done = 0
    for part in span.chunks():
        level, weight = _held(among, part)
        lowest = floor[done : done + len(level), None]
        counts.append(np.count_nonzero((level >= lowest) & (weight > 0), axis=1))
        done += len(level)
    return np.concatenate(counts).astype(np.int64)


def mean(among: Stretches, span: Span) -> Mean:
    """However many stretches the span holds: the difference of two integrals over time.

    In whole numbers, so the result is exact and the same wherever the offer stands. The integral
    over all offers may pass 2^63 and wrap; the difference, at most 10^15, does not.
    """
    lasted = among.until - among.start
    level = np.rint(among.level * MICRO).astype(np.int64)
    known = np.cumsum(np.append(0, lasted))
    total = np.cumsum(np.append(0, lasted * level))
    series = among.series[span.at]
    first = np.searchsorted(among.series, series)
    parts = []
    for time in (span.start, span.end):
        place = np.maximum(begun_last(among, series, time), first)
        held = np.clip(time - among.start[place], 0, lasted[place])
        parts.append((total[place] + held * level[place], known[place] + held))
    (total_before, known_before), (total_after, known_after) = parts
    seconds = known_after - known_before
    return Mean((total_after - total_before) / (np.maximum(seconds, 1) * MICRO), seconds)


def begun_last(among: Stretches, series: Ints, time: Ints) -> Ints:
    """The last stretch of all that are of this series and began by this time, or of a series before
    it; -1 where there is none."""
    low = int(among.start.min(initial=0))
    width = int(among.start.max(initial=0)) - low + 2
    keys = among.series * width + (among.start - low) + 1
    wanted = series * width + np.clip(time - low + 1, 0, width - 1)
    return np.searchsorted(keys, wanted, side="right") - 1


def moved_together(among: Stretches, product: Ints, at: Ints) -> Bools:
    """Whether another offer of the product came to nearly the same price, in the same currency, within
    two days of the beginning of each of the stretches `at`. `product`: of each stretch; of many
    offers the nearest 16 count."""
    steps = np.delete(np.arange(-NEIGHBOURS, NEIGHBOURS + 1), NEIGHBOURS) * among.currencies
    other = among.series[at][:, None] + steps
    middle = ((among.start[at] + among.until[at]) // 2)[:, None]
    place = begun_last(among, other, np.broadcast_to(middle, other.shape))
    held = (place >= 0) & (among.series[place] == other) & (among.until[place] >= middle)
    held &= product[place] == product[at][:, None]
    held &= np.abs(among.start[place] - among.start[at][:, None]) <= 2 * DAY
    near = np.abs(among.level[place] - among.level[at][:, None]) < ALIKE
    return np.asarray((held & near).any(axis=1), np.bool_)


def _held(among: Stretches, span: Span) -> tuple[Floats, Ints]:
    """Level of each stretch that the span may hold, and for how many seconds it does; one that was
    seen at an instant only counts for a second."""
    place = span.at[:, None] + span.steps
    np.clip(place, 0, len(among.series) - 1, out=place)
    start, end = span.start[:, None], span.end[:, None]
    begun, ended = among.start[place], among.until[place]
    held = np.minimum(ended, end) - np.maximum(begun, start)
    inside = (begun < end) & (ended >= start)
    inside &= among.series[place] == among.series[span.at][:, None]
    inside &= place - span.at[:, None] == span.steps
    return among.level[place], np.where(inside, np.maximum(held, 1), 0)


def _quantiles(level: Floats, weight: Ints) -> tuple[Floats, Floats, Floats, Ints, Ints]:
    order = np.argsort(level, axis=1)
    row = np.arange(len(level))
    # Flat indices: take_along_axis builds them anew for each array.
    flat = order + (row * level.shape[1])[:, None]
    level, reached = level.ravel()[flat], np.cumsum(weight.ravel()[flat], axis=1)
    known = reached[:, -1]
    share = reached * 100
    low, middle, high = (
        level[row, np.argmax(share >= np.maximum(known * percent, 1)[:, None], axis=1)]
        for percent in (5, 50, 95)
    )
    return low, middle, high, known, np.count_nonzero(weight, axis=1).astype(np.int64)
