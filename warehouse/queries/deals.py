"""Reductions, and what they are worth."""

from typing import Any

from warehouse.connection import Version
from warehouse.queries.products import OF_CATEGORY

DEALS = f"""
FROM deal
WHERE ($verdict IS NULL OR verdict = $verdict)
    AND {OF_CATEGORY}
    AND ($brand IS NULL OR brand_slug = $brand)
    AND ($retailer IS NULL OR retailer = $retailer)
    AND score >= $min_score AND (NOT $best_only OR price = best_price)
ORDER BY score DESC, verdict, real_discount_ratio DESC NULLS LAST, offer_id
LIMIT $limit OFFSET $offset
"""


def deals(version: Version, **asked: Any) -> list[dict[str, Any]]:
    """Rows of `deal` with what they are about, best score first. `asked`: verdict, category, brand,
    retailer, min_score, best_only, limit, offset."""
    return version.columns.described(version.query(DEALS, asked))
