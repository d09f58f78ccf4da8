"""Measures what comes in: a large file into an empty data folder, small batches on top of it."""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from pathlib import Path
from statistics import median

import duckdb

from bench.datasets import Dataset, child, size
from bench.report import Figure
from bench.server import DEADLINE, Server, serving

PARQUET = "application/vnd.apache.parquet"


def ingest(dataset: Dataset, rounds: int) -> list[Figure]:
    """DuckDB's COPY of the file into a plain table, then ours, in turns, each in a new process."""
    dataset.generate()
    copies, runs = [], []
    plain = dataset.folder / "plain.duckdb"
    for _ in range(rounds):
        plain.unlink(missing_ok=True)
        copies.append(child("bench.intake", "copy", dataset.observations, plain))
        runs.append(dataset.take_in())
    copied = median([copy["copy"] for copy in copies])
    ingested, built = (
        median([run["ingest"] for run in runs]),
        median([run["build"] for run in runs]),
    )
    whole = median([run["ingest"] + run["build"] for run in runs])
    pairs = zip(copies, runs, strict=True)
    ratio = median([copy["copy"] / run["ingest"] for copy, run in pairs])
    peak, ingest_peak, merge_peak = (
        max(run[name] for run in runs) / 1e9 for name in ("build_peak", "ingest_peak", "peak")
    )
    marts = median([run["marts"] for run in runs])
    merged = median([run["merge"] for run in runs])
    file = (dataset.data / "warehouse.duckdb").resolve()
    sizes = {
        "warehouse.duckdb": size(file),
        "the version's folder": size(file.parent),
        "the lake": runs[-1]["lake"],
        "DuckDB's plain table": size(plain),
        "the Parquet file": size(dataset.observations),
    }
    plain.unlink()
    speed = dataset.rows / ingested
    return [
        Figure("ingest", "DuckDB: COPY into a plain table", f"{copied:.1f} s"),
        Figure("ingest", "ingest with all checks", f"{ingested:.1f} s, {speed / 1e6:.2f} M rows/s"),
        Figure("ingest", "speed against COPY", f"{ratio:.2f}", "≥ 0.33", ratio >= 1 / 3),
        Figure("ingest", "full build", f"{built:.1f} s"),
        Figure("ingest", "of that: making the marts", f"{marts:.1f} s", "< 30 s", marts < 30),
        Figure("ingest", "ingest + full build", f"{whole:.1f} s", "< 30 s", whole < 30),
        Figure("ingest", "peak memory, ingest and build",
               f"{peak:.2f} GB ({ingest_peak:.2f} after ingest)", "< 4 GB", peak < 4),
        Figure("ingest", "later, in the background: merging the lake's files",
               f"{merged:.1f} s, peak {merge_peak:.2f} GB"),
        Figure("ingest", "size of warehouse.duckdb", f"{sizes['warehouse.duckdb'] / 1e6:.0f} MB",
               "< 100 MB", sizes["warehouse.duckdb"] < 100e6),
        *(Figure("ingest", f"size of {name}", f"{sizes[name] / 1e6:.0f} MB")
          for name in list(sizes)[1:]),
    ]  # fmt: skip


def batch(dataset: Dataset) -> list[Figure]:
    """Batches of 10,000 rows over HTTP to the server, each visible before the next is sent."""
    dataset.prepare()
    data = dataset.copy_data()
    acknowledged, visible = [], []
    try:
        with serving(data) as server:
            for path in dataset.batches:
                sent = time.perf_counter()
                status, answer = server.ask(
                    "/api/v1/ingest/observations", path.read_bytes(), PARQUET
                )
                taken = time.perf_counter()
                assert (status, answer["accepted"]) == (201, 10_000), answer
                acknowledged.append(taken - sent)
                wait_until_shown(server, path)
                visible.append(time.perf_counter() - taken)
    finally:
        shutil.rmtree(data)
    to_201, to_page = median(acknowledged), median(visible)
    sent_in = f"{to_201:.2f} s (slowest of {len(visible)}: {max(acknowledged):.2f})"
    later = f"{to_page:.2f} s (slowest: {max(visible):.2f})"
    return [
        Figure("batch", "10,000 rows: POST to 201", sent_in, "< 1 s", to_201 < 1),
        Figure("batch", "from the 201 until a product page shows it", later, "< 3 s", to_page < 3),
    ]


def wait_until_shown(server: Server, path: Path) -> None:
    """Asks for the page of the batch's last row until it shows that row."""
    last = duckdb.sql(
        f"SELECT retailer, sku, epoch(observed_at) FROM '{path}' ORDER BY observed_at DESC LIMIT 1"
    ).fetchone()
    assert last is not None
    retailer, sku, observed_at = last
    status, product = server.ask(f"/api/v1/products/lookup?retailer={retailer}&sku={sku}")
    assert status == 200, product
    deadline = time.perf_counter() + DEADLINE
    while time.perf_counter() < deadline:
        status, product = server.ask(f"/api/v1/products/{product['product_id']}")
        assert status == 200, product
        shown = {(offer["retailer"], offer["sku"]): offer for offer in product["offers"]}
        seen = datetime.fromisoformat(shown[retailer, sku]["observed_at"])
        if seen.timestamp() >= int(observed_at):
            return
        time.sleep(0.01)
    raise RuntimeError(f"the batch was not visible within {DEADLINE:.0f} s; does a job build?")
