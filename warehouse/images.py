"""Pictures that operators gave to products, in the place of the shops'.

A product has no lasting id: it follows from GTINs, keys and links. So an offer carries the picture,
the one that the title is from, and a product shows what was given last of what its offers carry.
The lake's table is only ever added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
import polars as pl

from warehouse.connection import Version
from warehouse.lake import Lake

# The API's, by the hash of the picture's content: the file says what answers say.
ADDRESS = "/api/v1/images/"
# First the one that the product's title is from, see catalog.sql.
OFFERS = """
SELECT offer_id FROM offer WHERE product_id = ?
ORDER BY title IS NULL, condition <> 'new', first_observed_at, offer_id
"""
# Of two rows of one microsecond (two machines) every reader takes the same.
CARRIED = """
FROM (
    SELECT offer_id, hash, given_at FROM lake.offer_image {at}
    QUALIFY row_number() OVER (PARTITION BY offer_id ORDER BY given_at DESC, hash DESC NULLS LAST) = 1
) WHERE hash IS NOT NULL
"""
NOW = CARRIED.format(at="")
OF_OFFERS = (
    f"SELECT DISTINCT hash FROM ({NOW}) WHERE offer_id IN (SELECT unnest($offers::BIGINT[]))"
)
# The second time: a clock that was once ahead must not make its pictures win for ever.
GIVE = f"""
INSERT INTO lake.offer_image
SELECT offer_id, CASE WHEN offer_id = $first THEN $hash::VARCHAR END,
    greatest($now, (SELECT max(given_at) FROM lake.offer_image) + INTERVAL 1 MICROSECOND)
FROM (SELECT unnest($offers::BIGINT[]) AS offer_id)
WHERE (offer_id = $first AND $hash::VARCHAR IS NOT NULL) OR offer_id IN (SELECT offer_id FROM ({NOW}))
"""
SHOWN = f"SELECT offer_id, '{ADDRESS}' || hash AS address, given_at FROM ({CARRIED})"
HASHES = f"SELECT DISTINCT hash FROM ({CARRIED})"


def offers_of(version: Version, product_id: int) -> list[int]:
    """The product's offers; the first is to carry its picture."""
    return [row["offer_id"] for row in version.query(OFFERS, [product_id])]


def give_image(lake: Lake, offers: Sequence[int], digest: str | None, now: datetime) -> None:
    """Let the product of these offers (`offers_of`) show the picture with this hash, or none but the
    shops' (None): the first carries it from now on, the others none. The next build follows.

    Nothing is written where it is so already."""

    def write(cursor: duckdb.DuckDBPyConnection) -> None:
        if _carried(cursor, offers) != ({digest} if digest else set()):
            moment = now.astimezone(UTC).replace(tzinfo=None)
            cursor.execute(
                GIVE, {"first": offers[0], "hash": digest, "now": moment, "offers": list(offers)}
            )

    lake.commit(write)


def carried(lake: Lake, offers: Sequence[int]) -> set[str]:
    """Hashes of the pictures that these offers carry."""
    with lake.cursor() as cursor:
        return _carried(cursor, offers)


def _carried(cursor: duckdb.DuckDBPyConnection, offers: Sequence[int]) -> set[str]:
    return {row[0] for row in cursor.execute(OF_OFFERS, {"offers": list(offers)}).fetchall()}


def shown(lake: Lake, snapshot: int) -> pl.DataFrame:
    """As of `snapshot`: offer_id, the `address` of the picture that it carries, given_at."""
    return lake.frame(SHOWN.format(at=f"AT (VERSION => {snapshot})"))


def needed(lake: Lake, snapshot: int | None) -> set[str]:
    """Hashes of all pictures that offers carry, now or as of `snapshot`, which a build in service shows."""
    times = ["", *([f"AT (VERSION => {snapshot})"] if snapshot is not None else [])]
    return {row[0] for at in times for row in lake.frame(HASHES.format(at=at)).rows()}
