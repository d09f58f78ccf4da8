"""The generated observations and the data folders built from them, kept in the cache folder.

CACHE/20000000/observations.parquet, batch-0000.parquet, …     generated once
CACHE/20000000/data-1f2e3d4c/                                  a data folder, made by that code
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import warehouse
from jobs.marts import MARTS

RETAILERS, LOOKS = 5, 200
BATCHES = 5
BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Dataset:
    """So many observations: 5 shops look 200 times at each product, whatever the number of products,
    so that an answer has the same size at every size of the whole."""

    rows: int
    cache: Path

    @property
    def folder(self) -> Path:
        return self.cache / str(self.rows)

    @property
    def observations(self) -> Path:
        return self.folder / "observations.parquet"

    @property
    def batches(self) -> list[Path]:
        """The observations that follow, 10,000 each; prices are known for so many more only."""
        count = min(BATCHES, self.rows // (10 * BATCH_ROWS))
        return [self.folder / f"batch-{number:04}.parquet" for number in range(count)]

    @property
    def data(self) -> Path:
        """The data folder that today's code makes."""
        return self.folder / f"data-{fingerprint()}"

    def generate(self) -> None:
        if all(path.exists() for path in (self.observations, *self.batches)):
            return
        products = self.rows // (RETAILERS * LOOKS)
        sizes = {"products": products, "retailers": RETAILERS, "looks": LOOKS}
        options = sizes | {"batches": len(self.batches)}
        told = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "bench.generate", *told, str(self.folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)

    def prepare(self) -> None:
        """A built data folder, unless the cache has one of this code."""
        self.generate()
        if not self.data.exists():
            self.take_in()

    def take_in(self) -> dict[str, float]:
        """Ingest and build in a new process, keep the data folder; its measurements."""
        for old in self.folder.glob("data-*"):
            shutil.rmtree(old)
        part = self.folder / "data-part"
        measured = child("bench.intake", "ours", self.observations, part)
        part.rename(self.data)
        return measured

    def copy_data(self) -> Path:
        """A data folder to write to; the Parquet files, which never change, are only linked."""
        target = self.folder / "data-copy"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.data, target, symlinks=True, copy_function=_link_or_copy)
        return target


def _link_or_copy(source: str, target: str) -> object:
    return (os.link if source.endswith(".parquet") else shutil.copy2)(source, target)


def child(module: str, *arguments: object) -> dict[str, Any]:
    """Runs `python -m module` and reads the line of JSON that it prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@cache
def fingerprint() -> str:
    """Of the code that shapes a data folder."""
    package = Path(warehouse.__path__[0])
    sources = sorted((*package.rglob("*.py"), *package.rglob("*.sql")))
    shaped = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    shaped.update(MARTS.fingerprint.encode())
    return shaped.hexdigest()[:8]


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
