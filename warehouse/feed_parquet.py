"""Parquet → frames with its own dtypes, a slice of rows at a time."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.feed_records import BLOCK_BYTES
from warehouse.feed_source import COLUMNS, FeedError, Header, Source, refuse_columns

NUMBERS = ("price", "list_price", "shipping", "unit_quantity")
CATEGORY_BYTES = 8_000  # 2,000 characters
ROW_GROUP_BYTES = 1 << 30  # what one slice may have to decode


def parquet_frames(
    header: Header, path: Path, source: Source, head: bytes, chunk_rows: int
) -> Iterator[pl.DataFrame]:
    if source.compression == "plain":
        yield from _parquet_frames(header, path, source.max_bytes, chunk_rows)
        return
    # Parquet is compressed inside: what gzip shrinks to a hundredth once more is a bomb, and the
    # temporary file must not fill the disk.
    source.max_bytes = min(source.max_bytes, 100 * path.stat().st_size + BLOCK_BYTES)
    with tempfile.NamedTemporaryFile(prefix="pricepulse-", suffix=".parquet") as file:
        _spill(source, head, file)
        yield from _parquet_frames(header, Path(file.name), source.max_bytes, chunk_rows)


def _spill(source: Source, head: bytes, file: IO[bytes]) -> None:
    while head:
        file.write(head)
        head = source.read(BLOCK_BYTES)
    file.flush()


def _parquet_frames(
    header: Header, path: Path, max_bytes: int, chunk_rows: int
) -> Iterator[pl.DataFrame]:
    rows = _parquet_header(header, path, max_bytes)
    lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(header.known)
    for offset in range(0, rows, chunk_rows):
        try:
            frame = lazy.slice(offset, chunk_rows).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise _broken(f"rows {offset + 1} to {offset + chunk_rows}", error) from None
        if frame.height != min(chunk_rows, rows - offset):
            raise _broken(f"rows {offset + 1} to {offset + chunk_rows}", "rows are missing")
        line = pl.int_range(offset + 1, offset + frame.height + 1, dtype=pl.Int64, eager=True)
        yield frame.with_columns(line=line)


def _broken(where: str, error: object) -> FeedError:
    first = str(error).split("\n", 1)[0][:200]
    return FeedError(
        "malformed", f"{where}: broken Parquet ({first}); send the complete file again"
    )


def _parquet_header(header: Header, path: Path, max_bytes: int) -> int:
    """Refuse by the footer alone what cannot be read; gives the number of rows."""
    try:
        metadata = pq.read_metadata(path)
        names = metadata.schema.to_arrow_schema().names
        schema = pl.read_parquet_schema(path)
    except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _broken("footer", error) from None
    refuse_columns(names)
    header.known = tuple(name for name in names if name in COLUMNS)
    header.unknown = tuple(dict.fromkeys(name for name in names if name not in COLUMNS))
    for name in header.known:
        _refuse_dtype(name, schema[name])
    _refuse_bombs(metadata, len(header.known), max_bytes)
    _refuse_long_categories(
        path, [name for name in header.known if isinstance(schema[name], pl.Categorical | pl.Enum)]
    )
    return int(metadata.num_rows)


def _refuse_long_categories(path: Path, names: list[str]) -> None:
    """Polars copies a category for every row: a megabyte in a million rows is a terabyte.

    Plain text needs no such care: there the rows share one copy.
    """
    if not names:
        return
    for batch in pq.ParquetFile(path, read_dictionary=names).iter_batches(columns=names):
        for name in batch.schema.names:
            longest = pc.max(pc.binary_length(batch[name].dictionary)).as_py() or 0
            if longest > CATEGORY_BYTES:
                raise FeedError(
                    "malformed",
                    f"column {name} is a dictionary with a text of {longest:,} bytes; "
                    f"at most {CATEGORY_BYTES:,} are read, or write the column as plain text",
                )


def _refuse_bombs(metadata: Any, columns: int, max_bytes: int) -> None:
    """A run of equal values costs Parquet nothing, so rows are counted as 8 bytes a column."""
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        pieces = [group.column(i) for i in range(group.num_columns)]
        size = sum(p.total_uncompressed_size for p in pieces if p.path_in_schema in COLUMNS)
        total += max(size, group.num_rows * columns * 8)
        if size > ROW_GROUP_BYTES:
            raise FeedError("too_large", f"row group {number + 1} holds {size:,} bytes; write row "
                            f"groups of at most {ROW_GROUP_BYTES:,} (1,000,000 rows)")  # fmt: skip
    if total > max_bytes:
        raise FeedError("too_large", f"the feed is larger than {max_bytes:,} bytes after "
                        "decompression; send it in smaller batches")  # fmt: skip


def _refuse_dtype(name: str, dtype: pl.DataType) -> None:
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null)
    if name == "observed_at":
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            raise FeedError(
                "columns",
                "column observed_at is a timestamp without a time zone, so every row would break "
                "the rule time_without_offset; write timestamps adjusted to UTC, or RFC 3339 text",
            )
        right = text or isinstance(dtype, pl.Datetime)
        wanted = "a timestamp with a time zone, or RFC 3339 text"
    elif name in NUMBERS:
        right, wanted = text or dtype.is_numeric(), "a decimal, an integer, a float or text"
    else:
        right, wanted = text or dtype.is_integer(), "text"
    if not right:
        raise FeedError("columns", f"column {name} is {dtype}; it must be {wanted}")
