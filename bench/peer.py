"""What one would take instead: PostgreSQL with a table of observations and an index.

Debian's package (`apt-get install postgresql`), a throw-away cluster in a folder of its own, reached
through a Unix socket. It gets every advantage: its answers are asked for with pgbench, prepared,
without HTTP and JSON, and are plain rows, where ours are spells.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from bench.datasets import Dataset, size
from bench.load import load
from bench.report import Figure
from bench.server import serving
from bench.serving import KINDS, SECONDS, products

SCHEMA = """
CREATE TABLE observation (
    product INT, retailer TEXT, sku TEXT, observed_at TIMESTAMPTZ, price NUMERIC(18, 4),
    currency TEXT, list_price NUMERIC(18, 4), availability TEXT, title TEXT, brand TEXT,
    category TEXT, gtin TEXT, product_key TEXT
);
"""
INDEX = "CREATE INDEX ON observation (product, retailer, observed_at)"
HISTORY = """\\set product random(1, {products})
SELECT retailer, sku, currency, observed_at, price, list_price, availability FROM observation
WHERE product = :product ORDER BY retailer, observed_at;
"""
# A quarter of a small machine's memory, and a log that does not hold up the load.
TUNED = (
    "-c shared_buffers=2GB -c maintenance_work_mem=512MB -c max_wal_size=8GB -c listen_addresses="
)
CLIENTS = 8  # more were slower on 2 cores


class Postgres:
    def __init__(self, programs: Path, folder: Path, account: dict[str, Any]) -> None:
        self.programs = programs
        self.folder = folder
        self.account = account

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            check=True, stdout=subprocess.PIPE, text=True, cwd=self.folder, **self.account,
        )  # fmt: skip
        return str(done.stdout)

    def sql(self, *statements: str) -> str:
        told = [text for each in statements for text in ("-c", each)]
        return self.run("psql", "-h", str(self.folder), "-d", "postgres", "-qAt", *told)

    def histories_per_second(self, count: int) -> float:
        script = self.folder / "history.sql"
        script.write_text(HISTORY.format(products=count))
        told = self.run(
            "pgbench", "-h", str(self.folder), "-n", "-M", "prepared", "-c", str(CLIENTS),
            "-T", str(int(SECONDS)), "-f", str(script), "postgres",
        )  # fmt: skip
        found = re.search(r"tps = ([\d.]+)", told)
        assert found is not None, told
        return float(found[1])


def installed() -> Path | None:
    """The folder of PostgreSQL's programs, or None."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    # Debian keeps them out of PATH.
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def cluster(programs: Path, options: str = TUNED) -> Iterator[Postgres]:
    # It refuses to run as root; Debian's package brings a user for it.
    account: dict[str, Any] = {"user": "postgres", "group": "postgres"} if not os.getuid() else {}
    with tempfile.TemporaryDirectory(prefix="pricepulse-peer-") as name:
        folder = Path(name)
        if account:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        postgres = Postgres(programs, folder, account)
        at = ("-D", str(folder / "cluster"))
        postgres.run("initdb", *at, "-A", "trust")
        log = ("-l", str(folder / "log"))
        postgres.run("pg_ctl", *at, *log, "-w", "-o", f"{options} -k {folder}", "start")
        try:
            yield postgres
        finally:
            postgres.run("pg_ctl", *at, "-m", "immediate", "-w", "stop")


def peer(dataset: Dataset, rounds: int) -> list[Figure]:
    """Load and index the same file, then ask for histories, in turns with ours."""
    programs = installed()
    if programs is None:
        return [
            Figure("peer", "PostgreSQL", "left out: not installed (apt-get install postgresql)")
        ]
    dataset.generate()
    ours = dataset.take_in()
    with cluster(programs) as postgres, serving(dataset.data) as server:
        seconds, stored, count = _load(postgres, dataset)
        paths = [KINDS["/products/{id}/history"](key) for key in products(dataset.data)]
        pairs = []
        for number in range(rounds + 1):
            theirs = postgres.histories_per_second(count)
            pairs.append((load(server.port, paths, SECONDS).per_second, theirs))
            pairs = pairs[:rounds] if number else []  # the first is there to warm up
    mine, theirs = median([a for a, _ in pairs]), median([b for _, b in pairs])
    ratio = median([a / b for a, b in pairs])
    taken = ours["ingest"] + ours["build"]
    kept = ours["lake"] + size((dataset.data / "warehouse.duckdb").resolve().parent)
    n = f"{dataset.rows:,} observations"
    return [
        Figure("peer", f"{n}: PostgreSQL COPY + index; ours ingest + build",
               f"{seconds:.1f} s; {taken:.1f} s, {seconds / taken:.1f} × as fast"),
        Figure("peer", "its table and index; our lake and version",
               f"{stored / 1e6:.0f} MB; {kept / 1e6:.0f} MB"),
        Figure("peer", "histories a second: PostgreSQL's rows by pgbench; our spells over HTTP",
               f"{theirs:,.0f}; {mine:,.0f}, {ratio:.1f} × as many"),
    ]  # fmt: skip


def _load(postgres: Postgres, dataset: Dataset) -> tuple[float, int, int]:
    """Seconds to load and index, bytes stored, number of products."""
    table = postgres.folder / "observations.csv"
    duckdb.execute(
        "COPY (SELECT dense_rank() OVER (ORDER BY coalesce(gtin, product_key)) AS product, * "
        f"FROM '{dataset.observations}' ORDER BY observed_at) TO '{table}' (HEADER false)"
    )
    postgres.sql(SCHEMA)
    began = time.perf_counter()
    postgres.sql(f"\\copy observation FROM '{table}' (FORMAT csv)", INDEX, "ANALYZE", "CHECKPOINT")
    seconds = time.perf_counter() - began
    table.unlink()
    told = postgres.sql(
        "SELECT pg_total_relation_size('observation'), max(product) FROM observation"
    )
    stored, count = told.strip().split("|")
    return seconds, int(stored), int(count)
