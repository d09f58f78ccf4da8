"""What the lake holds and what the build in service shows of it: for operators."""

from typing import Any

from warehouse.connection import Version
from warehouse.lake import Lake

# The batch rows have counted already: no look at the observations themselves.
DELIVERED = """
SELECT count(*) AS batches, coalesce(sum(accepted), 0)::BIGINT AS observations,
    coalesce(sum(rejected), 0)::BIGINT AS rejected, max(received_at) AS newest
FROM lake.batch
"""
WAITING = """
SELECT count(*) AS batches, coalesce(sum(accepted), 0)::BIGINT AS observations
FROM lake.batch WHERE snapshot_id > ?
"""
SHOWN = """
SELECT observations, (SELECT count(*) FROM offer) AS offers,
    (SELECT count(*) FROM product) AS products, (SELECT count(*) FROM retailer) AS retailers,
    (SELECT count(*) FROM price_spell) AS spells, (SELECT count(*) FROM suspect) AS suspects
FROM build
"""
# The one with the most offers, and of those the one with the longest history.
EXAMPLE = """
SELECT p.product_id, p.title, o.retailer, o.sku, o.price, o.currency
FROM product AS p JOIN offer AS o ON o.offer_id = p.best_offer_id
ORDER BY p.offers DESC, p.first_observed_at, p.product_id LIMIT 1
"""


def delivered(lake: Lake) -> dict[str, Any]:
    """`batches`, `observations` accepted, rows `rejected`, `newest`: when the last batch came."""
    return lake.frame(DELIVERED).row(0, named=True)


def waiting(lake: Lake, version: int) -> dict[str, Any]:
    """`batches` and their `observations` that came after snapshot `version`."""
    return lake.frame(WAITING, [version]).row(0, named=True)


def shown(version: Version) -> dict[str, Any]:
    """How much there is of everything in the build."""
    return version.query(SHOWN)[0]


def example(version: Version) -> dict[str, Any] | None:
    """A product worth a look, with its cheapest offer; None where nothing is on offer."""
    found = version.query(EXAMPLE)
    return found[0] if found else None
