"""What a product cost: its history."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from pricepulse.catalog import Text, known_product, shop_slug
from pricepulse.contract import one_of, version_of
from pricepulse.conversion import Into, SeriesConversion, Tally, prices_in, wanted_currency
from pricepulse.errors import InvalidInputError
from warehouse import history
from warehouse.columns import Listed
from warehouse.connection import Version

Money = list[float | Decimal]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One offer in one currency, column by column; times are Unix seconds. With `currency=` an offer is
    one series, whatever currencies it was in.

    Spells: `t` and `until` (first and last observed), `price`, `list_price`, `availability`,
    `observations`. Periods: `t` (the period's start in UTC) and `open` to `mean`; periods of which
    nothing is known are absent."""

    offer_id: str
    retailer: str
    sku: str
    currency: str
    t: list[int]
    until: list[int] | msgspec.UnsetType = msgspec.UNSET
    price: Money | msgspec.UnsetType = msgspec.UNSET
    list_price: list[float | Decimal | None] | msgspec.UnsetType = msgspec.UNSET
    availability: list[str] | msgspec.UnsetType = msgspec.UNSET
    observations: list[int] | msgspec.UnsetType = msgspec.UNSET
    open: Money | msgspec.UnsetType = msgspec.UNSET
    close: Money | msgspec.UnsetType = msgspec.UNSET
    min: Money | msgspec.UnsetType = msgspec.UNSET
    max: Money | msgspec.UnsetType = msgspec.UNSET
    mean: Money | msgspec.UnsetType = msgspec.UNSET


class History(msgspec.Struct, frozen=True, kw_only=True):
    product_id: str
    resolution: str
    conversion: SeriesConversion | None
    as_of: datetime | None
    version: int
    series: list[Series]


MOMENT = "A day (`2026-11-22`, begins at 00:00 UTC) or a time with its offset."
Resolution = Annotated[str, one_of("spells", "day", "week", "month")]
From = Annotated[str | None, QueryParameter(name="from", max_length=40, description=MOMENT)]
To = Annotated[str | None, QueryParameter(max_length=40, description=MOMENT)]


@get("/products/{product_id:str}/history", tags=["prices"], opt={"versioned": True})
async def get_history(
    request: Request[Any, Any, Any],
    product_id: FromPath[str],
    resolution: Resolution = "spells",
    from_: From = None,
    to: To = None,
    retailer: Text = None,
    currency: Into = None,
) -> History:
    """Price history of a product, ready to plot.

    `spells`: stretches without a change. `day`, `week` (from Monday), `month`: open, close, min, max
    and time-weighted mean; a price holds until it changes, but not longer than an observation
    vouches for it. `from` is included, `to` is not.

    `currency` converts each spell with the reference rate of the day on which it began, and periods day by
    day, each with its own rate; weeks and months are made from those. Without a rate of the 7 days up to
    then a stretch is absent; `conversion` counts such offers."""
    version = version_of(request)
    at = known_product(version, product_id)
    start, end = _seconds("from", from_), _seconds("to", to)
    if start is not None and end is not None and start >= end:
        raise InvalidInputError.at("/query/from", "must be before to")
    shop = shop_slug(retailer)
    asked = Asked(version, at, resolution, start, end, shop)
    tally = Tally(wanted_currency(version, at, currency)) if currency else None
    # Spells are slices, some 30 µs; periods are computed, up to milliseconds.
    if tally is not None:
        made = _spells_in if resolution == "spells" else _periods_in
        series = await asyncio.to_thread(made, asked, tally)
    elif resolution == "spells":
        series = _spells(asked)
    else:
        series = await asyncio.to_thread(_periods, asked)
    return History(
        product_id=str(int(product_id)),
        resolution=resolution,
        conversion=tally.told() if tally else None,
        as_of=version.as_of,
        version=version.number,
        series=series,
    )


class Asked(NamedTuple):
    version: Version
    at: int
    resolution: Any
    start: int | None
    end: int | None
    retailer: str | None


def _spells(asked: Asked) -> list[Series]:
    """The spells that were observed in [start, end), whole."""
    columns = asked.version.columns
    listed, spells = columns.history(asked.at)
    t, until = spells.first.tolist(), spells.last.tolist()
    words = columns.availabilities
    every = (
        t,
        until,
        history.money(spells.price),
        [amount or None for amount in history.money(spells.list_price)],
        [words[code] for code in spells.availability.tolist()],
        spells.observations.tolist(),
    )
    currencies = spells.currency.tolist()
    one_currency = currencies.count(currencies[0]) == len(currencies)
    made = []
    for offer in listed:
        if asked.retailer is not None and offer.retailer != asked.retailer:
            continue
        low, high = offer.spells.start, offer.spells.stop
        if asked.start is not None:
            low = bisect_left(until, asked.start, low, high)
        if asked.end is not None:
            high = bisect_left(t, asked.end, low, high)
        if low >= high:
            continue
        if one_currency:
            mine = [column[low:high] for column in every]
            made.append(_series(offer, columns.currencies[currencies[low]], mine))
            continue
        for currency in sorted(set(currencies[low:high])):
            places = [at for at in range(low, high) if currencies[at] == currency]
            mine = [[column[at] for at in places] for column in every]
            made.append(_series(offer, columns.currencies[currency], mine))
    return made


def _series(offer: Listed, currency: str, columns: Sequence[Any]) -> Series:
    t, until, price, list_price, availability, observations = columns
    return Series(
        offer_id=str(offer.offer_id),
        retailer=offer.retailer,
        sku=offer.sku,
        currency=currency,
        t=t,
        until=until,
        price=price,
        list_price=list_price,
        availability=availability,
        observations=observations,
    )


def _periods(asked: Asked) -> list[Series]:
    """Prices in force by day, week or month; series without a known period are left out."""
    version = asked.version
    as_of = int(version.as_of.timestamp()) if version.as_of else 0
    columns = version.columns
    listed, spells = columns.history(asked.at)
    made = []
    for offer in listed:
        if asked.retailer is not None and offer.retailer != asked.retailer:
            continue
        mine = history.part(spells, offer.spells)
        until = history.held_until(mine, version.vouch_seconds, as_of)
        for currency in np.unique(mine.currency):
            same = mine.currency == currency
            periods = history.periods(
                history.part(mine, same), until[same], asked.resolution, asked.start, asked.end
            )
            if len(periods.t):
                made.append(_series_of(offer, columns.currencies[currency], periods))
    return made


def _series_of(offer: Listed, currency: str, periods: history.Periods) -> Series:
    return Series(
        offer_id=str(offer.offer_id),
        retailer=offer.retailer,
        sku=offer.sku,
        currency=currency,
        t=periods.t.tolist(),
        open=history.money(periods.open),
        close=history.money(periods.close),
        min=history.money(periods.min),
        max=history.money(periods.max),
        mean=history.money(periods.mean),
    )


def _spells_in(asked: Asked, tally: Tally) -> list[Series]:
    """The spells that were observed in [start, end), whole, each in the money of its first day."""
    version, words = asked.version, asked.version.columns.availabilities
    listed, spells = version.columns.history(asked.at)
    began = spells.first // history.DAY
    (price, used), (list_price, list_used) = (
        prices_in(version, tally.wanted, spells.currency, units, began)
        for units in (spells.price, spells.list_price)
    )
    used = np.minimum(used, list_used)  # where the list price alone is too large: neither
    spells = spells._replace(
        price=price, list_price=np.where(spells.list_price > 0, list_price, -1)
    )
    made = []
    for offer in listed:
        if asked.retailer is not None and offer.retailer != asked.retailer:
            continue
        mine, rates_of = history.part(spells, offer.spells), used[offer.spells]
        low = 0 if asked.start is None else int(mine.last.searchsorted(asked.start))
        high = None if asked.end is None else int(mine.first.searchsorted(asked.end))
        places = low + tally.known(rates_of[low:high])
        if len(places):
            mine = history.part(mine, places)
            lists = zip(mine.list_price.tolist(), history.money(mine.list_price), strict=True)
            columns = (
                mine.first.tolist(),
                mine.last.tolist(),
                history.money(mine.price),
                [amount if units >= 0 else None for units, amount in lists],
                [words[code] for code in mine.availability.tolist()],
                mine.observations.tolist(),
            )
            made.append(_series(offer, tally.wanted, columns))
    return made


def _periods_in(asked: Asked, tally: Tally) -> list[Series]:
    """Prices in force by day, week or month, each day's in the money of that day."""
    version = asked.version
    as_of = int(version.as_of.timestamp()) if version.as_of else 0
    listed, spells = version.columns.history(asked.at)
    made = []
    for offer in listed:
        if asked.retailer is not None and offer.retailer != asked.retailer:
            continue
        mine = history.part(spells, offer.spells)
        until = history.held_until(mine, version.vouch_seconds, as_of)
        days = history.pieces(mine, until, "day", asked.start, asked.end)
        price, used = prices_in(
            version, tally.wanted, mine.currency[days.spell], mine.price[days.spell], days.number
        )
        places = tally.known(used)
        if len(places):
            numbers, _, seconds = history.coarser(days, asked.resolution)
            periods = history.folded(
                numbers[places], price[places], seconds[places], asked.resolution
            )
            made.append(_series_of(offer, tally.wanted, periods))
    return made


def _seconds(name: str, given: str | None) -> int | None:
    """A day or a moment as Unix seconds."""
    if given is None:
        return None
    try:
        if len(given) == len("2026-11-22"):
            # Not date.fromisoformat: that takes 2026-W10-1 too.
            day = msgspec.convert(given, date)
            moment = datetime.combine(day, datetime.min.time(), UTC)
        else:
            # In a query a bare + is a space: 2026-11-22T17:00:00+01:00 is what people mean.
            moment = msgspec.convert(given.replace(" ", "+"), datetime)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp())
    except (ValueError, OverflowError, msgspec.ValidationError) as error:
        detail = "must be a day (2026-11-22) or an RFC 3339 time with offset (2026-11-22T17:00:00Z)"
        raise InvalidInputError.at(f"/query/{name}", detail) from error
