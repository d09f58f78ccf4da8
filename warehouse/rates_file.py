"""The ECB's published files of reference rates, read with suspicion.

The ECB publishes units of each currency per 1 EUR on every day on which TARGET is open, at about
16:00 CET: `eurofxref.csv` (the newest day) and `eurofxref-hist.csv` (all since 1999), each also as a
zip. Both are read here, at most MOST_BYTES of them.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from warehouse.currencies import CURRENCIES

# The whole history has 1.5 MB and grows by 60 kB a year.
MOST_BYTES = 32 << 20
PLACES = 6
SCHEMA = {"day": pl.Date(), "currency": pl.String(), "per_eur": pl.Decimal(18, PLACES)}
RATE = re.compile(rf"([0-9]{{1,12}})(?:\.([0-9]{{1,{PLACES}}})0*)?", re.ASCII)
DAY = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}|(?P<day>[0-9]{1,2}) (?P<month>[A-Z][a-z]+) (?P<year>[0-9]{4})",
    re.ASCII,
)
# In the ECB's history and no longer anybody's money; a feed with them is refused, too.
WITHDRAWN = frozenset({"CYP", "EEK", "HRK", "LTL", "LVL", "MTL", "ROL", "SIT", "SKK", "TRL"})
# Not strptime's %B: that reads the names of whatever locale the process is in.
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December")  # fmt: skip


class RatesError(ValueError):
    """The whole file is refused; the message says what was wrong, where, what would be right."""


@dataclass(frozen=True)
class RatesFile:
    """`rates`: of SCHEMA; `per_eur` is units of the currency for 1 EUR."""

    rates: pl.DataFrame
    first: date
    last: date
    days: int
    currencies: tuple[str, ...]
    withdrawn: tuple[str, ...]  # there, and passed over


def read_rates(path: Path, today: date) -> RatesFile:
    """The rates of a file of the ECB's; raises `RatesError` if any of it is not as it should be."""
    columns, rows = _table(_text(path))
    days: set[date] = set()
    found: list[tuple[date, str, int]] = []
    for line, cells in rows:
        day = _day(cells[0], line, today)
        if day in days:
            raise RatesError(f"line {line}: the day {day} is there a second time")
        days.add(day)
        for currency, cell in zip(columns, cells[1:], strict=True):
            if cell != "N/A":
                found.append((day, currency, _units(cell, currency, line)))
    kept = [row for row in found if row[1] not in WITHDRAWN]
    if not kept:
        raise RatesError("there is no rate in it, not for one day and one currency")
    frame = pl.DataFrame(
        kept,
        orient="row",
        schema=SCHEMA | {"per_eur": pl.Int64},
    ).with_columns(
        (pl.col("per_eur").cast(pl.Decimal(38, PLACES)) / 10**PLACES).cast(SCHEMA["per_eur"])
    )
    return RatesFile(
        rates=frame,
        first=min(row[0] for row in kept),
        last=max(row[0] for row in kept),
        days=len({row[0] for row in kept}),
        currencies=tuple(sorted({row[1] for row in kept})),
        withdrawn=tuple(sorted(WITHDRAWN.intersection(columns))),
    )


def _text(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        raw = _unpacked(path) if head == b"PK\x03\x04" else file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise RatesError(f"it is larger than {MOST_BYTES:,} bytes, which the ECB's files never are")
    if not raw.strip():
        raise RatesError("it is empty")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RatesError(
            f"it is no text (UTF-8 fails at byte {error.start:,}); take the ECB's "
            "eurofxref-hist.csv, or the zip of it"
        ) from None


def _unpacked(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                told = ", ".join(names)[:200] or "none"
                raise RatesError(f"the zip must hold one CSV file; it has {told}")
            with archive.open(names[0]) as file:
                return file.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is zipfile's word for an archive with a password.
        raise RatesError(f"the zip cannot be unpacked ({error}); download it again") from None


def _table(text: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The currencies of the header, and the rows with their lines; cells without blanks around."""
    # No cell of the ECB's is quoted, and each line ends with a comma.
    lines = (
        (line, [cell.strip() for cell in cells.split(",")])
        for line, cells in enumerate(text.split("\n"), 1)
    )
    _, header = next(lines)
    ends = header[-1] == ""
    columns = header[1 : -1 if ends else None]
    if header[0] != "Date":
        raise RatesError(
            f"line 1 begins with {header[0][:40]!r}; the ECB's files begin with Date and "
            "the currencies, Date,USD,JPY,…"
        )
    if not columns:
        raise RatesError("line 1 names no currency; it should be Date,USD,JPY,…")
    for name in columns:
        if name == "EUR" or name not in CURRENCIES | WITHDRAWN:
            why = "is what the rates are per" if name == "EUR" else "is no currency of ISO 4217"
            raise RatesError(f"line 1: the column {name[:40]!r} {why}")
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise RatesError(f"line 1: the column {min(twice)} is there more than once")

    def rows() -> Iterator[tuple[int, list[str]]]:
        for line, cells in lines:
            if not any(cells):
                continue
            if len(cells) != len(header) or (ends and cells[-1]):
                raise RatesError(
                    f"line {line} has {len(cells)} cells, the header has {len(header)}; "
                    "the file may be cut off"
                )
            yield line, cells[: 1 + len(columns)]

    return columns, rows()


def _day(cell: str, line: int, today: date) -> date:
    """`2026-11-20`, or `20 November 2026` as in the file of one day."""
    match = DAY.fullmatch(cell)
    try:
        if match is None:
            raise ValueError
        if match["month"]:
            day = date(int(match["year"]), 1 + MONTHS.index(match["month"]), int(match["day"]))
        else:
            day = date.fromisoformat(cell)
    except ValueError:
        raise RatesError(
            f"line {line}: {cell[:40]!r} is no day; it should be 2026-11-20 or 20 November 2026"
        ) from None
    if day > today:
        raise RatesError(f"line {line}: the day {day} is in the future")
    return day


def _units(cell: str, currency: str, line: int) -> int:
    """The rate in units of 10^-PLACES."""
    match = RATE.fullmatch(cell)
    units = int(match[1]) * 10**PLACES + int((match[2] or "").ljust(PLACES, "0")) if match else 0
    if not units:
        raise RatesError(
            f"line {line}: the rate {cell[:40]!r} of {currency} is no positive decimal of up to 12 "
            f"digits before and {PLACES} after the point; N/A stands for none"
        )
    return units
