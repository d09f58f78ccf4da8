"""What a product's price usually is."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import FromPath

from pricepulse.catalog import known_product, rounded
from pricepulse.contract import version_of
from pricepulse.deals import Judgement
from warehouse.columns import Shown, Usual
from warehouse.connection import Version
from warehouse.history import amount

# The only share that is no fraction: percentiles go to 100 by their name.
Percentile = Annotated[
    float | None,
    msgspec.Meta(
        description="0 to 100, not a fraction: the percentage of the known time of the last 365 days in "
        "which it cost less than today. 0 is as cheap as ever in them."
    ),
]


class Extreme(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest or highest price of a window; `at`: since when, the last time it was that. Where:
    only of a product."""

    price: float | Decimal
    at: datetime
    offer_id: str | msgspec.UnsetType = msgspec.UNSET
    retailer: str | msgspec.UnsetType = msgspec.UNSET


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Time-weighted figures of a window that ends when anything last became known of the product, or offer. `cheaper_ratio`: share of the known
    time in which it cost less than today; `change_ratio`: against the price at the window's begin;
    `coverage_ratio`: share of the window of which a price is known."""

    mean: float | Decimal
    median: float | Decimal
    min: Extreme
    max: Extreme
    cheaper_ratio: float | None
    change_ratio: float | None
    changes: int
    changes_per_month: float | None
    median_spell_days: float
    known_days: float
    coverage_ratio: float
    confidence: float


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """Over the last `days`: Theil-Sen slope (`change_per_30d_ratio` 0.012 is 1.2 % dearer every 30
    days), Kendall's tau as `strength` (-1 to 1); null with too few `points`."""

    days: int
    direction: Literal["rising", "falling", "flat"] | None
    change_per_30d_ratio: float | None
    strength: float | None
    points: int

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Trend":
        return cls(
            days=row["days"],
            direction=row["direction"],
            change_per_30d_ratio=rounded(row["change_per_30d_ratio"]),
            strength=rounded(row["strength"]),
            points=row["points"],
        )


class Windows(msgspec.Struct, frozen=True, kw_only=True, rename={
    "month": "30d", "quarter": "90d", "year": "365d"
}):  # fmt: skip
    """Null where nothing is known in it."""

    month: Window | None
    quarter: Window | None
    year: Window | None
    all: Window | None


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """What it costs now, and since when it does."""

    price: float | Decimal
    offer_id: str
    retailer: str
    price_since: datetime
    days_since_change: float


class OfferStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of one offer, in its current currency. `fresh`: its price can be paid and is still vouched
    for; `deal`: what to think of its reduction, if there is one."""

    offer_id: str
    retailer: str
    sku: str
    currency: str
    fresh: bool
    windows: Windows
    deal: Judgement | None


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of the lowest price that could be paid at any time among the product's new offers.

    `all_time_low`: the lowest price of all and where it was; `prior_price`: of the best offer's
    reduction, if it is reduced.
    docs/definitions.md says how each figure is made."""

    product_id: str
    currency: str
    current: Current | None
    windows: Windows
    trends: list[Trend]
    all_time_low: Extreme | None
    percentile: Percentile
    prior_price: float | Decimal | None
    offers: list[OfferStatistics]
    as_of: datetime | None
    version: int


@get("/products/{product_id:str}/stats", tags=["prices"], opt={"versioned": True})
async def get_statistics(request: Request[Any, Any, Any], product_id: FromPath[str]) -> Statistics:
    """What the price usually is, per window: mean, median, extremes, changes, how sure that is.

    Of the product's best price over time, in the product's own currency, and of each offer, in the offer's:
    statistics are never converted."""
    version = version_of(request)
    return statistics_of(version, known_product(version, product_id))


def statistics_of(version: Version, at: int) -> Statistics:
    columns = version.columns
    page, shown = columns.page(at)
    shops = {offer.offer_id: offer.retailer for offer in shown}
    rows = {row.span: row for row in columns.usual("product_stats", at)}
    windows = {
        span: _window(
            row,
            _extreme(row.min, row.min_at, row.min_offer_id, shops),
            _extreme(row.max, row.max_at, row.max_offer_id, shops),
        )
        for span, row in rows.items()
    }
    deals = {row["offer_id"]: row for row in columns.mart("deal", at)}
    whole, year = windows.get("all"), windows.get("365d")
    cheaper = year.cheaper_ratio if year else None
    best = deals.get(page.best_offer_id)
    prior = best["prior_price"] if best else None
    return Statistics(
        product_id=str(page.product_id),
        currency=page.currency,
        current=_current(rows.get("all"), page.best_offer_id, shown, version),
        windows=_windows(windows),
        trends=[Trend.from_row(row) for row in columns.mart("trend", at)],
        all_time_low=whole.min if whole else None,
        percentile=None if cheaper is None else round(cheaper * 100, 2),
        prior_price=None if prior is None else amount(prior),
        offers=_offers(columns.usual("offer_stats", at), shown, deals),
        as_of=version.as_of,
        version=version.number,
    )


def _offers(
    rows: list[Usual], shown: list[Shown], deals: dict[int, dict[str, Any]]
) -> list[OfferStatistics]:
    windows: dict[int, dict[str, Window]] = {offer.offer_id: {} for offer in shown}
    fresh = set()
    for row in rows:
        low = Extreme(price=amount(row.min), at=_time(row.min_at))
        high = Extreme(price=amount(row.max), at=_time(row.max_at))
        windows[row.min_offer_id][row.span] = _window(row, low, high)
        if row.price_since is not None:
            fresh.add(row.min_offer_id)
    return [
        OfferStatistics(
            offer_id=str(offer.offer_id),
            retailer=offer.retailer,
            sku=offer.sku,
            currency=offer.currency,
            fresh=offer.offer_id in fresh,
            windows=_windows(windows[offer.offer_id]),
            deal=_judgement(deals.get(offer.offer_id)),
        )
        for offer in shown
    ]


def _current(
    row: Usual | None, best: int | None, shown: list[Shown], version: Version
) -> Current | None:
    offer = next((each for each in shown if each.offer_id == best), None)
    if row is None or row.price_since is None or offer is None or version.as_of is None:
        return None
    since = _time(row.price_since)
    return Current(
        price=amount(offer.price),
        offer_id=str(offer.offer_id),
        retailer=offer.retailer,
        price_since=since,
        days_since_change=round((version.as_of - since) / timedelta(days=1), 2),
    )


def _windows(found: dict[str, Window]) -> Windows:
    get = found.get
    return Windows(month=get("30d"), quarter=get("90d"), year=get("365d"), all=get("all"))


def _window(row: Usual, low: Extreme, high: Extreme) -> Window:
    """Of a hot row, whose figures are rounded."""
    return Window(
        mean=amount(row.mean),
        median=amount(row.median),
        min=low,
        max=high,
        cheaper_ratio=row.cheaper_ratio,
        change_ratio=row.change_ratio,
        changes=row.changes,
        changes_per_month=row.changes_per_month,
        median_spell_days=row.median_spell_days,
        known_days=row.known_days,
        coverage_ratio=row.coverage_ratio,
        confidence=row.confidence,
    )


def _extreme(units: int, at: int, offer_id: int, shops: dict[int, str]) -> Extreme:
    return Extreme(
        price=amount(units), at=_time(at), offer_id=str(offer_id), retailer=shops[offer_id]
    )


def _judgement(row: dict[str, Any] | None) -> Judgement | None:
    return None if row is None else Judgement.from_row(row)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
