"""Conversion between currencies with the reference rates of a version, in whole numbers.

Both rates are of one day: the newest, at most MOST_DAYS back, on which there is one of each. Prices
are units of 1/10,000, rates units of 10^-6 for 1 EUR; what they make is rounded half up.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import duckdb
import numpy as np
import polars as pl

from warehouse.columns import Ints

# The longest time without rates, around Easter and the turn of the year, is of 5 days.
MOST_DAYS = 7
# DECIMAL(18, 4): what comes out beyond it could be stored nowhere.
MOST_UNITS = 10**18
RATES = "SELECT currency, day, per_eur FROM reference_rate"
NONE: Ints = np.empty(0, np.int64)


class Rate(NamedTuple):
    """Prices times `into`, divided by `of`; both are units of 10^-6 for 1 EUR on `day`."""

    day: int  # since 1970-01-01
    of: int
    into: int

    def converted(self, units: int) -> int | None:
        """None where the price would be too large to be stored."""
        made = (2 * units * self.into + self.of) // (2 * self.of)
        return made if made < MOST_UNITS else None


class Pair(NamedTuple):
    """The rates of two currencies on the days that have both."""

    days: Ints
    of: Ints
    into: Ints

    def on(self, day: int) -> Rate | None:
        """The newest on or before this day, of the last MOST_DAYS."""
        at = int(self.days.searchsorted(day, side="right")) - 1
        if at < 0 or day - self.days[at] > MOST_DAYS:
            return None
        return Rate(int(self.days[at]), int(self.of[at]), int(self.into[at]))

    def converted(self, units: Ints, days: Ints) -> tuple[Ints, Ints]:
        """Prices with the rate of a day each, and which day's rate that was: -1 where there is none,
        or the price would be too large to be stored."""
        at = self.days.searchsorted(days, side="right") - 1
        used = np.where(at < 0, -1, self.days[at]) if len(self.days) else np.full_like(days, -1)
        used[days - used > MOST_DAYS] = -1
        made = np.zeros_like(units)
        known = used >= 0
        if known.any():
            of, into, price = self.of[at[known]], self.into[at[known]], units[known]
            # Most products fit into 63 bits; Python's integers hold the others.
            largest = 2 * int(price.max()) * int(into.max()) + int(of.max())
            exact: Any = np.int64 if largest < 2**63 else object
            of, into, price = (column.astype(exact) for column in (of, into, price))
            amount = (2 * price * into + of) // (2 * of)
            small = (amount < MOST_UNITS).astype(bool)
            made[known] = np.where(small, amount, 0).astype(np.int64)
            used[known] = np.where(small, used[known], -1)
        return made, used


class Rates:
    """All reference rates of a version, in memory."""

    def __init__(self, of: dict[str, tuple[Ints, Ints]]) -> None:
        """`of`: for each currency its days, ascending, and their rates."""
        self._of = of
        self.currencies = tuple(sorted(of))
        self.pair = lru_cache(256)(self._pair)

    @classmethod
    def read(cls, file: duckdb.DuckDBPyConnection) -> Rates:
        """From a warehouse file; none from one that an older release made."""
        try:
            rows = file.execute(RATES).pl()
        except duckdb.CatalogException:
            return cls({})
        # Sorting the days of each currency, nearly in order, takes a fifth of sorting all rows.
        return cls(
            {
                str(name): (part["day"].to_numpy(), part["per_eur"].to_numpy())
                for (name,), rates in rows.with_columns(
                    pl.col("day", "per_eur").to_physical().cast(pl.Int64)
                )
                .partition_by("currency", as_dict=True)
                .items()
                for part in [rates.sort("day")]
            }
        )

    def _pair(self, known: str, wanted: str) -> Pair:
        """Empty where one of the two has no rates."""
        (days, of), (other_days, into) = (
            self._of.get(name, (NONE, NONE)) for name in (known, wanted)
        )
        both, here, there = np.intersect1d(
            days, other_days, assume_unique=True, return_indices=True
        )
        return Pair(both, of[here], into[there])
