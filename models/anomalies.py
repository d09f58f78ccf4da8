"""Anomalies in price histories: spikes, level shifts, suspected errors, stale offers.

Robust statistics on logarithms of prices. What held around a price is summed up by quantiles
weighted by time, as in the Hampel identifier (median and spread of a moving window; Pearson et al.,
"Generalized Hampel Filters", 2016). Shop prices have two modes, regular and reduced, so the spread
is a range of quantiles: their MAD is either 0 or as wide as the promotion. A step down to a
promotion and back is no anomaly, nor is any price that was there before.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from models import excursions
from models.courses import Found, moved_together, price_stretches
from models.level_shifts import level_shifts

KINDS = ("spike", "level_shift", "suspected_error", "stale")
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
    "cause": pl.Enum(excursions.CAUSES),
}
# A price that DECIMAL(18, 4) still holds.
MOST = np.log(9.99e17)
INPUT = ("product_id", "offer_id", "start", "last", "until", "price", "currency", "buyable",
         "observations", "retailer")  # fmt: skip


def anomalies(spells: pl.DataFrame, as_of: int, vouch: int) -> pl.DataFrame:
    """What a shopper or an operator should look at in these histories.

    `spells`: a row a price spell, fastest if sorted by product_id, offer_id, start: product_id,
    offer_id (Int64); start, last, until (Int64, seconds since 1970: first and last observed, and
    until when the price was known to hold); price (Int64, units of 1/10,000); currency, retailer
    (Categorical, Enum or String); buyable (Boolean); observations (Int64). `as_of` and `vouch` in
    seconds. Other columns are ignored.

    Gives, sorted by offer_id, at, kind, the columns COLUMNS, one row an anomaly:

    - `suspected_error`: 2.5 times above or below what held before and after, or for a few days
      another currency with the same number. `cause` is a guess or null.
    - `spike`: a rise of 35 % and more over the price before and the one after, for three days at
      most or one look, to where the offer was not more than once in half a year around.
    - `level_shift`: from `at` the mean of a month is 20 % or more above or below the mean of the
      three months before, the highest and the lowest prices moved the same way, and the offer never
      stayed there before. Until it goes back, or is no longer known.
    - `stale`: buyable when last seen, not seen since for longer than `vouch`, though its shop was.

    `price` is that of the stretch that begins at `at`. `expected_low` to `expected_high` would have
    been no surprise (of a level shift: the prices of the three months before); null for stale.
    `severity`: by which part the price is too high, or is below what was expected: 0.5 is twice the
    highest or half the lowest expected price; of a level shift, by which part the mean moved; of a
    stale offer, 1 - vouch / time since it was seen.

    Raises ValueError if a column is missing.
    """
    rows = _sorted(spells)
    if rows.is_empty():
        return pl.DataFrame(schema=COLUMNS)
    course = price_stretches(rows)
    product = rows["product_id"].to_numpy()[course.row]
    wrong = np.zeros(len(course.start), np.bool_)
    errors = excursions.errors(course)
    causes = excursions.causes(course, errors, rows)
    # What two shops do on one day is a promotion, unless an error explains it: one pipeline may spoil
    # the prices of all shops.
    real = moved_together(course, product, errors.stretch) & causes.is_null().to_numpy()
    errors, causes = errors.keep(~real), causes.filter(~real)
    wrong[errors.stretch] = True
    spikes = excursions.spikes(course, wrong)
    spikes = spikes.keep(~moved_together(course, product, spikes.stretch))
    wrong[spikes.stretch] = True
    shifts = level_shifts(course, wrong)
    mislabelled = excursions.mislabelled(rows)

    def spells_of(found: Found) -> pl.DataFrame:
        return rows[course.row[found.stretch]]

    foreign = pl.Series(["wrong_currency"] * len(mislabelled.stretch), dtype=COLUMNS["cause"])
    parts = [
        _described("suspected_error", errors, spells_of(errors), causes),
        _described("suspected_error", mislabelled, rows[mislabelled.stretch], foreign),
        _described("spike", spikes, spells_of(spikes)),
        _described("level_shift", shifts, spells_of(shifts)),
        _stale(rows, as_of, vouch),
    ]
    return pl.concat(parts).sort("offer_id", "at", "kind", "price", "currency")


def _sorted(spells: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in INPUT if name not in spells.columns]
    if missing:
        raise ValueError(f"the spells have no column {', '.join(missing)}")
    words = spells["currency"].cast(pl.String).unique().sort()
    rows = spells.select(INPUT).with_columns(
        pl.col("currency").cast(pl.String).cast(pl.Enum(words))
    )
    place = ("product_id", "offer_id", "start")
    product, offer, start = (rows[name].to_numpy() for name in place)
    same_product, same_offer = product[1:] == product[:-1], offer[1:] == offer[:-1]
    later = np.where(same_offer, start[1:] >= start[:-1], offer[1:] > offer[:-1])
    in_order = np.where(same_product, later, product[1:] > product[:-1]).all()
    return rows if in_order else rows.sort(place, maintain_order=True)


def _described(
    kind: str, found: Found, spells: pl.DataFrame, cause: pl.Series | None = None
) -> pl.DataFrame:
    """The columns COLUMNS; `spells`: the first spell of each of `found`."""
    # 10^16 units in another currency may be more than any price can be.
    low, high = (np.exp(np.minimum(part, MOST)) for part in (found.low, found.high))
    return spells.select(
        "offer_id",
        "product_id",
        pl.lit(kind, dtype=COLUMNS["kind"]).alias("kind"),
        pl.col("start").alias("at"),
        pl.Series("until", found.until, dtype=pl.Int64),
        "price",
        pl.col("currency").cast(pl.String),
        pl.Series("expected_low", np.rint(low).astype(np.int64)),
        pl.Series("expected_high", np.rint(high).astype(np.int64)),
        pl.Series("severity", -np.expm1(-found.beyond)),
        pl.lit(cause, dtype=COLUMNS["cause"]).alias("cause"),
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
