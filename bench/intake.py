"""One measured intake in a process of its own, so that its peak memory is its own.

python -m bench.intake copy FILE.parquet FILE.duckdb    DuckDB's COPY into a plain table
python -m bench.intake ours FILE.parquet DATA           ingest with all checks, then the full build

prints one line of JSON: seconds of each step and the peak of resident memory after it, with mapped
files, in bytes. The clock starts after the imports and stops when the files are durable and closed.
"""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from bench.datasets import size

# The columns of bench.generate, as DuckDB reads them.
TABLE = """
CREATE TABLE observation (
    retailer VARCHAR, sku VARCHAR, observed_at TIMESTAMPTZ, price DECIMAL(18, 4), currency VARCHAR,
    list_price DECIMAL(18, 4), availability VARCHAR, title VARCHAR, brand VARCHAR,
    category VARCHAR, gtin VARCHAR, product_key VARCHAR
)
"""


def copy(source: Path, target: Path) -> dict[str, float]:
    began = time.perf_counter()
    with duckdb.connect(str(target)) as db:
        db.execute(TABLE)
        db.execute(f"COPY observation FROM '{source}' (FORMAT parquet)")
        db.execute("CHECKPOINT")
    return {"copy": time.perf_counter() - began}


def ours(source: Path, data: Path) -> dict[str, float]:
    """What `pricepulse ingest` does."""
    from jobs.marts import MARTS
    from warehouse import batch, build, marts
    from warehouse.feed import open_feed
    from warehouse.lake import Lake

    data.mkdir(parents=True)
    began = time.perf_counter()
    lake = Lake(f"sqlite:///{data / 'catalog.sqlite'}", str(data / "lake"))
    taken = batch.append(
        lake, open_feed(source), content=batch.content_hash(source), now=datetime.now(UTC)
    )
    ingested = time.perf_counter()
    peak = resident_peak()
    making = [0.0]

    def timed(task: marts.Task) -> None:
        began = time.perf_counter()
        MARTS.make(task)
        making[0] += time.perf_counter() - began

    built = build.build(data, lake, marts.Marts(timed, MARTS.fingerprint), full=True)
    done = time.perf_counter()
    assert taken.accepted == taken.rows == built.observations, (taken, built)
    measured = {"ingest": ingested - began, "build": done - ingested}
    measured |= {"marts": making[0], "ingest_peak": peak, "build_peak": resident_peak()}
    measured |= {"lake": size(data / "lake")}  # merging keeps the merged files for a while
    # The server's upkeep would do it in a minute, and be measured with whatever runs then.
    lake.merge_small_files()
    lake.close()
    return measured | {"merge": time.perf_counter() - done}


def resident_peak() -> int:
    """Bytes. Not getrusage: its peak counts the parent's memory at the moment of the fork."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "bench/ runs on Linux"
    return int(found[1]) * 1024


def main() -> None:
    how, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    measured = {"copy": copy, "ours": ours}[how](source, target)
    print(json.dumps(measured | {"peak": resident_peak()}))


if __name__ == "__main__":
    main()
