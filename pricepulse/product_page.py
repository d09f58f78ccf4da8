"""A product's page, and the product that somebody means."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath, QueryParameter

from pricepulse.catalog import EPOCH, Text, known_product, plain, plain_or_none, rounded
from pricepulse.contract import version_of
from pricepulse.conversion import Conversion, Into, offers_in, wanted_currency
from pricepulse.errors import InvalidInputError, NotFoundError
from warehouse.columns import SCALE, Shown
from warehouse.connection import Version
from warehouse.history import amount
from warehouse.quality import normal_gtin
from warehouse.queries import products as product_queries

PER_UNIT = {"g": (1000, "kg"), "kg": (1, "kg"), "ml": (1000, "l"), "l": (1, "l"), "m": (1, "m"),
            "pcs": (1, "pcs")}  # fmt: skip


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """`price` since `price_since`, last seen `observed_at`; `fresh` while that observation still
    vouches for it. `unit_price` is per kg, l, m or piece; `unit_price_inferred` where no feed tells the
    quantity and it was read from the title. With `currency=`, `original_…` is what the shop
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
    unit_price_inferred: bool
    original_price: float | Decimal | msgspec.UnsetType = msgspec.UNSET
    original_currency: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def from_shown(
        cls,
        shown: Shown,
        version: Version,
        original: Shown | None = None,
        *,
        inferred: bool = False,
    ) -> "Offer":
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
            unit_price_inferred=inferred and unit is not None,
            original_price=amount(original.price) if original else msgspec.UNSET,
            original_currency=original.currency if original else msgspec.UNSET,
        )


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """`best`: the cheapest new offer in stock whose price an observation still vouches for, in the
    currency of most offers; null where there is none. `change_30d_ratio`: how the best price moved
    in 30 days; `score`: that of the best offer's deal, null if it is no genuine one. With `currency=` all
    offers compete for `best`, and `conversion` says how; the change stays that of the product's own currency,
    and the score is given where `best` is the same offer."""

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


@get("/products/lookup", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def lookup_product(
    request: Request[Any, Any, Any],
    gtin: Text = None,
    retailer: Text = None,
    sku: Text = None,
    url: Annotated[str | None, QueryParameter(max_length=2000)] = None,
    product_key: Text = None,
    currency: Into = None,
) -> Product:
    """The product of a GTIN, of a retailer and its sku, of an offer's address, or of a product key.

    The same page as under its id, with the same `currency`."""
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
    return _product(version, known_product(version, str(found)), currency)


@get("/products/{product_id:str}", tags=["catalog"], opt={"versioned": True})
async def get_product(
    request: Request[Any, Any, Any], product_id: FromPath[str], currency: Into = None
) -> Product:
    """A product with all its offers and their current prices.

    `currency` converts them with the reference rates of the newest day up to `as_of`, at most 7 days
    old; what cannot be converted is left out and counted in `conversion`."""
    version = version_of(request)
    at = known_product(version, product_id)
    return _product(version, at, currency)


def _product(version: Version, at: int, asked: str | None) -> Product:
    wanted = wanted_currency(version, at, asked) if asked else None
    page, shown = version.columns.page(at)
    (signal,) = version.columns.mart("product_signal", at)
    # What one shop says of the quantity holds for all; where none does, the title may.
    inferred = page.unit_quantity is None
    quantity, unit = signal["inferred_quantity"], signal["inferred_unit"]
    if not inferred:
        quantity, unit = int((page.unit_quantity or 0) * SCALE), page.unit
    shown = [
        each if each.unit_quantity else each._replace(unit_quantity=quantity, unit=unit)
        for each in shown
    ]
    if wanted is None:
        best_id, conversion = page.best_offer_id, None
        offers = [Offer.from_shown(each, version, inferred=inferred) for each in shown]
    else:
        converted, best_id, conversion = offers_in(version, wanted, shown)
        offers = [
            Offer.from_shown(each, version, original, inferred=inferred)
            for original, each in converted
        ]
    best = str(best_id)
    mpn = next((each.mpn for each in shown if each.mpn), None)
    attributes: dict[str, Any] = {
        "unit_quantity": plain_or_none(page.unit_quantity),
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
        score=signal["score"] if best_id == page.best_offer_id else None,
        offers=offers,
        conversion=conversion,
        first_observed_at=page.first_observed_at.replace(tzinfo=UTC),
        last_observed_at=page.last_observed_at.replace(tzinfo=UTC),
        as_of=version.as_of,
        version=version.number,
    )


def _unit_price(shown: Shown) -> tuple[Decimal | None, str | None]:
    """Price per kg, l, m or piece, to 4 decimals, where the quantity is known."""
    if not shown.unit_quantity or shown.unit not in PER_UNIT:
        return None, None
    many, unit = PER_UNIT[shown.unit]
    per = Decimal(shown.price) * many / shown.unit_quantity
    return plain(per.quantize(Decimal("0.0001"))), unit


ROUTES = (lookup_product, get_product)
