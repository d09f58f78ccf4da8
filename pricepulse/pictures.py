"""Pictures that people send: taken in, encoded anew, stored by the hash of what came out.

    <data>/pictures/<kind>/ab/cd/abcd….webp

No name comes from outside, and a file is there whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from pricepulse import picture_program
from pricepulse.errors import (
    BadRequestError,
    FieldError,
    NotFoundError,
    UnavailableError,
    UnprocessableError,
)
from pricepulse.settings import Settings

WEBP = "image/webp"
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", WEBP: "WEBP"}
HASH = re.compile(r"[0-9a-f]{64}")
MOST_AT_ONCE = 16  # in a process; of 2 MB each
RECEIVING_SECONDS = 60
# The program ends by itself after so many seconds of processor; it may have to wait for one.
PATIENCE_SECONDS = 2 * picture_program.SECONDS


class Kind(NamedTuple):
    """`name` is its folder; what is kept is cut to `side` × `side` pixels, or whole and at most so large;
    `most_bytes` are taken."""

    name: str
    side: int
    most_bytes: int
    cut: bool


AVATAR = Kind("avatars", 256, 2 << 20, cut=True)
# What is sold must be seen to its edges. A front end shows it with up to 512 pixels, on dense screens.
PRODUCT = Kind("products", 1024, 2 << 20, cut=False)


@dataclass
class PictureUpload(Operation):
    """The body is a picture in one of FORMATS; Litestar cannot read that from the handler."""

    def __post_init__(self) -> None:
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, content_encoding="binary"))
        self.request_body = RequestBody(content=dict.fromkeys(FORMATS, file), required=True)


async def taken(request: Request[Any, Any, Any], kind: Kind) -> bytes:
    """The picture in the request's body as a WebP of ours; a 422 if it is none. Two are in the making at
    once, MOST_AT_ONCE in memory, and none is waited for longer than RECEIVING_SECONDS."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    room: asyncio.Semaphore = request.app.state["pictures"]
    if room.locked():
        raise UnavailableError("many pictures are coming in; send it again", retry_after=5)
    async with room:
        try:
            async with asyncio.timeout(RECEIVING_SECONDS):
                body = await request.body()
        except TimeoutError:
            told = f"the picture did not come within {RECEIVING_SECONDS} s"
            raise BadRequestError(told) from None
        loop = asyncio.get_running_loop()
        drawing = request.app.state["drawing"]
        return await loop.run_in_executor(drawing, made, body, FORMATS[declared], kind)


def made(content: bytes, form: str, kind: Kind) -> bytes:
    """The same, blocking."""
    program = [sys.executable, "-P", picture_program.__file__]
    command = [*program, form, str(kind.side), "cut" if kind.cut else "whole"]
    try:
        run = subprocess.run(  # noqa: S603  # this package's own file, by this interpreter
            command, input=content, capture_output=True, check=False, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("the picture took too long to read", retry_after=10) from error
    if run.returncode == 0:
        return run.stdout
    told = "takes too much memory or time to read"
    if run.returncode == picture_program.REFUSED:
        told = run.stderr.decode(errors="replace")
    raise UnprocessableError(f"the picture {told}", errors=[FieldError("/body", told)])


def path_of(settings: Settings, kind: Kind, digest: str) -> Path:
    """Two levels of folders: a folder with a million files is slow to list."""
    if not HASH.fullmatch(digest):
        raise ValueError("no hash")
    return settings.data / "pictures" / kind.name / digest[:2] / digest[2:4] / f"{digest}.webp"


async def kept(settings: Settings, kind: Kind, digest: str, *, lost: str) -> bytes:
    """The stored picture; a 404 that says `lost` where there is none."""
    path = path_of(settings, kind, digest)
    try:
        return await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:
        raise NotFoundError(lost) from None


def store(path: Path, content: bytes) -> None:
    """Also where it is there already: its time says that it is wanted, see jobs/pictures.py."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, suffix=".new")  # readable by its owner only
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)  # noqa: PTH105  # what mkstemp gives is no Path
        # Nor may a power cut leave a row that names a file which is not there.
        for folder in path.parents[:5]:  # up to the data folder: any of them may be new
            opened = os.open(folder, os.O_RDONLY)
            os.fsync(opened)
            os.close(opened)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
