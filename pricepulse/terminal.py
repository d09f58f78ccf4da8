"""What the command prints: a bar and tables on a terminal, plain lines in a log or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # rich and Polars load in the commands that need them: `--help` is immediate
    from warehouse.batch import Batch
    from warehouse.rates import Stored
    from warehouse.rates_file import RatesFile

LOG_SECONDS = 5.0  # in a log: one line in this time says how far it is


@contextmanager
def reading(name: str) -> Iterator[Callable[[int], None]]:
    """Gives a function to tell the rows read so far; shows them on stderr."""
    if sys.stderr.isatty():
        with _bar(name) as told:
            yield told
        return
    started = last = time.monotonic()

    def tell(rows: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= LOG_SECONDS:
            last = now
            click.echo(
                f"{name}: {rows:,} rows read, {rows / (now - started):,.0f} a second", err=True
            )

    yield tell


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        # How many rows are to come is known of no feed but Parquet: the bar says that it moves.
        task = progress.add_task(name, total=None)
        yield lambda rows: progress.update(task, completed=rows)


def summary(batches: Sequence[tuple[str, Batch]]) -> None:
    """Per file what was accepted, what was rejected by which rule, and which offers are new."""
    if not sys.stdout.isatty():
        for name, batch in batches:
            click.echo(f"{name}: {_outcome(batch)}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("file")
    for header in ("rows", "accepted", "rejected", "new offers"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("faults by rule")
    for name, batch in batches:
        counts = (batch.rows, batch.accepted, batch.rejected, batch.new_offers)
        faults = "\n".join(f"{count:,} {rule}" for rule, count in batch.rejected_by_rule.items())
        state = "\nknown already, nothing changed" if batch.duplicate else ""
        table.add_row(f"{name}{state}", *(f"{count:,}" for count in counts), faults)
    Console().print(table)
    for name, batch in batches:
        if batch.unknown_columns:
            click.echo(f"{name}: ignored {_unknown(batch)}")


def _outcome(batch: Batch) -> str:
    if batch.duplicate:
        return (
            f"known already: batch {batch.batch_id} of {batch.received_at:%Y-%m-%d %H:%M} UTC has "
            "the same content; nothing changed"
        )
    parts = [
        f"batch {batch.batch_id}: {batch.rows:,} rows",
        f"{batch.accepted:,} accepted",
        f"{batch.rejected:,} rejected",
        f"{batch.new_offers:,} new offers",
    ]
    if batch.rejected_by_rule:
        told = ", ".join(f"{rule} {count:,}" for rule, count in batch.rejected_by_rule.items())
        parts.append(f"faults by rule: {told}")
    if batch.unknown_columns:
        parts.append(f"ignored {_unknown(batch)}")
    return "; ".join(parts)


def _unknown(batch: Batch) -> str:
    return "unknown columns " + ", ".join(batch.unknown_columns)


def told_rates(file: RatesFile, stored: Stored) -> str:
    days = "1 day" if file.days == 1 else f"{file.days:,} days"
    currencies = "1 currency" if len(file.currencies) == 1 else f"{len(file.currencies)} currencies"
    span = f"{file.first}" if file.days == 1 else f"{file.first} to {file.last}"
    new = "1 rate new" if stored.new == 1 else f"{stored.new:,} rates new"
    told = [f"{days} ({span})", currencies, new]
    if stored.corrected:
        told.append(f"{stored.corrected:,} corrected")
    if file.withdrawn:
        told.append(f"passed over, because withdrawn: {', '.join(file.withdrawn)}")
    if stored == (0, 0):
        told.append("nothing changed")
    return "; ".join(told)


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Name and value, a line each."""
    if not sys.stdout.isatty():
        for name, value in rows:
            click.echo(f"{name}: {value}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def size(count: int) -> str:
    """Bytes for people: 1.2 GB."""
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
