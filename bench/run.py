"""Every figure of bench/README.md with one command, as a Markdown table.

python -m bench.run [--rows 20M] [--only ingest,api,meaning,growth,batch,start,people,peer] [--rounds 5] [--write]

Ratios are between things measured in the same run, in turns. What is generated and built is kept in
the cache folder (about 2 GB at 20 million rows) and taken again as long as the code is the same.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench import meaning, peer, people, pipeline, serving
from bench.datasets import LOOKS, RETAILERS, Dataset
from bench.report import Figure, markdown, write

PARTS = ("ingest", "api", "meaning", "growth", "batch", "start", "people", "peer")
PEER_ROWS = 2_000_000  # PostgreSQL takes a minute for 20 million
PRODUCT_ROWS = RETAILERS * LOOKS


def number(text: str) -> int:
    """20M, 500k or 2000000; a whole number of products."""
    units = {"k": 1_000, "m": 1_000_000}
    unit = units.get(text[-1:].lower(), 1)
    rows = int(text[:-1] if unit > 1 else text) * unit
    if rows <= 0 or rows % PRODUCT_ROWS:
        raise argparse.ArgumentTypeError(f"a multiple of {PRODUCT_ROWS} rows, such as 2M")
    return rows


def names(text: str) -> tuple[str, ...]:
    wanted = tuple(text.split(","))
    if unknown := set(wanted) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {unknown}; there are {', '.join(PARTS)}")
    return wanted


def measure(part: str, dataset: Dataset, rounds: int) -> list[Figure]:
    match part:
        case "ingest":
            # A round is a minute at 20 million rows.
            return pipeline.ingest(dataset, min(rounds, 3))
        case "batch":
            return pipeline.batch(dataset)
        case "api":
            return serving.api(dataset, rounds)
        case "meaning":
            return meaning.meaning(dataset, rounds)
        case "growth":
            tenth = Dataset(dataset.rows // 10, dataset.cache)
            return serving.growth(tenth, dataset, rounds)
        case "start":
            return serving.start(dataset, rounds)
        case "people":
            return people.people(dataset, rounds)
        case _:
            return peer.peer(Dataset(min(dataset.rows, PEER_ROWS), dataset.cache), min(rounds, 3))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="see bench/README.md")
    parser.add_argument("--rows", type=number, default=20_000_000, help="20M by default")
    parser.add_argument("--only", type=names, default=PARTS, metavar=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "pricepulse-bench"
    )
    parser.add_argument("--write", action="store_true", help="put the table into bench/README.md")
    asked = parser.parse_args()
    dataset = Dataset(asked.rows, asked.cache.absolute())
    # Ended from outside, it still ends the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    figures: list[Figure] = []
    try:
        for part in asked.only:
            began = time.perf_counter()
            figures += measure(part, dataset, asked.rounds)
            print(f"{part}: measured in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    finally:  # a part that fails takes nothing away from those before
        table = markdown(figures, asked.rows, asked.rounds)
        print(table)
    if asked.write:
        write(table)


if __name__ == "__main__":
    main()
