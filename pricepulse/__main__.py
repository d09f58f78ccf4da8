"""The `pricepulse` command: the one place that puts the application and the jobs together.

Everything heavy is imported in the command that needs it, so that `--help` is immediate. Exit codes:
0 done, 1 it could not be done now (no space, the catalog is busy), 2 what was asked for is wrong.
"""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pricepulse import terminal
from pricepulse.accounts.command import user
from pricepulse.command_errors import Command, explained
from pricepulse.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from litestar import Litestar

    from warehouse.batch import Batch
    from warehouse.lake import Lake

GRACE_SECONDS = 5  # requests that still run when the server is asked to end


def flag(name: str, *, kind: Any = str, told: str) -> Callable[[Callable[..., None]], Any]:
    """A flag that is the setting of the same name."""
    return click.option(f"--{name}", type=kind, help=f"{told} ({PREFIX}{name.upper()})")


data_flag = flag("data", told="the data folder, ./data unless said otherwise")
host_flag = flag("host", told="the address to listen on, 127.0.0.1 unless said otherwise")
port_flag = flag("port", kind=int, told="the port, 8000 unless said otherwise; 0 takes a free one")


def configured(**flags: Any) -> Settings:
    """The settings of the environment and the flags, logging set up.

    Flags go into the environment, too: the workers of `serve` read it and nothing else.
    """
    from pricepulse import log

    settings = Settings.from_env(os.environ, **flags)
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in (given | {"data": settings.data}).items():
        os.environ[PREFIX + name.upper()] = str(value)
    log.configure(settings)
    return settings


@contextmanager
def opened(settings: Settings, *, create: bool = False) -> Iterator[Lake]:
    from warehouse.lake import Lake

    local = settings.catalog_url.startswith("sqlite:///")
    if local and not create and not Path(settings.catalog_url.removeprefix("sqlite:///")).exists():
        raise SettingsError(
            f"there is no data in {settings.data}: `pricepulse ingest FILE` makes a start, "
            f"--data or {PREFIX}DATA names another folder"
        )
    with closing(Lake(settings.catalog_url, settings.lake_url)) as lake:
        yield lake


@click.group(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Settings are environment variables {PREFIX}*; docs/operations.md lists them.",
)
@click.version_option(package_name="pricepulse", message="%(prog)s %(version)s")
def main() -> None:
    """PricePulse: keeps the prices that shops ask, and answers from them."""


def web() -> Litestar:
    """The application with its jobs, for each server process: reads the environment."""
    from jobs.scheduler import Jobs
    from pricepulse import log
    from pricepulse.app import create_app

    settings = Settings.from_env(os.environ)
    log.configure(settings)
    jobs = Jobs(settings)

    def stop() -> None:
        if not jobs.stop():
            # A build may be cut off at any moment; the interpreter would wait for its thread,
            # half a minute for a full one. Nothing else is left to do: requests have ended.
            os._exit(0)

    return create_app(settings, on_startup=[jobs.start], on_shutdown=[stop])


@main.command()
@data_flag
@host_flag
@port_flag
@flag("workers", kind=int, told="processes that answer, 1 unless said otherwise")
def serve(**flags: Any) -> None:
    """Serve the API and run the jobs."""
    settings = configured(**flags)
    port = open_port(settings)
    if not settings.data.exists():
        click.echo(f"{settings.data} is new and empty; it fills with what is ingested", err=True)
    prepare_people(settings)
    listen(settings, port)


def prepare_people(settings: Settings) -> None:
    """The database of accounts, before there are processes that would all make it."""
    from pricepulse import migrations
    from pricepulse.accounts.command import has_admin

    migrations.prepare(settings.database)
    if not has_admin(settings):
        # Named where it is not the usual one, as in the demo.
        is_usual = settings.data == Settings.from_env({}).data
        where = "" if is_usual else f" --data {shlex.quote(str(settings.data))}"
        click.echo(
            f"there is no admin yet: `pricepulse user create ADDRESS --role admin{where}` makes one "
            "and asks for a password",
            err=True,
        )


def open_port(settings: Settings) -> int:
    """The port that the server will have; a sentence if it is taken, before any work is done."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose "
                "another with --host and --port"
            ) from None
        return int(probe.getsockname()[1])


def listen(settings: Settings, port: int) -> None:
    import uvicorn

    from pricepulse.app import UVICORN

    uvicorn.run(
        "pricepulse.__main__:web",
        factory=True,
        host=settings.host,
        port=port,
        workers=settings.workers,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **UVICORN,
    )


@main.command()
@data_flag
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def ingest(files: tuple[str, ...], **flags: Any) -> None:
    """Store each FILE as one batch (CSV, NDJSON or Parquet; plain, gzip or zstd; - is the standard
    input), then build. The same file again changes nothing. A FILE that is refused is told, the others
    are stored all the same, and the exit code is 2."""
    from warehouse.feed import FeedError

    settings = configured(**flags)
    stored: list[tuple[str, Batch]] = []
    refused = False
    with opened(settings, create=True) as lake:
        try:
            for name in files:
                try:
                    stored.append((name, store(lake, settings, name)))
                except (FeedError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
                    refused = True
                    _, sentence = explained(error) or (2, str(error))
                    click.echo(f"pricepulse: {_naming(name, sentence)}", err=True)
        finally:
            if stored:
                terminal.summary(stored)
        if stored:
            build_unless_served(settings, lake)
    if refused:
        sys.exit(2)


def _naming(file: str, sentence: str) -> str:
    """The sentence with the file's name as it was given, once."""
    if file in sentence:
        return sentence
    base = Path(file).name
    return sentence.replace(base, file, 1) if base in sentence else f"{file}: {sentence}"


def store(lake: Lake, settings: Settings, name: str) -> Batch:
    """Append one file to the lake as a batch."""
    from warehouse.batch import append, content_hash
    from warehouse.feed import open_feed

    with on_disk(settings, name) as path, terminal.reading(name) as tell:
        return append(
            lake,
            open_feed(path, max_bytes=settings.max_feed_bytes),
            content=content_hash(path),
            now=datetime.now(UTC),
            source="standard input" if name == "-" else Path(name).name,
            progress=tell,
        )


@contextmanager
def on_disk(settings: Settings, name: str) -> Iterator[Path]:
    """The file itself; what comes through a pipe is kept in incoming/ for as long as it is read."""
    from warehouse.feed import FeedError

    path = Path(name)
    if name != "-" and not stat.S_ISFIFO(path.stat().st_mode):
        if not path.is_file() and not path.is_dir():
            raise FeedError("format", f"{name} is not a file")
        yield path
        return
    incoming = settings.data / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=incoming) as kept:
        with sys.stdin.buffer if name == "-" else path.open("rb") as pipe:
            while block := pipe.read(1 << 20):
                kept.write(block)
                if kept.tell() > settings.max_feed_bytes:
                    limit = f"{settings.max_feed_bytes:,} bytes ({PREFIX}MAX_FEED_BYTES)"
                    raise FeedError("too_large", f"the feed is larger than {limit}")
        kept.flush()
        yield Path(kept.name)


def build_unless_served(settings: Settings, lake: Lake) -> None:
    from jobs.scheduler import holder

    if (process := holder(settings.data)) is not None:
        click.echo(f"a server is running (process {process}): it builds this by itself")
    else:
        run_build(settings, lake, wait=True)


def run_build(settings: Settings, lake: Lake, *, full: bool = False, wait: bool = False) -> None:
    import time

    from jobs.marts import MARTS
    from warehouse.build import build

    started = time.monotonic()
    vouch = timedelta(days=settings.vouch_days)
    built = build(settings.data, lake, MARTS, full=full, wait=wait, vouch=vouch)
    took = time.monotonic() - started
    if built.kind == "none":
        click.echo(f"nothing new: version {built.tag} is in service, {took:.2f} s")
    else:
        click.echo(
            f"{built.kind} build: version {built.tag}, {built.observations:,} observations, "
            f"{took:.2f} s"
        )


@main.command()
@data_flag
@click.option("--full", is_flag=True, help="recompute everything from the whole lake")
def build(full: bool, **flags: Any) -> None:
    """Bring the warehouse file up to the lake."""
    settings = configured(**flags)
    with opened(settings) as lake:
        run_build(settings, lake, full=full)


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count:,} batches"


@main.command()
@data_flag
def status(**flags: Any) -> None:
    """Say what is stored, what is in service and who does the jobs."""
    from jobs.scheduler import holder, last_runs
    from warehouse.connection import Reader
    from warehouse.queries import status as queries

    settings = configured(**flags)
    reader = Reader(settings.data)
    with opened(settings) as lake:
        stored, snapshot = queries.delivered(lake), lake.snapshot()
        reader.refresh()
        version = reader.current
        waiting = queries.waiting(lake, version.number if version else -1)
    held = f"{stored['observations']:,} observations in {_batches(stored['batches'])}"
    newest = f"{stored['newest']:%Y-%m-%d %H:%M:%S} UTC" if stored["newest"] else "none"
    rows = [
        ("data", str(settings.data)),
        ("lake", f"{held}, {stored['rejected']:,} rows rejected, snapshot {snapshot}"),
        ("newest batch", newest),
    ]
    if version:
        counts = queries.shown(version)
        rows += [
            ("version in service", version.tag),
            ("as of", f"{version.as_of:%Y-%m-%d %H:%M:%S} UTC" if version.as_of else "no data yet"),
            *((name, f"{count:,}") for name, count in counts.items()),
        ]
    else:
        rows.append(("version in service", "none; `pricepulse build` makes one"))
    behind = f"{_batches(waiting['batches'])} with {waiting['observations']:,} observations"
    rows.append(("not shown yet", behind if waiting["batches"] else "nothing"))
    process = holder(settings.data)
    rows.append(("jobs", f"run by process {process}" if process else "nobody runs them"))
    for name, run in last_runs(settings.data).items():
        rows.append((f"last {name}", f"{run['at']} {'' if run['ok'] else 'FAILED: '}{run['told']}"))
    if "://" not in settings.lake_url:
        rows.append(("size of the lake", terminal.size(space(Path(settings.lake_url)))))
    rows.append(("size of the builds", terminal.size(space(settings.data / "versions"))))
    terminal.facts(rows)


def space(folder: Path) -> int:
    """Bytes on disk; files come and go meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_blocks * 512  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue
    return total


@main.command()
@data_flag
def migrate(**flags: Any) -> None:
    """Bring the database of accounts to the schema of this release. A server on the embedded default does
    it by itself when it starts."""
    from pricepulse import migrations, store

    settings = configured(**flags)
    settings.data.mkdir(parents=True, exist_ok=True)
    revision = migrations.upgrade(settings.database)
    click.echo(f"{store.shown(settings.database)} has schema {revision}")


@main.command()
@data_flag
@click.option("--undo", is_flag=True, help="take the offer's manual link back")
@click.argument("retailer")
@click.argument("sku")
@click.argument("product_id", required=False, type=click.IntRange(0, 2**63 - 1))
def link(undo: bool, retailer: str, sku: str, product_id: int | None, **flags: Any) -> None:
    """Say by hand that the offer SKU of RETAILER belongs to PRODUCT_ID, whatever its GTIN says."""
    from warehouse.connection import Reader
    from warehouse.links import link_offer

    if undo == (product_id is not None):
        raise click.UsageError("give a PRODUCT_ID to link to, or --undo without one")
    settings = configured(**flags)
    reader = Reader(settings.data)
    reader.refresh()
    with opened(settings) as lake:
        now = datetime.now(UTC)
        before = link_offer(lake, reader.current, retailer, sku, product_id, now)
        if before == product_id:
            click.echo(f"{retailer} {sku} is linked to product {product_id} already")
            return
        told = "is no longer linked by hand" if undo else f"is linked to product {product_id}"
        click.echo(f"{retailer} {sku} {told}{f', before to {before}' if before else ''}")
        build_unless_served(settings, lake)


@main.command()
@data_flag
@click.option("--accept-jumps", is_flag=True, help="also where a rate is more than 3 times off")
@click.option(
    "--remove",
    nargs=2,
    type=(str, click.DateTime(["%Y-%m-%d"])),
    metavar="CURRENCY DAY",
    help="take the rate of a day back (USD 2026-11-20), in the place of FILE",
)
@click.argument("file", required=False)
def rates(
    accept_jumps: bool, remove: tuple[str, datetime] | None, file: str | None, **flags: Any
) -> None:
    """Store the reference rates of FILE, then build: the ECB's eurofxref-hist.csv or eurofxref.csv, or a
    zip of it (- is the standard input). The same file again changes nothing, a corrected rate replaces."""
    from warehouse.rates import remove_rate, store_rates
    from warehouse.rates_file import RatesError, read_rates

    if (file is None) == (remove is None):
        raise click.UsageError("give a FILE, or --remove CURRENCY DAY without one")
    settings = configured(**flags)
    now = datetime.now(UTC)
    if remove is not None:
        currency, day = remove[0].upper(), remove[1].date()
        with opened(settings) as lake:
            remove_rate(lake, day, currency, now)
            click.echo(f"the rate of {currency} on {day} is removed")
            build_unless_served(settings, lake)
        return
    assert file is not None
    try:
        with on_disk(settings, file) as path:
            found = read_rates(path, now.date())
        with opened(settings) as lake:
            stored = store_rates(lake, found.rates, now, accept_jumps=accept_jumps)
            click.echo(f"{file}: {terminal.told_rates(found, stored)}")
            build_unless_served(settings, lake)
    except RatesError as error:
        raise RatesError(f"{file}: {error}") from None


@main.command()
@flag("data", told="the data folder, ./data-demo unless said otherwise")
@host_flag
@port_flag
def demo(data: str | None, **flags: Any) -> None:
    """Generate a market like real ones, ingest it and serve it."""
    from pricepulse import demo_data

    settings = configured(data=data or os.environ.get(PREFIX + "DATA") or "data-demo", **flags)
    port = open_port(settings)
    feed = demo_data.feed_of(settings.data)
    if feed is None:
        click.echo(f"the demo in {settings.data} is used again")
    with opened(settings, create=True) as lake:
        if feed is not None:
            click.echo(f"made up {feed.name}: prices of nine shops in 400 days")
            terminal.summary([(feed.name, store(lake, settings, str(feed)))])
            demo_data.complete(settings.data)
        build_unless_served(settings, lake)
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    key = None
    if settings.ingest_key is None:
        os.environ[PREFIX + "INGEST_KEY"] = key = secrets.token_hex(16)
    click.echo(demo_data.greeting(settings.data, f"http://{host}:{port}", key))
    prepare_people(settings)
    listen(settings, port)


main.add_command(user)


if __name__ == "__main__":
    main()
