"""The versions of the warehouse file: one folder each, the newest in service, old ones for a while.

versions/000000123-1/warehouse.duckdb   snapshot 123 of the lake, first build of it
warehouse.duckdb                        a symbolic link to the file in service
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

# A stream of batches makes a version every two seconds, 160 MB each at 20 M observations. Whoever has
# one open keeps its files, so these few only serve those who are just opening theirs.
MOST_VERSIONS = 8


class BuildRunning(RuntimeError):
    """Another process is building."""


@contextmanager
def building(data: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the right to build; raises `BuildRunning` if another process does and not `wait`."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "build.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BuildRunning(
                f"another process is building in {data}; wait until it is done, or end it"
            ) from None
        yield


def current_tag(data: Path) -> str | None:
    """Folder name of the version in service, or None before the first build."""
    try:
        return (data / "warehouse.duckdb").readlink().parent.name
    except FileNotFoundError:
        return None


def current_snapshot(data: Path) -> int | None:
    """The lake's snapshot that the version in service shows, or None before the first build."""
    tag = current_tag(data)
    return None if tag is None else int(tag.split("-")[0])


@contextmanager
def new_version(data: Path, snapshot: int) -> Iterator[tuple[Path, str]]:
    """A folder to build in, and the tag under which it goes into service if nothing fails."""
    versions = data / "versions"
    versions.mkdir(exist_ok=True)
    for left in versions.glob("tmp-*"):
        shutil.rmtree(left)
    tag = _next_tag(versions, snapshot)
    # A name of its own for each attempt: DuckDB knows open files by their path.
    folder = Path(tempfile.mkdtemp(prefix=f"tmp-{tag}-", dir=versions))
    folder.chmod(0o755)
    try:
        yield folder, tag
        _put_into_service(data, folder, tag)
        # By number another lake's, of a restored catalog say, may be the newest.
        others = [other for other in _tags(versions) if other != tag]
        for old in others[: 1 - MOST_VERSIONS]:
            shutil.rmtree(versions / old)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_old_versions(data: Path, older_than: timedelta, now: datetime) -> list[str]:
    """Remove versions out of service for longer than `older_than`; open readers keep their files."""
    with building(data, wait=True):
        tags = _tags(data / "versions")
        current = current_tag(data)
        removed = []
        for tag, successor in itertools.pairwise(tags):
            replaced_at = (data / "versions" / successor).stat().st_mtime
            if tag != current and now.timestamp() - replaced_at > older_than.total_seconds():
                shutil.rmtree(data / "versions" / tag)
                removed.append(tag)
        return removed


def _tags(versions: Path) -> list[str]:
    """Folder names of all versions, oldest first."""
    names = (folder.name for folder in versions.glob("[0-9]*"))
    return sorted(names, key=lambda tag: [int(number) for number in tag.split("-")])


def _next_tag(versions: Path, snapshot: int) -> str:
    built = [int(folder.name.split("-")[1]) for folder in versions.glob(f"{snapshot:09}-*")]
    return f"{snapshot:09}-{max(built, default=0) + 1}"


def _put_into_service(data: Path, folder: Path, tag: str) -> None:
    final = folder.with_name(tag)
    for path in (*folder.rglob("*"), folder):
        _sync(path)
    (folder / "warehouse.duckdb").chmod(0o444)
    folder.rename(final)
    link = data / "warehouse.duckdb.new"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("versions") / tag / "warehouse.duckdb")
    link.replace(data / "warehouse.duckdb")
    for changed in (final.parent, data):
        _sync(changed)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
