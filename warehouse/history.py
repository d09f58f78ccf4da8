"""A price history from an offer's spells: what held when, and by day, week or month.

A price holds from its first observation until the next spell begins, but no longer than an
observation vouches for it; the newest one no longer than until `as_of`. Beyond that it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np

from warehouse.columns import SCALE, Ints, Spells

Resolution = Literal["day", "week", "month"]
DAY = 86_400
# A double prints every decimal of up to 15 digits as it was written; beyond that Decimal must.
EXACT = 10**15


@dataclass(frozen=True)
class Periods:
    """Start of each period in UTC (seconds since 1970) and its prices in units of 1/10,000; `mean`
    is weighted by the time for which each price held. Periods of which nothing is known are absent."""

    t: Ints
    open: Ints
    close: Ints
    min: Ints
    max: Ints
    mean: Ints


def held_until(spells: Spells, vouch: int, as_of: int) -> Ints:
    """The second at which each spell's price stops being known or true."""
    until: Ints = np.minimum(spells.last + vouch, as_of)
    until[:-1] = np.minimum(spells.last[:-1] + vouch, spells.first[1:])
    return until


def part(spells: Spells, keep: Any) -> Spells:
    """Some of the spells: a slice or a mask."""
    return Spells(*(column[keep] for column in spells))


class Pieces(NamedTuple):
    """What held, cut at the borders of periods: the period's number, the spell's place and for how many
    seconds it held there."""

    number: Ints
    spell: Ints
    seconds: Ints


def periods(
    spells: Spells, until: Ints, resolution: Resolution, start: int | None, end: int | None
) -> Periods:
    """Prices by day, week (from Monday) or month of one offer in one currency.

    `until` comes from `held_until`; `start` and `end` (seconds) bound what is looked at.
    """
    cut = pieces(spells, until, resolution, start, end)
    return folded(cut.number, spells.price[cut.spell], cut.seconds, resolution)


def coarser(cut: Pieces, resolution: Resolution) -> Pieces:
    """Days' pieces with the number of the week or month in which the day lies."""
    return cut._replace(number=_number(cut.number * DAY, resolution))


def pieces(
    spells: Spells, until: Ints, resolution: Resolution, start: int | None, end: int | None
) -> Pieces:
    """The spells, in order, cut at the borders of days, weeks or months, as `periods` takes them."""
    first = spells.first if start is None else np.maximum(spells.first, start)
    until = until if end is None else np.minimum(until, end)
    # A price seen at a single instant has no duration, but its period knows it.
    lasting = (until > first) | ((until == first) & (first == spells.first))
    if end is not None:
        lasting &= first < end
    place = np.flatnonzero(lasting)
    first, until = first[place], until[place]
    begin = _number(first, resolution)
    finish = _number(np.maximum(until - 1, first), resolution)
    counts = finish - begin + 1
    piece = np.repeat(np.arange(len(first)), counts)
    number = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts) + begin[piece]
    seconds = np.minimum(until[piece], _start(number + 1, resolution)) - np.maximum(
        first[piece], _start(number, resolution)
    )
    return Pieces(number, place[piece], seconds)


def folded(number: Ints, prices: Ints, seconds: Ints, resolution: Resolution) -> Periods:
    """One row a period from its pieces in order: number, price and duration of each."""
    edges = np.flatnonzero(np.diff(number, prepend=-1))
    if not len(edges):
        return Periods(*(np.empty(0, np.int64) for _ in range(6)))
    last = np.append(edges[1:], len(number)) - 1
    return Periods(
        t=_start(number[edges], resolution),
        open=prices[edges],
        close=prices[last],
        min=np.minimum.reduceat(prices, edges),
        max=np.maximum.reduceat(prices, edges),
        mean=_mean(prices, seconds, edges),
    )


def money(units: Ints) -> list[float | Decimal]:
    """Prices in units of 1/10,000 as numbers that print exactly."""
    if units.max(initial=0) < EXACT:
        return (units / SCALE).tolist()  # type: ignore[no-any-return]
    return [Decimal(unit) / SCALE for unit in units.tolist()]


def amount(units: int) -> float | Decimal:
    """One price in units of 1/10,000, likewise."""
    return units / SCALE if -EXACT < units < EXACT else Decimal(units) / SCALE


def in_words(units: int) -> str:
    """Likewise as text, without zeros at the end: 19.99, 20."""
    whole, part = divmod(units, SCALE)
    return f"{whole}.{part:04}".rstrip("0").rstrip(".")


def _mean(prices: Ints, seconds: Ints, edges: Ints) -> Ints:
    """Weighted by time and rounded half up; where no time passed, the plain mean."""
    total = np.add.reduceat(seconds, edges)
    timeless = np.repeat(total == 0, np.diff(np.append(edges, len(prices))))
    weight = np.where(timeless, 1, seconds)
    # Prices go up to 10^16 units and a month has 2.7e6 s: past 2^62 only Python's integers hold it.
    exact: Any = object if int(prices.max()) * int(weight.sum()) >= 2**62 else np.int64
    paid = np.add.reduceat(prices.astype(exact) * weight.astype(exact), edges)
    total = np.add.reduceat(weight, edges).astype(exact)
    return ((2 * paid + total) // (2 * total)).astype(np.int64)  # type: ignore[no-any-return]


def _number(seconds: Ints, resolution: Resolution) -> Ints:
    """Number of the period that holds this second; 1970-01-01 was a Thursday."""
    if resolution == "day":
        return seconds // DAY
    if resolution == "week":
        return (seconds // DAY + 3) // 7
    return seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


def _start(number: Ints, resolution: Resolution) -> Ints:
    if resolution == "day":
        return number * DAY
    if resolution == "week":
        return (number * 7 - 3) * DAY
    return number.astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)
