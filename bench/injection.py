"""Faults put into real price histories, one an offer, as observations and so before anything folds them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.spells import fold

GROCERIES = Path(__file__).parents[1] / "../shared/data/groceries.parquet"
VOUCH = timedelta(days=10)
DAY = 86_400
MONEY = pl.Decimal(18, 4)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
# Units for a Hong Kong dollar in 2022 to 2025; each injection draws within 5 % of it.
RATES = {"USD": 0.128, "EUR": 0.118, "GBP": 0.102, "JPY": 18.8, "TWD": 4.07}


class Folded(NamedTuple):
    """`spells`: as `models.anomalies` takes them. `suspects`: offer_id, at (seconds): what the build
    sets aside before any model sees it."""

    spells: pl.DataFrame
    suspects: pl.DataFrame
    as_of: int


class Injected(NamedTuple):
    """`rows` with the faults; one row of `truth` an offer: offer_id, begins, ends (seconds of the
    first and last observation that is wrong)."""

    rows: pl.DataFrame
    truth: pl.DataFrame


def histories(path: Path = GROCERIES, products: int | None = None) -> pl.DataFrame:
    """Real observations in the columns of `warehouse.spells.fold` with product_id and retailer, sorted
    by offer and time; `half`: 0 to tune on, 1 to report. Two shops of one owner move together, so
    the halves share no product."""
    rows = pl.read_parquet(path).with_columns(
        product_id=pl.col("product_key").rank("dense").cast(pl.Int64)
    )
    order = np.random.default_rng([0, 1]).permutation(rows["product_id"].n_unique()) + 1
    halves = pl.DataFrame({"product_id": order, "half": np.arange(len(order)) % 2})
    if products is not None:
        halves = halves.head(2 * products)
    return (
        rows.join(halves, on="product_id")
        .with_columns(pl.struct("product_id", "retailer", "sku").rank("dense").alias("offer_id"))
        .select(
            pl.col("offer_id").cast(pl.Int64),
            "product_id",
            "retailer",
            "half",
            pl.col("observed_at").dt.cast_time_unit("us"),
            pl.col("price").cast(MONEY),
            pl.lit(None, dtype=MONEY).alias("list_price"),
            "currency",
            pl.lit("InStock").alias("availability"),
        )
        .sort("offer_id", "observed_at")
        .with_columns(pl.lit(1).alias("batch_id"), pl.int_range(pl.len()).alias("line"))
    )


def folded(rows: pl.DataFrame) -> Folded:
    """What a build makes of the observations, and the model sees."""
    about = rows.group_by("offer_id").agg(pl.col("product_id", "retailer").first())
    result = fold(rows.drop("product_id", "retailer", "half"), VOUCH)
    vouch = VOUCH // timedelta(seconds=1)
    newest = int(rows["observed_at"].dt.epoch("s").max())  # type: ignore[arg-type]
    start = pl.col("first_observed_at").dt.epoch("s")
    spells = (
        result.spells.join(about, on="offer_id")
        .sort("product_id", "offer_id", "first_observed_at")
        .select(
            "product_id",
            "offer_id",
            "retailer",
            start.alias("start"),
            pl.col("last_observed_at").dt.epoch("s").alias("last"),
            pl.min_horizontal(
                pl.col("last_observed_at").dt.epoch("s") + vouch,
                start.shift(-1).over("offer_id"),
                pl.lit(newest, dtype=pl.Int64),
            ).alias("until"),
            pl.col("price").to_physical().cast(pl.Int64),
            pl.lit(0, dtype=pl.Int64).alias("list_price"),
            "currency",
            (pl.col("availability") == "InStock").alias("buyable"),
            "observations",
        )
    )
    suspects = result.suspects.select("offer_id", pl.col("observed_at").dt.epoch("s").alias("at"))
    return Folded(spells, suspects, newest)


def _times(factor: float) -> Callable[[Floats, Rng], Floats]:
    return lambda price, _: price * factor


def _converted(price: Floats, rng: Rng) -> Floats:
    rate = float(rng.choice(list(RATES.values())))
    return price * (rate * rng.uniform(0.95, 1.05))


def _part(price: Floats, rng: Rng) -> Floats:
    return price / float(rng.choice([4, 6, 12]))


class Kind(NamedTuple):
    """`wrong` turns the price into the wrong one. `lasts`: one look, all of a day, or a new level.
    `cause`: what the model should guess. `counted`: whether the target is about it."""

    wrong: Callable[[Floats, Rng], Floats]
    lasts: str = "look"
    cause: str | None = None
    currency: str | None = None
    counted: bool = True


KINDS = {
    "x10": Kind(_times(10), cause="decimal_slip"),
    "/10": Kind(_times(0.1), cause="decimal_slip"),
    "x100": Kind(_times(100), cause="decimal_slip"),
    "unit price: a 4th, 6th or 12th": Kind(_part, cause="unit_or_instalment_price"),
    "wrong currency: number converted": Kind(_converted, cause="wrong_currency"),
    "wrong currency: label changed": Kind(_times(1), cause="wrong_currency", currency="USD"),
    "spike +50 % for a day": Kind(_times(1.5), "day"),
    "level shift +40 %": Kind(_times(1.4), "level"),
    "level shift -40 %": Kind(_times(0.6), "level"),
    # Not to be found: what these look like is a flash sale, and a small change of price.
    "(drop of 50 % for a day)": Kind(_times(0.5), "day", counted=False),
    "(wrong currency: yuan for HKD)": Kind(_times(0.926), counted=False),
}


def inject(rows: pl.DataFrame, kind: Kind, rng: Rng) -> Injected:
    """One fault in every offer that is known for at least 90 days, after its first 14 (a level shift:
    its first 30, and 30 before its last)."""
    offer = rows["offer_id"].to_numpy()
    time = rows["observed_at"].dt.epoch("s").to_numpy()
    price = rows["price"].to_physical().cast(pl.Int64).to_numpy() / 10_000
    wrong, changed = price.copy(), np.zeros(len(price), np.bool_)
    truth = []
    edges = np.append(np.flatnonzero(np.diff(offer, prepend=-1)), len(offer))
    for first, end in pairwise(edges):
        seen = time[first:end]
        if seen[-1] - seen[0] < 90 * DAY:
            continue
        part = slice(*(first + np.array(_place(seen, kind.lasts, rng))))
        wrong[part] = np.maximum(np.round(kind.wrong(price[part], rng), 2), 0.01)
        changed[part] = True
        truth.append((offer[first], time[part][0], time[part][-1]))
    faulty = pl.Series("price", np.rint(wrong * 10_000).astype(np.int64))
    currency = pl.lit(kind.currency or rows["currency"][0])
    return Injected(
        rows.with_columns(
            _money(faulty),
            pl.when(pl.Series(changed)).then(currency).otherwise(pl.col("currency")).alias("currency"),
        ),
        pl.DataFrame(truth, schema=dict.fromkeys(("offer_id", "begins", "ends"), pl.Int64), orient="row"),
    )  # fmt: skip


def _money(units: pl.Series) -> pl.Series:
    """Units of 1/10,000 as DECIMAL(18,4); both halves are exact."""
    whole, rest = (units // 10_000).cast(MONEY), (units % 10_000).cast(MONEY)
    return (whole + rest * pl.Series([0.0001]).cast(MONEY)).cast(MONEY).alias("price")


def _place(seen: Ints, lasts: str, rng: Rng) -> tuple[int, int]:
    """First and last + 1 of an offer's observations that become wrong."""
    if lasts == "level":
        earliest = np.searchsorted(seen, seen[0] + 30 * DAY)
        latest = np.searchsorted(seen, seen[-1] - 30 * DAY, side="right")
        begin = int(rng.integers(earliest, max(latest, earliest + 1)))
        days = rng.integers(30, 121)
        back = int(np.searchsorted(seen, seen[begin] + days * DAY))
        return begin, len(seen) if rng.random() < 0.5 else back
    begin = int(rng.integers(np.searchsorted(seen, seen[0] + 14 * DAY), len(seen)))
    if lasts == "look":
        return begin, begin + 1
    # To the same hour of the next day, less what daily looks come early.
    return begin, max(int(np.searchsorted(seen, seen[begin] + 20 * 3600)), begin + 1)
