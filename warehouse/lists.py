"""Lists of what the marts say, without a query: each mart in the order in which it is listed.

What a list is filtered by lies in that order as small numbers, 12 to 25 bytes a row. They are read front to
back until a page is full: microseconds where many rows are meant, at most 0.3 ms for 300,000 rows, where
a DuckDB query takes 4 to 8 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from warehouse.columns import Columns

Direction = Literal["drops", "rises"]
# By column a word, or the least of its numbers; None is not asked for.
Asked = Mapping[str, str | float | None]

FIRST_LOOK = 1024  # rows; most pages are full after them
MOST_TOLD = 2000  # rows of a mart, 1 kB each
NOWHERE = (0, -1)
UNKNOWN = -1
# Less than 1 % is rounding and re-pricing by a penny.
DIRECTIONS: dict[Direction, pl.Expr] = {
    "drops": 100 * pl.col("price") <= 99 * pl.col("price_before"),
    "rises": 100 * pl.col("price") >= 101 * pl.col("price_before"),
}
ORDERS = {
    "newest": ("-began_at", "-severity", "offer_id", "kind"),
    "severity": ("-severity", "-began_at", "offer_id", "kind"),
}


class Listing:
    """Rows of a mart in one order, `place` being where they are in it. `order` names columns, with `-`
    the largest first and nulls last; `words` and `numbers` those by which they are found."""

    def __init__(
        self, rows: pl.DataFrame, order: Sequence[str], words: Sequence[str], numbers: Sequence[str]
    ) -> None:
        rows = rows[_sorted(rows, order)].select("place", *words, *numbers)
        self._places = rows["place"].to_numpy()
        self._columns = {name: rows[name].to_numpy() for name in numbers}
        self._ranges: dict[str, dict[str, tuple[int, int]]] = {}
        for name in words:
            self._columns[name], self._ranges[name] = _coded(rows[name])

    def places(self, asked: Asked, limit: int, offset: int) -> list[int]:
        """Where the rows of a page are in the mart. A category finds what is below it, too; a word
        that no row has finds nothing."""
        found: list[int] = []
        tests = [
            (name, self._ranges[name].get(value, NOWHERE) if isinstance(value, str) else value)
            for name, value in asked.items()
            if value is not None
        ]
        # Without filters every row counts: the page is where it says.
        begin, size = (0, FIRST_LOOK) if tests else (offset, limit)
        offset = offset if tests else 0
        while begin < len(self._places) and len(found) < limit:
            part = slice(begin, begin + size)
            here = self._places[part]
            keep = np.ones(len(here), bool)
            for name, wanted in tests:
                column = self._columns[name][part]
                if isinstance(wanted, tuple):
                    keep &= (column >= wanted[0]) & (column <= wanted[1])
                else:
                    keep &= column >= wanted
            hits = here[keep]
            found += hits[offset : offset + limit - len(found)].tolist()
            offset = max(0, offset - len(hits))
            begin, size = begin + size, size * 4
        return found


class Lists:
    """Those of one version. Each takes filters, `limit` and `offset` and gives places in its mart,
    `told` what is there."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._told: dict[str, dict[int, bytes]] = defaultdict(dict)
        deal, move, anomaly = (
            columns.marts[name].with_row_index("place")
            for name in ("deal", "price_move", "anomaly")
        )
        best = (pl.col("price") == pl.col("best_price")).fill_null(False).cast(pl.Int8)
        self._deals = Listing(
            deal.with_columns(pl.col("score").cast(pl.Int8), is_best=best),
            ("-score", "verdict", "-real_discount_ratio", "offer_id"),
            ("verdict", "category_slug", "brand_slug", "retailer"),
            ("score", "is_best"),
        )
        move = move.with_columns(size=pl.col("change_ratio").abs())
        self._moves = {
            direction: Listing(
                move.filter(moved),
                ("-size", "-changed_at", "offer_id"),
                ("category_slug", "retailer"),
                ("changed_at",),
            )
            for direction, moved in DIRECTIONS.items()
        }
        words = ("kind", "category_slug", "retailer")
        self._anomalies = {
            order: Listing(anomaly, by, words, ("began_at", "severity"))
            for order, by in ORDERS.items()
        }

    def deals(
        self,
        *,
        verdict: str | None,
        category: str | None,
        brand: str | None,
        retailer: str | None,
        min_score: int,
        best_only: bool,
        limit: int,
        offset: int,
    ) -> list[int]:
        """Reductions, best score first."""
        asked = {
            "verdict": verdict,
            "category_slug": category,
            "brand_slug": brand,
            "retailer": retailer,
            "score": min_score or None,
            "is_best": 1 if best_only else None,
        }
        return self._deals.places(asked, limit, offset)

    def moves(
        self,
        direction: Direction,
        *,
        since: int,
        category: str | None,
        retailer: str | None,
        limit: int,
        offset: int,
    ) -> list[int]:
        """Current offers whose last change of price, not before `since`, was a drop or a rise, the
        largest first."""
        asked = {"changed_at": since, "category_slug": category, "retailer": retailer}
        return self._moves[direction].places(asked, limit, offset)

    def anomalies(
        self,
        order: str,
        *,
        since: int,
        kind: str | None,
        category: str | None,
        retailer: str | None,
        min_severity: float,
        limit: int,
        offset: int,
    ) -> list[int]:
        """What began to look wrong not before `since`, in one of ORDERS."""
        asked = {
            "began_at": since,
            "kind": kind,
            "category_slug": category,
            "retailer": retailer,
            "severity": min_severity or None,
        }
        return self._anomalies[order].places(asked, limit, offset)

    def told(
        self, mart: str, places: list[int], tell: Callable[[dict[str, Any]], bytes]
    ) -> list[bytes]:
        """What `tell` makes of these rows of the mart (`Columns.listed`).

        A row says the same under every filter and on every page, and the first rows are in most of
        them: what was told of the last is kept. Only the event loop's thread comes here."""
        known = self._told[mart]
        if len(known) > MOST_TOLD:
            known.clear()
        new = [place for place in places if place not in known]
        known.update(zip(new, map(tell, self._columns.listed(mart, new)), strict=True))
        return [known[place] for place in places]


def _sorted(rows: pl.DataFrame, order: Sequence[str]) -> Any:
    """Places in that order: of numbers, which NumPy sorts in half of the time that Polars takes for
    several columns, a word being its place among the words."""
    keys = []
    for name in order:
        column = rows[name.removeprefix("-")]
        if column.dtype == pl.String:
            column = column.rank("dense").cast(pl.Int64)
        values = column.to_numpy()
        if column.null_count():
            values = np.where(
                column.is_null().to_numpy(), np.inf if name[0] != "-" else -np.inf, values
            )
        keys.append(-values if name[0] == "-" else values)
    return np.lexsort(keys[::-1])


def _coded(column: pl.Series) -> tuple[Any, dict[str, tuple[int, int]]]:
    """Words as numbers, and by word the first and last of the numbers that it finds: below `a` lie `a`
    and all `a.…`, which are neighbours where slugs are in the order of their parts."""
    known = sorted(column.drop_nulls().unique(), key=lambda word: word.split("."))
    ranges: dict[str, tuple[int, int]] = {}
    for number, word in enumerate(known):
        parts = word.split(".") if column.name == "category_slug" else [word]
        for depth in range(1, len(parts) + 1):
            above = ".".join(parts[:depth])
            ranges[above] = (ranges.get(above, (number, number))[0], number)
    codes = column.cast(pl.Enum(known)).to_physical().cast(pl.Int32).fill_null(UNKNOWN)
    return codes.to_numpy(), ranges
