"""Products and search."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter

from pricepulse import taxonomy
from pricepulse.contract import CURRENCY, Cursor, Limit, Price, one_of, version_of
from pricepulse.errors import InvalidInputError, NotFoundError
from pricepulse.paging import BuildPage, cut, offset_of, stamp
from warehouse.connection import Version
from warehouse.quality import AVAILABILITY
from warehouse.queries import products as product_queries
from warehouse.search import Filters

Text = Annotated[str | None, QueryParameter(max_length=200)]
Currency = Annotated[str | None, QueryParameter(pattern=CURRENCY, description="ISO 4217 code.")]
Availability = Annotated[
    str | None,
    one_of(*AVAILABILITY, description="A product has it if one of its offers does."),
]
Sort = Annotated[
    str,
    one_of(
        "title",
        "price",
        "-price",
        "change_30d",
        "score",
        "newest",
        description="`change_30d`: what fell most in 30 days first, `score`: the best deal first. "
        "What has no value comes last.",
    ),
]
OnDeal = Annotated[
    str | None, one_of("true", "false", description="Whether its best price is a genuine deal.")
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Best(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is cheapest now."""

    offer_id: str
    retailer: str
    price: Decimal
    currency: str


class ProductSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A product in a list; `price` is its best current one, `change_30d_ratio` how that moved in 30
    days, `score` that of the deal (/api/v1/deals) which this very offer is, null if it is no genuine one."""

    product_id: str
    title: str | None
    brand: str | None
    gtin: str | None
    category: str | None
    category_slug: str | None
    image_url: str | None
    price: Decimal | None
    currency: str
    best: Best | None
    change_30d_ratio: float | None
    score: int | None
    offers: int
    retailers: Sequence[str]
    availability: Sequence[str]

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "ProductSummary":
        names = ("title", "brand", "gtin", "category", "category_slug", "image_url", "currency",
                 "offers", "retailers", "availability", "score")  # fmt: skip
        price = plain_or_none(row["best_price"])
        best = price is not None and Best(
            offer_id=str(row["best_offer_id"]),
            retailer=row["best_retailer"],
            price=price,
            currency=row["currency"],
        )
        return cls(
            product_id=str(row["product_id"]),
            price=price,
            best=best or None,
            change_30d_ratio=rounded(row["change_30d_ratio"]),
            **{name: row[name] for name in names},
        )


class ProductPage(BuildPage[ProductSummary], frozen=True, kw_only=True):
    items: list[ProductSummary]


class Facet(msgspec.Struct, frozen=True):
    value: str
    count: int


class PriceFacet(msgspec.Struct, frozen=True):
    """Products from `low` up to, without, `high`."""

    currency: str
    low: Decimal
    high: Decimal
    count: int


class Facets(msgspec.Struct, frozen=True):
    """Counts over all hits; the values are what the filters of the same names take."""

    category: list[Facet]
    brand: list[Facet]
    retailer: list[Facet]
    price: list[PriceFacet]


class SearchResult(ProductPage, frozen=True, kw_only=True):
    total: int
    facets: Facets


class Completion(msgspec.Struct, frozen=True):
    """`id` is the product's id, or the slug of the brand or category."""

    kind: Literal["product", "brand", "category"]
    text: str
    id: str


class Completions(msgspec.Struct, frozen=True, kw_only=True):
    items: list[Completion]
    as_of: datetime | None
    version: int


@get("/products", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def list_products(
    request: Request[Any, Any, Any],
    category: Text = None,
    brand: Text = None,
    retailer: Text = None,
    availability: Availability = None,
    min_price: Price = None,
    max_price: Price = None,
    currency: Currency = None,
    on_deal: OnDeal = None,
    sort: Sort = "title",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> ProductPage:
    """Products by filters.

    `category` takes a slug and includes what is below it, `brand` a slug. Prices are compared in one
    currency: name it if the products have several."""
    version = version_of(request)
    filters = _filters(
        version, category, brand, retailer, availability, min_price, max_price, currency, on_deal,
        one_currency=min_price is not None or max_price is not None or "price" in sort,
    )  # fmt: skip
    offset = offset_of(request, cursor)
    rows = product_queries.products_by_filters(version, filters, sort, limit + 1, offset)
    items, after = cut(request, rows, limit, offset)
    return ProductPage(
        items=[ProductSummary.from_row(row) for row in items], next_cursor=after, **stamp(version)
    )


@get("/search", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def search_products(
    request: Request[Any, Any, Any],
    q: Annotated[str, QueryParameter(min_length=1, max_length=300, description="Words, a GTIN.")],
    category: Text = None,
    brand: Text = None,
    retailer: Text = None,
    availability: Availability = None,
    min_price: Price = None,
    max_price: Price = None,
    currency: Currency = None,
    on_deal: OnDeal = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> SearchResult:
    """Ranked, typo-tolerant search with the filters of /products and facets over all hits."""
    version = version_of(request)
    filters = _filters(
        version, category, brand, retailer, availability, min_price, max_price, currency, on_deal,
        one_currency=min_price is not None or max_price is not None,
    )  # fmt: skip
    offset = offset_of(request, cursor)
    page = version.index.search(q, filters, limit=limit, offset=offset)
    counted = version.index.facets(q, filters)
    columns = version.columns
    places = [columns.find(int(hit.product_id, 16)) for hit in page.hits]
    found = [columns.product(at) for at in places if at is not None]
    more: list[Any] = [*page.hits, *([None] if page.total > offset + limit else [])]
    return SearchResult(
        items=[ProductSummary.from_row(row) for row in found],
        next_cursor=cut(request, more, limit, offset)[1],
        total=page.total,
        facets=Facets(
            category=[Facet(*each) for each in counted.categories],
            brand=[Facet(*each) for each in counted.brands],
            retailer=[Facet(*each) for each in counted.retailers],
            price=[
                PriceFacet(each.currency, each.low, each.high, each.count)
                for each in counted.prices
            ],
        ),
        **stamp(version),
    )


@get("/search/suggest", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def suggest_completions(
    request: Request[Any, Any, Any],
    q: Annotated[str, QueryParameter(min_length=1, max_length=100)],
    limit: Annotated[int, QueryParameter(ge=1, le=50)] = 10,
) -> Completions:
    """Completions as one types: products, brands, categories."""
    version = version_of(request)
    items = [
        Completion(
            each.kind, each.text, str(int(each.id, 16)) if each.kind == "product" else each.id
        )
        for each in version.index.suggest(q, limit)
    ]
    return Completions(items=items, **stamp(version))


def shop_slug(given: str | None) -> str | None:
    """A shop's name as the feed has it, however somebody typed it."""
    return None if given is None else given.strip().lower()


def known_product(version: Version, product_id: str) -> int:
    """Where the product is in the columns, or 404."""
    key = id_of(product_id)
    at = None if key is None else version.columns.find(key)
    if at is None:
        raise NotFoundError(
            "there is no such product; /api/v1/products and /api/v1/search list them"
        )
    return at


def id_of(product_id: str) -> int | None:
    """The id as the warehouse has it; None if the text can be none."""
    # Nineteen digits hold every id; more would only be a long time in int().
    if product_id.isascii() and product_id.isdigit() and len(product_id) < 20:
        key = int(product_id)
        return key if key < 2**63 else None
    return None


def plain(amount: Decimal) -> Decimal:
    """19.9900 as 19.99: exact, without the zeros of its storage."""
    short = amount.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))


def rounded(ratio: float | None) -> float | None:
    """A ratio as answers give it, to four places."""
    return None if ratio is None else round(ratio, 4)


def plain_or_none(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else plain(amount)


def _filters(
    version: Version,
    category: str | None,
    brand: str | None,
    retailer: str | None,
    availability: str | None,
    min_price: str | None,
    max_price: str | None,
    currency: str | None,
    on_deal: str | None,
    *,
    one_currency: bool,
) -> Filters:
    """The filters as the queries take them; where prices are compared, in one currency."""
    filters = Filters(
        category=category,
        brand=brand,
        retailer=shop_slug(retailer or None),
        availability=availability,
        currency=currency.upper() if currency else None,
        min_price=Decimal(min_price) if min_price else None,
        max_price=Decimal(max_price) if max_price else None,
        on_deal=None if on_deal is None else on_deal == "true",
    )
    low, high = filters.min_price, filters.max_price
    if low is not None and high is not None and low > high:
        raise InvalidInputError.at("/query/min_price", "must not be above max_price")
    if not one_currency or filters.currency:
        return filters
    known = product_queries.currencies(version)
    if len(known) > 1:
        raise InvalidInputError.at(
            "/query/currency", f"is needed to compare prices; products here have {', '.join(known)}"
        )
    return replace(filters, currency=known[0] if known else None)


ROUTES = (
    list_products, search_products, suggest_completions, *taxonomy.ROUTES,
)  # fmt: skip
