"""GET /health/live, /health/ready and /problems/{slug}: what operators and error messages ask."""

import asyncio
import inspect
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from litestar import Request, get
from litestar.params import FromPath
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from pricepulse.errors import TYPES, FieldError, NotFoundError, UnavailableError
from pricepulse.ingest import Intake
from pricepulse.store import Store
from warehouse.lake import LakeError

REMEMBERED = 2.0  # seconds; probes of a whole cluster write and ask once in this time


class Live(msgspec.Struct, frozen=True):
    status: str


class Ready(msgspec.Struct, frozen=True):
    """All of it holds: a build is in service, the data folder can be written, lake and accounts answer."""

    status: str
    version: str
    as_of: datetime | None


class ProblemType(msgspec.Struct, frozen=True):
    type: str
    title: str
    status: int
    description: str


LIVE = Live("live")


@get("/health/live", tags=["operation"])
async def live() -> Live:
    """Whether the process answers.

    Constant, never limited and never logged when it goes well; restart the process if it fails."""
    return LIVE


@get("/health/ready", tags=["operation"], opt={"problems": (503,)})
async def ready(request: Request[Any, Any, Any]) -> Ready:
    """Whether requests can be sent here.

    Writes to the data folder, asks the lake for its newest snapshot and the database of accounts for a
    sign of life, and looks for a build in service; 503 says what is missing."""
    readiness: Readiness = request.app.state["readiness"]
    missing = await readiness.missing()
    version = request.app.state["warehouse"].current
    if version is None:
        missing = [*missing, FieldError("/warehouse", "no build is in service yet")]
    if missing:
        told = "; ".join(f"{each.pointer[1:]}: {each.detail}" for each in missing)
        raise UnavailableError(told, errors=missing, retry_after=2)
    return Ready("ready", version.tag, version.as_of)


@get("/problems/{slug:str}", tags=["operation"])
async def problem_type(slug: FromPath[str]) -> ProblemType:
    """What a problem's `type` means."""
    kind = TYPES.get(slug)
    if kind is None:
        raise NotFoundError("there is no such problem type; there are " + ", ".join(sorted(TYPES)))
    return ProblemType(
        f"/problems/{slug}", kind.title, kind.status, inspect.cleandoc(kind.__doc__ or "")
    )


class Readiness:
    """What must hold beside a build, asked of the disk and the lake at most every 2 seconds."""

    def __init__(self, data: Path, intake: Intake, store: Store) -> None:
        self.data = data
        self.intake = intake
        self.store = store
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._missing: list[FieldError] = []

    async def missing(self) -> list[FieldError]:
        async with self._lock:
            if time.monotonic() - self._asked_at >= REMEMBERED:
                self._missing = await self._look()
                self._asked_at = time.monotonic()
            return self._missing

    async def _look(self) -> list[FieldError]:
        try:
            await asyncio.to_thread(_write_to, self.data)
        except OSError as error:
            # Opening the lake would fail for the same reason.
            return [FieldError("/data", f"cannot be written: {error.strerror}")]
        try:
            lake = await self.intake.open()
            await asyncio.to_thread(lake.snapshot)
        except (LakeError, OSError, duckdb.Error) as error:
            return [FieldError("/lake", f"cannot be read ({type(error).__name__})")]
        try:
            async with self.store.begin(write=False) as db:
                await db.execute(select(1))
        except SQLAlchemyError as error:
            return [FieldError("/accounts", f"cannot be read ({type(error).__name__})")]
        return []


def _write_to(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x" * 4096)
