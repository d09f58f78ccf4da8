"""The feed: every format and compression gives the same rows; every broken file a named refusal."""

import contextlib
import gzip
import json
import resource
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from warehouse import feed_records
from warehouse.feed import FeedError, open_feed
from warehouse.quality import check

HEADER = "retailer,sku,observed_at,price,currency,title,colour\n"
ROWS = [
    ("shop", "1", "2026-01-01T00:00:00Z", "19.990", "EUR", "Tea", "red"),
    ("shop", "2", "2026-01-01T00:00:00+01:00", "5", "EUR", 'A "big", cup\nof tea', ""),
    ("shop", "3", "2026-01-01T00:00:00Z", "1e3", "EUR", "", "blue"),
]
NAMES = HEADER.strip().split(",")
LINE = '{"retailer":"s","sku":"1","observed_at":"2026-01-01T00:00:00Z","price":1,"currency":"EUR"'
GOOD = b"s,1,2026-01-01T00:00:00Z,1,EUR,t,c\n"
TOP = HEADER.encode() + GOOD


def as_csv(rows: Sequence[tuple[str, ...]]) -> bytes:
    return HEADER.encode() + pl.DataFrame(rows, schema=NAMES, orient="row").write_csv(
        include_header=False
    ).encode()  # fmt: skip


def as_ndjson(rows: Sequence[tuple[str, ...]]) -> bytes:
    lines = []
    for row in rows:
        text = dict(zip(NAMES, row, strict=True))
        price = text.pop("price")
        lines.append(json.dumps(text)[:-1] + f', "price": {price}}}')
    return "\n".join(lines).encode()


def as_parquet(rows: Sequence[tuple[str, ...]], folder: Path) -> bytes:
    pl.DataFrame(rows, schema=NAMES, orient="row").write_parquet(folder / "rows")
    return (folder / "rows").read_bytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.compress(data),
    "two gzip members": lambda data: gzip.compress(data[:70]) + gzip.compress(data[70:]),
    "two zstd frames": lambda data: zstandard.compress(data[:70]) + zstandard.compress(data[70:]),
}


def read(path: Path, **options: Any) -> pl.DataFrame:
    return pl.concat(list(open_feed(path, **options).chunks()))


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("name", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("announced", [True, False])
def test_same_rows(tmp_path: Path, pack: str, name: str, announced: bool) -> None:
    data = {"csv": as_csv, "ndjson": as_ndjson}.get(name, lambda r: as_parquet(r, tmp_path))(ROWS)
    path = tmp_path / "feed"
    path.write_bytes(PACK[pack](data))
    feed = open_feed(path, format=name if announced else None)
    rows = pl.concat(list(feed.chunks()))
    assert feed.format == name
    assert feed.unknown_columns == ("colour",)
    assert set(feed.columns) == {*NAMES} - {"colour"}
    empty = "" if name != "csv" else None
    wanted = [(*r[:5], r[5] or empty) for r in ROWS]
    assert rows.select(NAMES[:-1]).rows() == wanted
    assert rows["line"].to_list() == ([2, 3, 5] if name == "csv" else [1, 2, 3])
    assert rows["line"].dtype == pl.Int64
    with pytest.raises(RuntimeError):
        next(feed.chunks())


def test_real_rows_as_text(tmp_path: Path) -> None:
    """Values and lines survive both text formats over many blocks and frames."""
    real = pl.scan_parquet("../shared/data/groceries.parquet").tail(150_000).collect()
    text = real.with_columns(
        pl.col("price").cast(pl.String), pl.col("observed_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    )
    text.write_csv(tmp_path / "a.csv", quote_style="non_numeric")
    text.write_ndjson(tmp_path / "a.ndjson")
    for name, first in (("a.csv", 2), ("a.ndjson", 1)):
        rows = read(tmp_path / name, chunk_rows=40_000)
        assert rows.select(text.columns).equals(text)
        assert rows["line"].equals(pl.int_range(first, first + 150_000, eager=True).alias("line"))
    frames = list(open_feed(tmp_path / "a.csv", chunk_rows=40_000).chunks())
    assert max(frame.height for frame in frames) <= 40_000


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (TOP + b"\n\r\n" + GOOD, [2, 5]),
        (b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + GOOD[:-1], [2]),
        (HEADER.encode() + b's,1,t,1,E,"a\nb\n",c\n\n' + GOOD, [2, 6]),
        (HEADER.encode() + b's,1,t,1,E,"a\r\n""b""",c\r\n' + GOOD, [2, 4]),
        (f"\n{LINE}}}\n  \n\t{LINE}}} \r\n".encode(), [2, 4]),
        (f"\ufeff{LINE}}}".encode(), [1]),
    ],
)
def test_lines(tmp_path: Path, data: bytes, lines: list[int]) -> None:
    (tmp_path / "f").write_bytes(data)
    assert read(tmp_path / "f")["line"].to_list() == lines


@pytest.mark.parametrize("block_bytes", [64, 97, 300, 5000])
def test_blocks_cut_anywhere(
    tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_records, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("warehouse.feed.SNIFF_BYTES", 60)
    for data, start in ((as_csv(ROWS * 20), 2), (as_ndjson(ROWS * 20), 1)):
        (tmp_path / "f").write_bytes(data)
        rows = read(tmp_path / "f")
        assert rows["sku"].to_list() == ["1", "2", "3"] * 20
        step = 4 if start == 2 else 3
        assert rows["line"].to_list()[::3] == [start + step * i for i in range(20)]


@pytest.mark.parametrize(
    "number",
    ["19.99", "19.990", "-0.0", "1e3", "1E-2", "0.1000000000000000055511151231257827", "NaN"],
)
def test_json_numbers_keep_their_text(tmp_path: Path, number: str) -> None:
    line = LINE.replace('"price":1', f'"price" : {number} ') + ',"title":"x\\": 5, \\"price\\":7,"}'
    (tmp_path / "f").write_text(line)
    rows = read(tmp_path / "f")
    assert rows["price"][0] == number
    assert rows["title"][0] == 'x": 5, "price":7,'


def test_odd_but_legal_json(tmp_path: Path) -> None:
    """An escape in a key, booleans and unknown nested values do not lose a row."""
    odd = LINE.replace("price", "pr\\u0069ce") + ',"title":true,"x":{"price":[1,{"sku":2}]}}'
    (tmp_path / "f").write_text(f'{LINE},"z":[1]}}\n{odd}\n{LINE},"late":null}}')
    feed = open_feed(tmp_path / "f")
    rows = pl.concat(list(feed.chunks()))
    assert rows["price"].to_list() == ["1"] * 3
    assert rows["title"].to_list() == [None, "true", None]
    assert feed.unknown_columns == ("z", "x", "late")


BROKEN: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "empty", "is empty"),
    "header only": (HEADER.encode(), "empty", "no rows"),
    "blank lines only": (b"\n\n", "columns", "retailer, sku"),
    "missing columns": (b"retailer,price\na,1\n", "columns", "sku, observed_at, currency"),
    "semicolons": (HEADER.replace(",", ";").encode() + GOOD, "columns", "';'"),
    "known column twice": (b"sku," + HEADER.encode() + GOOD, "columns", "sku is there more"),
    "missing key": (b'{"retailer":"a","sku":"1"}\n', "columns", "observed_at, price, currency"),
    "too many fields": (TOP + b"\n" + GOOD[:-1] + b",x\n", "malformed", "line 4"),
    "too few fields": (TOP + b"s,1\n" + GOOD, "malformed", "line 3: 2 fields"),
    "stray quote": (TOP + b's,1,t,1,E,15" tv,c\n', "malformed", "line 3: a quote"),
    "text after quote": (HEADER.encode() + b's,1,t,1,E,"a"b,c\n', "malformed", "line 2: a quote"),
    "open quote": (TOP + b's,1,t,1,E,"a,c\n' + GOOD, "malformed", "line 3"),
    "bare CR": (TOP + b"s,1,t,1,E,a\rb,c\n", "malformed", "line 3: a carriage"),
    "bad UTF-8": (TOP + b"s,\xff,t,1,E,a,c\n", "malformed", "line 3: not valid"),
    "UTF-8 cut": (HEADER.encode() + GOOD[:-1] + b"\xc3", "malformed", "line 2: not valid"),
    "NUL": (TOP + b's,"\n\0",t,1,E,a,c\n', "malformed", "line 4: a NUL"),
    "zeros": (bytes(100_000), "malformed", "line 1"),
    "not an object": (f"{LINE}}}\n[1]\n".encode(), "malformed", "line 2: not a JSON object"),
    "cut object": (f"{LINE}}}\n{LINE}".encode(), "malformed", "line 2: not a JSON object"),
    "two objects": (f"{LINE}}}{LINE}}}\n".encode(), "malformed", "line 1"),
    "trailing comma": (f"{LINE}}}\n{LINE},}}\n".encode(), "malformed", "line 2"),
    "leading zero": (LINE.replace(":1,", ":01,").encode() + b"}", "malformed", "line 1"),
    "key twice": (f'{LINE}}}\n{LINE},"sku":"2"}}\n'.encode(), "malformed", "line 2: the key 'sku'"),
    "nested": (f'{LINE},"title":["a"]}}\n'.encode(), "malformed", "line 1: 'title' holds a nested"),
    "half surrogate": (f'{LINE},"title":"\\ud800"}}\n'.encode(), "malformed", "line 1: 'title'"),
    "deep": (LINE.encode() + b',"title":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
             "malformed", "line 1"),
    "deep unknown": (LINE.encode() + b',"x":' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}",
                     "malformed", "line 1"),
    "long line": (TOP + b"x" * 10**8, "malformed", "line 3: the record"),
    "long JSON line": (f'{LINE}}}\n{LINE},"x":"'.encode() + b"x" * 10**8 + b'"}',
                       "malformed", "line 2: the record"),
    "JSON array": (b"[\n{}]", "format", "array"),
    "XML": (b"<?xml version='1.0'?>", "format", "XML"),
    "zip": (b"PK\x03\x04....", "format", "ZIP"),
    "UTF-16": (HEADER.encode("utf-16"), "format", "UTF-16"),
    "gzip twice": (gzip.compress(gzip.compress(b"a")), "format", "twice"),
    "gzip cut": (gzip.compress(as_csv(ROWS))[:-5], "malformed", "gzip data is broken"),
    "gzip CRC": (gzip.compress(as_csv(ROWS))[:-8] + bytes(8), "malformed", "gzip data is broken"),
    "gzip, then junk": (gzip.compress(as_csv(ROWS)) + b"junk", "malformed", "gzip"),
    "zstd cut": (zstandard.compress(as_csv(ROWS))[:-5], "malformed", "zstd data is broken"),
    "Parquet magic": (b"PAR1" + bytes(100), "malformed", "footer"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken(tmp_path: Path, name: str) -> None:
    data, kind, says = BROKEN[name]
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FeedError) as caught:
        read(tmp_path / "f")
    assert (caught.value.kind, says in str(caught.value)) == (kind, True), str(caught.value)


@pytest.mark.parametrize(
    ("data", "announced"),
    [(as_csv(ROWS), "ndjson"), (as_ndjson(ROWS), "csv"), (as_csv(ROWS), "parquet")],
)
def test_other_format_than_announced(tmp_path: Path, data: bytes, announced: str) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FeedError, match="announced") as caught:
        open_feed(tmp_path / "f", format=announced)
    assert caught.value.kind == "format"


def test_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(FeedError):
            open_feed(path)


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
@pytest.mark.parametrize("start", [b"", HEADER.encode(), b"PAR1", LINE.encode() + b"}\n"])
def test_bombs(tmp_path: Path, pack: str, start: bytes) -> None:
    """A gigabyte of line feeds in a megabyte; it neither fills memory nor the disk."""
    filler = b"\0" if start in (b"", b"PAR1") else b"\n"
    data = PACK[pack](start) + PACK[pack](filler * (1 << 26)) * 16
    (tmp_path / "f").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FeedError):
        read(tmp_path / "f", max_bytes=500 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_too_large(tmp_path: Path) -> None:
    data = as_csv(ROWS)
    for pack in PACK.values():
        (tmp_path / "f").write_bytes(pack(data))
        assert read(tmp_path / "f", max_bytes=len(data)).height == 3
        with pytest.raises(FeedError, match="larger than") as caught:
            read(tmp_path / "f", max_bytes=len(data) - 1)
        assert caught.value.kind == "too_large"


ARROW = {
    "retailer": pa.array(["s"] * 5).dictionary_encode(),
    "sku": pa.array(range(5)),
    "observed_at": pa.array([10**15] * 5, pa.timestamp("us", "UTC")),
    "price": pa.array([19.99] * 5),
    "currency": pa.array(["EUR"] * 5, pa.string_view()),
}


PLAIN = {**ARROW, "retailer": pa.array(["s"])}


def write_arrow(path: Path, **changed: Any) -> Path:
    pq.write_table(pa.table(ARROW | changed), path)
    return path


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"observed_at": pa.array([0] * 5, pa.timestamp("us"))}, "without a time zone"),
        ({"observed_at": pa.array([0] * 5)}, "column observed_at is Int64"),
        ({"title": pa.array([b"x"] * 5)}, "column title is Binary"),
        ({"title": pa.array([["x"]] * 5)}, "column title is List"),
        ({"price": pa.array([{"x": 1}] * 5)}, "column price is Struct"),
        ({"price": pa.array([True] * 5)}, "column price is Boolean"),
    ],
)
def test_parquet_dtypes_refused(tmp_path: Path, changed: dict[str, pa.Array], says: str) -> None:
    with pytest.raises(FeedError, match=says) as caught:
        open_feed(write_arrow(tmp_path / "f", **changed))
    assert caught.value.kind == "columns"


def test_parquet_slices_and_ends(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "f", x=pa.array([[1]] * 5))
    frames = list(open_feed(path, chunk_rows=2).chunks())
    assert [frame["line"].to_list() for frame in frames] == [[1, 2], [3, 4], [5]]
    data = path.read_bytes()
    for cut in (5, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(FeedError, match="broken Parquet"):
            read(path)
    pq.write_table(pa.table(ARROW).slice(0, 0), path)
    with pytest.raises(FeedError, match="no rows"):
        open_feed(path)


def test_parquet_damaged_anywhere(tmp_path: Path) -> None:
    """Flipped bytes are refused or change a value; the process and other errors never surface."""
    path = tmp_path / "f"
    pl.DataFrame(ROWS * 50, schema=NAMES, orient="row").write_parquet(path, compression="snappy")
    data = path.read_bytes()
    for position in range(4, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x5A]) + data[position + 1 :])
        with contextlib.suppress(FeedError):
            read(path)


def test_parquet_bomb(tmp_path: Path) -> None:
    """A million times the same megabyte of text is a small file."""
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 10**6, pa.int32()), ["x" * (1 << 20)])
    table = pa.table({n: pa.array([v[0].as_py()] * 10**6, v.type) for n, v in PLAIN.items()})
    table = table.append_column("title", repeated)
    pq.write_table(table, tmp_path / "f")
    with pytest.raises(FeedError, match="title is a dictionary with a text of 1,048,576"):
        open_feed(tmp_path / "f")
    pq.write_table(table, tmp_path / "f", store_schema=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for frame in open_feed(tmp_path / "f").chunks():
        checked = check(frame, datetime(2026, 1, 1, tzinfo=UTC))
        assert checked.rejected["rule"].unique().to_list() == ["text_too_long"]
        assert checked.accepted["title"].null_count() == 10**6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20
    with pytest.raises(FeedError, match="larger than"):
        open_feed(tmp_path / "f", max_bytes=10**7)
