"""Level shifts: a step after which the offer stays where it had not been before."""

from __future__ import annotations

import numpy as np

from models.courses import (
    DAY,
    MICRO,
    Bools,
    Floats,
    Found,
    Ints,
    Mean,
    Span,
    Stretches,
    mean,
    window,
)

# A level shift of 40 % moves the mean of 30 days by less where a promotion falls into them. Counted
# from 20 % on, more than 90 % of them are found, at 0.1 a year in untouched histories.
SHIFT = np.log(1.2)
STEP = np.log(1.22)
# The highest mean so far is reached again within 2 %: what rounding and small changes do.
SAME = np.log(1.02)
EARLIER = 90 * DAY
LATER = 30 * DAY
LASTING = 14 * DAY  # so much of either has to be known
NOTHING = -40.0  # less than any logarithm of a price, whatever its sign


def level_shifts(among: Stretches, wrong: Bools) -> Found:
    """A step after which the usual price, the lowest and the highest are all elsewhere."""
    step = np.append(0.0, np.diff(among.level))
    candidate = (np.abs(step) > STEP) & among.neighbour(-1)
    at = np.flatnonzero(candidate & ~wrong & ~np.append(False, wrong[:-1]))
    sign = np.sign(step[at])
    old = mean(among, Span.before(among, at, EARLIER))
    new = mean(among, Span.since(among, at, LATER))
    moved = sign * (new.level - old.level)
    settled = (moved > SHIFT) & (np.minimum(old.known, new.known) >= LASTING)
    fresh = settled & ~_was_there(among, at, old, new, sign)
    back = _next_back(among, at[settled], sign[settled])[fresh[settled]]
    at, sign, moved = at[fresh], sign[fresh], moved[fresh]
    earlier = window(among, Span.before(among, at, EARLIER))
    later = window(among, Span.since(among, at, LATER))
    edges = sign * np.stack([later.low - earlier.low, later.high - earlier.high])
    found = np.flatnonzero(edges.min(axis=0) > 0)
    clearness = sign * (moved + np.abs(step[at]))
    found = found[_clearest(among, at[found], clearness[found])]
    return Found(at[found], back[found], earlier.low[found], earlier.high[found], moved[found])


def _next_back(among: Stretches, at: Ints, sign: Floats) -> Ints:
    """When the next change in the other direction begins, or the end of the series."""
    end = np.searchsorted(among.series, among.series[at], side="right")
    until = among.until[end - 1]
    for way in (1, -1):
        back = np.append(at[sign != way], len(among.series))
        following = back[np.searchsorted(back, at)]
        returns = (sign == way) & (following < end)
        until[returns] = among.start[following[returns]]
    return until


def _was_there(among: Stretches, at: Ints, old: Mean, new: Mean, sign: Floats) -> Bools:
    """Whether an earlier step of the series led to or from a level as high (sign 1) or as low, or a
    single price did for a month.

    So the end of a long promotion is no level shift, nor is its repetition.
    """
    # One number for series and time, to look up the last step whose LATER had passed.
    series = np.cumsum(np.diff(among.series[at], prepend=-1) != 0)
    span = int(among.start.max() - among.start.min()) + LATER + 1
    when = series * span + among.start[at] - among.start.min()
    settled = np.searchsorted(when, when - LATER, side="right") - 1
    known = (settled >= 0) & (series[settled] == series)
    there = np.zeros(len(at), np.bool_)
    lasted = among.until - among.start >= LATER
    for way in (1, -1):
        led = way * np.where(new.known >= LASTING, new.level, old.level)
        highest = _running_highest(np.maximum(led, way * old.level), series)
        there |= known & (sign == way) & (way * new.level <= highest[settled] + SAME)
        long = _running_highest(np.where(lasted, way * among.level, NOTHING), among.series)
        there |= (sign == way) & (way * new.level <= long[at - 1] + SAME)
    return there


def _running_highest(level: Floats, series: Ints) -> Floats:
    """The highest so far in each series."""
    # Logarithms of prices lie between 0 and 37: steps of 100 keep the series apart. In whole
    # numbers, so that it does not depend on the other offers how a level is rounded.
    apart = series * 100 * MICRO
    ranked = np.rint(level * MICRO).astype(np.int64) + apart
    highest: Floats = (np.maximum.accumulate(ranked) - apart) / MICRO
    return highest


def _clearest(among: Stretches, at: Ints, clearness: Floats) -> Ints:
    """Of shifts that tell of one change, being in one direction and less than LATER apart, the one
    that is clearest, the first of equals. `clearness` has the sign of the shift."""
    start, series = among.start[at], among.series[at]
    apart = (np.diff(series) != 0) | (np.diff(start) > LATER) | (np.diff(np.sign(clearness)) != 0)
    change = np.cumsum(np.append(False, apart))[: len(at)]
    order = np.lexsort((start, -np.abs(clearness), change))
    return np.sort(order[np.append(True, np.diff(change[order]) != 0)[: len(at)]])
