"""Stretches of one price, and what held in a window around one, for all offers at once.

A spell also ends where availability or list price change, or where nobody looked. For the course of
the price that is no change: equal neighbours of an offer and currency are one stretch.
"""

from __future__ import annotations

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
CHUNK = 1 << 14  # rows of a window that stay in a processor's cache


class Stretches(NamedTuple):
    """Sorted by offer, currency and time. `series` numbers offer and currency; `row`: the first spell
    of each in the frame; `level`: natural logarithm of the price in units of 1/10,000."""

    series: Ints
    row: Ints
    start: Ints
    until: Ints
    level: Floats
    looks: Ints

    def neighbour(self, shift: int) -> Bools:
        """Whether the stretch before (-1) or after (1) is of the same series."""
        same = self.series[1:] == self.series[:-1]
        return np.append(False, same) if shift < 0 else np.append(same, False)


class Window(NamedTuple):
    """What held in a stretch of time: levels at 5, 50 and 95 % of it, and how much of it is known (0:
    nothing, then the levels say nothing), in how many stretches."""

    low: Floats
    middle: Floats
    high: Floats
    known: Ints
    pieces: Ints


def stretches(rows: pl.DataFrame) -> Stretches:
    """`rows`: offer_id, start, until, price, currency, observations; an offer's rows together, in the
    order of time."""
    offer = rows["offer_id"].to_numpy()
    number = np.cumsum(np.append(False, offer[1:] != offer[:-1]))
    currency = rows["currency"].to_physical().to_numpy().astype(np.int64)
    series = number * (int(currency.max()) + 1) + currency
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
    )


def before(among: Stretches, at: Ints, reach: int) -> Window:
    """What held in the `reach` seconds before each of the stretches `at` began."""
    return _window(among, at, among.start[at] - reach, among.start[at], -np.arange(1, REACH + 1))


def after(among: Stretches, at: Ints, reach: int) -> Window:
    """What held in the `reach` seconds after each of them ended."""
    return _window(among, at, among.until[at], among.until[at] + reach, np.arange(1, REACH + 1))


def since(among: Stretches, at: Ints, reach: int) -> Window:
    """What held in the `reach` seconds from the beginning of each of them."""
    return _window(among, at, among.start[at], among.start[at] + reach, np.arange(REACH))


def _window(among: Stretches, at: Ints, start: Ints, end: Ints, steps: Ints) -> Window:
    parts = [
        _quantiles(among, at[i : i + CHUNK], start[i : i + CHUNK], end[i : i + CHUNK], steps)
        for i in range(0, max(len(at), 1), CHUNK)
    ]
    return Window(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _quantiles(among: Stretches, at: Ints, start: Ints, end: Ints, steps: Ints) -> Window:
    """A stretch that was seen at an instant only weighs a second."""
    place = at[:, None] + steps
    inside = (place >= 0) & (place < len(among.series))
    place = np.where(inside, place, at[:, None])
    inside &= among.series[place] == among.series[at][:, None]
    begun, ended = among.start[place], among.until[place]
    inside &= (begun < end[:, None]) & (ended >= start[:, None])
    held = np.minimum(ended, end[:, None]) - np.maximum(begun, start[:, None])
    weight = np.where(inside, np.maximum(held, 1), 0)
    level = among.level[place]
    order = np.argsort(level, axis=1)
    level = np.take_along_axis(level, order, 1)
    reached = np.cumsum(np.take_along_axis(weight, order, 1), axis=1)
    known = reached[:, -1]
    row = np.arange(len(at))
    low, middle, high = (
        level[row, np.argmax(reached * 100 >= np.maximum(known, 1)[:, None] * percent, axis=1)]
        for percent in (5, 50, 95)
    )
    return Window(low, middle, high, known, np.count_nonzero(inside, axis=1).astype(np.int64))
