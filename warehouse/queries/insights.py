"""Products that are new."""

from typing import Any

from warehouse.connection import Version
from warehouse.queries.products import LISTED, OF_CATEGORY

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


def new_products(version: Version, **asked: Any) -> list[dict[str, Any]]:
    """Products first seen in the last `days` in shops that had been watched before, newest first."""
    return version.query(ARRIVED, asked)
