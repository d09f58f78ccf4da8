"""Isolation Forest (Liu, Ting, Zhou 2008; scikit-learn) on features of a stretch and its neighbours, to
compare with the rules of `models.anomalies`.

It gets what the rules see (steps, what held before and after, how long) and what they do not: the
other shops' prices of the same product at that time. It learns from untouched histories of one half
of the products; its threshold is the one that gives a chosen number of false alarms there.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from sklearn.ensemble import IsolationForest

from bench.injection import DAY, Floats, Folded
from models.courses import Span, Stretches, mean, price_stretches, window

TREES, SAMPLES = 200, 4096


def of_spells(spells: pl.DataFrame) -> tuple[Stretches, pl.DataFrame]:
    """Stretches, and offer_id, product_id, start, until, level of each."""
    words = spells["currency"].unique().sort()
    course = price_stretches(spells.with_columns(pl.col("currency").cast(pl.Enum(words))))
    about = spells[course.row].select("offer_id", "product_id", "start").with_columns(
        pl.Series("until", course.until), pl.Series("level", course.level)
    )  # fmt: skip
    return course, about


def relative(about: pl.DataFrame) -> Floats:
    """Level minus the median of the product's other offers at that time, 0 where there are none."""
    numbered = about.with_row_index("stretch")
    others = about.select("offer_id", "product_id").unique().rename({"offer_id": "other"})
    pairs = (
        numbered.join(others, on="product_id")
        .filter(pl.col("other") != pl.col("offer_id"))
        .sort("start")
    )
    theirs = about.select(
        pl.col("offer_id").alias("other"), "start", pl.col("level").alias("their")
    )
    beside = pairs.join_asof(theirs.sort("start"), on="start", by="other", check_sortedness=False)
    median = beside.group_by("stretch").agg(pl.col("their").median())
    level = numbered.join(median, on="stretch", how="left", maintain_order="left")
    return (level["level"] - level["their"]).fill_null(0.0).to_numpy()


def features(spells: pl.DataFrame) -> tuple[pl.DataFrame, Floats]:
    """What of_spells says of each stretch, and a row of 15 numbers a stretch."""
    course, about = of_spells(spells)
    every = np.arange(len(course.level))
    step = np.where(np.diff(course.series) == 0, np.diff(course.level), 0.0)
    came, went = np.append(0.0, step), np.append(-step, 0.0)
    columns = [came, went, np.minimum(came, went), np.maximum(came, went)]
    for span in (
        Span.before(course, every, 180 * DAY),
        Span.after(course, every, 180 * DAY),
    ):
        held = window(course, span)
        known = held.known > 0
        columns += [
            np.where(known, course.level - part, 0.0) for part in (held.low, held.middle, held.high)
        ]
    old = mean(course, Span.before(course, every, 90 * DAY))
    new = mean(course, Span.since(course, every, 30 * DAY))
    columns.append(np.where(np.minimum(old.known, new.known) > 0, new.level - old.level, 0.0))
    columns += [np.log1p((course.until - course.start) / DAY), np.log(course.looks)]
    beside = relative(about)
    usual = about.with_columns(pl.Series("beside", beside))
    usual = usual.select(pl.col("beside") - pl.col("beside").median().over("offer_id"))
    columns += [beside, usual["beside"].to_numpy()]
    return about, np.stack(columns, axis=1)


class Forest:
    """Fitted to `clean`; an alarm is a stretch that scores below a threshold."""

    def __init__(self, clean: Folded, years: float, seed: int) -> None:
        _, table = features(clean.spells)
        self.trees = IsolationForest(n_estimators=TREES, max_samples=SAMPLES, random_state=seed)
        self.trees.fit(table)
        self.years, self.scores = years, np.sort(self.trees.score_samples(table))

    def threshold(self, per_year: float) -> float:
        """The score below which there are so many stretches in a clean offer-year."""
        return float(self.scores[int(per_year * self.years)])

    def scored(self, histories: Folded) -> pl.DataFrame:
        """offer_id, at, until, score of every stretch."""
        about, table = features(histories.spells)
        return about.select("offer_id", pl.col("start").alias("at"), "until").with_columns(
            pl.Series("score", self.trees.score_samples(table))
        )
