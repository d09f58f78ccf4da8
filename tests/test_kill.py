"""SIGKILL at random moments: nothing acknowledged is lost or doubled, and what serves is whole."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from tests import killed
from tests.command import ROOT, environment, ready, serving, until
from tests.pipeline import Pipeline, open_lake
from warehouse.images import needed
from warehouse.lake import Lake
from warehouse.versions import current_snapshot, current_tag

KILLS = 110
SERVERS = 10  # of the kills hit a server

LAKE = """
SELECT b.content_hash, b.accepted, b.rejected,
    (SELECT count(*) FROM lake.observation AS o WHERE o.batch_id = b.batch_id) AS observations,
    (SELECT count(*) FROM lake.rejected AS r WHERE r.batch_id = b.batch_id) AS set_aside
FROM lake.batch AS b
"""
STRAYS = """
SELECT (SELECT count(*) FROM lake.observation WHERE batch_id NOT IN (SELECT batch_id FROM lake.batch))
    + (SELECT count(*) FROM lake.rejected WHERE batch_id NOT IN (SELECT batch_id FROM lake.batch))
"""
SHOWN = """
SELECT version, observations, (SELECT coalesce(sum(observations), 0)::BIGINT FROM price_spell),
    (SELECT coalesce(sum(observations), 0)::BIGINT FROM offer)
FROM build
"""


@dataclass
class Victims:
    """Workers in one data folder, one at a time, and how many batches they acknowledged.

    `crashed`: once in some 10,000 steps DuckDB 1.5.5 ends the process by itself (SIGSEGV, in the
    destructor of a LogicalType), also while its end is on the way. To the data that is a death like any
    other; twice in a run is not."""

    folder: Path
    nursery: subprocess.Popen[str]
    draw: random.Random
    acknowledged: int = 0
    crashed: int = 0

    def line(self) -> str:
        assert self.nursery.stdout
        told = self.nursery.stdout.readline().strip()
        self.acknowledged += told == "append"
        return told

    def kill_one(self) -> None:
        """Start a worker and kill it: one in six while it opens the lake, the others after some
        steps, within about the time that one more takes however busy the machine is."""
        assert self.nursery.stdin
        seed = self.draw.randrange(2**32)
        self.nursery.stdin.write(f"{seed} {self.acknowledged} {self.folder}\n")
        self.nursery.stdin.flush()
        worker = self._pid()
        started = time.monotonic()
        lasts = 0.2
        if self.draw.random() > 1 / 6:
            for _ in range(self.draw.randint(1, 4)):
                told, lasts = self.line(), (time.monotonic() - started) * 1.2
                if self._crashed(told):
                    return
                assert not told.startswith("ended"), f"the worker failed, see its traceback: {told}"
                started = time.monotonic()
        time.sleep(self.draw.uniform(0, lasts))  # the moment to die, not a thing to wait for
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        while not (told := self.line()).startswith("ended"):
            pass
        assert self._crashed(told) or told == f"ended {-signal.SIGKILL}", (
            f"the worker failed, see its traceback: {told}"
        )

    def _crashed(self, told: str) -> bool:
        if told != f"ended {-signal.SIGSEGV}" or self.crashed:
            return False
        self.crashed += 1
        print("a worker crashed by itself")
        return True

    def _pid(self) -> int:
        word, pid = self.line().split()
        assert word == "pid"
        return int(pid)


@contextmanager
def victims(folder: Path, seed: int) -> Iterator[Victims]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.killed"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(ROOT),
    )
    with process:
        yield Victims(folder, process, random.Random(seed))
        assert process.stdin
        process.stdin.close()


def check_lake(folder: Path, acknowledged: int) -> int:
    """Every acknowledged batch is there once and whole; one more at most; and every picture that is
    named. Observations shown."""
    with closing(open_lake(folder)) as lake:
        batches = lake.frame(LAKE).rows()
        assert lake.frame(STRAYS).item() == 0
        for content, accepted, rejected, observations, set_aside in batches:
            assert (observations, set_aside, rejected) == (accepted, killed.REJECTED, set_aside), (
                content
            )
        found = sorted(content for content, *_ in batches)
        sent = [killed.content_of(n) for n in range(acknowledged + 1)]
        assert found in (sorted(sent), sorted(sent[:-1]))
        for digest in needed(lake, current_snapshot(folder)):
            whole = killed.picture_file(folder, digest).read_bytes()
            assert hashlib.sha256(whole).hexdigest() == digest
        return check_build(folder, lake) if current_tag(folder) else 0


def check_build(folder: Path, lake: Lake) -> int:
    """What analysts open is whole and shows what the lake held at its snapshot."""
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as file:
        version, *counts = file.execute(SHOWN).fetchone() or ()
    known = lake.frame("SELECT snapshot_id FROM ducklake_snapshots('lake') ORDER BY 1")
    assert version in known["snapshot_id"], (
        f"the lake forgot what is in service: {version}, {known}"
    )
    assert counts == [lake.count("observation", version)] * 3
    return int(counts[0])


def kill_server(folder: Path, log: Path) -> None:
    """A server starts on what the kill left, gets ready, and is killed as well."""
    with serving(folder, log=log) as server:
        until(lambda: ready(server), "ready")
        assert server.client.get("/api/v1/products").status_code == 200
        server.process.kill()


def torment(folder: Path, seed: int, kills: int, servers: int) -> int:
    """Acknowledged batches after so many kills, every few of them one of a server."""
    folder.mkdir()
    between = kills // servers - 1
    with victims(folder, seed) as workers:
        for _ in range(servers):
            for _ in range(between):
                workers.kill_one()
                check_lake(folder, workers.acknowledged)
            kill_server(folder, folder.with_suffix(".log"))
        return workers.acknowledged


def check_end(folder: Path, acknowledged: int) -> int:
    """After a last delivery and a build everything is there, as a full build has it."""
    mended = Pipeline(folder)
    killed.send(folder, mended.lake, acknowledged)
    mended.build()
    accepted: int = mended.lake.frame("SELECT sum(accepted)::BIGINT FROM lake.batch").item()
    assert check_lake(folder, acknowledged + 1) == accepted
    whole = mended.beside("whole")
    whole.build(full=True)
    assert mended.content() == whole.content()
    mended.lake.close()
    return accepted


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.randrange(2**32)))
    print(f"KILL_SEED={seed} draws the same steps and moments again")
    folders = [tmp_path / "left", tmp_path / "right"]
    # Side by side: much of the time is waiting.
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(torment, folder, seed + part, KILLS // 2, SERVERS // 2)
            for part, folder in enumerate(folders)
        ]
    for folder, run in zip(folders, runs, strict=True):
        observations = check_end(folder, run.result())
        print(f"{folder.name}: {run.result()} batches, {observations:,} observations")
        assert run.result() > KILLS // 4
