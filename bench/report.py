"""The figures of a run and the Markdown table that shows them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures: python -m bench.run --write -->\n", "<!-- end of figures -->"


@dataclass(frozen=True)
class Figure:
    """`met`: whether the measured value keeps the target; None where there is none."""

    part: str
    what: str
    measured: str
    target: str = ""
    met: bool | None = None


def markdown(figures: list[Figure], rows: int, rounds: int) -> str:
    verdict = {True: "yes", False: "**no**", None: ""}
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {rows:,} observations, medians of {rounds} rounds; {machine()}.",
        "",
        "| part | what | measured | target | met |",
        "|---|---|---|---|---|",
    ]
    for each in figures:
        told = (each.part, each.what, each.measured, each.target, verdict[each.met])
        lines.append("| " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Cores, processor and the versions of what does the work."""
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    cores = len(os.sched_getaffinity(0))
    names = ("duckdb", "polars", "litestar", "uvicorn")
    engines = ", ".join(f"{name} {version(name)}" for name in names)
    load = os.getloadavg()[0]
    return (
        f"{cores} cores ({cpu}), Python {platform.python_version()}, {engines}; "
        f"load average at the end {load:.1f}"
    )


def write(table: str) -> None:
    """Put the table between its marks in bench/README.md."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")
