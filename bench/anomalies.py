"""`python -m bench.anomalies`: which injected faults are found, and how many false alarms that costs.

Faults go in as observations and through the build's own fold. One counts as found if the fold set it
aside as suspect, or if the model reports it: a spike or suspected error that overlaps it, a level
shift within a week of its beginning.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from bench.injection import DAY, KINDS, VOUCH, Folded, folded, histories, inject
from models.anomalies import anomalies

NEAR = 7 * DAY
ALLOWED = 0.5  # false alarms per clean offer-year
WANTED = 0.9


class Recall(NamedTuple):
    """Shares of injected faults. `by_chance`: what the same comparison finds in untouched histories."""

    kind: str
    offers: int
    set_aside: float
    reported: float
    found: float
    by_chance: float


def reports(histories: Folded) -> pl.DataFrame:
    return anomalies(histories.spells, histories.as_of, VOUCH // timedelta(seconds=1)).filter(
        pl.col("kind") != "stale"
    )


def offer_years(spells: pl.DataFrame) -> float:
    seen = spells.group_by("offer_id").agg(
        (pl.col("last").max() - pl.col("start").min()).alias("s")
    )
    return float(seen["s"].sum()) / (365.25 * DAY)


def matched(truth: pl.DataFrame, found: pl.DataFrame, lasts: str) -> pl.Series:
    """offer_id of the faults that the reports name."""
    kinds = ["level_shift"] if lasts == "level" else ["spike", "suspected_error"]
    pairs = truth.join(found.filter(pl.col("kind").cast(pl.String).is_in(kinds)), on="offer_id")
    near = (pl.col("at") - pl.col("begins")).abs() <= NEAR
    overlap = (pl.col("at") <= pl.col("ends")) & (pl.col("until") > pl.col("begins"))
    return pairs.filter(near if lasts == "level" else overlap)["offer_id"].unique()


def recall(rows: pl.DataFrame, name: str, clean: pl.DataFrame, seed: int) -> Recall:
    """`clean`: the reports on the untouched rows."""
    kind = KINDS[name]
    faulty, truth = inject(rows, kind, np.random.default_rng([seed, list(KINDS).index(name)]))
    seen = folded(faulty)
    aside = truth.join(seen.suspects, on="offer_id").filter(
        pl.col("at").is_between("begins", "ends")
    )["offer_id"]
    reported = matched(truth, reports(seen), kind.lasts)
    both = pl.concat([aside, reported]).n_unique()
    counts = aside.n_unique(), reported.len(), both, matched(truth, clean, kind.lasts).len()
    return Recall(name, truth.height, *(count / truth.height for count in counts))


def false_alarms(clean: pl.DataFrame, years: float) -> dict[str, float]:
    """Per clean offer-year, by kind."""
    counted = clean.group_by(pl.col("kind").cast(pl.String)).len().sort("kind")
    return {kind: count / years for kind, count in counted.iter_rows()}


def main() -> None:
    told = argparse.ArgumentParser(prog="python -m bench.anomalies", description=__doc__)
    told.add_argument("--products", type=int, help="of each half, all unless told")
    told.add_argument("--seed", type=int, default=0)
    told.add_argument("--half", type=int, choices=(0, 1), default=1, help="0 is for tuning")
    options = told.parse_args()
    every = histories(products=options.products, seed=options.seed)
    rows = every.filter(pl.col("half") == options.half)
    untouched = folded(rows)
    clean, years = reports(untouched), offer_years(untouched.spells)
    print(
        f"{rows['offer_id'].n_unique():,} offers, {years:,.0f} offer-years, {rows.height:,} observations"
    )
    print(
        "| injected | offers | set aside | reported | found | by chance |\n|---|---|---|---|---|---|"
    )
    found = []
    for name, kind in KINDS.items():
        each = recall(rows, name, clean, options.seed)
        shares = (f"{100 * share:.1f} %" for share in each[2:])
        print("|", " | ".join([name, f"{each.offers:,}", *shares]), "|", flush=True)
        found += [each.found] if kind.counted else []
    by_kind = false_alarms(clean, years)
    total = sum(by_kind.values())
    print(f"\nlowest recall {100 * min(found):.1f} % (wanted: {100 * WANTED:.0f} %)")
    told_by_kind = ", ".join(f"{kind} {rate:.3f}" for kind, rate in by_kind.items())
    print(f"false alarms per clean offer-year: {total:.3f} (allowed: {ALLOWED}): {told_by_kind}")


if __name__ == "__main__":
    main()
