"""One process runs the jobs, and the build follows the lake."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs import scheduler
from jobs.build import Builder
from jobs.scheduler import Jobs, holder, last_runs
from pricepulse.settings import Settings
from tests.command import Server, csv, run, serving, until
from tests.pipeline import Pipeline
from warehouse.versions import building, current_tag

NOW = datetime.now(UTC).replace(microsecond=0)


def looks(batch: int, offers: int) -> bytes:
    """One look at each offer; batches are 7 s apart, and the price changes with each."""
    moment = (NOW - timedelta(days=1) + timedelta(seconds=7 * batch)).isoformat()
    return csv([f"shop-{n % 3},{n},{moment},{10 + batch % 9}.50,EUR" for n in range(offers)])


def send(server: Server, feed: bytes) -> dict[str, Any]:
    headers = {"content-type": "text/csv"}
    answer = server.client.post("/api/v1/ingest/observations", content=feed, headers=headers)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def observations(data: Path) -> int:
    """What an analyst counts who opens the warehouse file now; -1 before the first build."""
    if current_tag(data) is None:
        return -1
    path = data / "versions" / str(current_tag(data)) / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as file:
        found = file.execute("SELECT sum(observations)::BIGINT FROM price_spell").fetchone()
    return int(found[0] or 0) if found else -1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_another_worker_takes_the_jobs_over(data: Path, tmp_path: Path) -> None:
    with serving(data, "--workers", 2, log=tmp_path / "log") as server:
        first = until(lambda: holder(data), "a process runs the jobs")
        assert first != server.process.pid, "the supervisor serves nothing and runs nothing"
        send(server, looks(0, 10))
        until(lambda: observations(data) == 10, "the batch is built")
        os.kill(first, signal.SIGKILL)
        until(lambda: holder(data) not in {None, first}, "another process runs the jobs")
        send(server, looks(1, 10))
        until(lambda: observations(data) == 20, "the batch is built by the other process")
    assert holder(data) is None


def test_of_two_servers_one_runs_the_jobs(data: Path, tmp_path: Path) -> None:
    with serving(data, log=tmp_path / "left") as left:
        until(lambda: holder(data) == left.process.pid, "the first server runs the jobs")
        with serving(data, log=tmp_path / "right") as right:
            for n in range(3):
                send((left, right)[n % 2], looks(n, 10))
            until(lambda: observations(data) == 30, "all is built")
            assert holder(data) == left.process.pid
            left.process.kill()
            until(lambda: holder(data) == right.process.pid, "the second server takes over")
            send(right, looks(3, 10))
            until(lambda: observations(data) == 40, "the second server builds")


def test_a_batch_of_another_process_is_seen(data: Path, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_bytes(looks(0, 25))
    with serving(data, log=tmp_path / "log") as server:
        process = until(lambda: holder(data), "the server runs the jobs")
        done = run(data, "ingest", feed)
        assert done.returncode == 0, done.stderr
        assert f"a server is running (process {process}): it builds this" in done.stdout

        def shown() -> bool:
            answer = server.client.get("/api/v1/products", params={"limit": 200})
            return answer.status_code == 200 and len(answer.json()["items"]) == 25

        until(shown, "the server shows it")
        assert f"jobs: run by process {process}" in run(data, "status").stdout


@pytest.mark.slow
def test_a_stream_of_small_batches_keeps_everything(data: Path, tmp_path: Path) -> None:
    with serving(data, log=tmp_path / "log") as server:
        for n in range(100):
            assert send(server, looks(n, 50))["accepted"] == 50
        until(lambda: observations(data) == 5000, "all is visible")

        def newest() -> str:
            page = server.client.get("/api/v1/ingest/batches", params={"limit": 1}).json()
            status: str = page["items"][0]["status"]
            return status

        # The server opens a build some moments after it was swapped in.
        until(lambda: newest() == "visible", "the server shows it too")
    builds = server.log.read_text().count("incremental build")
    assert 1 <= builds < 70, "builds rest in between, whatever the stream"


@pytest.fixture
def jobs(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    # No test waits for the pauses of a broken disk.
    monkeypatch.setattr(scheduler, "REPEAT_SECONDS", 0.1)
    running = Jobs(Settings(data=data))
    yield running
    assert running.stop()


def test_a_failing_build_is_tried_again_and_says_so(
    data: Path, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    data.mkdir()
    (data / "versions").write_text("in the way")
    with caplog.at_level(logging.INFO, "pricepulse.jobs"):
        jobs.start()
        until(lambda: last_runs(data).get("build"), "the build was tried")
        failed = last_runs(data)["build"]
        assert not failed["ok"]
        assert failed["told"].startswith("FileExistsError")
        (data / "versions").unlink()
        until(lambda: last_runs(data)["build"]["ok"], "the build was tried again")
    assert "the build failed (1 in a row), the last version stays in service" in caplog.text
    assert "Traceback" in caplog.text
    assert current_tag(data)
    # A handful of tries, not three a second.
    assert caplog.text.count("Traceback") < 5


def test_jobs_wait_for_a_lake_that_cannot_be_opened(
    data: Path, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    data.mkdir()
    (data / "lake").write_text("in the way")
    jobs.start()
    until(lambda: "the jobs could not be started" in caplog.text, "it is told")
    (data / "lake").unlink()
    until(lambda: current_tag(data), "a build")


def test_a_look_at_a_lake_without_news_builds_nothing(pipeline: Pipeline) -> None:
    builder = Builder(pipeline.folder, pipeline.lake, timedelta(days=10))
    pipeline.put_text(looks(0, 5).decode())
    built = builder.if_behind()
    assert built is not None
    assert builder.if_behind() is None
    # Merging raises the snapshot: the build is asked once whether there is news, and says no.
    pipeline.lake.merge_small_files()
    assert pipeline.lake.snapshot() > builder.shown
    until(lambda: builder.if_behind() or builder.shown == pipeline.lake.snapshot(), "a look")
    assert current_tag(pipeline.folder) == built.tag


def test_a_build_by_hand_is_waited_for(pipeline: Pipeline) -> None:
    builder = Builder(pipeline.folder, pipeline.lake, timedelta(days=10))
    pipeline.put_text(looks(0, 5).decode())
    with building(pipeline.folder):
        assert builder.if_behind() is None
        assert builder.failures == 0
    assert until(builder.if_behind, "a build once the other one is done")


def test_nobody_holds_the_jobs_of_a_folder_without_a_server(data: Path) -> None:
    assert holder(data) is None
    assert last_runs(data) == {}
    data.mkdir()
    (data / "jobs.lock").write_text("4711")  # what a process that ended has left
    assert holder(data) is None
