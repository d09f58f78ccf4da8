"""Batches in, rejection reports out."""

import asyncio
import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, HeaderParameter
from msgspec import Meta

from pricepulse.access import Role, Scope, may
from pricepulse.accounts.keys import KnownKey
from pricepulse.accounts.tokens import Claims
from pricepulse.answer import Json
from pricepulse.catalog import plain
from pricepulse.contract import Cursor, Limit
from pricepulse.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    PricePulseError,
    TooLargeError,
    UnprocessableError,
    UnsupportedMediaTypeError,
    told_as,
)
from pricepulse.paging import Page, cut, offset_of
from pricepulse.settings import Settings
from warehouse import batch as batches
from warehouse.feed import FeedError, open_feed
from warehouse.lake import Lake
from warehouse.queries import deliveries

FORMATS = {
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/octet-stream": None,  # told from the content
}
CODINGS = ("identity", "gzip", "x-gzip", "zstd")
REFUSALS: dict[str, type[PricePulseError]] = {
    "format": UnsupportedMediaTypeError,
    "malformed": BadRequestError,
    "empty": BadRequestError,
    "columns": UnprocessableError,
    "too_large": TooLargeError,
}


Source = Annotated[
    str,
    Meta(
        description="The name of the file that was read, or `http` and the key or account that sent it."
    ),
]


@dataclass
class Upload(Operation):
    """The body is a file in one of FORMATS; Litestar cannot read that from a stream's handler."""

    def __post_init__(self) -> None:
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, content_encoding="binary"))
        self.request_body = RequestBody(content=dict.fromkeys(FORMATS, file), required=True)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery. `status`: `stored` until a build shows it, then `visible`. `rejected` rows were
    set aside, `rejected_by_rule` counts faults, also of rows that were kept without the bad field.
    `superseded`: prices that a later batch replaced. `duplicate`: the lake had it already."""

    batch_id: str
    status: str
    received_at: datetime
    content_hash: str
    source: Source
    rows: int
    accepted: int
    rejected: int
    rejected_by_rule: dict[str, int]
    superseded: int
    new_offers: int
    unknown_columns: list[str]
    duplicate: bool = False


class BatchPage(Page[Batch], frozen=True, kw_only=True):
    items: list[Batch]


class RejectedRow(msgspec.Struct, frozen=True):
    """`kept`: only the field was dropped."""

    line: int
    field: str | None
    rule: str
    value: str | None
    kept: bool


class RejectedPage(Page[RejectedRow], frozen=True, kw_only=True):
    items: list[RejectedRow]


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A price that the history leaves out: more than 10 times away from the last good one. `open`
    while the next observation may confirm it."""

    offer_id: str
    product_id: str
    retailer: str
    sku: str
    observed_at: datetime
    price: Any
    currency: str
    open: bool
    batch_id: str
    line: int


class SuspectPage(Page[Suspect], frozen=True, kw_only=True):
    items: list[Suspect]


@dataclass
class Intake:
    """The lake as this process writes it: opened on first use, one batch at a time, so that memory
    stays that of one batch."""

    settings: Settings
    lake: Lake | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self) -> Lake:
        async with self.opening:
            if self.lake is None:
                settings = self.settings
                self.lake = await asyncio.to_thread(Lake, settings.catalog_url, settings.lake_url)
            return self.lake

    async def append(
        self, path: Path, form: str | None, source: str, key: str | None
    ) -> batches.Batch:
        lake = await self.open()
        async with self.writing:
            return await asyncio.to_thread(self._append, lake, path, form, source, key)

    def _append(
        self, lake: Lake, path: Path, form: str | None, source: str, key: str | None
    ) -> batches.Batch:
        try:
            content = batches.content_hash(path)
            if known := batches.find_batch(lake, content, key):
                return known
            feed = open_feed(path, format=form, max_bytes=self.settings.max_feed_bytes)
            return batches.append(
                lake, feed, content=content, now=datetime.now(UTC), source=source,
                idempotency_key=key,
            )  # fmt: skip
        except FeedError as error:
            # The feed is named after its file, and that name is ours.
            told = str(error).replace(path.name, "the upload")
            raise REFUSALS[error.kind](told) from error
        except batches.IdempotencyConflict as error:
            raise ConflictError(str(error)) from error


@post(
    "/ingest/observations",
    **may(Role.OPERATOR, Scope.INGEST, consumes=tuple(FORMATS), problems=(409, 413, 415, 422)),
    tags=["ingest"],
    operation_class=Upload,
    request_max_body_size=None,
    responses={200: ResponseSpec(Batch, description="The lake had this batch already.")},
)
async def ingest_observations(
    request: Request[Any, Any, Any],
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key",
            min_length=1,
            max_length=200,
            pattern=told_as("^[!-~]+$", "must be of visible ASCII characters, without blanks"),
        ),
    ] = None,
) -> Response[Batch]:
    """Take in a batch of observations.

    CSV, NDJSON or Parquet (docs/feed.md), plain, gzip or zstd. 201 when the batch is durable; the
    build that shows it follows by itself. The same content, or the same Idempotency-Key, is the
    same batch: 200, and nothing is written."""
    settings: Settings = request.app.state["settings"]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    _check_size_and_coding(request, settings.max_upload_bytes)
    folder = settings.data / "incoming"
    descriptor, name = await asyncio.to_thread(_new_file, folder)
    path = Path(name)
    intake: Intake = request.app.state["intake"]
    try:
        await _receive(request, descriptor, settings.max_upload_bytes)
        source = f"http {_sender(request)}".rstrip()
        taken = await intake.append(path, FORMATS[kind], source, idempotency_key)
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    answer = _batch(taken, "stored", 0)
    if taken.duplicate:
        lake = await intake.open()
        known = await asyncio.to_thread(lambda: _described(request, _known(lake, answer.batch_id)))
        answer = msgspec.structs.replace(known, duplicate=True)
    return Json(
        answer,
        status_code=200 if taken.duplicate else 201,
        headers={"Location": f"/api/v1/ingest/batches/{answer.batch_id}"},
    )


@get("/ingest/batches", **may(Role.OPERATOR, Scope.INGEST), tags=["ingest"])
async def list_batches(
    request: Request[Any, Any, Any], limit: Limit = 50, cursor: Cursor = None
) -> BatchPage:
    """Batches, newest first."""
    lake = await _lake(request.app.state)
    offset = offset_of(request, cursor)
    rows = await asyncio.to_thread(deliveries.batches, lake, limit + 1, offset)
    items, after = cut(request, rows, limit, offset)
    described = await asyncio.to_thread(lambda: [_described(request, row) for row in items])
    return BatchPage(items=described, next_cursor=after)


@get("/ingest/batches/{batch_id:str}", **may(Role.OPERATOR, Scope.INGEST), tags=["ingest"])
async def get_batch(request: Request[Any, Any, Any], batch_id: FromPath[str]) -> Batch:
    """One batch with its counts."""
    lake = await _lake(request.app.state)
    return await asyncio.to_thread(lambda: _described(request, _known(lake, batch_id)))


@get("/ingest/batches/{batch_id:str}/rejected", **may(Role.OPERATOR, Scope.INGEST), tags=["ingest"])
async def list_rejected(
    request: Request[Any, Any, Any],
    batch_id: FromPath[str],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> RejectedPage:
    """Every rejected row of a batch with line, field, rule and value."""
    lake = await _lake(request.app.state)
    offset = offset_of(request, cursor)

    def read() -> list[dict[str, Any]]:
        key = _known(lake, batch_id)["batch_id"]
        version = request.app.state["warehouse"].current
        return deliveries.rejected(lake, version, key, limit + 1, offset)

    items, after = cut(request, await asyncio.to_thread(read), limit, offset)
    return RejectedPage(items=[RejectedRow(**row) for row in items], next_cursor=after)


@get("/ingest/suspects", **may(Role.OPERATOR, Scope.INGEST), tags=["ingest"], sync_to_thread=True)
def list_suspects(
    request: Request[Any, Any, Any], limit: Limit = 50, cursor: Cursor = None
) -> SuspectPage:
    """Observations that the histories leave out until something confirms them, newest first."""
    version = request.app.state["warehouse"].current
    offset = offset_of(request, cursor)
    rows = deliveries.suspects(version, limit + 1, offset) if version else []
    items, after = cut(request, rows, limit, offset)
    found = [
        Suspect(
            **row
            | {name: str(row[name]) for name in ("offer_id", "product_id", "batch_id")}
            | {"observed_at": row["observed_at"].replace(tzinfo=UTC), "price": plain(row["price"])}
        )
        for row in items
    ]
    return SuspectPage(items=found, next_cursor=after)


def _sender(request: Request[Any, Any, Any]) -> str:
    """Who delivers, for the ledger: whose price it was, if it turns out to be wrong."""
    match request.user:
        case KnownKey() as key:
            return f"key:{key.id}"
        case Claims() as claims:
            return f"account:{claims.sub}"
    return ""  # the server's own key


async def _lake(state: State) -> Lake:
    intake: Intake = state["intake"]
    return await intake.open()


def _known(lake: Lake, batch_id: str) -> dict[str, Any]:
    row = (
        deliveries.batch(lake, int(batch_id))
        if batch_id.isascii() and batch_id.isdigit() and len(batch_id) <= 19
        else None
    )
    if row is None:
        raise NotFoundError("there is no such batch; /api/v1/ingest/batches lists them")
    return row


def _described(request: Request[Any, Any, Any], row: dict[str, Any]) -> Batch:
    version = request.app.state["warehouse"].current
    visible = version is not None and version.number >= row["snapshot_id"]
    beaten = deliveries.superseded_count(version, row["batch_id"])
    return _batch(batches.batch_from_row(row), "visible" if visible else "stored", beaten)


def _batch(batch: batches.Batch, status: str, superseded: int) -> Batch:
    return Batch(
        batch_id=str(batch.batch_id),
        status=status,
        received_at=batch.received_at,
        content_hash=batch.content_hash,
        source=batch.source,
        rows=batch.rows,
        accepted=batch.accepted,
        rejected=batch.rejected,
        rejected_by_rule=batch.rejected_by_rule,
        superseded=superseded,
        new_offers=batch.new_offers,
        unknown_columns=batch.unknown_columns,
        duplicate=batch.duplicate,
    )


def _check_size_and_coding(request: Request[Any, Any, Any], most: int) -> None:
    """What can be refused before anything is read. Which coding it is, the content tells."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in CODINGS:
        raise UnsupportedMediaTypeError(
            f"the Content-Encoding {coding[:64]!r} is not one of {', '.join(CODINGS)}"
        )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise _too_large(most)


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(
        f"the upload is over {most} bytes (PRICEPULSE_MAX_UPLOAD_BYTES); send it in parts, or "
        "compressed with gzip or zstd"
    )


def _new_file(folder: Path) -> tuple[int, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.mkstemp(dir=folder)


async def _receive(request: Request[Any, Any, Any], descriptor: int, most: int) -> None:
    """The body to disk, in blocks, never more than `most` bytes."""
    taken = 0
    block = bytearray()
    try:
        async for part in request.stream():
            taken += len(part)
            if taken > most:
                raise _too_large(most)
            block += part
            if len(block) >= 1 << 20:
                await asyncio.to_thread(_write_all, descriptor, bytes(block))
                block.clear()
        await asyncio.to_thread(_write_all, descriptor, bytes(block))
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, block: bytes) -> None:
    with memoryview(block) as left:
        done = 0
        while done < len(left):
            done += os.write(descriptor, left[done:])


ROUTES = (
    ingest_observations, list_batches, get_batch, list_rejected, list_suspects,
)  # fmt: skip
