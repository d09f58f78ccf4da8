"""A batch on its way into the lake: checked, staged as Parquet, committed whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from warehouse import quality
from warehouse.feed import Feed
from warehouse.lake import Lake
from warehouse.staged import Staged

TABLES = ("observation", "offer_detail", "rejected", "offer")
Item = TypeVar("Item")


class IdempotencyConflict(ValueError):
    """The same Idempotency-Key came with other content."""


@dataclass(frozen=True)
class Batch:
    """What became of a delivery; `duplicate` where the lake had it already and nothing changed."""

    batch_id: int
    content_hash: str
    received_at: datetime
    rows: int
    accepted: int
    rejected: int
    new_offers: int
    rejected_by_rule: dict[str, int]
    unknown_columns: list[str]
    source: str = ""
    duplicate: bool = False


def content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append(
    lake: Lake,
    feed: Feed,
    *,
    content: str,
    now: datetime,
    source: str = "",
    idempotency_key: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Batch:
    """Check every row of `feed` and commit the batch: observations, rejections and batch row.

    `content` is the file's hash and `now` the time of delivery (UTC). The same content, or the same
    idempotency key, is the same batch: it is answered and not written again. Raises `FeedError` for
    a feed that cannot be read and `IdempotencyConflict`; the lake is then as it was.
    """
    if known := find_batch(lake, content, idempotency_key):
        return known
    # Three threads: one reads and checks ahead, one writes, this one sorts.
    with ThreadPoolExecutor(2) as pool:
        staged = Staged(lake, _new_batch_id(now), pool)
        try:
            checked = ((chunk.height, quality.check(chunk, now)) for chunk in feed.chunks())
            for rows, judged in _one_ahead(checked, pool):
                staged.add(rows, judged)
                progress(staged.rows)
            staged.finish()
            batch = Batch(
                batch_id=staged.batch_id,
                content_hash=content,
                received_at=now,
                rows=staged.rows,
                accepted=staged.rows - staged.rejected,
                rejected=staged.rejected,
                new_offers=staged.new_offers(),
                rejected_by_rule=dict(sorted(staged.by_rule.items())),
                unknown_columns=list(feed.unknown_columns),
                source=source,
            )
            staged.finish_writing()
            return _commit(lake, staged, batch, idempotency_key)
        finally:
            staged.remove_unused()


def find_batch(lake: Lake, content: str, idempotency_key: str | None = None) -> Batch | None:
    """The batch of this content, if the lake has it; its new key is remembered with it."""
    with lake.cursor() as cursor:
        known, new_key = _known(cursor, content, idempotency_key)
    if known and new_key:
        lake.commit(lambda cursor: _remember(cursor, idempotency_key, content))
    return known


def _known(
    cursor: duckdb.DuckDBPyConnection, content: str, idempotency_key: str | None
) -> tuple[Batch | None, bool]:
    """The batch of this content, and whether the key is new. Raises `IdempotencyConflict`."""
    sql = "SELECT content_hash FROM lake.delivery_key WHERE idempotency_key = ?"
    used = cursor.execute(sql, [idempotency_key]).fetchone()
    if used and used[0] != content:
        raise IdempotencyConflict(
            f"the Idempotency-Key {idempotency_key!r} was used before for other content; "
            "send the same bytes again, or choose a new key"
        )
    sql = "SELECT * FROM lake.batch WHERE content_hash = ? ORDER BY batch_id LIMIT 1"
    rows = cursor.execute(sql, [content]).pl().to_dicts()
    new_key = idempotency_key is not None and used is None
    return (batch_from_row(rows[0], duplicate=True) if rows else None), new_key


def _remember(cursor: duckdb.DuckDBPyConnection, key: str | None, content: str) -> None:
    cursor.execute("INSERT INTO lake.delivery_key VALUES (?, ?)", [key, content])


def batch_from_row(row: dict[str, Any], *, duplicate: bool = False) -> Batch:
    return Batch(
        batch_id=row["batch_id"],
        content_hash=row["content_hash"],
        received_at=row["received_at"].replace(tzinfo=UTC),
        rows=row["rows"],
        accepted=row["accepted"],
        rejected=row["rejected"],
        new_offers=row["new_offers"],
        rejected_by_rule=json.loads(row["rejected_by_rule"]),
        unknown_columns=row["unknown_columns"] or [],
        source=row["source"],
        duplicate=duplicate,
    )


def _new_batch_id(now: datetime) -> int:
    """Ids grow with the time of delivery; 10 random bits keep two writers of one moment apart."""
    return (int(now.timestamp() * 1_000_000) << 10) | int.from_bytes(os.urandom(2)) & 1023


def _commit(lake: Lake, staged: Staged, batch: Batch, idempotency_key: str | None) -> Batch:
    """Register the staged files and write the batch row, unless another writer was first."""
    outcome = batch

    def write(cursor: duckdb.DuckDBPyConnection) -> None:
        nonlocal outcome
        outcome = batch
        known, new_key = _known(cursor, batch.content_hash, idempotency_key)
        if known and known.batch_id == batch.batch_id:
            return  # The commit before this one said that it failed, and had not.
        if new_key:
            _remember(cursor, idempotency_key, batch.content_hash)
        if known:
            outcome = known
            return
        for table in TABLES:
            staged.register(cursor, table)
        cursor.execute(
            "INSERT INTO lake.batch BY NAME SELECT ? AS batch_id, ? AS content_hash, "
            "? AS source, ?::TIMESTAMP AS received_at, ? AS rows, "
            "? AS accepted, ? AS rejected, ? AS new_offers, ? AS rejected_by_rule, "
            "?::VARCHAR[] AS unknown_columns",
            [
                batch.batch_id, batch.content_hash, batch.source,
                batch.received_at.replace(tzinfo=None), batch.rows, batch.accepted, batch.rejected,
                batch.new_offers, json.dumps(batch.rejected_by_rule), batch.unknown_columns,
            ],
        )  # fmt: skip

    # Until it is certain that the lake does not refer to the files they must stay; what a crash
    # leaves is removed as orphans.
    staged.committed = True
    try:
        lake.commit(write)
    except duckdb.Error:
        with suppress(duckdb.Error):
            known = find_batch(lake, batch.content_hash)
            staged.committed = known is not None and known.batch_id == batch.batch_id
        raise
    staged.committed = outcome is batch
    return outcome


def _one_ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    """The items, each made in another thread while the one before is being used."""
    coming = pool.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item
