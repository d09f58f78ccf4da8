"""Timelines (see `models.timeline`) by week and month, and the changes in them: what the models of
the market read."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from models.timeline import DAY, Flags, Ints, Values

Period = Literal["week", "month"]

WEEK = 7 * DAY
MONDAY = -3 * DAY  # the week that holds 1970-01-01, a Thursday, began then
# Seconds that a price seen at a single instant counts for: nothing beside one that lasted (1e-15 of
# a week, less than a double can tell), everything where it is all that its period knows.
INSTANT = 1e-9


class Stretches(NamedTuple):
    """A timeline's columns, `code` in the place of the series: 0, 1, 2 … in the order of the rows.

    `ids` says which series a code stands for; `follows`: this stretch begins at the second where
    the one before it, of the same series, ends, so that whatever changed did so then.
    """

    ids: Ints
    code: Ints
    start: Ints
    until: Ints
    price: Ints
    follows: Flags


class Means(NamedTuple):
    """`price`: mean weighted by the time it held, in units; by `code` and `number` of the period."""

    ids: Ints
    code: Ints
    number: Ints
    price: Values


def coded_stretches(timeline: pl.DataFrame, since: int | None = None) -> Stretches:
    """The columns of TIMELINE; with `since`, of the stretches that end later than that."""
    if since is not None:
        timeline = timeline.filter(pl.col("until") > since)
    series, start, until, price = (
        timeline[name].to_numpy() for name in ("series", "start", "until", "price")
    )
    again = series[1:] == series[:-1]
    first = np.append(True, ~again)[: len(series)]
    follows = np.append(False, again & (start[1:] == until[:-1]))[: len(series)]
    code = np.cumsum(first) - 1
    return Stretches(series[first], code, start, until, price, follows)


def changes(known: Stretches) -> Ints:
    """Places of the stretches that begin with a change of the price. Across a time that nobody
    knows there is none: it may have been two, and nobody knows when."""
    price = known.price
    found: Ints = np.flatnonzero(known.follows[1:] & (price[1:] != price[:-1])) + 1
    return found


def period_means(known: Stretches, period: Period) -> Means:
    """The time-weighted mean price of each series in each period of which anything is known."""
    begin = period_number(known.start, period)
    finish = period_number(np.maximum(known.until - 1, known.start), period)
    counts = finish - begin + 1
    if not len(counts):
        return Means(known.ids, counts, counts, np.empty(0))
    code, start, until, price = (
        np.repeat(column, counts) for column in (known.code, known.start, known.until, known.price)
    )
    number = np.arange(len(code)) - np.repeat(np.cumsum(counts) - counts - begin, counts)
    starts = period_starts(0, int(finish.max(initial=0)) + 1, period)
    seconds = np.minimum(until, starts[number + 1]) - np.maximum(start, starts[number])
    weight = np.maximum(seconds, INSTANT)
    edges = np.flatnonzero(np.append(True, (code[1:] != code[:-1]) | (number[1:] != number[:-1])))
    paid = np.add.reduceat(price * weight, edges)
    return Means(known.ids, code[edges], number[edges], paid / np.add.reduceat(weight, edges))


def period_number(seconds: Ints, period: Period) -> Ints:
    """Number of the week (from Monday 00:00 UTC) or month that holds this second."""
    if period == "week":
        return (seconds - MONDAY) // WEEK
    return seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


def period_starts(first: int, last: int, period: Period) -> Ints:
    """The second at which each of the periods `first` to `last` begins."""
    numbers = np.arange(first, last + 1)
    if period == "week":
        return numbers * WEEK + MONDAY
    return numbers.astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)


def ascending(numbers: Ints) -> Ints:
    """The numbers sorted, by Polars: on two cores, in half of NumPy's time."""
    return pl.Series(numbers).sort().to_numpy()
