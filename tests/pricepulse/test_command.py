"""The `pricepulse` command, each time as a process of its own."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import httpx
import polars as pl
import pytest

from pricepulse.demo_data import feed_of
from pricepulse.settings import SettingsError
from tests.command import COMMAND, csv, environment, ready, run, serving, until
from tests.pipeline import open_lake
from warehouse.versions import building, current_tag

NOW = datetime.now(UTC).replace(microsecond=0)
GOOD = csv([f"shop,{n},{(NOW - timedelta(hours=n)).isoformat()},9.99,EUR" for n in range(5)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.csv"
    path.write_bytes(GOOD)
    return path


def snapshot(data: Path) -> int:
    lake = open_lake(data)
    found = lake.snapshot()
    lake.close()
    return found


def refused(done: subprocess.CompletedProcess[str], code: int, told: str) -> None:
    """Exit code, and one line on stderr that says `told`."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert told in done.stderr
    assert done.stderr.startswith("pricepulse: ")
    assert done.stderr.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from pricepulse.__main__ import main;"
        "print(CliRunner().invoke(main, ['--help']).output);"
        "heavy = {'polars', 'duckdb', 'pyarrow', 'litestar', 'rich', 'uvicorn', 'apscheduler'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("serve", "ingest", "build", "status", "link", "rates", "demo"):
        assert f"\n  {name} " in done.stdout


def test_ingest_build_status(data: Path, feed: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv.gz"
    row = f"shop,7,{NOW.isoformat()},1,EUR,red"
    lines = [row, row.replace("7", "8", 1).replace(",1,", ",free,"), row.replace("EUR", "EURO")]
    wrong.write_bytes(gzip.compress(csv(lines, "retailer,sku,observed_at,price,currency,colour")))
    done = run(data, "ingest", feed, wrong)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, built = done.stdout.splitlines()
    assert first.startswith(f"{feed}: batch ")
    assert first.endswith(": 5 rows; 5 accepted; 0 rejected; 5 new offers")
    assert "3 rows; 1 accepted; 2 rejected; 1 new offers" in second
    assert "faults by rule: not_a_number 1, unknown_currency 1" in second
    assert second.endswith("ignored unknown columns colour")
    assert built.startswith("full build: version ")
    assert ", 6 observations, " in built
    told = run(data, "status").stdout
    assert "6 observations in 2 batches, 2 rows rejected" in told
    assert f"version in service: {current_tag(data)}\n" in told
    assert "offers: 6\n" in told
    assert "retailers: 1\n" in told
    assert "not shown yet: nothing\n" in told
    assert "jobs: nobody runs them\n" in told


def test_the_same_file_again_changes_nothing(data: Path, feed: Path) -> None:
    run(data, "ingest", feed)
    before = snapshot(data), current_tag(data)
    again = run(data, "ingest", feed, feed)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.count("known already: batch ") == 2
    assert again.stdout.count("nothing changed") == 2
    assert f"nothing new: version {before[1]} is in service" in again.stdout
    assert (snapshot(data), current_tag(data)) == before
    built = run(data, "build")
    assert built.stdout.startswith(f"nothing new: version {current_tag(data)} is in service")
    full = run(data, "build", "--full")
    assert full.stdout.startswith("full build: version ")
    assert ", 5 observations, " in full.stdout


def test_a_feed_through_a_pipe(data: Path, tmp_path: Path) -> None:
    done = run(data, "ingest", "-", stdin=GOOD)
    assert done.returncode == 0, done.stderr
    assert "5 rows; 5 accepted" in done.stdout
    assert list((data / "incoming").iterdir()) == []
    refused(run(data, "ingest", "-"), 2, "empty")
    refused(run(data, "ingest", "-", stdin=GOOD * 9, max_feed_bytes=1024), 2, "larger than 1,024")
    named = tmp_path / "pipe"
    os.mkfifo(named)
    with subprocess.Popen(
        [*COMMAND, "ingest", str(named)],
        stdout=subprocess.PIPE,
        env=environment(data),
        text=True,
    ) as process:
        named.write_bytes(GOOD)
        told, _ = process.communicate(timeout=60)
    assert "known already" in told


def bad_files(folder: Path) -> dict[str, tuple[bytes | None, str]]:
    """Per name the content (None: there is no such file) and what the message says."""
    rows = pl.DataFrame({"retailer": ["s"] * 9, "sku": ["1"] * 9})
    rows.write_parquet(folder / "whole.parquet")
    whole = (folder / "whole.parquet").read_bytes()
    return {
        "missing.csv": (None, "No such file"),
        "empty.csv": (b"", "is empty"),
        "header.csv": (GOOD.splitlines()[0] + b"\n", "has no rows"),
        "columns.csv": (b"retailer,sku\nshop,1\n", "missing required columns"),
        "columns.parquet": (whole, "missing required columns"),
        "half.parquet": (whole[: len(whole) // 2], ""),
        "cut.csv.gz": (gzip.compress(os.urandom(200_000))[:-200], ""),
        "picture.png": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ""),
        "latin.csv": (GOOD + "shop,ä,x,1,EUR\n".encode("latin-1"), "UTF-8"),
        "nul.csv": (GOOD + b"shop,a\0b,x,1,EUR\n", "NUL"),
        "deep.ndjson": (b'{"sku":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ""),
        "zeros.csv.gz": (gzip.compress(bytes(20_000_000)), ""),
    }


def test_bad_files_are_one_line_and_change_nothing(data: Path, feed: Path, tmp_path: Path) -> None:
    run(data, "ingest", feed)
    before = snapshot(data), current_tag(data)
    files = bad_files(tmp_path)
    for name, (content, _) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    done = run(data, "ingest", *(tmp_path / name for name in files), tmp_path, "/dev/null")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == len(files) + 2, done.stderr
    for (name, (_, told)), line in zip(files.items(), lines, strict=False):
        assert line.startswith("pricepulse: ")
        assert name in line
        assert told in line, line
    assert "is a directory" in lines[-2]
    assert "is not a file" in lines[-1]
    assert (snapshot(data), current_tag(data)) == before
    # A good one beside a bad one is stored; the exit code tells that not all were.
    extra = tmp_path / "extra.csv"
    extra.write_bytes(GOOD.replace(b"shop,", b"other,"))
    mixed = run(data, "ingest", tmp_path / "empty.csv", extra)
    assert mixed.returncode == 2
    assert "5 accepted" in mixed.stdout
    assert "incremental build" in mixed.stdout


def test_what_was_asked_for_is_wrong(data: Path, feed: Path, tmp_path: Path) -> None:
    for words in (["build"], ["status"], ["link", "shop", "1", "2"]):
        refused(run(data, *words), 2, "there is no data in")
        assert not data.exists()
    refused(run(data, "status", port="many"), 2, "PRICEPULSE_PORT='many' cannot be used")
    refused(run(data, "status", workrs="2"), 2, "did you mean PRICEPULSE_WORKERS?")
    run(data, "ingest", feed)
    with building(data):
        refused(run(data, "build"), 2, "another process is building")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(run(data, "serve", "--port", port), 2, f"cannot listen on 127.0.0.1 port {port}")
    occupied = tmp_path / "file"
    occupied.write_text("")
    done = run(occupied / "data", "ingest", feed)
    refused(done, 2, "Not a directory")


def test_flags_win_over_the_environment(data: Path, feed: Path, tmp_path: Path) -> None:
    run(data, "ingest", feed)
    assert run(tmp_path / "other", "status", "--data", data).returncode == 0


def test_link(data: Path, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    gtins = ["4006381333931", "96385074"]
    rows = [f"shop,{n},{NOW.isoformat()},9.99,EUR,{gtin}" for n, gtin in enumerate(gtins)]
    feed.write_bytes(csv(rows, "retailer,sku,observed_at,price,currency,gtin"))
    run(data, "ingest", feed)
    products = product_ids(data)
    assert products[0] != products[1]
    done = run(data, "link", "shop", "1", products[0])
    assert done.returncode == 0, done.stderr
    assert f"shop 1 is linked to product {products[0]}\n" in done.stdout
    assert "incremental build" in done.stdout
    assert product_ids(data) == [products[0]] * 2
    assert "linked to product" in run(data, "link", "shop", "1", products[0]).stdout
    before = snapshot(data)
    refused(run(data, "link", "shop", "9", products[0]), 2, "there is no offer '9' of 'shop'")
    refused(run(data, "link", "shop", "0", 12345), 2, "there is no product 12345")
    refused(run(data, "link", "--undo", "shop", "0"), 2, "has no manual link to take back")
    assert snapshot(data) == before
    undone = run(data, "link", "--undo", "shop", "1")
    assert f"shop 1 is no longer linked by hand, before to {products[0]}" in undone.stdout
    assert product_ids(data) == products
    refused(run(data, "link", "--undo", "shop", "1"), 2, "has no manual link to take back")
    for words in (["link", "shop", "1"], ["link", "--undo", "shop", "1", products[0]]):
        assert run(data, *words).returncode == 2


def test_rates(data: Path, feed: Path, tmp_path: Path) -> None:
    file = tmp_path / "eurofxref-hist.csv"
    file.write_text("Date,USD,CYP,\n2026-11-20,1.25,N/A,\n1999-01-04,1.1789,0.58231,\n")
    refused(run(data, "rates", file), 2, f"there is no data in {data}")
    run(data, "ingest", feed)
    done = run(data, "rates", file)
    assert (done.returncode, done.stderr) == (0, "")
    told, built = done.stdout.splitlines()
    assert told == (
        f"{file}: 2 days (1999-01-04 to 2026-11-20); 1 currency; 2 rates new; "
        "passed over, because withdrawn: CYP"
    )
    assert built.startswith("incremental build: version ")
    before = snapshot(data), current_tag(data)
    again = run(data, "rates", "-", stdin=file.read_bytes())
    assert "; 0 rates new; " in again.stdout
    assert "; nothing changed\n" in again.stdout
    assert "nothing new: version " in again.stdout
    for content, words in (
        (b"", "is empty"),
        (b"Date,USD\n2026-11-20,0\n", "line 2: the rate '0'"),
    ):
        wrong = tmp_path / "wrong.csv"
        wrong.write_bytes(content)
        refused(run(data, "rates", wrong), 2, f"{wrong}: {words}" if content else words)
    refused(run(data, "rates", tmp_path / "none.csv"), 2, "No such file")
    refused(run(data, "rates", tmp_path), 2, "Is a directory")
    refused(run(tmp_path / "other", "rates", wrong), 2, "line 2: the rate '0'")
    assert not (tmp_path / "other").exists()
    assert (snapshot(data), current_tag(data)) == before
    file.write_text("Date, USD, JPY, \n20 November 2026, 1.1532, 178.05, \n")
    with zipfile.ZipFile(tmp_path / "eurofxref.zip", "w") as archive:
        archive.write(file, "eurofxref.csv")
    corrected = run(data, "rates", tmp_path / "eurofxref.zip")
    assert "1 day (2026-11-20); 2 currencies; 1 rate new; 1 corrected\n" in corrected.stdout
    assert "incremental build: version " in corrected.stdout
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as shown:
        found = shown.execute("SELECT day::VARCHAR, currency, per_eur::VARCHAR FROM reference_rate")
        assert sorted(found.fetchall()) == [
            ("1999-01-04", "EUR", "1.000000"),
            ("1999-01-04", "USD", "1.178900"),
            ("2026-11-20", "EUR", "1.000000"),
            ("2026-11-20", "JPY", "178.050000"),
            ("2026-11-20", "USD", "1.153200"),
        ]
    file.write_text("Date,USD\n2026-11-21,1153\n")
    refused(
        run(data, "rates", file), 2, f"{file}: the rate 1153 of USD on 2026-11-21 is 1,000 times"
    )
    assert "1 rate new\n" in run(data, "rates", "--accept-jumps", file).stdout
    removed = run(data, "rates", "--remove", "usd", "2026-11-21")
    assert removed.stdout.startswith(
        "the rate of USD on 2026-11-21 is removed\nincremental build: "
    )
    refused(run(data, "rates", "--remove", "USD", "2026-11-21"), 2, "no rate of USD on 2026-11-21")
    for given in ([], [file, "--remove", "USD", "2026-11-21"], ["--remove", "USD", "21.11.2026"]):
        assert run(data, "rates", *given).returncode == 2


def test_rates_beside_a_server(data: Path, feed: Path, tmp_path: Path) -> None:
    """It builds them by itself, and a page then converts."""
    run(data, "ingest", feed)
    file = tmp_path / "eurofxref.csv"
    file.write_text(f"Date,USD\n{NOW.date()},1.5\n{NOW.date() - timedelta(days=1)},1.5\n")
    address = f"/api/v1/products/{product_ids(data)[0]}"
    with serving(data, log=tmp_path / "log") as server:
        until(lambda: ready(server), "the server is ready")
        done = run(data, "rates", file)
        assert "a server is running" in done.stdout
        asked = {"currency": "USD"}
        page = until(
            lambda: (
                answer.json()
                if (answer := server.client.get(address, params=asked)).is_success
                else None
            ),
            "the rates are in service",
        )
    assert page["best"]["price"] == 14.985
    assert page["conversion"]["left_out"] == 0


def product_ids(data: Path) -> list[int]:
    folder = (data / "warehouse.duckdb").resolve().parent
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as file:
        rows = file.execute("SELECT product_id FROM offer ORDER BY sku").fetchall()
    return [row[0] for row in rows]


@contextmanager
def demo(data: Path, said: Path) -> Iterator[str]:
    """The demo while it serves: what it said so far."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = environment(data)
    del settings["PRICEPULSE_INGEST_KEY"]
    command = [*COMMAND, "demo", "--port", str(port), "--data", str(data)]
    with said.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=settings)

    def ready() -> bool:
        assert process.poll() is None, said.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=20).is_success
        except httpx.TransportError:
            return False

    try:
        until(ready, "the demo serves")
        yield said.read_text()
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    """It says what to open and what to send, and both work."""
    with demo(tmp_path / "demo", tmp_path / "said") as told:
        base = told.partition("/docs\n")[0].split()[-1]
        address = next(
            word for word in told.split() if word.startswith(base) and "/history" in word
        )
        before = httpx.get(address).json()["series"]
        assert len(before) > 3
        send_as_told(told)
        until(lambda: httpx.get(address).json()["series"] != before, "the price is in the history")
        after = httpx.get(address).json()["series"]
    with demo(tmp_path / "demo", tmp_path / "said") as told:
        assert "is used again" in told
        assert "made up" not in told
        again = next(word for word in told.split() if "/history" in word)
        assert httpx.get(again).json()["series"] == after


def send_as_told(told: str) -> None:
    """Run the lines that the demo prints, as they are, in a shell."""
    lines = told.partition("  printf")[2].partition("@-\n")
    sent = subprocess.run(["sh", "-c", "printf" + lines[0] + "@-"], capture_output=True, check=True)
    assert json.loads(sent.stdout)["accepted"] == 1, sent.stdout


def test_the_demo_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    first = feed_of(tmp_path)
    assert first is not None
    content = first.read_bytes()
    first.unlink()
    again = feed_of(tmp_path)
    assert again is not None
    assert again.read_bytes() == content


def test_the_demo_leaves_other_data_alone(data: Path, feed: Path) -> None:
    run(data, "ingest", feed)
    with pytest.raises(SettingsError, match="holds data that is no demo"):
        feed_of(data)
