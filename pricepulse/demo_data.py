"""The demo's data folder: a market made up once, used again by the next demo."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pricepulse.settings import SettingsError

SEED = 7
MARK = "demo.json"
FIRST_CALL = """
Open in a browser:
  {base}/docs
  {base}/api/v1/products?limit=5
  {base}/api/v1/products/{product}/history?resolution=spells   {title}

Send a price of today; the history has it a moment later:
  printf 'retailer,sku,observed_at,price,currency\\n%s\\n' \\
    "{retailer},{sku},$(date -u +%Y-%m-%dT%H:%M:%SZ),{price},{currency}" |
  curl -sS {base}/api/v1/ingest/observations -H "Authorization: Bearer {key}" \\
    -H "Content-Type: text/csv" --data-binary @-
"""


def feed_of(data: Path) -> Path | None:
    """The demo's feed as a file to ingest; None where the folder holds the whole demo already.

    The mark is written first and says until when the market goes: a demo that was cut off goes on
    with the same feed, which is the same batch. Refuses a folder that holds other data.
    """
    mark = data / MARK
    if not mark.exists():
        if (data / "catalog.sqlite").exists():
            raise SettingsError(
                f"{data} holds data that is no demo; name another folder with --data"
            )
        data.mkdir(parents=True, exist_ok=True)
        until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        _write(mark, {"until": until.isoformat(), "seed": SEED, "complete": False})
    said = json.loads(mark.read_text())
    if said["complete"]:
        return None
    from pricepulse.demo import market

    rows = market(seed=said["seed"], until=datetime.fromisoformat(said["until"]))
    feed = data / "incoming" / "demo.parquet"
    feed.parent.mkdir(exist_ok=True)
    rows.write_parquet(feed)
    return feed


def complete(data: Path) -> None:
    """The market is in the lake: its feed is not needed again."""
    mark = data / MARK
    _write(mark, json.loads(mark.read_text()) | {"complete": True})
    (data / "incoming" / "demo.parquet").unlink(missing_ok=True)


def greeting(data: Path, base: str, key: str | None) -> str:
    """What to open and what to send. `key`: None where the caller has set one and knows it."""
    from warehouse.connection import Reader
    from warehouse.queries.status import example

    reader = Reader(data)
    reader.refresh()
    found = example(reader.current) if reader.current else None
    reader.close()
    if found is None:
        return f"open {base}/docs"
    return FIRST_CALL.format(
        base=base,
        product=found["product_id"],
        title=found["title"] or "",
        retailer=found["retailer"],
        sku=found["sku"],
        price=round(found["price"] * 9 / 10, 2),
        currency=found["currency"],
        key=key or "$PRICEPULSE_INGEST_KEY",
    )


def _write(mark: Path, said: dict[str, object]) -> None:
    new = mark.with_suffix(".new")
    new.write_text(json.dumps(said))
    new.replace(mark)
