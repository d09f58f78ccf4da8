"""`currency=`: answers in one currency, with the ECB's reference rates of the day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec
import numpy as np
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from models.timeline import CAN_BE_BOUGHT
from pricepulse.contract import CURRENCY
from pricepulse.errors import InvalidInputError
from warehouse.columns import Ints, Shown
from warehouse.connection import Version

SOURCE = "ECB euro reference rates"
EPOCH = date(1970, 1, 1)
UNKNOWN, ITS_OWN = -1, 0  # instead of the day of a rate: there is none, and none is needed
Into = Annotated[
    str | None,
    QueryParameter(
        pattern=CURRENCY,
        description="ISO 4217 code: all money in this currency, with the reference rate of the day.",
        examples=[Example(value="USD")],
    ),
]


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """`rates_of`: the day of the rates, of several the oldest; null where none was needed. `left_out`:
    how many offers could not be converted."""

    currency: str
    rates_of: date | None
    source: str
    left_out: int


class SeriesConversion(Conversion, frozen=True, kw_only=True):
    """`rates_of`: the newest day of which a rate was used. `left_out`: how many offers could not be
    converted at all, `incomplete`: how many only in part, because some days have no rate."""

    incomplete: int


def wanted_currency(version: Version, at: int, asked: str) -> str:
    """The currency asked for, if it is the product's own or this version has reference rates for it."""
    wanted = asked.upper()
    if wanted == version.columns.page(at)[0].currency:
        return wanted  # needs no rates; offers in another currency are left out without any
    there = version.rates.currencies
    if not there:
        raise InvalidInputError.at(
            "/query/currency",
            "needs reference rates, and there are none here yet; they come with `pricepulse rates "
            "FILE`, a file of the ECB's",
        )
    if wanted not in there:
        raise InvalidInputError.at(
            "/query/currency", f"has no reference rates here; there are {', '.join(there)}"
        )
    return wanted


def offers_in(
    version: Version, wanted: str, shown: list[Shown]
) -> tuple[list[tuple[Shown, Shown]], int | None, Conversion]:
    """Each offer as it is and in the currency wanted, with the rates of the version's day; and the id of
    the best of them."""
    today = (version.as_of.date() - EPOCH).days if version.as_of else 0
    made: list[tuple[Shown, Shown]] = []
    oldest: int | None = None
    for offer in shown:
        if offer.currency == wanted:
            made.append((offer, offer))
            continue
        rate = version.rates.pair(offer.currency, wanted).on(today)
        if rate is None:
            continue
        known = (offer.price, offer.list_price, offer.shipping)
        money = [None if units is None else rate.converted(units) for units in known]
        price, list_price, shipping = money
        if price is None or money.count(None) != known.count(None):
            continue  # beyond what any price may be
        oldest = rate.day if oldest is None else min(oldest, rate.day)
        in_wanted = offer._replace(
            price=price, list_price=list_price, shipping=shipping, currency=wanted
        )
        made.append((offer, in_wanted))
    rates_of = None if oldest is None else EPOCH + timedelta(days=oldest)
    left_out = len(shown) - len(made)
    told = Conversion(currency=wanted, rates_of=rates_of, source=SOURCE, left_out=left_out)
    return made, _best(version, [offer for _, offer in made]), told


def units_in(
    version: Version, wanted: str, money: Sequence[tuple[int, str]]
) -> tuple[list[int], date | None] | None:
    """Amounts (units, currency) in the currency wanted, all with the rates of the version's day, and the
    oldest day of which a rate was needed; None if one of them cannot be converted."""
    today = (version.as_of.date() - EPOCH).days if version.as_of else 0
    made, days = [], []
    for units, currency in money:
        if currency == wanted:
            made.append(units)
            continue
        rate = version.rates.pair(currency, wanted).on(today)
        into = None if rate is None else rate.converted(units)
        if rate is None or into is None:
            return None
        made.append(into)
        days.append(rate.day)
    return made, EPOCH + timedelta(days=min(days)) if days else None


def _best(version: Version, offers: list[Shown]) -> int | None:
    """Of offers in one currency the one that a build would choose (warehouse/catalog.sql)."""
    if version.vouched_since is None:
        return None
    since = (version.vouched_since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    fit = [
        (offer.price, offer.offer_id)
        for offer in offers
        if offer.last_observed_at >= since
        and offer.condition == "new"
        and offer.availability in CAN_BE_BOUGHT
    ]
    return min(fit)[1] if fit else None


def prices_in(
    version: Version, wanted: str, currency: Ints, units: Ints, days: Ints
) -> tuple[Ints, Ints]:
    """Prices with the rate of a day each (days since 1970), and the day of that rate, UNKNOWN or
    ITS_OWN. `currency`: places in the version's `Columns.currencies`."""
    made, used = np.zeros_like(units), np.full_like(units, UNKNOWN)
    for code in np.unique(currency):
        same = currency == code
        name = version.columns.currencies[code]
        if name == wanted:
            made[same], used[same] = units[same], ITS_OWN
        else:
            pair = version.rates.pair(name, wanted)
            made[same], used[same] = pair.converted(units[same], days[same])
    return made, used


class Tally:
    """What became of the offers of a history."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.newest = ITS_OWN
        self.left_out = self.incomplete = 0

    def known(self, used: Ints) -> Ints:
        """The places that could be converted, of an offer's days of rates; counts the offer."""
        places = np.flatnonzero(used != UNKNOWN)
        if not len(places):
            self.left_out += len(used) > 0
        else:
            self.incomplete += len(places) < len(used)
            self.newest = max(self.newest, int(used.max()))
        return places

    def told(self) -> SeriesConversion:
        return SeriesConversion(
            currency=self.wanted,
            rates_of=None if self.newest == ITS_OWN else EPOCH + timedelta(days=self.newest),
            source=SOURCE,
            left_out=self.left_out,
            incomplete=self.incomplete,
        )
