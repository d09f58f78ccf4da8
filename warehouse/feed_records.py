"""Decompressed text → blocks of whole records, with the physical line of each."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from warehouse.feed_source import FeedError, Source

BLOCK_BYTES = 8 << 20  # of 4 to 32 MiB the fastest: the working set of a parse stays in the cache
RECORD_BYTES = 1 << 20

Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Block(NamedTuple):
    data: bytes  # whole records, each ended by a line feed
    starts: Positions  # of each record in data
    lines: Positions  # the physical line of each record


def blocks(source: Source, head: bytes, quoted: bool) -> Iterator[Block]:
    """Cut the text at record ends; with `quoted` a line feed between quotes ends no record."""
    rest, line = head.removeprefix(b"\xef\xbb\xbf"), 1
    while True:
        block = source.read(BLOCK_BYTES)
        data = rest + block
        if not block and data and not data.endswith(b"\n"):
            data += b"\n"
        feeds = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
        if len(data) > RECORD_BYTES and len(feeds) > len(data) // 4:
            raise FeedError(
                "malformed",
                f"after line {line}: hardly anything but line feeds; remove blank lines",
            )
        index = _outside_quotes(data, feeds) if quoted else np.arange(len(feeds))
        ends = feeds[index]
        starts = np.concatenate(([0], ends + 1))
        lines = np.concatenate(([line], line + index + 1))
        _refuse_long(starts, lines, len(data), final=not block)
        cut = int(starts[-1])
        if cut:
            rest, line = data[cut:], int(lines[-1])
            whole = data[:cut]
            _refuse_bytes(whole, starts[:-1], lines[:-1])
            yield Block(whole, starts[:-1], lines[:-1])
        else:
            rest = data
        if not block:
            return


def _outside_quotes(data: bytes, feeds: Positions) -> Positions:
    """Which of the line feeds end a record: those with an even number of quotes before them."""
    if b'"' not in data:
        return np.arange(len(feeds))
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == 34)
    return np.flatnonzero(np.searchsorted(quotes, feeds) % 2 == 0)


def _refuse_long(starts: Positions, lines: Positions, size: int, final: bool) -> None:
    lengths = np.diff(starts, append=size)
    if lengths.max() > RECORD_BYTES:
        raise FeedError(
            "malformed",
            f"line {lines[int(np.argmax(lengths > RECORD_BYTES))]}: the record is longer than "
            f"{RECORD_BYTES:,} bytes, or a quote in it is never closed",
        )
    if final and lengths[-1]:
        raise FeedError("malformed", f"line {lines[-1]}: a quote in this record is never closed")


def _refuse_bytes(data: bytes, starts: Positions, lines: Positions) -> None:
    """Text must be UTF-8 without NUL."""
    position = data.find(b"\0")
    what = "a NUL byte; text must not hold one"
    try:
        text_value(data)
    except pa.ArrowInvalid:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            if position < 0 or error.start < position:
                position, what = error.start, "not valid UTF-8; save the file as UTF-8"
    if position >= 0:
        line = lines[int(np.searchsorted(starts, position, "right")) - 1]
        line += data.count(b"\n", int(starts[lines.searchsorted(line)]), position)
        raise FeedError("malformed", f"line {line}: {what}")


def text_value(data: bytes) -> pl.Series:
    """All of the bytes as one String value, without a copy; raises ArrowInvalid if not UTF-8."""
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    array = pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data))
    array.validate(full=True)
    return pl.Series(array)
