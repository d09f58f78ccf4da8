"""A feed file on local disk → Polars frames: CSV, NDJSON or Parquet; plain, gzip or zstd.

Memory stays bounded for a file of any size: text is decompressed in blocks of 8 MiB, cut at record
boundaries and parsed by pyarrow; Parquet is read in slices of rows. Whatever makes the whole batch
unusable is a `FeedError` that names the line; single bad values are for `warehouse.quality`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import polars as pl

from warehouse.feed_csv import Csv
from warehouse.feed_ndjson import Ndjson
from warehouse.feed_parquet import parquet_frames
from warehouse.feed_records import Block, blocks
from warehouse.feed_source import (
    COMPRESSIONS,
    FORMATS,
    FeedError,
    Header,
    Source,
    compression_of,
    sniff,
)

__all__ = ["COMPRESSIONS", "FORMATS", "Feed", "FeedError", "open_feed"]

SNIFF_BYTES = 64 << 10
GATHERED = 4  # blocks to a frame: the checks cost some 10 ms a frame whatever its size


class Feed:
    """An opened feed. Its first frame is parsed already: a wrong file was refused by now."""

    def __init__(self, format: str, compression: str, header: Header) -> None:  # noqa: A002
        self.format = format
        self.compression = compression
        self._header = header
        self._frames: Iterator[pl.DataFrame] = iter(())
        self._first: pl.DataFrame | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Known columns. NDJSON has no header: these grow until the last chunk is read."""
        return self._header.known

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        """Columns that were ignored; for NDJSON complete after the last chunk, too."""
        return self._header.unknown

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Frames of the known columns and `line` Int64, to be read once; see `open_feed`."""
        if self._first is None:
            raise RuntimeError("a feed is read once; open it again")
        first, self._first = self._first, None
        yield first
        yield from self._frames


def open_feed(
    path: Path,
    *,
    format: str | None = None,  # noqa: A002
    max_bytes: int = 64 << 30,
    chunk_rows: int = 1_000_000,
) -> Feed:
    """Open a feed of at most `max_bytes` after decompression, in frames of at most `chunk_rows`.

    CSV and NDJSON give String columns exactly as written (a JSON number keeps its source text,
    empty text is null); `line` is the physical line at which the record starts in the decompressed
    text. Parquet keeps its dtypes; there `line` is the row, counted from 1. Without `format` the
    content decides. Raises FeedError, here or while the chunks are read.
    """
    if format not in (None, *FORMATS):
        raise FeedError("format", f"unknown feed format {format!r}; one of {', '.join(FORMATS)}")
    compression = compression_of(path)
    source = Source(path, compression, max_bytes)
    head = source.read(SNIFF_BYTES)
    if not head:
        raise FeedError("empty", f"{path.name} is empty; a feed needs at least one observation")
    found = sniff(head, format, path.name)
    header = Header()
    feed = Feed(found, compression, header)
    if found == "parquet":
        feed._frames = parquet_frames(header, path, source, head, chunk_rows)
    else:
        texts = blocks(source, head, quoted=found == "csv")
        if found == "csv":
            csv = Csv(header)
            frames = _in_order(csv.frame, csv.after_header(texts))
        else:
            frames = _in_order(Ndjson(header).frame, texts)
        feed._frames = (
            part for frame in _gathered(frames) for part in frame.iter_slices(chunk_rows)
        )
    feed._first = next((frame for frame in feed._frames if frame.height), None)
    if feed._first is None:
        raise FeedError("empty", f"{path.name} has no rows; a feed needs at least one observation")
    return feed


def _in_order(
    parse: Callable[[Block], pl.DataFrame], blocks: Iterator[Block]
) -> Iterator[pl.DataFrame]:
    """Parse two blocks at a time: half of the work (the regular expression) is on one core."""
    pending: deque[Future[pl.DataFrame]] = deque()
    with ThreadPoolExecutor(2, "feed") as pool:
        for block in blocks:
            pending.append(pool.submit(parse, block))
            if len(pending) == 2:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _gathered(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    while parts := list(islice(frames, GATHERED)):
        if filled := [part for part in parts if part.height]:
            yield pl.concat(filled)
