"""A server that takes batches, and the data folder behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.pipeline import Pipeline
from tests.served import KEY_HEADER, serving

OBSERVATIONS = "/api/v1/ingest/observations"
BATCHES = "/api/v1/ingest/batches"
CSV, NDJSON = "text/csv", "application/x-ndjson"
PARQUET, ANY = "application/vnd.apache.parquet", "application/octet-stream"
HEAD = "retailer,sku,observed_at,price,currency,colour"
SMALL = 100_000  # bytes that the small server takes


def csv(*rows: str) -> bytes:
    return "\n".join([HEAD, *rows, ""]).encode()


def row(sku: str, price: str = "19.99", when: str = "2026-05-01T10:00:00Z") -> str:
    return f"shop,{sku},{when},{price},EUR,red"


class Intake:
    """A server, and the data folder behind it."""

    def __init__(self, client: httpx.Client, pipeline: Pipeline) -> None:
        self.client = client
        self.pipeline = pipeline

    def post(self, body: Any, kind: str = CSV, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"content-type": kind} | KEY_HEADER | named
        return self.client.post(OBSERVATIONS, content=body, headers=sent)

    def get(self, address: str, **query: Any) -> Any:
        answer = self.client.get(address, params=query, headers=KEY_HEADER)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def state(self) -> tuple[Any, ...]:
        """What a refused batch must not change: the lake's snapshot, its files, its batches."""
        files = sorted(str(p) for p in (self.pipeline.folder / "lake").rglob("*") if p.is_file())
        counts = self.pipeline.lake.frame(
            "SELECT (SELECT count(*) FROM lake.observation), (SELECT count(*) FROM lake.rejected), "
            "(SELECT count(*) FROM lake.offer), (SELECT count(*) FROM lake.offer_detail)"
        ).row(0)
        batches = self.get(BATCHES, limit=200)["items"]
        return self.pipeline.lake.snapshot(), files, counts, batches, self.incoming()

    def incoming(self) -> list[str]:
        return [each.name for each in (self.pipeline.folder / "incoming").glob("*")]


def intake_of(folder: Path, **settings: Any) -> Iterator[Intake]:
    pipeline = Pipeline(folder)
    with serving(folder, **settings) as client:
        made = Intake(client, pipeline)
        first = made.post(csv(row("first"))).json()["batch_id"]
        pipeline.build()
        until(lambda: made.get(f"{BATCHES}/{first}")["status"] == "visible", "no build is seen")
        yield made
    pipeline.lake.close()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
