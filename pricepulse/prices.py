"""What a product cost: its history."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from pricepulse.catalog import known_product
from pricepulse.contract import version_of
from pricepulse.errors import InvalidInputError
from warehouse import history
from warehouse.columns import Spells
from warehouse.connection import Version

Money = list[float | Decimal]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One offer in one currency, column by column; times are Unix seconds.

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
    as_of: datetime | None
    version: int
    series: list[Series]


MOMENT = "A day (`2026-11-22`, begins at 00:00 UTC) or a time with its offset."
From = Annotated[str | None, QueryParameter(name="from", max_length=40, description=MOMENT)]
To = Annotated[str | None, QueryParameter(max_length=40, description=MOMENT)]


@get("/products/{product_id:str}/history", tags=["prices"], opt={"versioned": True})
async def get_history(
    request: Request[Any, Any, Any],
    product_id: FromPath[str],
    resolution: Literal["spells", "day", "week", "month"] = "spells",
    from_: From = None,
    to: To = None,
    retailer: str | None = None,
) -> History:
    """Price history of a product, ready to plot.

    `spells`: stretches without a change. `day`, `week` (from Monday), `month`: open, close, min, max
    and time-weighted mean; a price holds until it changes, but not longer than an observation
    vouches for it. `from` is included, `to` is not."""
    version = version_of(request)
    key = known_product(version, product_id)
    start, end = _seconds("from", from_), _seconds("to", to)
    if start is not None and end is not None and start >= end:
        raise InvalidInputError.at("/query/from", "must be before to")
    series = [
        one
        for offer in version.columns.offers(key)
        if retailer is None or offer["retailer"] == retailer.strip().lower()
        for one in _series(version, offer, resolution, start, end)
    ]
    return History(
        product_id=str(key),
        resolution=resolution,
        as_of=version.as_of,
        version=version.number,
        series=series,
    )


def _series(
    version: Version, offer: dict[str, Any], resolution: Any, start: int | None, end: int | None
) -> Iterator[Series]:
    spells = version.columns.spells(offer)
    if resolution == "spells":
        spells = history.between(spells, start, end)
        for currency, mine in _by_currency(version, spells):
            yield _of_spells(version, offer, currency, history.part(spells, mine))
        return
    as_of = int(version.as_of.timestamp()) if version.as_of else 0
    until = history.held_until(spells, version.vouch_seconds, as_of)
    for currency, mine in _by_currency(version, spells):
        one = history.part(spells, mine)
        periods = history.periods(one, until[mine], resolution, start, end)
        if len(periods.t):
            yield _of_periods(offer, currency, periods)


def _by_currency(version: Version, spells: Spells) -> Iterator[tuple[str, Any]]:
    """Each currency with the place of its spells; nearly every offer has one only."""
    codes = spells.currency
    if not len(codes):
        return
    if codes.min() == codes.max():
        yield version.columns.currencies[codes[0]], slice(None)
        return
    for code in np.unique(codes):
        yield version.columns.currencies[code], codes == code


def _of_spells(version: Version, offer: dict[str, Any], currency: str, spells: Spells) -> Series:
    words = version.columns.availabilities
    return Series(
        offer_id=str(offer["offer_id"]),
        retailer=offer["retailer"],
        sku=offer["sku"],
        currency=currency,
        t=spells.first.tolist(),
        until=spells.last.tolist(),
        price=history.money(spells.price),
        list_price=[price or None for price in history.money(spells.list_price)],
        availability=[words[code] for code in spells.availability.tolist()],
        observations=spells.observations.tolist(),
    )


def _of_periods(offer: dict[str, Any], currency: str, periods: history.Periods) -> Series:
    return Series(
        offer_id=str(offer["offer_id"]),
        retailer=offer["retailer"],
        sku=offer["sku"],
        currency=currency,
        t=periods.t.tolist(),
        open=history.money(periods.open),
        close=history.money(periods.close),
        min=history.money(periods.min),
        max=history.money(periods.max),
        mean=history.money(periods.mean),
    )


def _seconds(name: str, given: str | None) -> int | None:
    """A day or a moment as Unix seconds."""
    if given is None:
        return None
    try:
        if len(given) == len("2026-11-22"):
            moment = datetime.combine(date.fromisoformat(given), datetime.min.time(), UTC)
        else:
            # In a query a bare + is a space: 2026-11-22T17:00:00+01:00 is what people mean.
            moment = msgspec.convert(given.replace(" ", "+"), datetime)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return int(moment.timestamp())
    except (ValueError, OverflowError, msgspec.ValidationError) as error:
        detail = "must be a day (2026-11-22) or an RFC 3339 time with offset (2026-11-22T17:00:00Z)"
        raise InvalidInputError.at(f"/query/{name}", detail) from error
