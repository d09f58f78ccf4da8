"""Reductions, and what they are worth."""

from typing import Any

from warehouse.connection import Version

DEALS = """
SELECT d.*, p.title, p.brand, p.category, p.category_slug, p.image_url, o.retailer, o.sku, o.url,
    o.condition, o.last_observed_at AS observed_at
FROM deal AS d JOIN offer AS o USING (offer_id) JOIN product AS p ON p.product_id = d.product_id
WHERE ($verdict IS NULL OR d.verdict = $verdict)
    AND ($category IS NULL OR p.category_slug = $category
        OR starts_with(p.category_slug, $category || '.'))
    AND ($brand IS NULL OR p.brand_slug = $brand)
    AND ($retailer IS NULL OR o.retailer = $retailer)
    AND d.score >= $min_score AND (NOT $best_only OR d.price = d.best_price)
ORDER BY d.score DESC, d.verdict, d.real_discount_ratio DESC NULLS LAST, d.offer_id
LIMIT $limit OFFSET $offset
"""


def deals(version: Version, **asked: Any) -> list[dict[str, Any]]:
    """Rows of `deal` with what they are about, best score first. `asked`: verdict, category, brand,
    retailer, min_score, best_only, limit, offset."""
    return version.query(DEALS, asked)
