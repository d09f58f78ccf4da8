"""Anomalies in price histories: spikes, level shifts, suspected errors, stale offers.

Robust statistics on logarithms of prices. What held around a price is summed up by quantiles
weighted by time, as in the Hampel identifier (median and spread of a moving window; Pearson et al.,
"Generalized Hampel Filters", 2016). Shop prices have two modes, regular and reduced, so the spread
is a range of quantiles: their MAD is either 0 or as wide as the promotion. A step down to a
promotion and back is no anomaly, nor is any price that was there before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from models import currencies
from models.stretches import (
    DAY,
    Bools,
    Floats,
    Ints,
    Stretches,
    Window,
    after,
    before,
    since,
    stretches,
)

KINDS = ("spike", "level_shift", "suspected_error", "stale")
CAUSES = ("decimal_slip", "unit_or_instalment_price", "wrong_currency")
COLUMNS: dict[str, pl.DataType] = {
    "offer_id": pl.Int64(),
    "product_id": pl.Int64(),
    "kind": pl.Enum(KINDS),
    "at": pl.Int64(),
    "until": pl.Int64(),
    "price": pl.Int64(),
    "currency": pl.String(),
    "expected_low": pl.Int64(),
    "expected_high": pl.Int64(),
    "severity": pl.Float64(),
    "cause": pl.Enum(CAUSES),
}
INPUT = ("product_id", "offer_id", "start", "last", "until", "price", "currency", "buyable",
         "observations", "retailer")  # fmt: skip

# Steps of real shelf prices (13,881 offer-years of groceries): 99 % are below a factor of 1.92, and
# beyond 2.5, a reduction of 60 %, there are 0.02 a year.
ERROR = np.log(2.5)
# With one side only to compare with, twice as sure of it: no return has been seen (yet).
ERROR_AT_END = np.log(3.0)
# A price 35 % up for at most three days and then down again: 0.04 a year.
SPIKE = np.log(1.35)
SHORT = 3 * DAY
# Level shifts of 40 % have to be found, on a median that promotions may move by some 10 %.
SHIFT = np.log(1.28)
EDGE = np.log(1.15)
STEP = np.log(1.22)
# The steps into and out of an error may be smaller than its distance from the usual price.
STEP_OF_ERROR = np.log(1.8)
# Beyond all that was there: 3 % are what rounding and small changes do.
BEYOND = 0.03
LASTING = 14 * DAY
BEFORE = 180 * DAY
AFTER = 60 * DAY
DECIMAL_SLIPS = np.log(10.0) * np.array([-3, -2, -1, 1, 2, 3])
# Prices of one of a pack, or of one instalment: the packs and terms that are common.
PARTS = np.log([3.0, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 30, 36, 48])
EXACT = 0.006
# Rates move by a few percent in a year; two currencies within 35 % of each other are not told apart.
RATE = 0.05
UNLIKE = 0.3
ALIKE = 0.1


class Found(NamedTuple):
    """Indices of stretches, and what is said of each. `level`, `low`, `high`: logarithms, what is
    judged and what was expected."""

    stretch: Ints
    until: Ints
    level: Floats
    low: Floats
    high: Floats


def anomalies(spells: pl.DataFrame, as_of: int, vouch: int) -> pl.DataFrame:
    """What a shopper or an operator should look at in these histories.

    `spells`: a row a price spell; an offer's rows together, in the order of time, a product's
    offers together: product_id, offer_id (Int64); start, last, until (Int64, seconds since 1970:
    first and last observed, and until when the price was known to hold); price (Int64, units of
    1/10,000); currency, retailer (Categorical, Enum or String); buyable (Boolean); observations
    (Int64). `as_of` and `vouch` in seconds. Other columns are ignored.

    Gives, sorted by offer_id, at, kind, the columns COLUMNS, one row an anomaly:

    - `suspected_error`: 2.5 times above or below what held before and after, or a currency that
      changed while the number did not. `cause` is a guess or null.
    - `spike`: a rise of 35 % and more over the price before and the one after, for three days at
      most or one look, to where the offer was neither before nor after.
    - `level_shift`: from `at` the offer is a quarter or more above or below where it was in the
      180 days before, its promotions too, and stayed for 14 days at least. Until the next one.
    - `stale`: buyable when last seen, not seen since for longer than `vouch`, though its shop was.

    `expected_low` to `expected_high` would have been no surprise; null for stale. `severity`: the
    part of the price (or, of prices too low, of what was expected) that is beyond that range: 0.5
    is twice the highest or half the lowest expected price. For stale, 1 - vouch / time since seen.
    """
    rows = _checked(spells)
    if rows.is_empty():
        return pl.DataFrame(schema=COLUMNS)
    course = stretches(rows)
    wrong = np.zeros(len(course.start), np.bool_)
    errors = _errors(course)
    wrong[errors.stretch] = True
    spikes = _spikes(course, wrong)
    wrong[spikes.stretch] = True
    shifts = _shifts(course, wrong)

    def spell_of(found: Found) -> pl.DataFrame:
        return rows[course.row[found.stretch]]

    parts = [
        _described("suspected_error", errors, spell_of(errors), _causes(course, errors, rows)),
        _described("spike", spikes, spell_of(spikes)),
        _described("level_shift", shifts, spell_of(shifts)),
        _mislabelled(rows),
        _stale(rows, as_of, vouch),
    ]
    return pl.concat(parts).sort("offer_id", "at", "kind", "price")


def _checked(spells: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in INPUT if name not in spells.columns]
    if missing:
        raise ValueError(f"the spells have no column {', '.join(missing)}")
    words = spells["currency"].cast(pl.String).unique().sort()
    rows = spells.select(INPUT).with_columns(
        pl.col("currency").cast(pl.String).cast(pl.Enum(words))
    )
    begins = (pl.col("offer_id") != pl.col("offer_id").shift()).fill_null(value=True)
    late = (pl.col("start") < pl.col("start").shift()) & ~begins
    offers, ends, disorder = rows.select(
        pl.col("offer_id").n_unique(), begins.sum().alias("ends"), late.sum().alias("disorder")
    ).row(0)
    if offers != ends or disorder:
        raise ValueError("the spells of an offer must stand together, in the order of time")
    return rows


def _errors(among: Stretches) -> Found:
    """Far from what held before and from what held after; at an end of the series, from one of them."""
    step = np.abs(np.diff(among.level)) > STEP_OF_ERROR
    step &= among.series[1:] == among.series[:-1]
    at = np.flatnonzero(np.append(False, step) | np.append(step, False))
    earlier, later = before(among, at, BEFORE), after(among, at, AFTER)
    level, lasted = among.level[at], among.until[at] - among.start[at]
    up = _beyond(level, earlier, 1), _beyond(level, later, 1)
    down = _beyond(level, earlier, -1), _beyond(level, later, -1)
    found = np.zeros(len(at), np.bool_)
    known = (earlier.known > 0) & (later.known > 0)
    # What lasts longer than what it departs from may be what is right.
    known &= lasted <= np.maximum(np.minimum(earlier.known, later.known), SHORT)
    for one, other in (up, down):
        found |= known & (np.minimum(one, other) > ERROR)
        for side, window, nothing in ((one, earlier, later), (other, later, earlier)):
            alone = (nothing.known == 0) & (window.known >= LASTING) & (lasted <= LASTING)
            found |= alone & (side > ERROR_AT_END)
    low, high = _range(earlier, later)
    return Found(at[found], among.until[at][found], level[found], low[found], high[found])


def _beyond(level: Floats, window: Window, sign: int) -> Floats:
    """By how much a level is above (sign 1) or below the middle of the window; 0 unless it is beyond
    all but 5 % of the window."""
    edge = window.high if sign > 0 else window.low
    outside = sign * (level - edge) > BEYOND
    return np.where(outside & (window.known > 0), sign * (level - window.middle), 0.0)


def _range(one: Window, other: Window) -> tuple[Floats, Floats]:
    """What held in either window."""
    low = np.where(one.known > 0, one.low, other.low)
    high = np.where(one.known > 0, one.high, other.high)
    both = (one.known > 0) & (other.known > 0)
    low = np.where(both, np.minimum(low, other.low), low)
    return low, np.where(both, np.maximum(high, other.high), high)


def _spikes(among: Stretches, wrong: Bools) -> Found:
    """Up and down again within a few days, to where the price was neither before nor after."""
    rise = np.append(0.0, np.diff(among.level))
    fall = np.append(-np.diff(among.level), 0.0)
    lasted = among.until - among.start
    peak = (np.minimum(rise, fall) > SPIKE) & among.neighbour(-1) & among.neighbour(1) & ~wrong
    at = np.flatnonzero(peak & ((lasted <= SHORT) | (among.looks == 1)))
    earlier, later = before(among, at, BEFORE), after(among, at, BEFORE)
    low, high = _range(earlier, later)
    height = np.minimum(rise, fall)[at]
    usual = (earlier.known + later.known) / np.maximum(earlier.pieces + later.pieces, 1)
    # Where prices change every hour, an hour is not short: there it has to stand out by its height.
    stands_out = (2 * lasted[at] <= usual) | (height > 2 * (high - low))
    found = stands_out & (among.level[at] > high + BEYOND)
    at = at[found]
    return Found(at, among.until[at], among.level[at], low[found], high[found])


def _shifts(among: Stretches, wrong: Bools) -> Found:
    """A step after which the usual price, the lowest and the highest are all elsewhere."""
    step = np.append(0.0, np.diff(among.level))
    candidate = (np.abs(step) > STEP) & among.neighbour(-1)
    at = np.flatnonzero(candidate & ~wrong & ~np.append(False, wrong[:-1]))
    earlier = before(among, at, BEFORE)
    later = since(among, at, AFTER)
    sign = np.sign(step[at])
    middle = sign * (later.middle - earlier.middle)
    edges = sign * np.stack([later.low - earlier.low, later.high - earlier.high])
    moved = np.minimum(middle, edges.min(axis=0))
    found = np.flatnonzero(
        (middle > SHIFT) & (moved > EDGE) & (np.minimum(earlier.known, later.known) >= LASTING)
    )
    found = found[_clearest(among, at[found], sign[found] * moved[found])]
    at = at[found]
    return Found(
        at, _next_or_end(among, at), later.middle[found], earlier.low[found], earlier.high[found]
    )


def _clearest(among: Stretches, at: Ints, moved: Floats) -> Ints:
    """Of shifts that tell of one change, being in one direction and less than AFTER apart, the one
    that moved most, the first of equals."""
    start, series = among.start[at], among.series[at]
    apart = (np.diff(series) != 0) | (np.diff(start) > AFTER) | (np.diff(np.sign(moved)) != 0)
    change = np.cumsum(np.append(False, apart))[: len(at)]
    order = np.lexsort((start, -np.abs(moved), change))
    return np.sort(order[np.append(True, np.diff(change[order]) != 0)[: len(at)]])


def _next_or_end(among: Stretches, at: Ints) -> Ints:
    """The beginning of the next of the stretches `at` in the same series, or the end of the series."""
    end = among.until[np.searchsorted(among.series, among.series[at], side="right") - 1]
    followed = np.append(among.series[at][1:] == among.series[at][:-1], False)[: len(at)]
    return np.where(followed, np.append(among.start[at][1:], 0)[: len(at)], end)


def _causes(among: Stretches, errors: Found, rows: pl.DataFrame) -> list[str | None]:
    """What would make the price of a neighbour, or the usual one, into this price."""
    at = errors.stretch
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
    return [None if index < 0 else CAUSES[index] for index in choice.tolist()]


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


def _described(
    kind: str, found: Found, spells: pl.DataFrame, cause: list[str | None] | None = None
) -> pl.DataFrame:
    """The columns COLUMNS; `spells`: the first spell of each of `found`."""
    low, high = np.rint(np.exp(found.low)), np.rint(np.exp(found.high))
    beyond = np.maximum(np.maximum(found.level - found.high, found.low - found.level), 0.0)
    return spells.select(
        "offer_id",
        "product_id",
        pl.lit(kind, dtype=COLUMNS["kind"]).alias("kind"),
        pl.col("start").alias("at"),
        pl.Series("until", found.until, dtype=pl.Int64),
        "price",
        pl.col("currency").cast(pl.String),
        pl.Series("expected_low", low.astype(np.int64)),
        pl.Series("expected_high", high.astype(np.int64)),
        pl.Series("severity", -np.expm1(-beyond)),
        pl.Series("cause", cause or [None] * len(beyond), dtype=COLUMNS["cause"]),
    )


def _mislabelled(rows: pl.DataFrame) -> pl.DataFrame:
    """For a few days another currency with nearly the same number, though the rate is far from 1."""
    offer, price = rows["offer_id"].to_numpy(), rows["price"].to_numpy().astype(np.float64)
    currency = rows["currency"].to_physical().to_numpy()
    begins = (offer[1:] != offer[:-1]) | (currency[1:] != currency[:-1])
    first = np.flatnonzero(np.append(True, begins))
    if len(first) == rows["offer_id"].n_unique():
        return pl.DataFrame(schema=COLUMNS)
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
    mislabelled = Found(run, until[run], expected + number[found] - rate, expected, expected)
    return _described(
        "suspected_error", mislabelled, rows[first[run]], ["wrong_currency"] * len(run)
    )


def _stale(rows: pl.DataFrame, as_of: int, vouch: int) -> pl.DataFrame:
    """Not seen for longer than `vouch`, while its shop was seen within that time."""
    newest = rows.group_by("offer_id", maintain_order=True).agg(
        pl.col("product_id", "retailer", "price", "currency", "buyable").last(),
        pl.col("last").max(),
    )
    shop_seen = pl.col("last").max().over("retailer") >= as_of - vouch
    stale = newest.filter(shop_seen & pl.col("buyable") & (pl.col("last") < as_of - vouch))
    unknown = pl.lit(None, dtype=pl.Int64)
    return stale.select(
        "offer_id",
        "product_id",
        pl.lit("stale", dtype=COLUMNS["kind"]).alias("kind"),
        (pl.col("last") + vouch).alias("at"),
        pl.lit(as_of, dtype=pl.Int64).alias("until"),
        "price",
        pl.col("currency").cast(pl.String),
        unknown.alias("expected_low"),
        unknown.alias("expected_high"),
        (1.0 - vouch / (as_of - pl.col("last"))).alias("severity"),
        pl.lit(None, dtype=COLUMNS["cause"]).alias("cause"),
    )
