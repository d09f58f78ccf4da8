"""A server of accounts over a market that goes on: shops' rows in, a build, and people who look at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.command import until
from tests.people import People, people
from tests.pipeline import Pipeline
from tests.served import Row, T, exact


def seen(key: str, ago: float, price: str, currency: str = "EUR", **about: Any) -> Row:
    """Of the product with this key, `ago` days before T, at a shop of one offer for each product."""
    time = T - timedelta(seconds=round(ago * 86400))
    row = {"retailer": "shop", "sku": key, "observed_at": time, "price": Decimal(price)}
    return row | {"currency": currency, "product_key": key, "title": key.title()} | about


@dataclass
class Shops:
    site: People
    pipeline: Pipeline

    def deliver(self, *rows: Row) -> None:
        """Rows in, and the server answers from them."""
        if rows:
            self.pipeline.put(rows)
        built = self.pipeline.build().tag
        reader = self.site.app.state["warehouse"]

        def is_served() -> bool:
            return reader.current is not None and reader.current.tag == built

        until(is_served, "the build is served")

    def product(self, key: str) -> str:
        """The id that the product of this key has now."""
        answer = self.site.client.get("/api/v1/products/lookup", params={"product_key": key})
        return str(answer.json()["product_id"])

    def get_product(self, product_id: str) -> Any:
        return exact(self.site.client.get(f"/api/v1/products/{product_id}"))

    def signed_in(self, email: str = "ann@example.org") -> str:
        """The access token of a new account."""
        self.site.registered(email)
        return str(self.site.signed_in(email)["access_token"])

    def get(self, address: str, token: str) -> Any:
        """The answer with money as Decimal; private it must be."""
        answer = self.site.send("GET", address, token)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
        return exact(answer)


@contextmanager
def shops(database: str, folder: Path) -> Iterator[Shops]:
    pipeline = Pipeline(folder)
    with people(database, folder) as site:
        yield Shops(site, pipeline)
    pipeline.lake.close()
