"""What the lake knows of its batches, and what the build set aside."""

from typing import Any

from warehouse.connection import Version
from warehouse.lake import Lake

BATCHES = "SELECT *, snapshot_id FROM lake.batch ORDER BY batch_id DESC LIMIT ? OFFSET ?"
BATCH = "SELECT *, snapshot_id FROM lake.batch WHERE batch_id = ? LIMIT 1"
REJECTED = """
SELECT line, field, rule, value, kept FROM lake.rejected WHERE batch_id = ?
ORDER BY line, field, rule LIMIT ? OFFSET ?
"""
SUPERSEDED = """
SELECT line, 'price' AS field, 'two_prices_one_instant' AS rule, price::VARCHAR AS value,
    false AS kept
FROM superseded WHERE batch_id = ? AND superseded_by <> batch_id ORDER BY line LIMIT ? OFFSET ?
"""
SUPERSEDED_COUNT = (
    "SELECT count(*) AS n FROM superseded WHERE batch_id = ? AND superseded_by <> batch_id"
)
SUSPECTS = """
SELECT s.*, o.retailer, o.sku, o.product_id FROM suspect AS s JOIN offer AS o USING (offer_id)
ORDER BY s.observed_at DESC, s.offer_id LIMIT ? OFFSET ?
"""


def batches(lake: Lake, limit: int, offset: int) -> list[dict[str, Any]]:
    """Batches, newest first, each with the snapshot that took it in."""
    return lake.frame(BATCHES, [limit, offset]).to_dicts()


def batch(lake: Lake, batch_id: int) -> dict[str, Any] | None:
    found = lake.frame(BATCH, [batch_id]).to_dicts()
    return found[0] if found else None


def rejected(
    lake: Lake, version: Version | None, batch_id: int, limit: int, offset: int
) -> list[dict[str, Any]]:
    """What was rejected of a batch: its own faults by line, then prices that a later batch beat."""
    rows = lake.frame(REJECTED, [batch_id, limit, offset]).to_dicts()
    if len(rows) == limit or version is None:
        return rows
    own = lake.frame("SELECT count(*) FROM lake.rejected WHERE batch_id = ?", [batch_id]).item()
    beaten = version.query(SUPERSEDED, [batch_id, limit - len(rows), max(0, offset - own)])
    return rows + beaten


def superseded_count(version: Version | None, batch_id: int) -> int:
    """Prices of this batch that a later batch beat, as far as the build has seen."""
    return version.query(SUPERSEDED_COUNT, [batch_id])[0]["n"] if version else 0


def suspects(version: Version, limit: int, offset: int) -> list[dict[str, Any]]:
    """Observations that the build set aside, newest first."""
    return version.query(SUSPECTS, [limit, offset])
