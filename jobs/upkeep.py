"""What keeps a year of small batches fast, and the disk free of what nobody needs any more."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warehouse.lake import Lake
from warehouse.versions import building, current_snapshot, remove_old_versions

LEFTOVER_SECONDS = 24 * 3600  # an upload lasts minutes; after a day it is one that a crash cut off


def merge(lake: Lake) -> str:
    """Write small batches out of the catalog and merge small Parquet files."""
    return f"{lake.merge_small_files()} files merged"


def remove(data: Path, lake: Lake, keep: timedelta) -> str:
    """Remove replaced builds and lake snapshots older than `keep`, and what crashes left behind.

    The snapshot of the build in service stays however old: the next incremental build reads on
    from there.
    """
    now = datetime.now(UTC)
    versions = remove_old_versions(data, keep, now)
    with building(data, wait=True):
        lake.remove_merged()
        if (snapshot := current_snapshot(data)) is not None:
            lake.expire(now - keep, keep_from=snapshot)
    lake.remove_orphans()
    uploads = remove_leftovers(data / "incoming")
    return f"{len(versions)} old builds and {uploads} unfinished uploads removed"


def remove_leftovers(incoming: Path) -> int:
    """Delete uploads that have not been written to for a day; how many."""
    old = [path for path in incoming.glob("*") if path.is_file() and _idle(path)]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _idle(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > LEFTOVER_SECONDS
    except FileNotFoundError:
        return False
