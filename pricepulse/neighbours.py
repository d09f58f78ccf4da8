"""Products beside one another: similar ones, side by side, trending."""

import math
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from pricepulse.catalog import ProductSummary, Text, known_product, plain
from pricepulse.contract import END, Cursor, Limit, version_of
from pricepulse.errors import InvalidInputError, NotFoundError, told_as
from pricepulse.paging import BuildPage, cut, offset_of, stamp
from pricepulse.statistics import Percentile, Statistics, statistics_of
from warehouse.queries import neighbours

MOST_COMPARED = 20
Ids = Annotated[
    str,
    QueryParameter(
        pattern=told_as(
            rf"^[0-9]{{1,19}}(,[0-9]{{1,19}}){{0,{MOST_COMPARED - 1}}}{END}",
            f"must be product ids separated by commas, at most {MOST_COMPARED}: 17,42",
        ),
        description=f"`product_id`s, separated by commas, at most {MOST_COMPARED}.",
    ),
]
Neighbours = Annotated[int, QueryParameter(ge=1, le=50, description="How many at most.")]
Days = Annotated[int, QueryParameter(ge=1, le=90, description="How far back to compare.")]


class Similar(ProductSummary, frozen=True, kw_only=True):
    """`similarity`, 0 to 1, from the words of the title, the brand and the price."""

    similarity: float
    reason: str

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Similar":
        told = [f"{row['common']} of {row['of_words']} words in common"] if row["common"] else []
        told += ["same brand"] if row["same_brand"] else []
        told += [_dearer(row["price_ratio"] - 1)] if row["price_ratio"] is not None else []
        return cls(
            **msgspec.structs.asdict(ProductSummary.from_row(row)),
            similarity=round(row["similarity"], 4),
            reason=", ".join(told) or "same category",
        )


class SimilarProducts(msgspec.Struct, frozen=True, kw_only=True):
    items: list[Similar]
    as_of: datetime | None
    version: int


class Compared(ProductSummary, frozen=True, kw_only=True):
    """A product beside others, with what its price usually is; its offers by their own statistics are
    at /api/v1/products/{product_id}/stats."""

    category_path: list[str]
    usual_price: float | Decimal | None
    lowest_year: float | Decimal | None
    highest_year: float | Decimal | None
    lowest_ever: float | Decimal | None
    percentile: Percentile

    @classmethod
    def from_statistics(cls, row: dict[str, Any], known: Statistics) -> "Compared":
        quarter, year = known.windows.quarter, known.windows.year
        return cls(
            **msgspec.structs.asdict(ProductSummary.from_row(row)),
            category_path=row["category"].split(" > ") if row["category"] else [],
            usual_price=quarter.median if quarter else None,
            lowest_year=year.min.price if year else None,
            highest_year=year.max.price if year else None,
            lowest_ever=known.all_time_low.price if known.all_time_low else None,
            percentile=known.percentile,
        )


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """In the order asked for. `currencies`: prices are compared within one only."""

    items: list[Compared]
    currencies: list[str]
    as_of: datetime | None
    version: int


class Trending(ProductSummary, frozen=True, kw_only=True):
    """A product whose best price moved in an unusual way: `price_before` was its best price `days`
    ago."""

    price_before: Decimal
    change_ratio: float
    reason: str

    @classmethod
    def from_movement(cls, row: dict[str, Any], days: int) -> "Trending":
        before, ratio = plain(row["price_before"]), row["change_ratio"]
        way, rare = ("below", "dearer") if ratio < 0 else ("above", "cheaper")
        share = math.floor(row["rarity"] * 100)
        return cls(
            **msgspec.structs.asdict(ProductSummary.from_row(row)),
            price_before=before,
            change_ratio=round(ratio, 4),
            reason=f"{abs(ratio) * 100:.0f} % {way} {before:f} {row['currency']} {days} days ago; it was "
            f"{rare} {share} % of the last year",
        )


class TrendingPage(BuildPage[Trending], frozen=True, kw_only=True):
    items: list[Trending]


def _dearer(ratio: float) -> str:
    if abs(ratio) < 0.01:
        return "costs the same"
    return f"{abs(ratio) * 100:.0f} % {'dearer' if ratio > 0 else 'cheaper'}"


@get(
    "/products/{product_id:str}/similar",
    tags=["catalog"], opt={"versioned": True}, sync_to_thread=True,
)  # fmt: skip
def list_similar(
    request: Request[Any, Any, Any], product_id: FromPath[str], limit: Neighbours = 10
) -> SimilarProducts:
    """Products like this one: in its branch of the categories, by words of the title, brand, price.

    Without a category those of its brand are compared."""
    version = version_of(request)
    known_product(version, product_id)
    rows = neighbours.similar_products(version, int(product_id), limit)
    return SimilarProducts(items=[Similar.from_row(row) for row in rows], **stamp(version))


@get("/products/compare", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def compare_products(request: Request[Any, Any, Any], ids: Ids) -> Comparison:
    """Products side by side, in the order of `ids`, with what each usually costs."""
    version = version_of(request)
    wanted = list(dict.fromkeys(ids.split(",")))
    if len(wanted) < len(ids.split(",")):
        raise InvalidInputError.at("/query/ids", "names a product twice")
    places: dict[str, int] = {}
    for each in wanted:
        try:
            places[each] = known_product(version, each)
        except NotFoundError as error:
            raise NotFoundError(f"there is no product {each}") from error
    rows = neighbours.products_by_ids(version, [int(each) for each in wanted])
    items = [
        Compared.from_statistics(rows[int(each)], statistics_of(version, at))
        for each, at in places.items()
    ]
    return Comparison(
        items=items,
        currencies=sorted({item.currency for item in items}),
        **stamp(version),
    )


@get("/trending", tags=["insights"], opt={"versioned": True}, sync_to_thread=True)
def list_trending(
    request: Request[Any, Any, Any],
    days: Days = 7,
    category: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> TrendingPage:
    """Products whose best price moved in an unusual way in the last `days`, up or down.

    The rank is how far it went times how rare the price is at which it arrived, in the last year."""
    version, offset = version_of(request), offset_of(request, cursor)
    rows = neighbours.trending_products(
        version, days=days, category=category, limit=limit + 1, offset=offset
    )
    items, after = cut(request, rows, limit, offset)
    return TrendingPage(
        items=[Trending.from_movement(row, days) for row in items],
        next_cursor=after,
        **stamp(version),
    )


ROUTES = (list_similar, compare_products, list_trending)
