"""A full disk: a clear answer, the old data readable, and all goes on when there is space again."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pricepulse.demo import market
from tests.command import COMMAND, ROOT, environment, run
from tests.jobs.full_disk import UNTIL, refused, shown, staged

# Where the kernel lets us: a file system of 32 MB, seen by the script only.
MOUNT = 'mount -t tmpfs -o size=32m none "$1" && exec "$2" -m tests.jobs.full_disk "$1" "$3"'
UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]


def may_mount(folder: Path) -> bool:
    try:
        tried = [*UNSHARE, 'mount -t tmpfs none "$1"', "sh", str(folder)]
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_full_file_system(tmp_path: Path) -> None:
    disk, outside = tmp_path / "disk", tmp_path / "outside"
    disk.mkdir()
    outside.mkdir()
    if not may_mount(disk):
        pytest.skip("this kernel lets nobody but root mount; the test of large files does the rest")
    script = [MOUNT, "sh", str(disk), sys.executable, str(outside)]
    done = subprocess.run(
        [*UNSHARE, *script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_may_not_grow(tmp_path: Path) -> None:
    """The same without any right: the process may write no file beyond 300 kB."""
    data, feed, more = tmp_path / "data", tmp_path / "feed.parquet", tmp_path / "more.parquet"
    market(products=5, days=40, until=UNTIL).write_parquet(feed)
    market(seed=8, products=300, days=150, until=UNTIL).write_parquet(more)
    assert run(data, "ingest", feed).returncode == 0
    before, files = shown(data), staged(data)
    for words in (["ingest", str(more)], ["build", "--full"]):
        done = subprocess.run(
            [*COMMAND, *words],
            env=environment(data),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        )
        refused(done)
        assert (shown(data), staged(data)) == (before, files)
    again = run(data, "ingest", more)
    assert again.returncode == 0, again.stderr
    assert shown(data) > before
