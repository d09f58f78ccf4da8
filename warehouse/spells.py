"""From observations to price spells: pure functions on frames, one set for every kind of build.

A *price spell* is a stretch in which an offer's price, list price, currency and availability did not
change. It also ends where nobody looked for longer than an observation vouches for a price.

An observation is a spell of its own: `first_observed_at = last_observed_at`, one observation. So a
full build folds observations, and an incremental one folds an offer's last spell (its *tail*) with
what came after, with the same code.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import polars as pl

STATE = ("price", "list_price", "currency", "availability")
OBSERVED = ("offer_id", "observed_at", *STATE)
SPELL = ("offer_id", "first_observed_at", "last_observed_at", *STATE, "observations")
SUSPECT_FACTOR = 10
CONFIRMING_FACTOR = 2
CONFIRMING_DELAY = timedelta(hours=1)


class Folded(NamedTuple):
    """spells: the columns SPELL. suspects: offer_id, observed_at, price, currency, open, batch_id,
    line. superseded: offer_id, observed_at, price, currency, batch_id, line, superseded_by."""

    spells: pl.DataFrame
    suspects: pl.DataFrame
    superseded: pl.DataFrame


def fold(rows: pl.DataFrame, vouch: timedelta, tails: pl.DataFrame | None = None) -> Folded:
    """Fold observations into spells.

    `rows`: offer_id, observed_at, STATE, batch_id, line, in any order, repeats welcome. `tails`: for
    offers that have spells already, the last one (SPELL); their rows must all be later, and none of
    their suspects open. `vouch`: how long an observation vouches for a price.
    """
    rows = rows.sort("offer_id", "observed_at", "batch_id", "line")
    lost = superseded(rows)
    rows = _latest_delivery(rows)
    stretches = _single(rows, "batch_id", "line")
    if tails is not None and tails.height:
        stretches = pl.concat([tails.select(SPELL), stretches], how="diagonal").sort(
            "offer_id", "first_observed_at"
        )
    good, suspects = _set_aside_suspects(stretches)
    return Folded(joined(good, vouch), suspects, lost)


def runs(rows: pl.DataFrame, vouch: timedelta) -> pl.DataFrame:
    """Neighbouring rows, in the order in which they come, as one where the later one only prolongs
    the spell of the one before: SPELL. `rows`: OBSERVED.

    In rows sorted by offer and time these are spells, but for what `unclear` finds. They need no
    sort, and are a fifth of the rows or less where a delivery is sorted, whatever the others are.
    """
    return joined(_single(rows), vouch)


def unclear(runs: pl.DataFrame) -> pl.Series:
    """offer_id of all whose runs do not tell their spells: they overlap, or a price jumps.

    `runs` sorted by offer_id and first_observed_at. Only `fold` on the rows knows which delivery
    was later, and which of the rows after a jump confirms it.
    """
    again = pl.col("first_observed_at") <= pl.col("last_observed_at").shift()
    found = runs.filter(((_same_offer(1) & again) | _jump()).fill_null(value=False))
    return found["offer_id"].unique().sort()


def _single(rows: pl.DataFrame, *delivery: str) -> pl.DataFrame:
    """Each row as a stretch of one observation: SPELL and `delivery`."""
    return rows.select(
        "offer_id",
        pl.col("observed_at").alias("first_observed_at"),
        pl.col("observed_at").alias("last_observed_at"),
        *STATE,
        pl.lit(1, dtype=pl.Int64).alias("observations"),
        *delivery,
    )


def superseded(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that lost to a later delivery of another price for the same offer and instant.

    `rows` sorted by offer_id, observed_at and delivery.
    """
    again = _same_offer(1) & (pl.col("observed_at") == pl.col("observed_at").shift())
    repeated = rows.filter((again | again.shift(-1)).fill_null(value=False))
    instant = ("offer_id", "observed_at")
    return repeated.with_columns(
        pl.col("price").last().over(instant).alias("_price"),
        pl.col("currency").last().over(instant).alias("_currency"),
        pl.col("batch_id").last().over(instant).alias("superseded_by"),
    ).filter(
        (pl.col("price") != pl.col("_price")) | (pl.col("currency") != pl.col("_currency"))
    ).select(*instant, "price", "currency", "batch_id", "line", "superseded_by")  # fmt: skip


def _same_offer(shift: int) -> pl.Expr:
    return pl.col("offer_id") == pl.col("offer_id").shift(shift)


def _latest_delivery(rows: pl.DataFrame) -> pl.DataFrame:
    """One row an offer and instant: the one delivered last."""
    again = _same_offer(-1) & (pl.col("observed_at") == pl.col("observed_at").shift(-1))
    repeated = rows.select(again.fill_null(value=False)).to_series()
    return rows.filter(~repeated) if repeated.any() else rows


def _set_aside_suspects(stretches: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split into good rows and suspects. Only offers with a jump are judged row by row: without one
    the last good price is always the previous one (155 natural jumps beyond 3 x in 4.5 M real rows)."""
    jumping = stretches.filter(_jump().fill_null(value=False))["offer_id"].unique()
    none = stretches.clear().select(
        "offer_id", pl.col("first_observed_at").alias("observed_at"), "price", "currency",
        pl.lit(value=False).alias("open"), "batch_id", "line",
    )  # fmt: skip
    if jumping.is_empty():
        return stretches, none
    among = stretches.select(pl.col("offer_id").is_in(jumping.implode())).to_series()
    judged = stretches.filter(among)
    verdict = judged.with_columns(_judge(judged))
    good = pl.concat(
        [stretches.filter(~among), verdict.filter(~pl.col("suspect")).drop("suspect", "open")]
    ).sort("offer_id", "first_observed_at")
    suspects = verdict.filter("suspect").rename({"first_observed_at": "observed_at"})
    return good, suspects.select(none.columns)


def _jump() -> pl.Expr:
    price, before = pl.col("price"), pl.col("price").shift()
    return (
        _same_offer(1)
        & (pl.col("currency") == pl.col("currency").shift())
        & ((price > before * SUSPECT_FACTOR) | (before > price * SUSPECT_FACTOR))
    )


def _judge(rows: pl.DataFrame) -> list[pl.Series]:
    """The rule for suspects, in the order of time (rows sorted by offer and time).

    A price more than 10 times above or below the last good one is set aside. A second one of the
    same run, at least an hour later and within a factor of 2, confirms it: both are good, and so is
    every other of the run within a factor of 2. A good price ends the run, its suspects stay aside.
    Prices in another currency than the last good one cannot be compared and are good. A run that is
    not decided when the rows end is `open`.
    """
    delay = CONFIRMING_DELAY // timedelta(microseconds=1)
    suspect, open_ = [False] * rows.height, [False] * rows.height
    offer: int | None = None
    good: tuple[int, str] | None = None
    run: list[tuple[int, int, int]] = []  # index, time, price
    columns = rows.select(
        "offer_id",
        pl.col("first_observed_at").dt.epoch("us").alias("time"),
        pl.col("price").to_physical().cast(pl.Int64).alias("e4"),
        "currency",
    )
    for index, (row_offer, time, price, currency) in enumerate(columns.iter_rows()):
        if row_offer != offer:
            for member, _, _ in run:
                open_[member] = True
            offer, good, run = row_offer, None, []
        if good is None or currency != good[1] or not _apart(price, good[0], SUSPECT_FACTOR):
            good, run = (price, currency), []
            continue
        near = [member for member in run if not _apart(price, member[2], CONFIRMING_FACTOR)]
        if any(time - seen >= delay for _, seen, _ in near):
            for member, _, _ in near:
                suspect[member] = False
            good, run = (price, currency), []
        else:
            suspect[index] = True
            run.append((index, time, price))
    for member, _, _ in run:
        open_[member] = True
    return [pl.Series("suspect", suspect), pl.Series("open", open_)]


def _apart(one: int, other: int, factor: int) -> bool:
    return one > other * factor or other > one * factor


def joined(stretches: pl.DataFrame, vouch: timedelta) -> pl.DataFrame:
    """Neighbours of one offer and one state as one (SPELL) where the second begins after the first
    ends, and no more than `vouch` after."""
    begins = ~_same_offer(1)
    for name in STATE:
        begins = begins | pl.col(name).ne_missing(pl.col(name).shift())
    gap = pl.col("first_observed_at") - pl.col("last_observed_at").shift()
    begins = (begins | (gap > vouch) | (gap <= timedelta(0))).fill_null(value=True)
    starts = stretches.select(begins.arg_true()).to_series()
    if starts.is_empty():
        return stretches.select(SPELL)
    ends = pl.concat([starts[1:], pl.Series([stretches.height], dtype=starts.dtype)]) - 1
    seen = stretches["observations"].cum_sum()
    return stretches[starts].select(
        "offer_id",
        "first_observed_at",
        stretches["last_observed_at"][ends],
        *STATE,
        (seen[ends] - seen[starts] + pl.col("observations")).alias("observations"),
    )
