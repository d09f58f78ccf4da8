"""A year of small batches stays fast, and what nobody needs any more goes."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import upkeep
from tests.pipeline import Pipeline

START = datetime(2026, 1, 1, tzinfo=UTC)
NONE = timedelta(0)


def put(pipeline: Pipeline, n: int, rows: int) -> None:
    moment = (START + timedelta(minutes=n)).isoformat()
    lines = [f"shop-{i % 4},{i},{moment},{10 + n % 5}.99,EUR" for i in range(rows)]
    pipeline.put_text("\n".join(["retailer,sku,observed_at,price,currency", *lines, ""]))


def parquet(pipeline: Pipeline) -> int:
    return len(list(Path(pipeline.lake.data_url).rglob("*.parquet")))


def inlined(pipeline: Pipeline) -> int:
    """Rows that the catalog holds because they are too few for a file."""
    found = pipeline.lake.frame("SELECT count(*) FROM lake.observation").item()
    files = pipeline.lake.frame("FROM ducklake_list_files('lake', 'observation')")["data_file"]
    in_files = sum(
        pipeline.lake.frame("SELECT count(*) FROM read_parquet(?)", [f]).item() for f in files
    )
    return int(found - in_files)


@pytest.mark.slow
def test_small_batches_are_merged(pipeline: Pipeline) -> None:
    """Half of the batches go into the catalog as rows, half become files: neither piles up, and the
    incremental builds in between see every row once."""
    for n in range(60):
        put(pipeline, n, 5 if n % 2 else 250)
        if n % 10 == 9:
            built = pipeline.build()
            assert built.kind == ("full" if n == 9 else "incremental")
        if n % 15 == 14:
            assert inlined(pipeline) > 0
            upkeep.merge(pipeline.lake)
            assert inlined(pipeline) == 0
            upkeep.remove(pipeline.folder, pipeline.lake, NONE)
            files = pipeline.lake.frame("FROM ducklake_list_files('lake', 'observation')")
            assert files.height <= 4
    whole = pipeline.beside("whole")
    whole.build(full=True)
    assert pipeline.content() == whole.content()


def test_what_is_in_service_can_always_be_built_upon(pipeline: Pipeline) -> None:
    put(pipeline, 0, 20)
    first = pipeline.build()
    for n in range(1, 4):
        put(pipeline, n, 20)
    upkeep.merge(pipeline.lake)
    upkeep.remove(pipeline.folder, pipeline.lake, NONE)
    upkeep.remove(pipeline.folder, pipeline.lake, NONE)
    assert pipeline.lake.count("observation", first.version) == 20
    put(pipeline, 4, 20)
    second = pipeline.build()
    assert (second.kind, second.observations) == ("incremental", 100)


def test_old_versions_and_snapshots_go(pipeline: Pipeline) -> None:
    for n in range(4):
        put(pipeline, n, 20)
        last = pipeline.build()
    keep = timedelta(hours=1)
    assert upkeep.remove(pipeline.folder, pipeline.lake, keep).startswith("0 old builds")
    assert upkeep.remove(pipeline.folder, pipeline.lake, NONE).startswith("3 old builds")
    assert [path.name for path in (pipeline.folder / "versions").iterdir()] == [last.tag]
    snapshots = pipeline.lake.frame(
        "SELECT min(snapshot_id) FROM ducklake_snapshots('lake')"
    ).item()
    assert snapshots == last.version


def test_uploads_that_a_crash_left_go_after_a_day(tmp_path: Path) -> None:
    assert upkeep.remove_leftovers(tmp_path / "incoming") == 0
    (tmp_path / "incoming").mkdir()
    fresh, old = tmp_path / "incoming" / "fresh", tmp_path / "incoming" / "old"
    for path in (fresh, old):
        path.write_bytes(b"retailer,sku")
    yesterday = time.time() - upkeep.LEFTOVER_SECONDS - 60
    os.utime(old, (yesterday, yesterday))
    assert upkeep.remove_leftovers(tmp_path / "incoming") == 1
    assert [path.name for path in fresh.parent.iterdir()] == ["fresh"]


def test_staged_files_of_a_crash_go_after_a_day(pipeline: Pipeline) -> None:
    put(pipeline, 0, 250)
    pipeline.build()
    folder = Path(pipeline.lake.data_url) / "main" / "observation"
    staged = next(folder.glob("*.parquet"))
    left = [folder / "1-00000.parquet", folder / "2-00000.parquet"]
    for path in left:
        path.write_bytes(staged.read_bytes())
    old = time.time() - 25 * 3600
    os.utime(left[0], (old, old))
    os.utime(staged, (old, old))
    upkeep.remove(pipeline.folder, pipeline.lake, NONE)
    assert [path.exists() for path in (staged, *left)] == [True, False, True]
    assert pipeline.build(full=True).observations == 250
