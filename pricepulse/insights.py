"""What moved: prices that fell or rose, products that are new."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter

from pricepulse.catalog import ProductSummary, Text, shop_slug
from pricepulse.contract import Cursor, Limit, version_of
from pricepulse.paging import BuildPage, about, cut, offset_of, stamp, told_page
from warehouse.history import amount, in_words
from warehouse.lists import Direction
from warehouse.queries import insights as insight_queries

Days = Annotated[
    int, QueryParameter(ge=1, le=365, description="How far back from `as_of` to look.")
]


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """An offer whose price fell or rose: to `price` at `changed_at`, from `price_before`, which was
    last seen at `before_seen_at`. `change_ratio` is -0.25 where a quarter came off; `reason` says
    what the rank comes from. Whether a drop is a good price is another question: `verdict` is what /api/v1/deals
    says of the offer's reduction, null where that is none."""

    product_id: str
    offer_id: str
    title: str | None
    brand: str | None
    category: str | None
    category_slug: str | None
    image_url: str | None
    retailer: str
    sku: str
    url: str | None
    condition: str
    price: float | Decimal
    price_before: float | Decimal
    currency: str
    change_ratio: float
    changed_at: datetime
    before_seen_at: datetime
    reason: str
    verdict: Literal["genuine", "inflated", "unproven"] | None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "PriceChange":
        units, ratio = row["price_before"], row["change_ratio"]
        share = f"{abs(ratio) * 100:.1f}".rstrip("0").rstrip(".")
        way = "below" if ratio < 0 else "above"
        before = datetime.fromtimestamp(row["before_seen_at"], UTC)
        return cls(
            **about(row),
            condition=row["condition"],
            price=amount(row["price"]),
            price_before=amount(units),
            currency=row["currency"],
            change_ratio=ratio,
            changed_at=datetime.fromtimestamp(row["changed_at"], UTC),
            before_seen_at=before,
            verdict=row["verdict"],
            reason=f"{share} % {way} the {in_words(units)} {row['currency']} last seen on "
            f"{before.date()}",
        )


class PriceChangePage(BuildPage[PriceChange], frozen=True, kw_only=True):
    items: list[PriceChange]


class NewArrival(ProductSummary, frozen=True, kw_only=True):
    """A product first seen at `first_observed_at`, in a shop that had been watched before."""

    first_observed_at: datetime
    reason: str

    @classmethod
    def from_arrival(cls, row: dict[str, Any]) -> "NewArrival":
        summary = msgspec.structs.asdict(ProductSummary.from_row(row))
        others = row["offers"] - 1
        elsewhere = f" and in {others} more offer{'s' * (others > 1)}" if others else ""
        first = row["first_observed_at"].replace(tzinfo=UTC)
        return cls(
            first_observed_at=first,
            reason=f"first seen on {first:%Y-%m-%d} at {row['arrived_at']}{elsewhere}",
            **summary,
        )


class NewArrivalPage(BuildPage[NewArrival], frozen=True, kw_only=True):
    items: list[NewArrival]


def _moved(
    request: Request[Any, Any, Any],
    direction: Direction,
    days: int,
    limit: int,
    cursor: str | None,
    **asked: Any,
) -> PriceChangePage:
    version, offset = version_of(request), offset_of(request, cursor)
    places = version.lists.moves(
        direction, since=version.since(days), limit=limit + 1, offset=offset, **asked
    )
    return PriceChangePage(
        **told_page(request, "price_move", places, PriceChange.from_row, limit, offset)
    )


@get("/price-drops", tags=["insights"], opt={"versioned": True})
async def list_price_drops(
    request: Request[Any, Any, Any],
    days: Days = 7,
    category: Text = None,
    retailer: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PriceChangePage:
    """Offers that can be bought now and whose price fell last, the largest drop first.

    Of each offer its last change of price counts, if it was a drop of at least 1 % in the last
    `days`. `category` takes a slug and includes what is below it."""
    return _moved(
        request, "drops", days, limit, cursor, category=category, retailer=shop_slug(retailer)
    )


@get("/price-rises", tags=["insights"], opt={"versioned": True})
async def list_price_rises(
    request: Request[Any, Any, Any],
    days: Days = 7,
    category: Text = None,
    retailer: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PriceChangePage:
    """Offers that can be bought now and whose price rose last, the largest rise first.

    The same rules as for drops."""
    return _moved(
        request, "rises", days, limit, cursor, category=category, retailer=shop_slug(retailer)
    )


@get("/new-arrivals", tags=["insights"], opt={"versioned": True}, sync_to_thread=True)
def list_new_arrivals(
    request: Request[Any, Any, Any],
    days: Days = 30,
    category: Text = None,
    retailer: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> NewArrivalPage:
    """Products first seen in the last `days`, newest first.

    The whole range of a shop that has only just begun to be watched is no arrival: only products
    count that came to shops watched for longer than a look vouches for a price."""
    version, offset = version_of(request), offset_of(request, cursor)
    rows = insight_queries.new_products(
        version,
        days=days,
        category=category,
        retailer=shop_slug(retailer),
        limit=limit + 1,
        offset=offset,
    )
    items, after = cut(request, rows, limit, offset)
    return NewArrivalPage(
        items=[NewArrival.from_arrival(row) for row in items], next_cursor=after, **stamp(version)
    )


ROUTES = (list_price_drops, list_price_rises, list_new_arrivals)
