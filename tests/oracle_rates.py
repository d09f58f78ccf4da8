"""The slow, obvious oracle of reference rates and conversion: its own reading of docs/definitions.md."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from tests.oracle import (
    CENT_OF_A_CENT,
    Period,
    Spell,
    known_stretches,
    period_end,
    period_start,
)

# By day and currency; a day without a currency has N/A there.
Table = dict[date, dict[str, Decimal]]
MOST_DAYS = 7


def ecb(table: Table) -> str:
    """As eurofxref-hist.csv: newest day first, and a comma at the end of each line."""
    names = sorted({name for rates in table.values() for name in rates})
    rows = [
        [str(day), *(str(table[day].get(name, "N/A")) for name in names)]
        for day in sorted(table, reverse=True)
    ]
    return "".join(",".join([*cells, ""]) + "\n" for cells in [["Date", *names], *rows])


def working_days(last: date, days: int) -> Table:
    """Rates that move a little, on working days up to `last`. KRW and JPY have holes."""
    table: Table = {}
    for back in range(days):
        day = last - timedelta(days=back)
        if day.weekday() > 4:
            continue
        step = day.toordinal() % 97
        table[day] = {
            "USD": Decimal("1.0801") + step * Decimal("0.0017"),
            "GBP": Decimal("0.83042") + step * Decimal("0.00003"),
            "JPY": Decimal("158.05") + step * Decimal("0.11"),
            "KRW": Decimal(1480) + step,
            "IDR": Decimal("17012.55") + step,
        }
        if back % 4 == 3:
            del table[day]["JPY"]
        if 12 <= back < 30:
            del table[day]["KRW"]
    return table


def rates_on(table: Table, known: str, wanted: str, day: date) -> tuple[date, Fraction] | None:
    """The day of the rates, and how many units of `wanted` one of `known` is."""
    for back in range(MOST_DAYS + 1):
        before = day - timedelta(days=back)
        rates = {"EUR": Decimal(1)} | table[before] if before in table else {}
        if known in rates and wanted in rates:
            return before, Fraction(rates[wanted]) / Fraction(rates[known])
    return None


def converted(table: Table, price: Decimal, known: str, wanted: str, day: date) -> Decimal | None:
    if known == wanted:
        return price
    found = rates_on(table, known, wanted, day)
    if found is None:
        return None
    units = Fraction(price) * found[1] * 10_000 + Fraction(1, 2)
    made = Decimal(units.numerator // units.denominator) * CENT_OF_A_CENT
    return made if made < 10**14 else None


@dataclass
class Pieces:
    """What of a history could be converted, how much could not, and the days whose rates were used."""

    found: list[Spell] = field(default_factory=list)
    lost: int = 0
    used: set[date] = field(default_factory=set)

    def take(self, table: Table, known: str, day: date, made: Spell | None) -> None:
        if made is None:
            self.lost += 1
            return
        self.found.append(made)
        rate = rates_on(table, known, made.currency, day)
        if known != made.currency and rate is not None:
            self.used.add(rate[0])


def converted_spells(table: Table, spells: list[Spell], wanted: str) -> Pieces:
    pieces = Pieces()
    for spell in spells:
        day = spell.first.date()
        price = converted(table, spell.price, spell.currency, wanted, day)
        list_price = spell.list_price
        if list_price is not None:
            list_price = converted(table, list_price, spell.currency, wanted, day)
        made = None
        if price is not None and (list_price is None) == (spell.list_price is None):
            made = replace(spell, price=price, list_price=list_price, currency=wanted)
        pieces.take(table, spell.currency, day, made)
    return pieces


def days_converted(
    table: Table, spells: list[Spell], wanted: str, vouch: timedelta, as_of: datetime
) -> Pieces:
    """Each stretch of a day in which one price held as a spell of its own, in the money of that day."""
    pieces = Pieces()
    stretches = [
        (*stretch, currency)
        for currency in {spell.currency for spell in spells}
        for stretch in known_stretches(spells, currency, vouch, as_of)
    ]
    for begin, end, price, currency in sorted(stretches):
        while True:
            until = min(end, period_end(period_start(begin, "day"), "day"))
            made = converted(table, price, currency, wanted, begin.date())
            spell = None if made is None else Spell(begin, until, made, None, wanted, "", 1)
            pieces.take(table, currency, begin.date(), spell)
            begin = until
            if begin >= end:
                break
    return pieces


def converted_periods(days: list[Spell], resolution: str) -> list[Period]:
    """`days`: what `days_converted` found."""
    pieces: dict[datetime, list[Spell]] = defaultdict(list)
    for day in days:
        pieces[period_start(day.first, resolution)].append(day)
    found = []
    for start, mine in sorted(pieces.items()):
        prices = [each.price for each in mine]
        seconds = [int((each.last - each.first).total_seconds()) for each in mine]
        weights = seconds if sum(seconds) else [1] * len(mine)
        paid = sum(
            (Fraction(price) * weight for price, weight in zip(prices, weights, strict=True)),
            Fraction(0),
        )
        units = paid / sum(weights) * 10_000 + Fraction(1, 2)
        mean = Decimal(units.numerator // units.denominator) * CENT_OF_A_CENT
        found.append(Period(start, prices[0], prices[-1], min(prices), max(prices), mean))
    return found
