"""What all feed formats share: the error, the header, and the decompressed bytes of the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from warehouse.quality import REQUIRED, SCHEMA

FORMATS = ("csv", "ndjson", "parquet")
COMPRESSIONS = ("plain", "gzip", "zstd")
COLUMNS = tuple(SCHEMA)

Kind = Literal["format", "malformed", "columns", "empty", "too_large"]


class FeedError(ValueError):
    """The whole batch is refused; the message says what was wrong, where, what would be right."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Header:
    """The known and the unknown columns, in the file's order."""

    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def refuse_columns(names: list[str], hint: str = "") -> None:
    missing = [column for column in REQUIRED if column not in names]
    if missing:
        word = "column" if len(missing) == 1 else "columns"
        raise FeedError("columns", f"missing required {word} {', '.join(missing)}{hint}; "
                        f"found: {', '.join(names)[:500] or 'none'}")  # fmt: skip
    twice = sorted({column for column in COLUMNS if names.count(column) > 1})
    if twice:
        raise FeedError("columns", f"column {', '.join(twice)} is there more than once; "
                        "each column may be given once")  # fmt: skip


class Source:
    """The decompressed bytes of a file, refused beyond `max_bytes` before they are kept."""

    def __init__(self, path: Path, compression: str, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.compression = compression
        self.taken = 0
        self.stream = pa.OSFile(str(path))
        if compression != "plain":
            self.stream = pa.CompressedInputStream(self.stream, compression)

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end of the file."""
        parts: list[bytes] = []
        while size > 0:
            try:
                part = self.stream.read(size)
            except OSError as error:
                if self.compression == "plain" or error.errno is not None:
                    raise  # the disk's fault, not the feed's
                raise FeedError(
                    "malformed",
                    f"the {self.compression} data is broken after {self.taken:,} decompressed "
                    f"bytes ({error}); send the complete file again",
                ) from None
            if not part:
                break
            self.taken += len(part)
            if self.taken > self.max_bytes:
                raise FeedError(
                    "too_large",
                    f"the feed is larger than {self.max_bytes:,} bytes after decompression; "
                    "send it in smaller batches",
                )
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def compression_of(path: Path) -> str:
    if not path.is_file():
        what = "a directory" if path.is_dir() else "not a regular file" if path.exists() else None
        raise FeedError("format", f"{path} {'is ' + what if what else 'does not exist'}; a feed is "
                        "a CSV, NDJSON or Parquet file")  # fmt: skip
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    skippable = magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50
    return "zstd" if magic == b"\x28\xb5\x2f\xfd" or skippable else "plain"


_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive (or an Excel workbook)",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x1f\x8b": "compressed twice",
    b"\x28\xb5\x2f\xfd": "compressed twice",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"ARROW1": "an Arrow file",
    b"%PDF": "a PDF",
}


def sniff(head: bytes, given: str | None, name: str) -> str:
    """The format by content; a plain contradiction to the `given` one is refused."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if text.startswith(b"<"):
        foreign = "XML or HTML"
    elif text.startswith(b"["):
        foreign = "a JSON array (NDJSON has one object on each line and no brackets around them)"
    if foreign:
        raise FeedError("format", f"{name} is {foreign}; a feed is CSV, NDJSON or Parquet, plain "
                        "or compressed once with gzip or zstd")  # fmt: skip
    first_line = text.split(b"\n", 1)[0]
    header = any(column.encode() in first_line for column in REQUIRED)
    if head.startswith(b"PAR1"):
        found = "parquet"
    elif text.startswith(b"{"):
        found = "ndjson"
    elif given == "ndjson" and not header:
        return given  # a broken line is found, and named, by the parser
    elif given is None and not header and Path(name).suffixes[:1] == [".ndjson"]:
        return "ndjson"
    else:
        found = "csv"
    if given is not None and given != found:
        raise FeedError("format", f"{name} was announced as {given}, but its content is {found}")
    return found
