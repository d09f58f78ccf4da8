"""Reference rates: from the ECB's files (`rates_file`) into the lake, and from there into a warehouse file.

The lake's table is only ever added to. Of several rates for one day and currency the one stored last
counts, and 0 takes back what was there.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

import duckdb
import polars as pl

from warehouse.lake import Lake
from warehouse.rates_file import SCHEMA, RatesError

# No currency of the ECB's has moved so far from one of its rates to the next since 1999 but where it was
# redenominated; a decimal point that slipped by one place, or the wrong column, does.
MOST_JUMP = 3

CURRENT = """
SELECT day, currency, arg_max(per_eur, (stored_at, per_eur)) AS per_eur
FROM lake.reference_rate {at} GROUP BY ALL HAVING arg_max(per_eur, (stored_at, per_eur)) > 0
"""
NOW = CURRENT.format(at="")
DIFFERENT = f"""
SELECT r.day, r.currency, r.per_eur, c.per_eur AS replaced
FROM given AS r LEFT JOIN ({NOW}) AS c USING (day, currency)
WHERE r.per_eur IS DISTINCT FROM c.per_eur
"""
# Of what would be different: against the rates that would then be next to it, and what it replaces (a
# whole file without its decimal points would fit together).
JUMPS = f"""
WITH believed AS (
    SELECT day, currency, per_eur, true AS given FROM different
    UNION ALL
    SELECT day, currency, per_eur, false FROM ({NOW}) ANTI JOIN different USING (day, currency)
), compared AS (
    SELECT day, currency, per_eur, lag(day) OVER past AS other_day, lag(per_eur) OVER past AS other,
        given OR lag(given) OVER past AS judged
    FROM believed WINDOW past AS (PARTITION BY currency ORDER BY day)
    UNION ALL SELECT day, currency, per_eur, day, replaced, true FROM different
)
SELECT day, currency, per_eur, other_day, other, count(*) OVER () AS many FROM compared
WHERE judged AND greatest(per_eur / other, other / per_eur) > {MOST_JUMP}
ORDER BY day, currency, other_day LIMIT 1
"""
# The second time: a clock that was once ahead must not make its rates win for ever.
STORE = """
INSERT INTO lake.reference_rate
SELECT day, currency, per_eur,
    greatest(?, (SELECT max(stored_at) FROM lake.reference_rate) + INTERVAL 1 MICROSECOND)
FROM different
"""
SHOW = """
MERGE INTO reference_rate AS shown
USING (FROM stored UNION ALL SELECT DISTINCT day, 'EUR', 1 FROM stored ORDER BY currency, day) AS r
ON shown.day = r.day AND shown.currency = r.currency
WHEN MATCHED AND shown.per_eur <> r.per_eur THEN UPDATE SET per_eur = r.per_eur
WHEN NOT MATCHED THEN INSERT VALUES (r.day, r.currency, r.per_eur)
WHEN NOT MATCHED BY SOURCE THEN DELETE
"""


class Stored(NamedTuple):
    new: int
    corrected: int


def store_rates(
    lake: Lake, rates: pl.DataFrame, now: datetime, *, accept_jumps: bool = False
) -> Stored:
    """Put what is new or different into the lake, in one commit; nothing, if nothing is. Raises
    `RatesError` where a rate is more than MOST_JUMP times off the one before, the one after or the one
    that it replaces, unless told to accept it."""
    counted = Stored(0, 0)

    def write(cursor: duckdb.DuckDBPyConnection) -> None:
        nonlocal counted
        given = rates  # noqa: F841 (DuckDB reads it by name)
        different = cursor.execute(DIFFERENT).pl()
        if not accept_jumps:
            _refuse_jumps(cursor, different)
        corrected = different.height - different["replaced"].null_count()
        counted = Stored(different.height - corrected, corrected)
        if different.height:
            _store(cursor, different, now)

    lake.commit(write)
    return counted


def remove_rate(lake: Lake, day: date, currency: str, now: datetime) -> None:
    """Take back the rate of a day, until a file brings one again; `RatesError` if there is none."""

    def write(cursor: duckdb.DuckDBPyConnection) -> None:
        wanted = [day, currency]
        if not cursor.execute(f"FROM ({NOW}) WHERE day = ? AND currency = ?", wanted).fetchall():
            raise RatesError(f"there is no rate of {currency} on {day} to remove")
        _store(cursor, pl.DataFrame([(*wanted, Decimal(0))], SCHEMA, orient="row"), now)

    lake.commit(write)


def show_rates(lake: Lake, snapshot: int, file: duckdb.DuckDBPyConnection) -> None:
    """Make the warehouse file's `reference_rate` what the lake holds as of `snapshot`."""
    stored = lake.frame(CURRENT.format(at=f"AT (VERSION => {snapshot})"))  # noqa: F841 (by name)
    file.execute(SHOW)


def _store(cursor: duckdb.DuckDBPyConnection, different: pl.DataFrame, now: datetime) -> None:
    cursor.execute(STORE, [now.astimezone(UTC).replace(tzinfo=None)])


def _refuse_jumps(cursor: duckdb.DuckDBPyConnection, different: pl.DataFrame) -> None:
    found = cursor.execute(JUMPS).fetchone()
    if found is None:
        return
    day, currency, rate, other_day, other, many = found
    times = max(rate / other, other / rate)
    shown = f"{times:,.0f}" if times >= 100 else f"{times:.1f}"
    way = "times" if rate > other else "times less than"
    against = "stored for that day" if day == other_day else f"of {other_day}"
    more = f" ({many - 1:,} more like that)" if many > 1 else ""
    raise RatesError(
        f"the rate {rate.normalize():f} of {currency} on {day} is {shown} {way} the "
        f"{other.normalize():f} {against}{more}; --accept-jumps stores rates more than {MOST_JUMP} times "
        "off, where that is what happened, and --remove takes back a wrong one that is stored"
    )
