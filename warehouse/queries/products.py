"""Products by filters, and the product that somebody means."""

from decimal import Decimal
from typing import Any

from warehouse.connection import Version
from warehouse.search import Filters

ORDERS = {
    "title": "title NULLS LAST, product_id",
    "price": "best_price NULLS LAST, product_id",
    "-price": "best_price DESC NULLS LAST, product_id",
    "change_30d": "change_30d_ratio NULLS LAST, product_id",
    "score": "score DESC NULLS LAST, product_id",
    "newest": "first_observed_at DESC, product_id",
}
# Products with what lists say of them beside.
LISTED = "(FROM product JOIN product_signal USING (product_id))"
# A category with all that is below it; none asked for is all.
OF_CATEGORY = (
    "($category IS NULL OR category_slug = $category "
    "OR starts_with(category_slug, $category || '.'))"
)
BY_FILTERS = f"""
FROM {LISTED}
WHERE {OF_CATEGORY}
    AND ($brand IS NULL OR brand_slug = $brand)
    AND ($retailer IS NULL OR list_contains(retailers, $retailer))
    AND ($availability IS NULL OR list_contains(availability, $availability))
    AND ($currency IS NULL OR currency = $currency)
    AND ($min_price IS NULL OR best_price >= $min_price)
    AND ($max_price IS NULL OR best_price <= $max_price)
    AND ($on_deal IS NULL OR (score IS NOT NULL) = $on_deal)
ORDER BY {{order}} LIMIT $limit OFFSET $offset
"""
CURRENCIES = "SELECT DISTINCT currency FROM product ORDER BY currency"
BY_GTIN = "SELECT product_id FROM offer WHERE gtin = ? ORDER BY first_observed_at, offer_id LIMIT 1"
BY_SKU = "SELECT product_id FROM offer WHERE retailer = ? AND sku = ?"
BY_KEY = """
SELECT product_id FROM offer WHERE product_key = ? ORDER BY first_observed_at, offer_id LIMIT 1
"""
BY_URL = """
SELECT product_id FROM offer WHERE url IS NOT NULL AND url_key(url) = url_key(?)
ORDER BY last_observed_at DESC, offer_id LIMIT 1
"""
OF_OFFERS = "SELECT offer_id, product_id FROM offer WHERE offer_id IN (SELECT unnest($ids))"
# Windows end where a product was last looked at (docs/definitions.md).
BEST_BEFORE = """
SELECT product_id, price FROM best_price JOIN product_signal USING (product_id)
WHERE product_id IN (SELECT unnest($ids))
    AND start_at <= ends_at - to_days($days) AND until_at > ends_at - to_days($days)
"""


def products_by_filters(
    version: Version, filters: Filters, order: str, limit: int, offset: int
) -> list[dict[str, Any]]:
    """Rows of LISTED in one of ORDERS. Prices are compared in each product's own currency."""
    return version.query(
        BY_FILTERS.format(order=ORDERS[order]),
        {
            "category": filters.category,
            "brand": filters.brand,
            "retailer": filters.retailer,
            "availability": filters.availability,
            "currency": filters.currency,
            "min_price": _exact(filters.min_price),
            "max_price": _exact(filters.max_price),
            "on_deal": filters.on_deal,
            "limit": limit,
            "offset": offset,
        },
    )


def _exact(price: Decimal | None) -> Decimal | None:
    return None if price is None else price.quantize(Decimal("0.0001"))


def currencies(version: Version) -> list[str]:
    """The currencies that products have."""
    return [row["currency"] for row in version.query(CURRENCIES)]


def product_of(version: Version, **by: str) -> int | None:
    """The product of a `gtin` (14 digits), a `retailer` and `sku`, a `url` or a `product_key`."""
    match by:
        case {"gtin": gtin}:
            found = version.query(BY_GTIN, [gtin])
        case {"retailer": retailer, "sku": sku}:
            found = version.query(BY_SKU, [retailer, sku])
        case {"product_key": key}:
            found = version.query(BY_KEY, [key])
        case _:
            found = version.query(BY_URL, [by["url"]])
    return found[0]["product_id"] if found else None


def products_of_offers(version: Version, offer_ids: list[int]) -> dict[int, int]:
    """By offer its product, of those that are there."""
    rows = version.query(OF_OFFERS, {"ids": offer_ids}) if offer_ids else []
    return {row["offer_id"]: row["product_id"] for row in rows}


def best_prices_before(version: Version, product_ids: list[int], days: int) -> dict[int, Decimal]:
    """By product its best price so many days before its windows end; only where it is known."""
    asked = {"ids": product_ids, "days": days}
    rows = version.query(BEST_BEFORE, asked) if product_ids else []
    return {row["product_id"]: row["price"] for row in rows}
