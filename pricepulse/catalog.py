"""Products and search."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from pricepulse import taxonomy
from pricepulse.contract import END, Cursor, Limit, Price, one_of, version_of
from pricepulse.conversion import Conversion, Into, offers_in, wanted_currency
from pricepulse.errors import InvalidInputError, NotFoundError
from pricepulse.paging import Page, cut, offset_of, stamp
from warehouse.columns import Shown
from warehouse.connection import Version
from warehouse.history import amount
from warehouse.quality import AVAILABILITY, normal_gtin
from warehouse.queries import products as product_queries
from warehouse.search import Filters

Text = Annotated[str | None, QueryParameter(max_length=200)]
Currency = Annotated[
    str | None, QueryParameter(pattern=f"^[A-Za-z]{{3}}{END}", description="ISO 4217 code.")
]
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
    str | None, one_of("true", "false", description="Whether an offer of it is a genuine deal.")
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_UNIT = {"g": (1000, "kg"), "kg": (1, "kg"), "ml": (1000, "l"), "l": (1, "l"), "m": (1, "m"),
            "pcs": (1, "pcs")}  # fmt: skip


class Best(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is cheapest now."""

    offer_id: str
    retailer: str
    price: Decimal
    currency: str


class ProductSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A product in a list; `price` is its best current one, `change_30d_ratio` how that moved in 30
    days, `score` the highest of its genuine deals (/api/v1/deals)."""

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
        price = _plain(row["best_price"])
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


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """`price` since `price_since`, last seen `observed_at`; `fresh` while that observation still
    vouches for it. `unit_price` is per kg, l, m or piece. With `currency=`, `original_…` is what the shop
    asks."""

    offer_id: str
    retailer: str
    sku: str
    url: str | None
    condition: str
    price: float | Decimal
    list_price: float | Decimal | None
    currency: str
    shipping: float | Decimal | None
    promotion: str | None
    availability: str
    price_since: datetime
    observed_at: datetime
    fresh: bool
    unit_price: Decimal | None
    unit_price_unit: str | None
    original_price: float | Decimal | msgspec.UnsetType = msgspec.UNSET
    original_currency: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def from_shown(cls, shown: Shown, version: Version, original: Shown | None = None) -> "Offer":
        observed_at = EPOCH + timedelta(microseconds=shown.last_observed_at)
        unit_price, unit = _unit_price(shown)
        return cls(
            offer_id=str(shown.offer_id),
            retailer=shown.retailer,
            sku=shown.sku,
            url=shown.url,
            condition=shown.condition,
            price=amount(shown.price),
            list_price=None if shown.list_price is None else amount(shown.list_price),
            currency=shown.currency,
            shipping=None if shown.shipping is None else amount(shown.shipping),
            promotion=shown.promotion,
            availability=shown.availability,
            price_since=EPOCH + timedelta(microseconds=shown.price_since),
            observed_at=observed_at,
            fresh=version.vouched_since is not None and observed_at >= version.vouched_since,
            unit_price=unit_price,
            unit_price_unit=unit,
            original_price=amount(original.price) if original else msgspec.UNSET,
            original_currency=original.currency if original else msgspec.UNSET,
        )


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """`best`: the cheapest new offer in stock whose price an observation still vouches for, in the
    currency of most offers; null where there is none. `change_30d_ratio`: how the best price moved
    in 30 days; `score`: the highest of its genuine deals. With `currency=` all offers compete for `best`,
    and `conversion` says how; the change and the score stay those of the product's own currency."""

    product_id: str
    title: str | None
    brand: str | None
    gtin: str | None
    category: str | None
    category_slug: str | None
    category_path: list[str]
    image_url: str | None
    attributes: dict[str, str | float]
    currency: str
    best: Offer | None
    change_30d_ratio: float | None
    score: int | None
    offers: list[Offer]
    conversion: Conversion | None
    first_observed_at: datetime
    last_observed_at: datetime
    as_of: datetime | None
    version: int


class ProductPage(Page[ProductSummary], frozen=True, kw_only=True):
    as_of: datetime | None
    version: int


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
        version, category, brand, retailer, availability, min_price, max_price, currency,
        one_currency=min_price is not None or max_price is not None or "price" in sort,
    )  # fmt: skip
    offset = offset_of(request, cursor)
    rows = product_queries.products_by_filters(
        version, filters, None if on_deal is None else on_deal == "true", sort, limit + 1, offset
    )
    items, after = cut(request, rows, limit, offset)
    return ProductPage(
        items=[ProductSummary.from_row(row) for row in items], next_cursor=after, **stamp(version)
    )


@get("/products/lookup", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def lookup_product(
    request: Request[Any, Any, Any],
    gtin: Text = None,
    retailer: Text = None,
    sku: Text = None,
    url: Annotated[str | None, QueryParameter(max_length=2000)] = None,
    product_key: Text = None,
) -> Product:
    """The product of a GTIN, of a retailer and its sku, of an offer's address, or of a product key."""
    version = version_of(request)
    given = {
        name: value
        for name, value in (
            ("gtin", gtin), ("retailer", retailer), ("sku", sku), ("url", url),
            ("product_key", product_key),
        )
        if value is not None
    }  # fmt: skip
    if set(given) not in ({"gtin"}, {"retailer", "sku"}, {"url"}, {"product_key"}):
        raise InvalidInputError("give one of: gtin; retailer and sku; url; product_key", errors=[])
    if gtin is not None:
        given["gtin"] = normal_gtin(gtin) or ""
        if not given["gtin"]:
            raise InvalidInputError.at(
                "/query/gtin", "must have 8, 12, 13 or 14 digits and a right check digit"
            )
    if retailer is not None:
        given["retailer"] = retailer.strip().lower()
    found = product_queries.product_of(version, **given)
    if found is None:
        raise NotFoundError("no offer here has that " + " and ".join(given).replace("_", " "))
    return _product(version, known_product(version, str(found)))


@get("/products/{product_id:str}", tags=["catalog"], opt={"versioned": True})
async def get_product(
    request: Request[Any, Any, Any], product_id: FromPath[str], currency: Into = None
) -> Product:
    """A product with all its offers and their current prices.

    `currency` converts them with the reference rates of the newest day up to `as_of`, at most 7 days
    old; what cannot be converted is left out and counted in `conversion`."""
    version = version_of(request)
    at = known_product(version, product_id)
    return _product(version, at, wanted_currency(version, currency) if currency else None)


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
    limit: Limit = 50,
    cursor: Cursor = None,
) -> SearchResult:
    """Ranked, typo-tolerant search with the filters of /products and facets over all hits."""
    version = version_of(request)
    filters = _filters(
        version, category, brand, retailer, availability, min_price, max_price, currency,
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


def known_product(version: Version, product_id: str) -> int:
    """Where the product is in the columns, or 404."""
    # Nineteen digits hold every id; more would only be a long time in int().
    if product_id.isascii() and product_id.isdigit() and len(product_id) < 20:
        key = int(product_id)
        at = version.columns.find(key) if key < 2**63 else None
        if at is not None:
            return at
    raise NotFoundError("there is no such product; /api/v1/products and /api/v1/search list them")


def plain(amount: Decimal) -> Decimal:
    """19.9900 as 19.99: exact, without the zeros of its storage."""
    short = amount.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))


def rounded(ratio: float | None) -> float | None:
    """A ratio as answers give it, to four places."""
    return None if ratio is None else round(ratio, 4)


def _plain(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else plain(amount)


def _product(version: Version, at: int, wanted: str | None = None) -> Product:
    page, shown = version.columns.page(at)
    (signal,) = version.columns.mart("product_signal", at)
    if wanted is None:
        best_id, conversion = page.best_offer_id, None
        offers = [Offer.from_shown(each, version) for each in shown]
    else:
        converted, best_id, conversion = offers_in(version, wanted, shown)
        offers = [Offer.from_shown(each, version, original) for original, each in converted]
    best = str(best_id)
    mpn = next((each.mpn for each in shown if each.mpn), None)
    attributes: dict[str, Any] = {
        "unit_quantity": _plain(page.unit_quantity),
        "unit": page.unit,
        "mpn": mpn,
    }
    return Product(
        product_id=str(page.product_id),
        title=page.title,
        brand=page.brand,
        gtin=page.gtin,
        category=page.category,
        category_slug=page.category_slug,
        category_path=page.category.split(" > ") if page.category else [],
        image_url=page.image_url,
        attributes={name: value for name, value in attributes.items() if value is not None},
        currency=wanted or page.currency,
        best=next((offer for offer in offers if offer.offer_id == best), None),
        change_30d_ratio=rounded(signal["change_30d_ratio"]),
        score=signal["score"],
        offers=offers,
        conversion=conversion,
        first_observed_at=page.first_observed_at.replace(tzinfo=UTC),
        last_observed_at=page.last_observed_at.replace(tzinfo=UTC),
        as_of=version.as_of,
        version=version.number,
    )


def _unit_price(shown: Shown) -> tuple[Decimal | None, str | None]:
    """Price per kg, l, m or piece, to 4 decimals, where the feed told the quantity."""
    if not shown.unit_quantity or shown.unit not in PER_UNIT:
        return None, None
    many, unit = PER_UNIT[shown.unit]
    per = Decimal(shown.price) * many / shown.unit_quantity
    return plain(per.quantize(Decimal("0.0001"))), unit


def _filters(
    version: Version,
    category: str | None,
    brand: str | None,
    retailer: str | None,
    availability: str | None,
    min_price: str | None,
    max_price: str | None,
    currency: str | None,
    *,
    one_currency: bool,
) -> Filters:
    """The filters as the queries take them; where prices are compared, in one currency."""
    filters = Filters(
        category=category,
        brand=brand,
        retailer=retailer.strip().lower() if retailer else None,
        availability=availability,
        currency=currency.upper() if currency else None,
        min_price=Decimal(min_price) if min_price else None,
        max_price=Decimal(max_price) if max_price else None,
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
    list_products, lookup_product, get_product, search_products, suggest_completions,
    *taxonomy.ROUTES,
)  # fmt: skip
