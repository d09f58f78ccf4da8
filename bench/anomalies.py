"""`python -m bench.anomalies`: which injected faults are found, and how many false alarms that costs.

Faults go in as observations and through the build's own fold. One counts as found if the fold set it
aside as suspect, or if the model reports it: a spike or suspected error that overlaps it, a level
shift within a week of its beginning. With `--forest`, the same for an Isolation Forest.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from bench.injection import DAY, KINDS, VOUCH, Folded, folded, histories, inject
from models.anomalies import anomalies

if TYPE_CHECKING:
    from bench.isolation import Forest

NEAR = 7 * DAY
ALLOWED = 0.5  # false alarms per clean offer-year
WANTED = 0.9


class Trial(NamedTuple):
    """One kind of fault in every offer. `truth`: offer_id, begins, ends; `aside`: offer_id of those
    that the fold set aside."""

    kind: str
    truth: pl.DataFrame
    seen: Folded
    aside: pl.Series

    def share(self, *found: pl.Series) -> float:
        return pl.concat(found).n_unique() / self.truth.height


class Recall(NamedTuple):
    """Shares of injected faults. `by_chance`: what the same comparison finds in untouched histories;
    `cause`: of those reported, whose cause was guessed right."""

    set_aside: float
    reported: float
    found: float
    by_chance: float
    cause: float | None


def trial(rows: pl.DataFrame, name: str, seed: int) -> Trial:
    rng = np.random.default_rng([seed, list(KINDS).index(name)])
    faulty, truth = inject(rows, KINDS[name], rng)
    seen = folded(faulty)
    within = pl.col("at").is_between("begins", "ends")
    aside = truth.join(seen.suspects, on="offer_id").filter(within)["offer_id"].unique()
    return Trial(name, truth, seen, aside)


def reports(histories: Folded) -> pl.DataFrame:
    """All anomalies but stale offers, which are no statement about prices."""
    found = anomalies(histories.spells, histories.as_of, VOUCH // timedelta(seconds=1))
    return found.filter(pl.col("kind") != "stale")


def matched(trial: Trial, reported: pl.DataFrame) -> pl.DataFrame:
    """The reports that name the trial's faults."""
    if KINDS[trial.kind].lasts == "level":
        hit = (pl.col("at") - pl.col("begins")).abs() <= NEAR
        if "kind" in reported.columns:
            hit &= pl.col("kind") == "level_shift"
    else:
        hit = (pl.col("at") <= pl.col("ends")) & (pl.col("until") > pl.col("begins"))
        if "kind" in reported.columns:
            hit &= pl.col("kind") != "level_shift"
    return trial.truth.join(reported, on="offer_id").filter(hit)


def recall(trial: Trial, reported: pl.DataFrame, clean: pl.DataFrame) -> Recall:
    """`reported`: of the faulty histories; `clean`: of the same ones untouched."""
    hits, wanted = matched(trial, reported), KINDS[trial.kind].cause
    right = hits.filter(pl.col("cause").cast(pl.String).eq_missing(wanted))["offer_id"].n_unique()
    return Recall(
        trial.share(trial.aside),
        trial.share(hits["offer_id"]),
        trial.share(trial.aside, hits["offer_id"]),
        trial.share(matched(trial, clean)["offer_id"]),
        right / hits["offer_id"].n_unique() if wanted and hits.height else None,
    )


def false_alarms(clean: pl.DataFrame, years: float) -> dict[str, float]:
    """Per clean offer-year, by kind."""
    counted = clean.group_by(pl.col("kind").cast(pl.String)).len().sort("kind")
    return {kind: count / years for kind, count in counted.iter_rows()}


def offer_years(spells: pl.DataFrame) -> float:
    seen = spells.group_by("offer_id").agg(
        (pl.col("last").max() - pl.col("start").min()).alias("s")
    )
    return float(seen["s"].sum()) / (365.25 * DAY)


class Rivals(NamedTuple):
    """The forest at as many false alarms as the rules, at as many as are allowed, and beside the rules
    at as many as they leave."""

    forest: Forest
    rates: tuple[float, float, float]

    def shares(self, trial: Trial, reported: pl.DataFrame) -> list[float]:
        """Found of a trial, each with what the fold set aside."""
        scored = self.forest.scored(trial.seen)
        found = []
        for rate, beside in zip(self.rates, (False, False, True), strict=True):
            alarms = scored.filter(pl.col("score") < self.forest.threshold(rate))
            hits = [matched(trial, alarms)["offer_id"], trial.aside]
            hits += [matched(trial, reported)["offer_id"]] if beside else []
            found.append(trial.share(*hits))
        return found

    def false_alarms(self, clean: Folded, years: float) -> list[float]:
        score = self.forest.scored(clean)["score"]
        return [int((score < self.forest.threshold(rate)).sum()) / years for rate in self.rates]


def rivals(tuning: pl.DataFrame, seed: int) -> Rivals:
    from bench.isolation import Forest  # scikit-learn is a dependency of this comparison only

    untouched = folded(tuning)
    years = offer_years(untouched.spells)
    own = sum(false_alarms(reports(untouched), years).values())
    return Rivals(Forest(untouched, years, seed), (own, ALLOWED, ALLOWED - own))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def main() -> None:
    told = argparse.ArgumentParser(prog="python -m bench.anomalies", description=__doc__)
    told.add_argument("--products", type=int, help="of each half; all unless told")
    told.add_argument("--seed", type=int, default=0, help="of the faults; the halves stay")
    told.add_argument("--half", type=int, choices=(0, 1), default=1, help="0 is for tuning")
    told.add_argument("--forest", action="store_true", help="compare with an Isolation Forest")
    options = told.parse_args()
    every = histories(products=options.products)
    rows = every.filter(pl.col("half") == options.half)
    other = (
        rivals(every.filter(pl.col("half") != options.half), options.seed)
        if options.forest
        else None
    )
    untouched = folded(rows)
    clean, years = reports(untouched), offer_years(untouched.spells)
    print(
        f"{rows['offer_id'].n_unique():,} offers, {years:,.0f} offer-years, {rows.height:,} looks\n"
    )
    heads = ["injected", "offers", "set aside", "reported", "found", "by chance", "cause right"]
    if other:
        heads += [f"forest at {rate:.2f}" for rate in other.rates[:2]] + ["rules + forest"]
    print(row(*heads), row(*["---"] * len(heads)), sep="\n")
    lowest = 1.0
    for name, kind in KINDS.items():
        each = trial(rows, name, options.seed)
        reported = reports(each.seen)
        shares: list[float | None] = [*recall(each, reported, clean)]
        shares += other.shares(each, reported) if other else []
        print(row(name, f"{each.truth.height:,}", *map(percent, shares)), flush=True)
        lowest = min(lowest, shares[2] or 0.0) if kind.counted else lowest
    by_kind = false_alarms(clean, years)
    print(f"\nlowest recall {percent(lowest)} (wanted: {percent(WANTED)})")
    parts = ", ".join(f"{kind} {rate:.3f}" for kind, rate in by_kind.items())
    total = sum(by_kind.values())
    print(f"false alarms per clean offer-year {total:.3f} (allowed: {ALLOWED}): {parts}")
    if other:
        counts = ", ".join(f"{rate:.3f}" for rate in other.false_alarms(untouched, years))
        print(f"of the forest, without the rules: {counts}")


if __name__ == "__main__":
    main()
