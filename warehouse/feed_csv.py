"""CSV → String frames."""

import csv
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from warehouse.feed_records import Block, Positions
from warehouse.feed_source import COLUMNS, FeedError, Header, refuse_columns


class Csv:
    """RFC 4180 with a header row: quotes only around whole fields, every record as wide as it."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.names: list[str] = []

    def after_header(self, blocks: Iterator[Block]) -> Iterator[Block]:
        first = next(blocks, None)
        if first is not None:
            _refuse_quotes(first)
            yield self._read_header(first)
            yield from blocks

    def frame(self, block: Block) -> pl.DataFrame:
        _refuse_quotes(block)
        if not len(block.starts):
            return pl.DataFrame()
        size = len(block.data)
        ends = np.append(block.starts[1:], size)
        first = np.frombuffer(block.data, np.uint8)[block.starts]
        blank = (ends - block.starts == 1) | ((ends - block.starts == 2) & (first == 13))
        lines = block.lines[~blank]
        if not len(lines):
            return pl.DataFrame()
        start = int(block.starts[0])
        table = self._parse(memoryview(block.data)[start:], lines, _multiline(block))
        frame = pl.from_arrow(table.select(self.header.known))
        assert isinstance(frame, pl.DataFrame)
        return frame.with_columns(line=pl.Series(lines, dtype=pl.Int64))

    def _read_header(self, block: Block) -> Block:
        end = int(block.starts[1]) if len(block.starts) > 1 else len(block.data)
        record = block.data[:end].decode()
        names = [name.strip() for name in next(csv.reader([record]), [])]
        wrong = next((mark for mark in ";\t|" if record.count(mark) > record.count(",")), None)
        refuse_columns(names, f" (fields must be separated by ',', not {wrong!r})" * bool(wrong))
        self.header.known = tuple(name for name in names if name in COLUMNS)
        unknown = dict.fromkeys(name for name in names if name not in COLUMNS)
        self.header.unknown = tuple(unknown)
        # pyarrow wants a name for each place; unknown ones may be empty or there twice.
        self.names = [n if n in COLUMNS else f"?{i}" for i, n in enumerate(names)]
        return Block(block.data, block.starts[1:], block.lines[1:])

    def _parse(self, data: memoryview, lines: Positions, multiline: bool) -> pa.Table:
        wrong: list[Any] = []

        def keep(row: Any) -> str:
            wrong.append(row)
            return "error"

        def read(**how: Any) -> pa.Table:
            return arrow_csv.read_csv(
                pa.BufferReader(data),
                arrow_csv.ReadOptions(column_names=self.names, use_threads=not how),
                arrow_csv.ParseOptions(newlines_in_values=multiline, **how),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.header.known, pa.string()),
                    include_columns=self.header.known,
                    strings_can_be_null=True,
                    null_values=[""],
                    check_utf8=False,
                ),
            )

        try:
            table = read()
        except pa.ArrowInvalid:
            read_again = self._first_wrong(read, keep, wrong)
            line = lines[min(read_again.number, len(lines)) - 1]
            raise FeedError(
                "malformed",
                f"line {line}: {read_again.actual_columns} fields where the header has "
                f"{len(self.names)}; a field that holds a comma must be quoted",
            ) from None
        if table.num_rows != len(lines):
            raise FeedError("malformed", f"lines {lines[0]} to {lines[-1]}: {len(lines)} records "
                            f"read as {table.num_rows}; follow RFC 4180")  # fmt: skip
        return table

    @staticmethod
    def _first_wrong(read: Callable[..., pa.Table], keep: Any, wrong: list[Any]) -> Any:
        """pyarrow numbers its records only on one thread, so the block is read a second time."""
        try:
            read(invalid_row_handler=keep)
        except pa.ArrowInvalid:
            if not wrong:
                raise
        return wrong[0]


def _multiline(block: Block) -> bool:
    return block.data.count(b"\n") > len(block.starts) if b'"' in block.data else False


def _refuse_quotes(block: Block) -> None:
    """RFC 4180: a quote opens a field, closes it, or is doubled. A CR is followed by a LF."""
    data = np.frombuffer(block.data, np.uint8)
    quotes = np.flatnonzero(data == 34) if b'"' in block.data else np.empty(0, np.int64)
    before, after = data[quotes[0::2] - 1], data[quotes[1::2] + 1]
    if len(quotes) and quotes[0] == 0:
        before[0] = 10
    bad = np.concatenate(
        (
            quotes[0::2][~np.isin(before, (10, 34, 44))],
            quotes[1::2][~np.isin(after, (10, 13, 34, 44))],
        )
    )
    what = "a quote inside a field; quote the whole field and double the quote"
    if not len(bad) and b"\r" in block.data:
        returns = np.flatnonzero(data == 13)
        returns = returns[data[returns + 1] != 10]
        bad = returns[np.searchsorted(quotes, returns) % 2 == 0]
        what = "a carriage return without a line feed; end lines with LF or CRLF"
    if len(bad):
        line = block.lines[int(np.searchsorted(block.starts, bad.min(), "right")) - 1]
        raise FeedError("malformed", f"line {line}: {what}")
