"""NDJSON → String frames that keep the source text of numbers."""

import json
import re
import threading
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json as arrow_json

from warehouse.feed_records import RECORD_BYTES, Block, Flags, text_value
from warehouse.feed_source import COLUMNS, FeedError, Header, refuse_columns
from warehouse.quality import REQUIRED

UNKNOWN_KEYS = 1_000

_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|-?Infinity"
# Quotes around numbers, so that the parser hands out their source text. Safe inside strings too:
# there every quote is escaped, so that `"price"` with bare quotes is always a key.
_BARE_NUMBER = rf'("(?:{"|".join(COLUMNS)})"[ \t]*:[ \t]*)({_NUMBER})([ \t]*[,}}])'
_KEY = r'(?:[^\\]|\\\\)"[ \t]*:'


class Ndjson:
    """One JSON object on each line. pyarrow parses; it does not recurse and finds repeated keys."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.unexpected = "error"  # the faster way, until the first unknown key
        self.keys = set(COLUMNS)  # at any depth
        self.found: set[str] = set()
        self.noting = threading.Lock()

    def frame(self, block: Block) -> pl.DataFrame:
        block = _trimmed(block)
        filled = np.diff(block.starts, append=len(block.data)) > 1
        lines = block.lines[filled]
        if not len(lines):
            return pl.DataFrame()
        _refuse_lines(block, filled)
        text = text_value(block.data)
        frame = self._parse(text, len(lines))
        if frame is None:
            frame = _slowly(block, filled)
        self._note_columns(frame, block.data)
        if self.unexpected == "ignore":
            with self.noting:
                self._note_unknown(text, block)
        return frame.with_columns(line=pl.Series(lines, dtype=pl.Int64))

    def _parse(self, text: pl.Series, rows: int) -> pl.DataFrame | None:
        """None where pyarrow refuses: broken lines, but also `true` or an escape in a key."""
        quoted = text.str.replace_all(_BARE_NUMBER, '${1}"${2}"${3}').to_arrow()
        data = quoted.cast(pa.large_string()).buffers()[2]
        for unexpected in (self.unexpected, "ignore"):
            try:
                table = arrow_json.read_json(
                    pa.BufferReader(data),
                    arrow_json.ReadOptions(block_size=2 * RECORD_BYTES),
                    arrow_json.ParseOptions(
                        explicit_schema=pa.schema([(name, pa.string()) for name in COLUMNS]),
                        unexpected_field_behavior=unexpected,
                    ),
                )
            except pa.ArrowInvalid as error:
                if unexpected == "ignore" or "unexpected field" not in str(error):
                    break
                self.unexpected = "ignore"
                continue
            if table.num_rows != rows:
                break  # two objects on one line
            frame = pl.from_arrow(table)
            assert isinstance(frame, pl.DataFrame)
            return frame
        self.unexpected = "ignore"
        return None

    def _note_columns(self, frame: pl.DataFrame, data: bytes) -> None:
        with self.noting:
            first = not self.found
            self.found.update(name for name in COLUMNS if frame[name].null_count() < frame.height)
            if first:  # a required key that is always null is there; the rows break a rule
                self.found.update(name for name in REQUIRED if f'"{name}"'.encode() in data)
                refuse_columns([name for name in COLUMNS if name in self.found])
            self.header.known = tuple(name for name in COLUMNS if name in self.found)

    def _note_unknown(self, text: pl.Series, block: Block) -> None:
        """Find the lines with a key not seen so far by counting keys, and look only at those."""
        lines: pl.Series | None = None
        while True:
            names = "|".join(re.escape(json.dumps(k, ensure_ascii=False)[1:-1]) for k in self.keys)
            seen = rf'"(?:{names})"[ \t]*:'
            if (text.str.count_matches(_KEY) <= text.str.count_matches(seen)).all():
                return
            if lines is None:
                lines = text.str.split("\n").explode()
            odd = lines.str.count_matches(_KEY) > lines.str.count_matches(seen)
            for index in odd.arg_true():
                known = len(self.keys)
                self._add_keys(lines[index], int(block.lines[index]))
                if len(self.keys) > known:
                    break
            else:
                return

    def _add_keys(self, line: str, number: int) -> None:
        pairs = _pairs(line, number)
        unknown = dict.fromkeys(
            (*self.header.unknown, *(key for key, _ in pairs if key not in COLUMNS))
        )
        self.header.unknown = tuple(unknown)
        stack: list[Any] = [pairs]
        while stack:
            value = stack.pop()
            if isinstance(value, _Pairs):
                self.keys.update(key for key, _ in value)
                stack.extend(inner for _, inner in value)
            elif isinstance(value, list):
                stack.extend(value)
        if len(self.keys) > UNKNOWN_KEYS:
            raise FeedError("columns", f"line {number}: more than {UNKNOWN_KEYS:,} different keys; "
                            "keys are column names, data belongs in the values")  # fmt: skip


def _trimmed(block: Block) -> Block:
    """Without white space around the lines; untouched if there is none."""
    data = np.frombuffer(block.data, np.uint8)
    ends = np.append(block.starts[1:], len(data)) - 1
    if (data[block.starts] == 123).all() and (data[ends - 1] == 125).all():
        return block
    stripped = text_value(block.data).str.replace_all(r"(?m)^[ \t\r]+|[ \t\r]+$", "")[0].encode()
    feeds = np.flatnonzero(np.frombuffer(stripped, np.uint8) == 10)
    return Block(stripped, np.concatenate(([0], feeds[:-1] + 1)), block.lines)


def _refuse_lines(block: Block, filled: Flags) -> None:
    """Each line begins and ends with a brace: then no object spans lines, and counting suffices."""
    data = np.frombuffer(block.data, np.uint8)
    ends = np.append(block.starts[1:], len(data)) - 1
    bad = filled & ((data[block.starts] != 123) | (data[ends - 1] != 125))
    if bad.any():
        line = block.lines[int(np.argmax(bad))]
        raise FeedError("malformed", f"line {line}: not a JSON object; NDJSON has one object "
                        "on each line")  # fmt: skip


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, so that repeated keys show and a list is something else."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str
)


def _pairs(line: str, number: int) -> _Pairs:
    try:
        pairs = _DECODER.decode(line)
        line.encode()
    except RecursionError:
        raise FeedError("malformed", f"line {number}: JSON is nested too deep; values are text, "
                        "numbers or null") from None  # fmt: skip
    except ValueError as error:
        raise FeedError("malformed", f"line {number}: not a JSON object ({error})") from None
    if not isinstance(pairs, _Pairs):
        raise FeedError("malformed", f"line {number}: not a JSON object")
    return pairs


def _slowly(block: Block, filled: Flags) -> pl.DataFrame:
    """The same block line by line, where pyarrow refused it: names the line, or finds it legal."""
    records = block.data.decode().split("\n")
    rows = [
        _row(record, int(number))
        for record, number, full in zip(records, block.lines, filled, strict=False)
        if full
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _row(record: str, number: int) -> list[str | None]:
    values: dict[str, str | None] = {}
    for key, value in _pairs(record, number):
        if key not in COLUMNS:
            continue
        if key in values:
            raise FeedError("malformed", f"line {number}: the key {key!r} is there twice")
        if isinstance(value, list):
            raise FeedError("malformed", f"line {number}: {key!r} holds a nested value; it must "
                            "be text, a number or null")  # fmt: skip
        values[key] = str(value).lower() if isinstance(value, bool) else value
        try:
            (values[key] or "").encode()
        except UnicodeEncodeError:
            raise FeedError("malformed", f"line {number}: {key!r} holds half of a surrogate pair; "
                            "text must be Unicode") from None  # fmt: skip
    return [values.get(name) for name in COLUMNS]
