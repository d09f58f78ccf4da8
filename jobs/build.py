"""The build that follows the lake: soon after a batch, but never so often that it starves the rest."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path

from jobs.marts import MARTS
from warehouse.build import Built, build
from warehouse.lake import Lake
from warehouse.versions import BuildRunning

log = logging.getLogger("pricepulse.jobs")

LOOK_SECONDS = 0.3  # a look at an unchanged lake takes 4 ms
# After a build of d seconds the next waits d × REST: a stream of batches leaves a fifth of one core. But
# not for longer than this: the one build of a day that takes long must not make the next batch wait.
REST = 0.25
LONGEST_REST = 0.5
LONGEST_BACKOFF = 60.0
RUNNING_SECONDS = 1.0  # somebody else builds (by hand, or the weekly full build)


class Builder:
    """Remembers up to which snapshot the warehouse file is known to show the lake."""

    def __init__(self, data: Path, lake: Lake, vouch: timedelta) -> None:
        self.data, self.lake, self.vouch = data, lake, vouch
        self.shown = -1
        self.failures = 0
        self._not_before = 0.0

    def if_behind(self) -> Built | None:
        """Build what the lake has taken in since the last look; None if there was nothing to do.

        Raises what the build raises; the calls after that do nothing for a growing while. Merging
        and expiring raise the snapshot too: the build answers "none" to those, and is not asked again.
        """
        if time.monotonic() < self._not_before:
            return None
        snapshot = self.lake.snapshot()
        if snapshot == self.shown:
            return None
        return self._run(snapshot)

    def full(self) -> Built | None:
        """Recompute the file from the whole lake; waits for a build that runs."""
        return self._run(self.lake.snapshot(), full=True)

    def _run(self, snapshot: int, *, full: bool = False) -> Built | None:
        started = time.monotonic()
        try:
            built = build(self.data, self.lake, MARTS, full=full, wait=full, vouch=self.vouch)
        except BuildRunning:
            self._not_before = time.monotonic() + RUNNING_SECONDS
            return None
        except Exception:
            self.failures += 1
            pause = min(LONGEST_BACKOFF, 2.0**self.failures)
            self._not_before = time.monotonic() + pause
            log.warning(  # the traceback follows from the scheduler, which logs for every job
                "the build failed (%d in a row), the last version stays in service; "
                "next try in %.0f s",
                self.failures,
                pause,
            )
            raise
        took = time.monotonic() - started
        self.failures = 0
        self.shown = max(snapshot, built.version)
        if built.kind == "none":
            return None
        self._not_before = time.monotonic() + min(took * REST, LONGEST_REST)
        log.info("%s build %s in service after %.2f s", built.kind, built.tag, took)
        return built
