"""What test_full_disk.py runs inside a small file system of its own: `python -m tests.jobs.full_disk DISK`.

Everything is in one process tree, because the mount is seen by nobody else.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import httpx

from pricepulse.demo import market
from tests.command import Server, run, serving, until
from warehouse.versions import current_tag

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
NO_SPACE = "pricepulse: no space is left on the disk"


def fill(disk: Path, leaving: int = 0) -> Path:
    """Take all the space there is but `leaving` bytes."""
    pad = disk / "pad"
    with contextlib.suppress(OSError), pad.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > leaving:
            file.write(bytes(4096))
    return pad


def shown(data: Path) -> tuple[int, int, int]:
    """What an analyst reads: spells, offers, products."""
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as file:
        tables = ("price_spell", "offer", "product")
        counts = [file.execute(f"SELECT count(*) FROM {name}").fetchone() for name in tables]
    return tuple(count[0] for count in counts if count)


def staged(data: Path) -> set[str]:
    """Parquet files of the lake, and builds."""
    files = {path.name for path in (data / "lake").rglob("*.parquet")}
    return files | {path.name for path in (data / "versions").iterdir()}


def refused(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith(NO_SPACE), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def feeds(folder: Path) -> list[Path]:
    """34,000, 500 and 400,000 rows."""
    made = []
    for seed, products, days in ((7, 100, 100), (8, 3, 50), (10, 800, 150)):
        made.append(folder / f"feed-{seed}.parquet")
        market(seed=seed, products=products, days=days, until=UNTIL).write_parquet(made[-1])
    return made


def by_command(disk: Path, outside: Path, first: Path, small: Path, large: Path) -> None:
    data = disk / "data"
    assert run(data, "ingest", first).returncode == 0
    before, files, tag = shown(data), staged(data), current_tag(data)
    for leaving, words in (
        (1_000_000, ["ingest", large]),
        (0, ["ingest", small]),
        (0, ["build", "--full"]),
    ):
        pad = fill(disk, leaving)
        failed = run(data, *words)
        refused(failed)
        assert failed.stdout == ""
        assert (shown(data), current_tag(data), staged(data)) == (before, tag, files)
        pad.unlink()
    again = run(data, "ingest", small)
    assert again.returncode == 0, again.stderr
    assert "0 rejected" in again.stdout
    assert "incremental build" in again.stdout
    stored_without_a_build(disk, data, outside, large)


def stored_without_a_build(disk: Path, data: Path, outside: Path, large: Path) -> None:
    """The batch is acknowledged, the build found no space; the same command later makes it good."""
    before, tag = shown(data), current_tag(data)
    assert run(outside / "data", "ingest", large).returncode == 0
    needed = sum(path.stat().st_size for path in (outside / "data" / "lake").rglob("*.parquet"))
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
    pad = fill(disk, needed + 1_000_000)
    stored = run(data, "ingest", large)
    refused(stored)
    assert "0 rejected" in stored.stdout
    assert (shown(data), current_tag(data)) == (before, tag)
    pad.unlink()
    again = run(data, "ingest", large)
    assert again.returncode == 0, again.stderr
    assert "known already" in again.stdout
    assert "incremental build" in again.stdout
    assert shown(data) > before


def by_server(disk: Path, first: Path, small: Path, log: Path) -> None:
    data = disk / "served"
    assert run(data, "ingest", first).returncode == 0
    before = shown(data)
    with serving(data, log=log) as server:
        until(lambda: server.client.get("/health/ready").is_success, "ready")
        pad = fill(disk)
        answer = send(server, small)
        assert answer.status_code == 507, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert server.client.get("/api/v1/products").status_code == 200
        assert shown(data) == before
        pad.unlink()
        answer = send(server, small)
        assert answer.status_code == 201, answer.text
        until(lambda: shown(data) > before, "the server builds again by itself", 120)


def send(server: Server, feed: Path) -> httpx.Response:
    headers = {"content-type": "application/vnd.apache.parquet"}
    body = feed.read_bytes()
    return server.client.post("/api/v1/ingest/observations", content=body, headers=headers)


if __name__ == "__main__":
    disk, outside = Path(sys.argv[1]), Path(sys.argv[2])
    first, small, large = feeds(outside)
    by_command(disk, outside, first, small, large)
    by_server(disk, first, small, outside / "log")
