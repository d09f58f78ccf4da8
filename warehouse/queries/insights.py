"""What moved: prices that fell or rose, products that are new."""

from typing import Any, Literal

from warehouse.connection import Version
from warehouse.queries.products import LISTED, OF_CATEGORY

Direction = Literal["drops", "rises"]
MOVED = f"""
SELECT m.* EXCLUDE (brand_slug), (SELECT verdict FROM deal WHERE deal.offer_id = m.offer_id) AS verdict
FROM price_move AS m, build AS b
WHERE changed_at >= b.as_of - to_days($days) AND {{direction}} AND {OF_CATEGORY}
    AND ($retailer IS NULL OR retailer = $retailer)
ORDER BY abs(change_ratio) DESC, changed_at DESC, offer_id LIMIT $limit OFFSET $offset
"""
# Less than 1 % is rounding and re-pricing by a penny.
DIRECTIONS: dict[Direction, str] = {
    "drops": "price <= 0.99 * price_before",
    "rises": "price >= 1.01 * price_before",
}
# A shop that was not watched before brings its whole range at once: that is no arrival. So a
# product counts from shops only that had been watched for as long as a look vouches for.
ARRIVED = f"""
WITH watched AS (
    SELECT o.product_id, arg_min(o.retailer, (o.first_observed_at, o.retailer)) AS arrived_at,
        bool_and(o.first_observed_at >= r.first_observed_at
            + to_microseconds((b.vouch_days * 86400e6)::BIGINT)) AS by_known_shops
    FROM offer AS o JOIN retailer AS r USING (retailer), build AS b GROUP BY ALL
)
SELECT p.*, w.arrived_at
FROM watched AS w JOIN {LISTED} AS p USING (product_id), build AS b
WHERE w.by_known_shops AND p.first_observed_at >= b.as_of - to_days($days) AND {OF_CATEGORY}
    AND ($retailer IS NULL OR list_contains(p.retailers, $retailer))
ORDER BY p.first_observed_at DESC, p.product_id LIMIT $limit OFFSET $offset
"""


def moved_prices(version: Version, direction: Direction, **asked: Any) -> list[dict[str, Any]]:
    """Current offers whose last change of price was a drop or a rise of the last `days`, the largest
    first. `asked`: days, category, retailer, limit, offset."""
    rows = version.query(MOVED.format(direction=DIRECTIONS[direction]), asked)
    return version.columns.described(rows)


def new_products(version: Version, **asked: Any) -> list[dict[str, Any]]:
    """Products first seen in the last `days` in shops that had been watched before, newest first."""
    return version.query(ARRIVED, asked)
