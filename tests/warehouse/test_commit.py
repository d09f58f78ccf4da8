"""Commits that fail half way, and what processes that were killed leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from tests.pipeline import Pipeline, open_lake
from tests.warehouse.test_lake import rows
from warehouse import lake
from warehouse.lake import INLINE_ROWS


def test_a_commit_that_says_it_failed_and_had_not(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the connection to the catalog drops after COMMIT: tried again, or given up."""
    real = lake.transaction
    failures = iter([duckdb.Error("database is locked"), None, duckdb.Error("gone")])

    @contextmanager
    def ambiguous(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        with real(cursor):
            yield
        if error := next(failures, None):
            raise error

    monkeypatch.setattr(lake, "transaction", ambiguous)
    batch = pipeline.put(rows(3 * INLINE_ROWS))
    assert (batch.duplicate, batch.new_offers) == (False, 3 * INLINE_ROWS)
    with pytest.raises(duckdb.Error, match="gone"):
        pipeline.put(rows(3 * INLINE_ROWS, first=1000))
    monkeypatch.undo()
    assert pipeline.put(rows(3 * INLINE_ROWS, first=1000)).duplicate
    assert pipeline.build().observations == 6 * INLINE_ROWS


def test_each_lake_spills_into_a_folder_of_its_own(pipeline: Pipeline) -> None:
    other = open_lake(pipeline.folder)
    folders = [
        each.frame("SELECT current_setting('temp_directory')").item()
        for each in (pipeline.lake, other)
    ]
    assert len(set(folders)) == 2
    left = Path(folders[0]).parent / "spill-1-of-a-killed-process"
    left.mkdir(parents=True)
    other.remove_orphans(timedelta(0))
    assert not left.exists()
    other.frame("SET memory_limit = '60MB'")
    sorting = "SELECT sum(b) FROM (SELECT b, lead(b) OVER (ORDER BY b) FROM (SELECT hash(range) AS b FROM range(8_000_000)))"
    other.frame(sorting)
    assert Path(folders[1]).exists(), "the sort was too small to spill"
    other.close()
    assert not Path(folders[1]).exists()
