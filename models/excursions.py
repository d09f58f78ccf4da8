"""What leaves the usual prices and returns: spikes, and prices that are suspected to be errors."""

from __future__ import annotations

import numpy as np
import polars as pl

from models import currencies
from models.courses import (
    DAY,
    Bools,
    Floats,
    Found,
    Ints,
    Span,
    Stretches,
    Window,
    at_least,
    window,
)

CAUSES = ("decimal_slip", "unit_or_instalment_price", "wrong_currency")
# Steps of real shelf prices (13,881 offer-years of groceries): 99 % are below a factor of 1.92, and
# beyond 2.5, a reduction of 60 %, there are 0.02 a year.
ERROR = np.log(2.5)
# With one side only to compare with, surer of it: no return has been seen (yet).
ERROR_AT_END = np.log(3.0)
LASTING = 14 * DAY
# The steps into and out of an error may be smaller than its distance from the usual price.
STEP = np.log(1.8)
# A price 35 % up for at most three days and then down again: 0.04 a year.
SPIKE = np.log(1.35)
SHORT = 3 * DAY
# Beyond all that was there: 3 % are what rounding and small changes do.
BEYOND = 0.03
# A price that was there twice more within AROUND is a usual one, however short.
RECURRING = 2
AROUND = 180 * DAY
DECIMAL_SLIPS = np.log(10.0) * np.array([-3, -2, -1, 1, 2, 3])
# Prices of one of a pack, or of one instalment: the packs and terms that are common.
PARTS = np.log([3.0, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 30, 36, 48])
EXACT = 0.006
# Rates move by a few percent in a year; two currencies within 35 % of each other are not told apart.
RATE = 0.05
UNLIKE = 0.3
ALIKE = 0.1


def errors(among: Stretches) -> Found:
    """Far from what held before and from what held after; at an end of the series, from one of them."""
    step = np.where(np.diff(among.series) == 0, np.abs(np.diff(among.level)), 0.0)
    came, went = np.append(0.0, step), np.append(step, 0.0)
    at = np.flatnonzero(np.maximum(came, went) > STEP)
    earlier = _believable(window(among, Span.before(among, at, AROUND)))
    later = _believable(window(among, Span.after(among, at, AROUND)))
    level, lasted = among.level[at], among.until[at] - among.start[at]
    up = _beyond(level, earlier, 1), _beyond(level, later, 1)
    down = _beyond(level, earlier, -1), _beyond(level, later, -1)
    found = np.zeros(len(at), np.bool_)
    known = (earlier.known > 0) & (later.known > 0)
    # What lasts longer than what it departs from may be what is right.
    known &= lasted <= np.maximum(np.minimum(earlier.known, later.known), SHORT)
    for one, other in (up, down):
        found |= known & (np.minimum(one, other) > ERROR)
        ends = (one, came, earlier, later), (other, went, later, earlier)
        for side, edge, there, nothing in ends:
            # In one step: a clearance goes down in several before the offer is gone.
            alone = (nothing.known == 0) & (there.known >= LASTING) & (lasted <= LASTING)
            found |= alone & (np.minimum(side, edge[at]) > ERROR_AT_END)
    low, high = _range(earlier, later)
    return _outside(among, at[found], low[found], high[found])


def _believable(around: Window) -> Window:
    """The window without edges that are errors themselves: of one that lasted, or came twice."""
    low, middle, high = around.low, around.middle, around.high
    return around._replace(
        low=np.where(middle - low > ERROR, middle, low),
        high=np.where(high - middle > ERROR, middle, high),
    )


def _beyond(level: Floats, around: Window, sign: int) -> Floats:
    """By how much a level is above (sign 1) or below the middle of the window; 0 unless it is beyond
    all but 5 % of the window."""
    edge = around.high if sign > 0 else around.low
    outside = (sign * (level - edge) > BEYOND) & (around.known > 0)
    return np.where(outside, sign * (level - around.middle), 0.0)


def _range(one: Window, other: Window) -> tuple[Floats, Floats]:
    """What held in either window."""
    low = np.where(one.known > 0, one.low, other.low)
    high = np.where(one.known > 0, one.high, other.high)
    both = (one.known > 0) & (other.known > 0)
    low = np.where(both, np.minimum(low, other.low), low)
    return low, np.where(both, np.maximum(high, other.high), high)


def spikes(among: Stretches, wrong: Bools) -> Found:
    """Up and down again within a few days, to where the price was neither before nor after."""
    rise = np.append(0.0, np.diff(among.level))
    fall = np.append(-np.diff(among.level), 0.0)
    lasted = among.until - among.start
    peak = (np.minimum(rise, fall) > SPIKE) & among.neighbour(-1) & among.neighbour(1) & ~wrong
    at = np.flatnonzero(peak & ((lasted <= SHORT) | (among.looks == 1)))
    spans = Span.before(among, at, AROUND), Span.after(among, at, AROUND)
    earlier, later = (window(among, span) for span in spans)
    low, high = _range(earlier, later)
    height = np.minimum(rise, fall)[at]
    usual = (earlier.known + later.known) / np.maximum(earlier.pieces + later.pieces, 1)
    # Where prices change every hour, an hour is not short: there it has to stand out by its height.
    found = (2 * lasted[at] <= usual) | (height > 2 * (high - low))
    found &= (among.level[at] > high + BEYOND) & (earlier.known > 0) & (later.known > 0)
    floor = among.level[at] - BEYOND
    times = at_least(among, spans[0], floor) + at_least(among, spans[1], floor)
    found &= times < RECURRING
    return _outside(among, at[found], low[found], high[found])


def _outside(among: Stretches, at: Ints, low: Floats, high: Floats) -> Found:
    level = among.level[at]
    return Found(at, among.until[at], low, high, np.maximum(level - high, low - level))


def causes(among: Stretches, found: Found, rows: pl.DataFrame) -> pl.Series:
    """What would have made the price before or the one after into this price: of CAUSES, or null."""
    at = found.stretch
    last = len(among.level) - 1
    ends = np.stack([among.level[np.maximum(at - 1, 0)], among.level[np.minimum(at + 1, last)]])
    same = np.stack([among.neighbour(-1)[at], among.neighbour(1)[at]])
    factor = np.where(same, among.level[at] - ends, np.inf)
    slip = _near(factor, DECIMAL_SLIPS, EXACT)
    part = _near(factor, -PARTS, EXACT)
    words = _words(rows)
    own = rows["currency"].to_physical().to_numpy()[among.row[at]]
    foreign = np.zeros(len(at), np.bool_)
    for code, word in enumerate(words):
        rates = [currencies.rate(word, other) for other in {*currencies.COMMON, *words} - {word}]
        logs = np.log([rate for rate in rates if rate is not None])
        near = _near(factor, np.concatenate([logs, -logs]), RATE)
        foreign |= near & (own == code)
    choice = np.select([slip, part, foreign], [0, 1, 2], -1)
    known = [None if index < 0 else CAUSES[index] for index in choice.tolist()]
    return pl.Series("cause", known, dtype=pl.Enum(CAUSES))


def _near(factors: Floats, of: Floats, tolerance: float) -> Bools:
    """Which columns of `factors` have a row within `tolerance` of one of the values."""
    if not len(of):
        return np.zeros(factors.shape[1], np.bool_)
    near = np.abs(factors[:, :, None] - of) < tolerance
    return np.asarray(near.any(axis=(0, 2)), np.bool_)


def _words(rows: pl.DataFrame) -> list[str]:
    kind = rows.schema["currency"]
    assert isinstance(kind, pl.Enum)
    return kind.categories.to_list()


def mislabelled(rows: pl.DataFrame) -> Found:
    """For a few days another currency with nearly the same number, though the rate is far from 1.

    `stretch` in the result: rows of the frame."""
    offer, price = rows["offer_id"].to_numpy(), rows["price"].to_numpy().astype(np.float64)
    currency = rows["currency"].to_physical().to_numpy()
    begins = (offer[1:] != offer[:-1]) | (currency[1:] != currency[:-1])
    first = np.flatnonzero(np.append(True, begins))
    if len(first) == rows["offer_id"].n_unique():
        none, nothing = np.empty(0, np.int64), np.empty(0)
        return Found(none, none, nothing, nothing, nothing)
    last = np.append(first[1:], len(offer)) - 1
    start, until = rows["start"].to_numpy()[first], rows["until"].to_numpy()[last]
    looks = np.add.reduceat(rows["observations"].to_numpy(), first)
    run = np.arange(1, len(first))
    run = run[offer[first[run]] == offer[first[run - 1]]]
    following = np.minimum(run + 1, len(first) - 1)
    returns = (following > run) & (offer[first[following]] == offer[first[run]])
    words = _words(rows)
    dollar = np.log([currencies.PER_DOLLAR.get(word, np.nan) for word in words])
    there, here = currency[first[run - 1]], currency[first[run]]
    rate = dollar[here] - dollar[there]
    number = np.log(price[first[run]] / price[last[run - 1]])
    lasted = until[run] - start[run]
    found = (np.abs(rate) > UNLIKE) & (np.abs(number) < ALIKE)
    back = (currency[first[following]] == there) & ((lasted <= SHORT) | (looks[run] == 1))
    found &= np.where(returns, back, lasted <= LASTING)
    run, rate = run[found], rate[found]
    expected = np.log(price[last[run - 1]]) + rate
    beyond = np.abs(number[found] - rate)
    return Found(first[run], until[run], expected, expected, beyond)
