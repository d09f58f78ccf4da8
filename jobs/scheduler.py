"""The table of jobs, run by exactly one process of those that serve a data folder.

Every server process tries to lock `jobs.lock` once a second; the one that has it runs the jobs. The
kernel drops the lock with the process, however it ends, so another takes over within a second.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from jobs import upkeep
from jobs.build import LOOK_SECONDS, Builder
from jobs.deliver import LOOK_SECONDS as MAIL_SECONDS
from jobs.deliver import Delivery
from jobs.people import sweep
from jobs.pictures import remove_unreferenced
from pricepulse import migrations
from pricepulse.sealing import sealer
from pricepulse.settings import Settings
from pricepulse.store import is_embedded
from warehouse.build import Built
from warehouse.lake import Lake

log = logging.getLogger("pricepulse.jobs")

RETRY_SECONDS = 1.0
REPEAT_SECONDS = 10.0  # when the lake cannot be opened: each try logs a traceback
PATIENCE_SECONDS = 3.0  # how long a stop waits for a running job; a cut-off job harms nothing
MERGE_MINUTES = 10
WEEKLY = {"day_of_week": "sun", "hour": 3, "minute": 17}
# A run that was missed is made up for once, whatever the reason and however late; two runs of one
# job never overlap.
DEFAULTS = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


class Jobs:
    """`start()` and `stop()` for every server process; only the holder of the lock does the work."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.records = settings.data / "jobs.json"
        self._stopping = threading.Event()
        self._running = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._compete, name="jobs", daemon=True)

    def start(self) -> None:
        # It says at WARNING that a look was skipped while the build still runs, three times a
        # second, and at INFO that it looked; what a job did and why it failed is said here.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._thread.start()

    def stop(self) -> bool:
        """End the jobs; False if one still runs after 3 s, to be cut off with the process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_SECONDS + 1)
        return not self.busy

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._running > 0

    def _compete(self) -> None:
        self.settings.data.mkdir(parents=True, exist_ok=True)
        with (self.settings.data / "jobs.lock").open("a+") as lock:
            while not self._stopping.is_set():
                try:
                    if _locked(lock):
                        self._hold(lock)
                except Exception:
                    log.exception("the jobs could not be started; trying again")
                    fcntl.flock(lock, fcntl.LOCK_UN)
                    self._stopping.wait(REPEAT_SECONDS)
                self._stopping.wait(RETRY_SECONDS)

    def _hold(self, lock: IO[str]) -> None:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        lake = Lake(self.settings.catalog_url, self.settings.lake_url)
        if is_embedded(self.settings.database):
            migrations.prepare(self.settings.database)
        scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(5)}, job_defaults=DEFAULTS, timezone=UTC
        )
        self._add_jobs(scheduler, lake)
        scheduler.start()
        log.info("this process (%d) runs the jobs", os.getpid())
        self._stopping.wait()
        scheduler.shutdown(wait=False)
        with self._changed:
            if self._changed.wait_for(lambda: not self.busy, PATIENCE_SECONDS):
                lake.close()
            else:
                log.warning("a job still runs and is cut off; the next start does its work")

    def _add_jobs(self, scheduler: BackgroundScheduler, lake: Lake) -> None:
        settings, soon = self.settings, datetime.now(UTC)
        builder = Builder(settings.data, lake, timedelta(days=settings.vouch_days))
        keep = timedelta(minutes=settings.keep_versions_minutes)

        def add(
            name: str, trigger: Any, work: Callable[[], str | Built | None], first: int
        ) -> None:
            started = {} if first < 0 else {"next_run_time": soon + timedelta(seconds=first)}
            scheduler.add_job(self._run, trigger, (name, work), id=name, name=name, **started)

        add("build", IntervalTrigger(seconds=LOOK_SECONDS), builder.if_behind, 0)
        # Soon after the start, too: a server that restarts every five minutes merges all the same.
        secret = sealer(settings)
        delivery = Delivery(settings, secret)
        add("mail", IntervalTrigger(seconds=MAIL_SECONDS), delivery.if_due, 1)
        add(
            "accounts",
            IntervalTrigger(hours=1),
            lambda: sweep(delivery.database, secret, datetime.now(UTC)),
            90,
        )
        add(
            "pictures",
            IntervalTrigger(hours=1),
            lambda: remove_unreferenced(settings.data, delivery.database, lake),
            150,
        )
        add("merge", IntervalTrigger(minutes=MERGE_MINUTES), lambda: upkeep.merge(lake), 60)
        add(
            "remove",
            IntervalTrigger(hours=1),
            lambda: upkeep.remove(settings.data, lake, keep),
            120,
        )
        add("full build", CronTrigger(timezone=UTC, **WEEKLY), builder.full, -1)

    def _run(self, name: str, work: Callable[[], str | Built | None]) -> None:
        """One run; a failure is logged and recorded, and the next run comes all the same."""
        with self._changed:
            self._running += 1
        started, clock = datetime.now(UTC), time.monotonic()
        try:
            told = work()
            if told is not None:
                self._record(name, started, time.monotonic() - clock, ok=True, told=_sentence(told))
        except Exception as error:
            log.exception("the job %r failed", name)
            told = f"{type(error).__name__}: {error}"
            self._record(name, started, time.monotonic() - clock, ok=False, told=told)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _record(self, name: str, at: datetime, seconds: float, *, ok: bool, told: str) -> None:
        """Keep the last outcome of each job in `jobs.json`, for whoever asks in another process."""
        with self._changed:
            runs = last_runs(self.settings.data)
            runs[name] = {
                "at": at.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "ok": ok,
                "told": told[:500],
            }
            new = self.records.with_suffix(".new")
            try:
                new.write_text(json.dumps(runs, indent=1))
                new.replace(self.records)
            except OSError as error:  # a full disk: what the job did is done all the same
                log.warning("%s cannot be written: %s", self.records, error.strerror)


def last_runs(data: Path) -> dict[str, dict[str, Any]]:
    """Per job name its last run: `at` (RFC 3339), `seconds`, `ok`, `told`."""
    try:
        runs: dict[str, dict[str, Any]] = json.loads((data / "jobs.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return runs


def holder(data: Path) -> int | None:
    """Id of the process that runs the jobs of this data folder, None if there is none."""
    try:
        with (data / "jobs.lock").open("r") as lock:
            if _locked(lock, fcntl.LOCK_SH):
                return None
            return int(lock.read() or 0)
    except FileNotFoundError:
        return None


def _locked(lock: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sentence(told: str | Built) -> str:
    if isinstance(told, str):
        return told
    return f"{told.kind} build {told.tag}, {told.observations:,} observations"
