"""A real server process over a data folder of its own, and what is in that folder, known by hand.

`ROWS` is a generated market (60 products, 45 days, all prices in EUR) and the hand-made `SHELF`, whose
answers tests spell out. Times are naive UTC, money is Decimal, as `tests.oracle` takes them.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from pricepulse.demo import market
from tests import oracle
from tests.oracle_rates import Table, ecb, working_days
from tests.pipeline import NOW, Pipeline

Row = dict[str, Any]
KEY = "a-key-for-tests-long-enough"
KEY_HEADER = {"authorization": f"Bearer {KEY}"}
# The newest observation of all: what `as_of` says.
T = NOW.replace(tzinfo=None)
# By product_id: what the oracle says of it.
Known = dict[str, dict[str, Any]]

SERVE = """
import socket, sys
import uvicorn
from pathlib import Path
from pricepulse.app import UVICORN, create_app
from pricepulse.settings import Settings

listening = socket.socket(fileno=int(sys.argv[1]))
settings = Settings.from_env(dict(each.split("=", 1) for each in sys.argv[2:]))
uvicorn.Server(uvicorn.Config(create_app(settings), **UVICORN)).run(sockets=[listening])
"""


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a server process on `folder`; without `ingest_key` in `settings` it has KEY.

    The socket listens before the process exists, so that there is no port to guess and nothing to
    wait for: the first request is answered when the server is up.
    """
    env = {"data": folder, "rate_limit": 0, "sign_in_limit": 0, "ingest_key": KEY} | settings
    given = [f"PRICEPULSE_{n.upper()}={v}" for n, v in env.items() if v is not None]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor = listening.fileno()
        command = [sys.executable, "-c", SERVE, str(descriptor), *given]
        process = subprocess.Popen(command, pass_fds=[descriptor], cwd=Path(__file__).parents[1])
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base, timeout=60) as client:
            client.headers.pop("accept-encoding")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def exact(answer: httpx.Response) -> Any:
    """The JSON with money as Decimal; never through a double."""
    assert answer.headers["content-type"] == "application/json", answer.text[:500]
    return json.loads(answer.content, parse_float=Decimal)


def look(retailer: str, sku: str, ago: timedelta, price: str, **about: Any) -> Row:
    row = {"retailer": retailer, "sku": sku, "observed_at": T - ago, "price": Decimal(price)}
    return row | {"currency": "EUR"} | about


HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VOUCH = 10 * DAY
KETTLE = {"gtin": "4006381333931"}
NAMED = {
    "title": "Zebra Kettle 1.7 l",
    "brand": "Köhler & Söhne",
    "category": "Küche > Wasser & Tee",
    "image_url": "https://alpha.example/k.png",
}
SHELF: list[Row] = [
    # One product, six offers; of each better price something speaks against it.
    look("alpha", "K1", 20 * DAY, "31", **KETTLE, **NAMED, mpn="ZK-17"),
    look("alpha", "K1", HOUR, "30.00", **KETTLE),
    look("bravo", "K2", HOUR, "25", gtin="04006381333931", availability="OutOfStock"),
    look("charlie", "K3", HOUR, "20", **KETTLE, condition="used"),
    look("delta", "K4", VOUCH + timedelta(seconds=1), "10", **KETTLE),
    look("echo", "K5", HOUR, "5", **KETTLE, currency="USD"),
    look("foxtrot", "K6", VOUCH, "28", **KETTLE, availability="LimitedAvailability",
         list_price="35", shipping="4.95", promotion="2 for 50", unit_quantity="0.5", unit="kg",
         title="Kettle of Zebra"),
    # Nowhere in stock; known by its key.
    look("alpha", "T1", DAY, "12.5", product_key="TEAPOT 1", availability="OutOfStock",
         title="Zebra Teapot", brand="Köhler & Söhne", category="Küche > Wasser & Tee > Kannen",
         unit_quantity="250", unit="ml"),
    look("bravo", "T2", DAY, "11", product_key="TEAPOT 1", availability="Discontinued"),
    # Only in dollars.
    look("echo", "L1", DAY, "49.9900", currency="USD", gtin="96385074", title="Quagga Lamp",
         brand="Lumen", category="Light"),
    look("echo", "L2", DAY, "0.3333", currency="USD", gtin="036000291452", title="Quagga Bulb",
         brand="Lumen", category="Light", unit_quantity="3", unit="pcs"),
    # Nothing is said about it, and its sku needs care in addresses.
    look("delta", "N/1 ä+b&c=%", 2 * DAY, "7.5"),
    # The ends of what can be stored.
    look("golf", "X1", DAY, "999999999999.9999", title="Huge thing", category="Extremes"),
    look("golf", "X2", DAY, "0.0001", title="Tiny thing", category="Extremes", unit_quantity="0.0003",
         unit="g"),
    # Addresses that differ by what tells offers apart, and by what does not.
    look("hotel", "U7", DAY, "1", title="Seven",
         url="https://www.Hotel.example/p/kettle?id=7&utm_source=feed#top"),
    look("hotel", "U8", DAY, "2", title="Eight", url="http://hotel.example/p/kettle/?id=8"),
    look("hotel", "U9", DAY, "3", title="Nine", url="https://hotel.example/P/Kettle/"),
    look("hotel", "U0", timedelta(0), "4", title="Ten, seen last of all"),
]  # fmt: skip


def reference_rates() -> Table:
    """Until the Friday before T, a Sunday, for as long as the market goes back; two weeks are missing."""
    table = working_days(date(2026, 11, 20), 60)
    for back in range(27, 41):
        table.pop(date(2026, 11, 20) - timedelta(days=back), None)
    return table


RATES = reference_rates()


@dataclass(frozen=True)
class Served:
    """The client of the shared server, and what the oracle makes of the rows behind it."""

    client: httpx.Client
    market: oracle.Market
    folder: Path

    def get(self, address: str, **query: Any) -> Any:
        answer = self.client.get(f"/api/v1{address}", params=query)
        assert answer.status_code == 200, answer.text
        return exact(answer)

    def walk(self, address: str, **query: Any) -> list[Any]:
        """All items of a list, page by page."""
        page = self.get(address, **query)
        items = page["items"]
        while page["next_cursor"]:
            page = self.get(address, **query, cursor=page["next_cursor"])
            assert page["items"], "a page before the end has items"
            items += page["items"]
        return list(items)

    def refused(self, address: str, status: int, **query: Any) -> Any:
        answer = self.client.get(f"/api/v1{address}", params=query)
        return problem(answer, status)


def problem(answer: httpx.Response, status: int) -> Any:
    """The problem of an answer, which has the shape of every error."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told.keys() >= {"type", "title", "status", "detail", "instance"}
    return told


def market_rows() -> list[Row]:
    frame = market(products=60, days=45, until=NOW)
    rows = frame.with_columns(frame["observed_at"].dt.replace_time_zone(None)).to_dicts()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@contextmanager
def shared_server(folder: Path) -> Iterator[Served]:
    rows = [*market_rows(), *SHELF]
    pipeline = Pipeline(folder)
    pipeline.put(rows)
    pipeline.put_rates(ecb(RATES))
    pipeline.build()
    pipeline.lake.close()
    with serving(folder) as client:
        yield Served(client, oracle.Market(rows), folder)


def slug(name: str | None) -> str | None:
    """One level; distinct names of these rows that have a letter or digit."""
    if name is None:
        return None
    plain = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", "-", plain.lower()).strip("-")


def expected_product(found: oracle.Market, offers: set[oracle.Offer]) -> dict[str, Any]:
    """A product's row in a list, from the oracle's offers."""
    known = {offer: found.offers[offer] for offer in offers}
    by_age = sorted(known, key=lambda offer: known[offer].spells[0].first)

    def told(name: str) -> Any:
        return next((known[o].attributes[name] for o in by_age if known[o].attributes[name]), None)

    category = told("category")
    levels = category.split(" > ") if category else []
    last = [each.spells[-1] for each in known.values()]
    return {
        "title": told("title"),
        "brand": told("brand"),
        "gtin": told("gtin"),
        "category": category,
        "category_slug": ".".join(filter(None, map(slug, levels))) or None,
        "image_url": told("image_url"),
        "price": found.best_price(offers),
        "currency": Counter(spell.currency for spell in last).most_common(1)[0][0],
        "offers": len(offers),
        "retailers": sorted({retailer for retailer, _ in offers}),
        "availability": sorted({spell.availability for spell in last}),
        "first": min(each.spells[0].first for each in known.values()),
    }


def below(slug_of: str | None, wanted: str) -> bool:
    return slug_of is not None and (slug_of == wanted or slug_of.startswith(wanted + "."))


def fits(product: dict[str, Any], query: dict[str, Any]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "category": lambda v: below(product["category_slug"], v),
        "brand": lambda v: slug(product["brand"]) == v,
        "retailer": lambda v: v.strip().lower() in product["retailers"],
        "availability": lambda v: v in product["availability"],
        "currency": lambda v: product["currency"] == v.upper(),
        "min_price": lambda v: product["price"] is not None and product["price"] >= Decimal(v),
        "max_price": lambda v: product["price"] is not None and product["price"] <= Decimal(v),
    }
    return all(test(query[name]) for name, test in tests.items() if name in query)
