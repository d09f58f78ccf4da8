"""Versions of the warehouse file: how they come into service, grow old and go."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.pipeline import NOW, Pipeline
from tests.warehouse.test_build import assert_incremental_is_full, look, spells
from warehouse.connection import Reader
from warehouse.search import SearchIndexError
from warehouse.versions import BuildRunning, building, current_tag, remove_old_versions

ROOT = Path(__file__).parents[2]


def test_nothing_new_builds_nothing(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5")])
    first = pipeline.build()
    again = pipeline.build()
    assert (again.kind, again.tag) == ("none", first.tag)
    pipeline.put([look(1, "-5"), look(1, "0")])
    assert pipeline.build().kind == "none"
    pipeline.put([look(0, "5"), look(0, "5")])
    pipeline.build()
    assert spells(pipeline) == [(0, 0, Decimal(5), 1)]


def test_another_vouch_is_another_file(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5"), look(4, "5")])
    assert pipeline.build().kind == "full"
    assert pipeline.build(vouch=timedelta(days=3)).kind == "full"
    assert spells(pipeline) == [(0, 0, Decimal(5), 1), (4, 4, Decimal(5), 1)]
    pipeline.put([look(7, "5")])
    assert pipeline.build(vouch=timedelta(days=3)).kind == "incremental"
    assert spells(pipeline)[-1] == (4, 7, Decimal(5), 2)
    assert pipeline.build().kind == "full"
    assert spells(pipeline) == [(0, 7, Decimal(5), 3)]


def test_what_a_crash_left_behind_is_removed(pipeline: Pipeline) -> None:
    """A half-written folder, a folder that was renamed and not linked, a link not yet in place."""
    pipeline.put([look(0, "5")])
    first = pipeline.build()
    versions = pipeline.folder / "versions"
    half = versions / "tmp-000000099-1"
    (half / "search").mkdir(parents=True)
    (half / "warehouse.duckdb").write_bytes(b"half of a file")
    (versions / f"{first.tag[:-1]}2").mkdir()
    (pipeline.folder / "warehouse.duckdb.new").symlink_to("nowhere")
    pipeline.put([look(1, "6")])
    second = pipeline.build()
    assert second.kind == "incremental"
    assert not half.exists()
    assert not (pipeline.folder / "warehouse.duckdb.new").is_symlink()
    assert spells(pipeline) == [(0, 0, Decimal(5), 1), (1, 1, Decimal(6), 1)]
    assert current_tag(pipeline.folder) == second.tag


def test_a_failed_build_leaves_the_last_version_and_can_be_repeated(pipeline: Pipeline) -> None:
    """The error is kept, as a log keeps it: with it lives whatever its frames hold open."""
    pipeline.put([look(0, "5", title="Tea")])
    first = pipeline.build()
    pipeline.put([look(1, "6", title="Green tea")])
    search = pipeline.version() / "search"
    search.rename(pipeline.folder / "elsewhere")
    kept = None
    try:
        pipeline.build()
    except (SearchIndexError, OSError) as error:
        kept = error
    if kept:
        assert current_tag(pipeline.folder) == first.tag
        assert spells(pipeline) == [(0, 0, Decimal(5), 1)]
        assert list((pipeline.folder / "versions").glob("tmp-*")) == []
        (pipeline.folder / "elsewhere").rename(search)
        assert_incremental_is_full(pipeline)
    assert spells(pipeline) == [(0, 0, Decimal(5), 1), (1, 1, Decimal(6), 1)]


def test_a_reader_in_the_same_process_does_not_stop_a_build(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5", title="Tea")])
    pipeline.build()
    reader = Reader(pipeline.folder)
    assert reader.refresh()
    before = reader.current
    assert before is not None
    pipeline.put([look(1, "6", title="Tea")])
    assert pipeline.build().kind == "incremental"
    assert before.query("SELECT count(*) AS n FROM price_spell") == [{"n": 1}]
    assert reader.refresh()
    assert reader.current is not None
    assert reader.current.query("SELECT count(*) AS n FROM price_spell") == [{"n": 2}]
    assert not reader.refresh()


def test_only_one_process_builds(pipeline: Pipeline) -> None:
    """The other one, a real process, is refused; it may also wait."""
    code = (
        "import sys; from pathlib import Path; from tests.pipeline import Pipeline\n"
        "from warehouse.versions import BuildRunning\n"
        "p = Pipeline(Path(sys.argv[1]))\n"
        "try: print(p.build(wait=len(sys.argv) > 2).kind)\n"
        "except BuildRunning as error: print('refused', error)\n"
    )
    command = [sys.executable, "-c", code, str(pipeline.folder)]
    pipeline.put([look(0, "5")])
    with building(pipeline.folder):
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert refused.stdout.startswith("refused another process is building in ")
        with pytest.raises(BuildRunning):
            pipeline.build()
        waiting = subprocess.Popen([*command, "wait"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert waiting.communicate(timeout=60)[0] == "full\n"
    assert pipeline.build().kind == "none"


def test_the_link_can_always_be_opened_while_builds_go_on(pipeline: Pipeline) -> None:
    """Another process opens warehouse.duckdb with plain DuckDB, over and over."""
    pipeline.put([look(0, "5")])
    pipeline.build()
    code = (
        "import duckdb, sys\n"
        "print('ready', flush=True)\n"
        "seen = set()\n"
        "while True:\n"
        "    with duckdb.connect(sys.argv[1], read_only=True) as file:\n"
        "        seen.add(file.execute('SELECT count(*) FROM price_spell').fetchone()[0])\n"
        "    if max(seen) == 6: break\n"
        "print(len(seen))\n"
    )
    path = str(pipeline.folder / "warehouse.duckdb")
    with subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as analyst:
        assert analyst.stdout is not None
        assert analyst.stdout.readline() == "ready\n"
        for day in range(1, 6):
            pipeline.put([look(day, str(5 + day))])
            pipeline.build()
        out, error = analyst.communicate(timeout=60)
    assert (error, analyst.returncode) == ("", 0)
    assert int(out) >= 2, "it saw several versions"


def test_old_versions_go_and_open_readers_stay(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5", title="Tea")])
    tags = [pipeline.build().tag]
    reader = Reader(pipeline.folder)
    assert reader.refresh()
    for day in (1, 2):
        pipeline.put([look(day, str(5 + day))])
        tags.append(pipeline.build().tag)
    hour = timedelta(hours=1)
    now = datetime.now(tz=NOW.tzinfo)
    assert remove_old_versions(pipeline.folder, hour, now) == []
    assert remove_old_versions(pipeline.folder, hour, now + 2 * hour) == tags[:2]
    assert current_tag(pipeline.folder) == tags[2]
    assert [p.name for p in (pipeline.folder / "versions").iterdir()] == tags[2:]
    assert reader.current is not None
    product = reader.current.query("SELECT * FROM product")[0]
    assert product["title"] == "Tea"
    assert reader.current.columns.find(product["product_id"]) is not None
    assert len(spells(pipeline)) == 3
    pipeline.put([look(3, "9")])
    assert pipeline.build().kind == "incremental"


def test_versions_grow_old_in_the_order_they_were_built(tmp_path: Path) -> None:
    """Rebuilt twenty times from one snapshot: -10 is newer than -9."""
    now = NOW.timestamp()
    versions = tmp_path / "versions"
    for number in range(1, 21):
        folder = versions / f"000000007-{number}"
        folder.mkdir(parents=True)
        os.utime(folder, (now, now - (20 - number) * 60))
    (tmp_path / "warehouse.duckdb").symlink_to("versions/000000007-20/warehouse.duckdb")
    removed = remove_old_versions(tmp_path, timedelta(minutes=4.5), NOW)
    assert sorted(removed) == sorted(f"000000007-{number}" for number in range(1, 15))


def test_a_snapshot_that_has_expired_calls_for_a_full_build(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5")])
    pipeline.build()
    for day in (1, 2, 3):
        pipeline.put([look(day, str(5 + day))])
    pipeline.lake.expire(datetime(2100, 1, 1), pipeline.lake.snapshot())
    pipeline.put([look(4, "9")])
    pipeline.build()
    assert [price for _, _, price, _ in spells(pipeline)] == [5, 6, 7, 8, 9]


def test_the_file_cannot_be_written_and_is_documented(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5")])
    pipeline.build()
    path = pipeline.folder / "warehouse.duckdb"
    assert path.is_symlink()
    assert path.resolve().stat().st_mode & 0o222 == 0
    assert pipeline.query("SELECT table_name FROM duckdb_tables() WHERE comment IS NULL") == []
    assert (
        pipeline.query(
            "SELECT table_name, column_name FROM duckdb_columns() "
            "WHERE comment IS NULL AND database_name = 'warehouse' AND NOT internal"
        )
        == []
    )
    lock = (pipeline.folder / "build.lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a finished build holds nothing
    lock.close()
    with pytest.raises(duckdb.Error):
        pipeline.query("INSERT INTO brand VALUES ('a', 'A', 1)")


def test_a_lake_that_went_back_is_built_anew(pipeline: Pipeline) -> None:
    """A restored catalog counts its snapshots from an earlier one; versions of later ones are there."""
    catalog = pipeline.folder / "catalog.sqlite"
    pipeline.put([look(0, "5")])
    pipeline.lake.close()
    kept = catalog.read_bytes()
    later = Pipeline(pipeline.folder, delivered=1)
    for day in range(1, 11):
        later.put([look(day, str(5 + day))])
        later.build()
    later.lake.close()
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (pipeline.folder / name).unlink(missing_ok=True)
    catalog.write_bytes(kept)
    restored = Pipeline(pipeline.folder, delivered=20)
    assert restored.build().kind == "full"
    assert restored.query("SELECT price, observations FROM offer") == [(Decimal(5), 1)]
    restored.put([look(1, "7")])
    assert restored.build().kind == "incremental"
    assert restored.query("SELECT price, observations FROM offer") == [(Decimal(7), 2)]
    restored.lake.close()


def test_another_lake_in_the_same_place_is_built_anew(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5")])
    pipeline.build()
    elsewhere = Pipeline(pipeline.folder / "elsewhere")
    for day in range(3):
        elsewhere.put([look(day, "9", sku="other")])
    assert Pipeline(pipeline.folder, elsewhere.lake).build().kind == "full"
    assert pipeline.query("SELECT sku FROM offer") == [("other",)]
