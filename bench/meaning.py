"""Measures what the prices mean: statistics, deals and anomalies over HTTP, charts, and the deals by
plain SQL over the raw observations."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import duckdb

from bench.datasets import Dataset
from bench.intake import TABLE
from bench.load import load
from bench.report import Figure
from bench.server import serving
from bench.serving import CONSTANT, Kinds, measure, of_kinds, products

SQL = (Path(__file__).parent / "deals.sql").read_text()
FROM_MART = "FROM deal JOIN offer USING (offer_id) ORDER BY score DESC LIMIT 50"
LEAST = 0.25
CHARTS = 400
# A hundred addresses each: filters that people choose, and pages.
KINDS: Kinds = {
    CONSTANT: lambda _: CONSTANT,
    "/products/{id}/stats": lambda key: f"/api/v1/products/{key}/stats",
    "/deals": lambda key: f"/api/v1/deals?min_score={key % 50}&limit={10 + key % 2 * 10}",
    "/price-drops": lambda key: (
        f"/api/v1/price-drops?days={1 + key % 50}&limit={10 + key % 2 * 10}"
    ),
    "/anomalies": lambda key: f"/api/v1/anomalies?days={1 + key % 50}&limit={10 + key % 2 * 10}",
}


def meaning(dataset: Dataset, rounds: int) -> list[Figure]:
    dataset.prepare()
    data = dataset.data
    with serving(data) as shipped, serving(data, keeping=False) as computing:
        servers = {"as shipped": (shipped, data), "each computed": (computing, data)}
        found = measure(servers, rounds, KINDS)
        drawn = [f"/api/v1/products/{key}/chart.svg" for key in products(data)[:CHARTS]]
        charts = [load(computing.port, drawn, 2.0, connections=1) for _ in range(rounds)]
    figures = [
        figure for name, each in found.items() for figure in of_kinds(name, each, "meaning", LEAST)
    ]
    p50 = median([each.p50 for each in charts]) * 1000
    told = f"{p50:.2f} ms (p99 {median([each.p99 for each in charts]) * 1000:.2f}), {charts[0].mean_bytes:,.0f} bytes"
    figures.append(
        Figure("meaning", "each computed: chart.svg, 1 connection, p50", told, "< 5 ms", p50 < 5)
    )
    return figures + by_sql(dataset, min(rounds, 3))


def by_sql(dataset: Dataset, rounds: int) -> list[Figure]:
    """The deals from raw observations, and from the mart, in turns."""
    plain = dataset.folder / "plain.duckdb"
    plain.unlink(missing_ok=True)
    raw, mart = [], []
    try:
        with (
            duckdb.connect(str(plain)) as db,
            duckdb.connect(str(dataset.data / "warehouse.duckdb"), read_only=True) as ours,
        ):
            db.execute(TABLE)
            db.execute(f"COPY observation FROM '{dataset.observations}' (FORMAT parquet)")
            for _ in range(rounds):
                raw.append(_seconds(db, SQL))
                mart.append(_seconds(ours, FROM_MART))
    finally:
        plain.unlink(missing_ok=True)
    ratio = median([one / other for one, other in zip(raw, mart, strict=True)])
    return [
        Figure("meaning", "the deals by plain SQL over the observations", f"{median(raw):.2f} s"),
        Figure(
            "meaning",
            "the same 50 from the mart, verdicts and scores with them",
            f"{median(mart) * 1000:.1f} ms, {ratio:,.0f} × as fast",
        ),
    ]


def _seconds(db: duckdb.DuckDBPyConnection, sql: str) -> float:
    began = time.perf_counter()
    assert len(db.execute(sql).fetchall()) == 50
    return time.perf_counter() - began
