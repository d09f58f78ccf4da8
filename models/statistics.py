"""What a price usually is: time-weighted figures over windows that end where the timeline does.

A price that stood for a month counts for a month, however often somebody looked at it; where nothing
is known, nothing counts. docs/definitions.md says each figure in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from models.timeline import DAY, Ints, Timeline, Values, ordered

MONTH = 30.4375 * DAY  # a twelfth of a year of 365.25 days
WINDOWS = {"30d": 30, "90d": 90, "365d": 365, "all": None}
# A window is known as well as it can be once this much of it is; less says less.
SURE_DAYS = 30
# Prices go to 10^16 and windows to 10^10 seconds, too much for one product of 64 bits: prices are
# summed in two halves of 27 bits.
HALF = 27


def statistics(timeline: Timeline) -> pl.DataFrame:
    """Of a timeline whose stretches are joined, one row per series and window in which anything is known of it, windows in their order.

    Columns: `series`; `span`, the window; money in units of 1/10,000: `mean`, `median`, `min`, `max`; seconds:
    `min_at`, `max_at`, `price_since`; `min_offer_id`, `max_offer_id`; `cheaper_ratio`, `no_dearer_ratio`,
    `change_ratio`, `changes`, `changes_per_month`, `median_spell_days`, `known_days`,
    `coverage_ratio`, `confidence`.
    """
    by_price = ordered(timeline.of, timeline.price)
    by_length = ordered(timeline.of, timeline.until - timeline.start)
    frames = [
        _window(timeline, by_price, by_length, days).with_columns(
            pl.lit(name).alias("span"), pl.lit(place).alias("place")
        )
        for place, (name, days) in enumerate(WINDOWS.items())
    ]
    rows = pl.concat(frames).sort("of", "place")
    ids = timeline.ids[rows["of"].to_numpy()]
    return rows.select(pl.Series("series", ids), "span", pl.exclude("of", "place", "span"))


def _window(timeline: Timeline, by_price: Ints, by_length: Ints, days: int | None) -> pl.DataFrame:
    begin = timeline.begun if days is None else timeline.end - days * DAY
    since = begin[timeline.of]
    seconds = timeline.until - np.maximum(timeline.start, since)
    seen = (seconds > 0) | ((seconds == 0) & (timeline.start >= since))
    part = timeline.part(seen)
    if part is not timeline:
        seconds, since = seconds[seen], since[seen]
        place = np.cumsum(seen) - 1
        by_price, by_length = (place[order[seen[order]]] for order in (by_price, by_length))
    known = part.sum(seconds)
    # Of prices seen at single instants only, each counts the same.
    weight = seconds if known.all() else np.where((known == 0)[part.of], 1, seconds)
    total = part.sum(weight)
    low, high = part.least(part.price), -part.least(-part.price)
    current, fresh = part.current[part.of], part.fresh
    before = timeline.in_force(begin)[part.place]
    changes = part.sum(part.changed & (part.start > since))
    coverage = ratio(known, part.end - begin[part.place])
    length = part.until - part.start
    every = np.ones_like(length)
    return pl.DataFrame(
        {
            "of": part.place,
            "mean": _mean(part, weight, total),
            "median": weighted_median(part.price, by_price, weight, total),
            "min": low,
            **_where("min", part, part.price == low[part.of], since),
            "max": high,
            **_where("max", part, part.price == high[part.of], since),
            "cheaper_ratio": known_where(
                part.sum(np.where(part.price < current, weight, 0)) / total, fresh
            ),
            "no_dearer_ratio": known_where(
                part.sum(np.where(part.price <= current, weight, 0)) / total, fresh
            ),
            "change_ratio": known_where(
                ratio(part.current - before, before), fresh & (before > 0) & (days is not None)
            ),
            "price_since": known_where(part.price_since, fresh),
            "changes": changes,
            "changes_per_month": known_where(ratio(changes * MONTH, known), known >= DAY),
            "median_spell_days": weighted_median(length, by_length, every, part.sum(every)) / DAY,
            "known_days": known / DAY,
            "coverage_ratio": coverage,
            "confidence": coverage * np.minimum(1, known / (SURE_DAYS * DAY)),
        }
    )


def _where(name: str, part: Timeline, held: Any, since: Ints) -> dict[str, Ints]:
    """The latest stretch in which it held: since when, within the window, and at which offer."""
    at = -part.least(np.where(held, -np.arange(len(held)), 0))
    return {
        f"{name}_at": np.maximum(part.start, since)[at],
        f"{name}_offer_id": part.offer_id[at],
    }


def _mean(part: Timeline, weight: Ints, total: Ints) -> Ints:
    """Exact, rounded half up."""
    high, low = part.price >> HALF, part.price & ((1 << HALF) - 1)
    whole, rest = np.divmod(part.sum(high * weight), total)
    rest = (rest << HALF) + part.sum(low * weight)
    mean: Ints = (whole << HALF) + (2 * rest + total) // (2 * total)
    return mean


def weighted_median(values: Ints, order: Ints, weight: Ints, total: Ints) -> Ints:
    """Per group the lowest value that, with all below it, has at least half of the weight; any
    value where the weight is 0. `order`: positions by group, then value; `total`: per group."""
    if not len(order):
        return np.zeros(len(total), np.int64)
    gone = np.cumsum(weight[order])
    base = np.cumsum(total) - total
    at = np.searchsorted(gone, base + (total + 1) // 2)
    median: Ints = values[order[np.minimum(at, len(order) - 1)]]
    return median


def ratio(part: Any, whole: Any) -> Values:
    """0 where the whole is 0."""
    share: Values = np.divide(part, whole, out=np.zeros(len(whole)), where=np.asarray(whole) != 0)
    return share


def known_where(values: Any, known: Any) -> pl.Series:
    """Null elsewhere."""
    return pl.Series(values).set(pl.Series(~known), None)
