"""Manual links: an operator says which product an offer belongs to, whatever its GTIN says."""

from datetime import datetime

import duckdb

from warehouse.connection import Version
from warehouse.lake import OFFER_ID, Lake

OFFER = f"SELECT {OFFER_ID} AS offer_id FROM lake.offer WHERE retailer = ? AND sku = ? LIMIT 1"
PRODUCT = "SELECT title FROM product WHERE product_id = ?"
LINK = "SELECT product_id FROM lake.offer_link WHERE offer_id = ? ORDER BY linked_at DESC LIMIT 1"


class UnknownLink(ValueError):
    """The offer, the product or the link to take back does not exist."""


def link_offer(
    lake: Lake,
    version: Version | None,
    retailer: str,
    sku: str,
    product_id: int | None,
    now: datetime,
) -> int | None:
    """Link the offer to a product of the build in service, or take its link back (None).

    The next build follows it. Returns the product linked before, if any; raises `UnknownLink`, and
    the lake is then as it was.
    """
    found = lake.frame(OFFER, [retailer, sku])
    if found.is_empty():
        raise UnknownLink(
            f"there is no offer {sku!r} of {retailer!r}; give the retailer's slug and the sku as "
            "the feed does"
        )
    offer_id = found.item()
    links = lake.frame(LINK, [offer_id])
    before: int | None = None if links.is_empty() else links.item()
    if product_id is None and before is None:
        raise UnknownLink(f"the offer {sku!r} of {retailer!r} has no manual link to take back")
    if product_id is not None and not (version and version.query(PRODUCT, [product_id])):
        raise UnknownLink(
            f"there is no product {product_id} in the build in service; GET /api/v1/products lists "
            "them, and a new one is there after a build"
        )

    def write(cursor: duckdb.DuckDBPyConnection) -> None:
        moment = now.replace(tzinfo=None)
        cursor.execute(
            "INSERT INTO lake.offer_link VALUES (?, ?, ?)", [offer_id, product_id, moment]
        )

    if product_id != before:
        lake.commit(write)
    return before
