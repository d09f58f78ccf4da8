"""The market: price indices, what is usual in it, each shop's place, and what looks wrong."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from pricepulse.catalog import Currency, Text, rounded, shop_slug
from pricepulse.contract import Cursor, Limit, one_of, version_of
from pricepulse.errors import NotFoundError
from pricepulse.paging import BuildPage, about, offset_of, stamp, told_page
from pricepulse.statistics import Trend
from pricepulse.taxonomy import Retailer
from warehouse.connection import Version
from warehouse.history import amount
from warehouse.queries import market, taxonomy

Days = Annotated[int, QueryParameter(ge=1, le=3650, description="How far back from `as_of`.")]
Kind = Annotated[str | None, one_of("spike", "level_shift", "suspected_error", "stale")]
Sort = Annotated[str, one_of("newest", "severity")]
Severity = Annotated[float, QueryParameter(ge=0, le=1, description="The least severity to list.")]


class Season(msgspec.Struct, frozen=True, kw_only=True):
    """`place`: 0 is Monday (UTC), 1 is January. `effect_ratio`: price there over the mean of its week
    or year. `drop_ratio`: share of the price drops on that weekday. `agreement_ratio`: share of the
    years that agree; below 1 it is hardly a season."""

    place: int
    effect_ratio: float
    drop_ratio: float | None
    agreement_ratio: float | None
    observations: int
    series: int


class IndexSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Weekly, matched-model, chained Jevons index, 100 in the first week; column by column. `t`: Unix
    seconds of the Mondays; `products` matched behind each link, `entered` and `left_out` then."""

    currency: str
    t: list[int]
    index: list[float]
    products: list[int]
    entered: list[int]
    left_out: list[int]
    trends: list[Trend]
    weekdays: list[Season]
    months: list[Season]


class CategoryIndex(msgspec.Struct, frozen=True, kw_only=True):
    """`series`: one a currency."""

    category_slug: str
    series: list[IndexSeries]
    as_of: datetime | None
    version: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of the offers in one category, of one retailer or of all (null), in one currency.

    `promotion_ratio`: share priced below their usual price; `list_price_ratio`: share with a list
    price above the price; changes of an offer's price per 30.4375 days, median days between two;
    `spread_ratio` and `variation_ratio`: how far shops are apart on the same product;
    `price_position_ratio`: 0.97 is 3 % below the other shops; `compared` products."""

    category_slug: str | None
    retailer: str | None
    currency: str
    offers: int
    promotion_ratio: float | None
    list_price_ratio: float | None
    changes_per_month: float | None
    median_spell_days: float | None
    spread_ratio: float | None
    variation_ratio: float | None
    price_position_ratio: float | None
    cheapest_ratio: float | None
    compared: int

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Figures":
        return cls(**_figures(row))


class CategoryFigures(Figures, frozen=True, kw_only=True):
    """`index`: of the newest week; `index_year_ratio`: its change in a year."""

    index: float | None
    index_year_ratio: float | None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "CategoryFigures":
        index, year = row["index"], row["index_year_ratio"]
        return cls(
            **_figures(row),
            index=None if index is None else round(index, 2),
            index_year_ratio=rounded(year),
        )


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """`category_slug` null is all. `overall` of the category asked for, one a currency; `retailers` in
    it; `categories` right below it."""

    category_slug: str | None
    overall: list[CategoryFigures]
    retailers: list[Figures]
    categories: list[CategoryFigures]
    index: list[IndexSeries]
    as_of: datetime | None
    version: int


class Lead(msgspec.Struct, frozen=True, kw_only=True):
    """Of `changes` of the leader's prices the follower moved `together` on the same day, and
    `followed` 1 to 7 days later; `lead_ratio`: how much more often than by chance."""

    leader: str
    follower: str
    currency: str
    products: int
    changes: int
    together: int
    followed: int
    lead_ratio: float | None
    median_lag_days: float | None


class RetailerDetail(Retailer, frozen=True, kw_only=True):
    """`figures` of all it sells, `categories` of the top ones; `fresh_offers`: those still vouched
    for; `deals` by verdict; `leads` and `follows`: shops with which it moves more often than by
    chance."""

    fresh_offers: int
    median_hours_since_seen: float | None
    figures: list[Figures]
    categories: list[Figures]
    deals: dict[str, int]
    leads: list[Lead]
    follows: list[Lead]
    as_of: datetime | None
    version: int


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """From `began_at` the price was not what it could be expected to be, from `expected_low` to
    `expected_high` (null for a stale offer, which is one no longer seen though its shop is).
    `severity`, 0 to 1: by which part it is beyond them. `cause`: a guess at an error's."""

    offer_id: str
    product_id: str
    kind: Literal["spike", "level_shift", "suspected_error", "stale"]
    cause: Literal["decimal_slip", "unit_or_instalment_price", "wrong_currency"] | None
    severity: float
    began_at: datetime
    until_at: datetime
    price: float | Decimal
    expected_low: float | Decimal | None
    expected_high: float | Decimal | None
    currency: str
    title: str | None
    brand: str | None
    category: str | None
    category_slug: str | None
    image_url: str | None
    retailer: str
    sku: str
    url: str | None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Anomaly":
        low, high = row["expected_low"], row["expected_high"]
        return cls(
            **about(row),
            kind=row["kind"],
            cause=row["cause"],
            severity=row["severity"],
            began_at=datetime.fromtimestamp(row["began_at"], UTC),
            until_at=datetime.fromtimestamp(row["until_at"], UTC),
            price=amount(row["price"]),
            expected_low=None if low is None else amount(low),
            expected_high=None if high is None else amount(high),
            currency=row["currency"],
        )


class AnomalyPage(BuildPage[Anomaly], frozen=True, kw_only=True):
    items: list[Anomaly]


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of Figures; figures to four places."""
    said = {name: row[name] for name in Figures.__struct_fields__}
    said = {
        name: rounded(value) if isinstance(value, float) else value for name, value in said.items()
    }
    return said | {
        "category_slug": row["category_slug"] or None,
        "retailer": row["retailer"] or None,
    }


def _series(version: Version, category: str, currency: str | None) -> list[IndexSeries]:
    index, trends, seasons = market.price_index(version, category, currency)
    found = []
    for name, rows in groupby(index, key=lambda row: row["currency"]):
        weeks = list(rows)
        mine = [row for row in seasons if row["currency"] == name]
        found.append(
            IndexSeries(
                currency=name,
                t=[int(week["week"].replace(tzinfo=UTC).timestamp()) for week in weeks],
                index=[round(week["index"], 4) for week in weeks],
                products=[week["products"] for week in weeks],
                entered=[week["entered"] for week in weeks],
                left_out=[week["left_out"] for week in weeks],
                trends=[Trend.from_row(row) for row in trends if row["currency"] == name],
                weekdays=_seasons(mine, "weekday"),
                months=_seasons(mine, "month"),
            )
        )
    return found


def _seasons(rows: Iterable[dict[str, Any]], cycle: str) -> list[Season]:
    return [
        Season(
            place=row["place"],
            effect_ratio=round(row["effect_ratio"], 4),
            drop_ratio=rounded(row["drop_ratio"]),
            agreement_ratio=rounded(row["agreement_ratio"]),
            observations=row["observations"],
            series=row["series"],
        )
        for row in rows
        if row["cycle"] == cycle
    ]


@get(
    "/categories/{slug:str}/index", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True
)  # fmt: skip
def get_category_index(
    request: Request[Any, Any, Any], slug: FromPath[str], currency: Currency = None
) -> CategoryIndex:
    """The category's price index by week, its trend, and its seasons, one series a currency.

    Once a day: it shows what was known at 00:00 UTC. New products enter with their second week,
    vanished ones leave after their last (CPI Manual, 2020; docs/definitions.md)."""
    version = version_of(request)
    if not any(each["slug"] == slug for each in taxonomy.category_and_kin(version, slug)):
        raise NotFoundError("there is no such category; /api/v1/categories lists all")
    series = _series(version, slug, currency.upper() if currency else None)
    return CategoryIndex(category_slug=slug, series=series, **stamp(version))


@get("/insights/market", tags=["insights"], opt={"versioned": True}, sync_to_thread=True)
def get_market(
    request: Request[Any, Any, Any], category: Text = None, currency: Currency = None
) -> Market:
    """Index, promotions, change frequency, spell length and dispersion, by category and retailer.

    Of one category (a slug) or of all, with the categories right below. Never two currencies in one
    figure: there is a row for each. Like every filter, a category that is not there finds nothing."""
    version = version_of(request)
    slug, code = category or "", currency.upper() if currency else None
    rows = market.market_figures(version, slug, code)
    here = [row for row in rows if row["category_slug"] == slug]
    return Market(
        category_slug=category,
        overall=[CategoryFigures.from_row(row) for row in here if not row["retailer"]],
        retailers=[Figures.from_row(row) for row in here if row["retailer"]],
        categories=[CategoryFigures.from_row(row) for row in rows if row["category_slug"] != slug],
        index=_series(version, slug, code),
        **stamp(version),
    )


@get("/retailers/{slug:str}", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def get_retailer(request: Request[Any, Any, Any], slug: FromPath[str]) -> RetailerDetail:
    """A shop: its price position against the others, promotions, freshness, whom it follows."""
    version = version_of(request)
    slug = slug.strip().lower()
    row = taxonomy.retailer(version, slug)
    if row is None:
        raise NotFoundError("there is no such retailer; /api/v1/retailers lists all")
    rows, freshness, deals, leads = market.retailer_figures(version, slug)
    figures = [Figures.from_row(each) for each in rows]
    names = Lead.__struct_fields__
    moves = [Lead(**{name: each[name] for name in names}) for each in leads]
    moves = [each for each in moves if each.lead_ratio is not None and each.lead_ratio > 1]
    return RetailerDetail(
        **msgspec.structs.asdict(Retailer.from_row(row)),
        fresh_offers=freshness["fresh"],
        median_hours_since_seen=rounded(freshness["median_hours_since_seen"]),
        figures=[each for each in figures if each.category_slug is None],
        categories=[each for each in figures if each.category_slug is not None],
        deals={each["verdict"]: each["deals"] for each in deals},
        leads=[each for each in moves if each.leader == slug],
        follows=[each for each in moves if each.follower == slug],
        **stamp(version),
    )


@get("/anomalies", tags=["insights"], opt={"versioned": True})
async def list_anomalies(
    request: Request[Any, Any, Any],
    kind: Kind = None,
    days: Days = 30,
    category: Text = None,
    retailer: Text = None,
    min_severity: Severity = 0,
    sort: Sort = "newest",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AnomalyPage:
    """Spikes, level shifts, suspected errors and offers that went stale in the last `days`.

    Looked for once a day, in what was known at 00:00 UTC. Single prices that nobody believes are set
    aside before: /api/v1/ingest/suspects."""
    version, offset = version_of(request), offset_of(request, cursor)
    places = version.lists.anomalies(
        sort,
        since=version.since(days),
        kind=kind,
        category=category,
        retailer=shop_slug(retailer),
        min_severity=min_severity,
        limit=limit + 1,
        offset=offset,
    )
    return AnomalyPage(**told_page(request, "anomaly", places, Anomaly.from_row, limit, offset))


ROUTES = (get_category_index, get_market, get_retailer, list_anomalies)
