"""The lake: whole batches, once each, whoever writes at the same time and whatever upkeep does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.pipeline import NOW, Pipeline, ndjson, open_lake
from warehouse import staged
from warehouse.batch import Batch, IdempotencyConflict
from warehouse.feed import FeedError
from warehouse.lake import INLINE_ROWS

ROOT = Path(__file__).parents[2]
TABLES = ("observation", "offer_detail", "offer", "batch", "rejected", "offer_link")
START = datetime(2026, 5, 1)
Row = dict[str, Any]

# Text that quoting, escaping or a text-typed catalog might change.
AWKWARD = [
    'O\'Neill "best" \\ back\\n',
    "line\nbreak\ttab",
    "NULL",
    "null",
    "{a: 1, 'b'}",
    "100 % 茶 🍵 é e\u0301",
    "0012",
    "x'00ff'",
    "a\u2028b",
    ', ; | \' "" `',
    "%s ? $1 {}",
]


def rows(count: int, first: int = 0) -> list[Row]:
    return [
        {
            "retailer": "shop",
            "sku": str(first + number),
            "observed_at": START + timedelta(seconds=first + number, microseconds=1),
            "price": Decimal(1) + Decimal(number) / 10_000,
            "currency": "EUR",
            "title": f"{AWKWARD[number % len(AWKWARD)]} {number}",
            "shipping": "4.95" if number % 3 == 0 else None,
        }
        for number in range(count)
    ]


def counts(pipeline: Pipeline) -> dict[str, int]:
    return {
        table: pipeline.lake.frame(f"SELECT count(*) FROM lake.{table}").item() for table in TABLES
    }


def all_rows(pipeline: Pipeline) -> dict[str, list[str]]:
    return {
        table: sorted(map(repr, pipeline.lake.frame(f"FROM lake.{table}").rows()))
        for table in TABLES
    }


def rejected(pipeline: Pipeline, batch: Batch) -> list[tuple[Any, ...]]:
    return pipeline.lake.frame(
        "SELECT line, field, rule, value, kept FROM lake.rejected WHERE batch_id = ? ORDER BY ALL",
        [batch.batch_id],
    ).rows()


# One batch


def test_a_batch_is_one_snapshot_with_everything_of_it(pipeline: Pipeline) -> None:
    before = pipeline.lake.snapshot()
    given = [*rows(5), {**rows(1)[0], "price": "-1"}, {**rows(1)[0], "gtin": "123"}]
    batch = pipeline.put(given, source="a test")
    assert pipeline.lake.snapshot() == before + 1
    assert (batch.rows, batch.accepted, batch.rejected, batch.new_offers) == (7, 6, 1, 5)
    assert batch.rejected_by_rule == {"bad_gtin": 1, "not_above_zero": 1}
    assert rejected(pipeline, batch) == [
        (6, "price", "not_above_zero", "-1", False),
        (7, "gtin", "bad_gtin", "123", True),
    ]
    assert counts(pipeline) | {"offer_detail": 6} == {
        "observation": 6, "offer_detail": 6, "offer": 5, "batch": 1, "rejected": 2, "offer_link": 0,
    }  # fmt: skip


def test_a_refused_feed_leaves_the_lake_as_it_was(pipeline: Pipeline) -> None:
    """Also when the fault is at the end, after much has been staged."""
    pipeline.put(rows(3))
    before, snapshot = all_rows(pipeline), pipeline.lake.snapshot()
    good = ndjson(rows(40_000))
    with pytest.raises(FeedError):
        pipeline.put_text(good + '{"retailer": "shop", "sku": \n', chunk_rows=10_000)
    assert (all_rows(pipeline), pipeline.lake.snapshot()) == (before, snapshot)
    assert list(Path(pipeline.lake.data_url).rglob("*.parquet")) == []
    assert pipeline.put_text(good).accepted == 40_000


def test_the_same_file_twice_is_one_batch(pipeline: Pipeline) -> None:
    for count in (3, INLINE_ROWS + 100):
        first = pipeline.put(rows(count))
        before, snapshot = all_rows(pipeline), pipeline.lake.snapshot()
        again = pipeline.put(rows(count))
        assert again.duplicate
        assert not first.duplicate
        assert (again.batch_id, again.rows, again.accepted) == (first.batch_id, count, count)
        assert again.received_at == first.received_at
        assert (all_rows(pipeline), pipeline.lake.snapshot()) == (before, snapshot)


def test_an_idempotency_key_stands_for_its_content(pipeline: Pipeline) -> None:
    first = pipeline.put(rows(3), idempotency_key="k")
    assert pipeline.put(rows(3), idempotency_key="k").batch_id == first.batch_id
    with pytest.raises(IdempotencyConflict, match="'k' was used before for other content"):
        pipeline.put(rows(4), idempotency_key="k")
    assert counts(pipeline)["batch"] == 1
    assert pipeline.put(rows(4), idempotency_key="other").new_offers == 1
    # Known content under another key is the batch it was; the first key keeps its meaning.
    assert pipeline.put(rows(4), idempotency_key="third").duplicate
    with pytest.raises(IdempotencyConflict):
        pipeline.put(rows(4), idempotency_key="k")


def test_a_key_that_was_answered_with_a_known_batch_is_used(pipeline: Pipeline) -> None:
    pipeline.put(rows(3))
    assert pipeline.put(rows(3), idempotency_key="k").duplicate
    with pytest.raises(IdempotencyConflict):
        pipeline.put(rows(4), idempotency_key="k")


@pytest.mark.parametrize("count", [1, INLINE_ROWS - 1, INLINE_ROWS, 3 * INLINE_ROWS])
def test_few_rows_and_many_read_back_the_same(pipeline: Pipeline, count: int) -> None:
    """In the catalog or in Parquet: every value comes back as it was delivered."""
    given = rows(count)
    batch = pipeline.put(given)
    inlined = not list(Path(pipeline.lake.data_url).glob("main/observation/*.parquet"))
    assert inlined == (count < INLINE_ROWS)
    found = pipeline.lake.frame(
        "SELECT o.sku, b.observed_at, b.price, b.list_price, b.currency, b.availability, b.line, "
        "d.title, d.shipping, d.first_seen_at, d.last_seen_at, d.brand, d.condition, b.batch_id "
        "FROM lake.observation AS b JOIN lake.offer AS o USING (offer_id) "
        "JOIN lake.offer_detail AS d USING (offer_id) ORDER BY b.line"
    )
    assert found["price"].dtype == pl.Decimal(18, 4)
    assert found.rows() == [
        (
            row["sku"], row["observed_at"], row["price"], None, "EUR", "InStock", line,
            row["title"], row["shipping"] and Decimal(row["shipping"]), row["observed_at"],
            row["observed_at"], None, "new", batch.batch_id,
        )
        for line, row in enumerate(given, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("held_back", [0, 500_000])
@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 1_000_000])
def test_details_fold_runs_and_keep_what_was_said_when(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, chunk_rows: int, held_back: int
) -> None:
    monkeypatch.setattr(staged, "MOST_OPEN_DETAILS", held_back)
    titles = ["a", "a", None, "b", "b", "a"]
    given = [
        rows(1)[0] | {"observed_at": START + timedelta(days=day), "title": title}
        for day, title in enumerate(titles)
    ]
    # Another offer's promotion comes and goes: what the first one says stays the same.
    other = rows(1, first=1)[0]
    for day in range(6):
        seen = {"observed_at": START + timedelta(days=day), "promotion": "2 for 1" * (day % 2)}
        given.insert(2 * day + 1, other | seen)
    pipeline.put(given, chunk_rows=2 * chunk_rows)
    found = pipeline.lake.frame(
        "SELECT first_seen_at, last_seen_at, d.title FROM lake.offer_detail AS d "
        "JOIN lake.offer AS o USING (offer_id) WHERE o.sku = ? ORDER BY 1",
        [rows(1)[0]["sku"]],
    ).rows()
    days = [((first - START).days, (last - START).days, title) for first, last, title in found]
    if held_back or chunk_rows > len(titles):
        assert days == [(0, 1, "a"), (2, 2, None), (3, 4, "b"), (5, 5, "a")]
    # However it is cut, each day has the title of that day.
    said = [(day, title) for first, last, title in days for day in range(first, last + 1)]
    assert said == list(enumerate(titles))


# Two prices for one offer at one instant


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 7, 1_000_000])
def test_two_prices_at_one_instant_are_reported(pipeline: Pipeline, chunk_rows: int) -> None:
    """Lines 1, 2 and 6 tell of one instant, and the last of them wins; line 4 repeats line 3."""
    at = [(0, "10"), (0, "11"), (1, "12"), (1, "12"), (2, "13"), (0, "9"), (3, "14"), (2, "13.5")]
    given = [
        rows(1)[0] | {"observed_at": START + timedelta(days=day), "price": price}
        for day, price in at
    ]
    other = rows(1, first=1)[0] | {"observed_at": START}
    batch = pipeline.put([*given, other], chunk_rows=chunk_rows)
    rule = "two_prices_one_instant"
    assert rejected(pipeline, batch) == [
        (1, "price", rule, "10.0000", False),
        (2, "price", rule, "11.0000", False),
        (5, "price", rule, "13.0000", False),
    ]
    assert (batch.accepted, batch.rejected, batch.rejected_by_rule) == (6, 3, {rule: 3})
    pipeline.build()
    prices = pipeline.query("SELECT price FROM price_spell ORDER BY offer_id, first_observed_at")
    assert sorted(prices) == sorted((Decimal(p),) for p in ("9", "12", "13.5", "14", "1"))
    assert pipeline.query("SELECT line FROM superseded ORDER BY 1") == [(1,), (2,), (5,)]


def test_another_currency_at_one_instant_is_another_price(pipeline: Pipeline) -> None:
    row = rows(1)[0]
    batch = pipeline.put([row | {"currency": "CHF"}, row, row | {"availability": "OutOfStock"}])
    assert [line for line, *_ in rejected(pipeline, batch)] == [1]
    pipeline.build()
    assert pipeline.query("SELECT currency, availability FROM price_spell") == [
        ("EUR", "OutOfStock")
    ]


# Writers side by side


WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
from tests.pipeline import NOW, open_lake, ndjson
from tests.warehouse.test_lake import rows
from warehouse import batch
from warehouse.feed import open_feed
folder, name, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
lake = open_lake(folder)
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    path = folder / f"{name}-{number}"
    # Even batches are the writer's own, some inlined and some files; odd ones both deliver.
    own = number % 2 == 0
    count = 300 if number % 4 < 2 else 5
    path.write_text(ndjson(rows(count, first=(seed if own else 50) * 10_000 + number * 1000)))
    done = batch.append(lake, open_feed(path), content=batch.content_hash(path),
                        now=NOW + timedelta(seconds=number))
    print(done.batch_id, done.accepted, done.duplicate, flush=True)
"""


def start_writer(pipeline: Pipeline, name: str, seed: int) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(pipeline.folder), name, str(seed)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_two_processes_append_at_once_and_lose_nothing(pipeline: Pipeline) -> None:
    """10 batches each: 5 of their own, 5 that the other one delivers too."""
    writers = [start_writer(pipeline, name, seed) for seed, name in enumerate(("a", "b"))]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    answers = []
    for writer in writers:
        out, error = writer.communicate(timeout=120)
        assert (writer.returncode, error) == (0, "")
        answers += [line.split() for line in out.splitlines()]
    assert len(answers) == 20
    ids = {int(answer[0]) for answer in answers}
    assert (
        sorted(ids)
        == pipeline.lake.frame("FROM lake.batch ORDER BY batch_id")["batch_id"].to_list()
    )
    assert len(ids) == 15
    assert sum(answer[2] == "True" for answer in answers) == 5
    sizes = [300 if number % 4 < 2 else 5 for number in range(10)]
    expected = sum(sizes[::2]) * 2 + sum(sizes[1::2])
    found = counts(pipeline)
    assert (found["observation"], found["offer"], found["batch"]) == (expected, expected, 15)
    per_batch = pipeline.lake.frame(
        "SELECT accepted, (SELECT count(*) FROM lake.observation AS o WHERE o.batch_id = b.batch_id) "
        "AS there FROM lake.batch AS b"
    )
    assert per_batch["accepted"].to_list() == per_batch["there"].to_list()
    assert_files_are_all_referred_to(pipeline)
    pipeline.build()
    assert pipeline.query("SELECT observations FROM build") == [(expected,)]


def test_threads_append_at_once(pipeline: Pipeline) -> None:
    """A server's uploads: one Lake, several threads, the same offers."""
    errors: list[BaseException] = []

    def deliver(seed: int) -> None:
        mine = Pipeline(pipeline.folder / f"thread-{seed}", pipeline.lake, delivered=seed * 100)
        try:
            for number in range(4):
                mine.put([r | {"price": f"{seed + 1}.{number + 1}"} for r in rows(150 + 50 * seed)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=deliver, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = counts(pipeline)
    assert (found["batch"], found["observation"]) == (12, 4 * (150 + 200 + 250))
    pipeline.build()
    assert pipeline.query("SELECT count(*), min(price), max(price) FROM offer") == [
        (250, Decimal("3.4"), Decimal("3.4"))
    ]


def assert_files_are_all_referred_to(pipeline: Pipeline) -> None:
    """Staged files are the lake's or they are gone."""
    known = pipeline.lake.frame(
        " UNION ALL ".join(
            f"SELECT data_file FROM ducklake_list_files('lake', '{t}')" for t in TABLES
        )
    )["data_file"]
    there = {str(path) for path in Path(pipeline.lake.data_url).rglob("*.parquet")}
    assert there == set(known)


# Upkeep


def test_upkeep_keeps_every_row_and_incremental_builds_right(pipeline: Pipeline) -> None:
    """Build, batches, merge, expire, orphans, and again: as a year of small batches would be."""
    chance = random.Random(5)
    day = 0
    pipeline.put(rows(2))
    pipeline.build()
    for round_ in range(3):
        for size in (3, INLINE_ROWS + 50, 40):
            day += 1
            given = [
                row | {"observed_at": START + timedelta(days=day - chance.choice([0, 0, 0, 2.5]))}
                for row in rows(size)
            ]
            pipeline.put([row | {"price": str(chance.choice([5, 6, 7]))} for row in given])
        before, built_from = all_rows(pipeline), pipeline.query("SELECT version FROM build")[0][0]
        pipeline.lake.merge_small_files()
        assert all_rows(pipeline) == before
        if round_ != 1:
            pipeline.lake.expire(datetime(2100, 1, 1, tzinfo=UTC), built_from)
        old = time.time() - 3 * 86400
        for path in Path(pipeline.lake.data_url).rglob("*.parquet"):
            os.utime(path, (old, old))
        orphan = Path(pipeline.lake.data_url) / "main/observation/1-00000.parquet"
        orphan.write_bytes(b"left by a crash")
        os.utime(orphan, (old, old))
        pipeline.lake.remove_orphans()
        assert not orphan.exists()
        assert all_rows(pipeline) == before
        assert pipeline.build().kind == "incremental"
        afresh = pipeline.beside("afresh")
        afresh.build(full=True)
        assert pipeline.content() == afresh.content()
        assert pipeline.build().kind == "none"
    reopened = open_lake(pipeline.folder)
    assert reopened.frame("FROM lake.observation").height == sum([3, INLINE_ROWS + 50, 40]) * 3 + 2
    reopened.close()


def test_merging_makes_few_files_of_many(pipeline: Pipeline) -> None:
    for number in range(6):
        pipeline.put(rows(INLINE_ROWS + number, first=number * 1000))
    for number in range(6):
        pipeline.put(rows(10 + number, first=20_000 + number * 100))
    before = all_rows(pipeline)
    assert pipeline.lake.merge_small_files() > 0
    for table in ("observation", "offer_detail", "offer"):
        files = pipeline.lake.frame(f"FROM ducklake_list_files('lake', '{table}')").height
        assert files <= 2, table
    assert all_rows(pipeline) == before


def test_a_staging_batch_is_no_orphan(pipeline: Pipeline) -> None:
    """Files younger than a day may belong to a batch that is still being read."""
    young = Path(pipeline.lake.data_url) / "main/observation/1-00000.parquet"
    young.parent.mkdir(parents=True)
    young.write_bytes(b"of a batch on its way")
    pipeline.lake.remove_orphans()
    assert young.exists()


def test_expire_keeps_what_the_next_build_needs(pipeline: Pipeline) -> None:
    pipeline.put(rows(2))
    pipeline.build()
    kept = pipeline.lake.snapshot()
    pipeline.put(rows(3))
    pipeline.put(rows(4))
    pipeline.lake.expire(datetime.now(UTC) + timedelta(days=1), kept)
    assert pipeline.build().kind == "incremental"
    assert pipeline.query("SELECT count(*) FROM offer") == [(4,)]


# Where it lies


@pytest.mark.parametrize("name", ["we [1] x", "50 % *", "it's", "täglich 茶"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    pipeline = Pipeline(tmp_path / name)
    pipeline.put(rows(3))
    pipeline.put(rows(INLINE_ROWS + 1))
    pipeline.build()
    assert pipeline.query("SELECT count(*) FROM offer") == [(INLINE_ROWS + 1,)]
    pipeline.lake.merge_small_files()
    assert counts(pipeline)["observation"] == INLINE_ROWS + 4


def test_the_folder_can_be_moved_and_named_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup restored elsewhere; ./data in one shell and the whole path in the next."""
    first = Pipeline(tmp_path / "here")
    first.put(rows(3))
    first.put(rows(INLINE_ROWS + 1))
    first.build()
    before = all_rows(first)
    first.lake.close()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Pipeline(tmp_path / "there", delivered=10)
    assert all_rows(moved) == before
    moved.put(rows(INLINE_ROWS + 2))
    assert moved.build().kind == "incremental"
    moved.lake.close()
    monkeypatch.chdir(tmp_path)
    relative = Pipeline(Path("there"), delivered=20)
    assert counts(relative)["batch"] == 3
    relative.put(rows(INLINE_ROWS + 3))
    relative.lake.close()
    monkeypatch.chdir("/")
    assert counts(Pipeline(tmp_path / "there"))["observation"] == 3 * INLINE_ROWS + 9


def test_batches_are_found_by_the_time_they_came(pipeline: Pipeline) -> None:
    """Delivery order is the order of batch ids, whatever the time of observation."""
    ids = [pipeline.put(rows(1, first=number)).batch_id for number in (3, 1, 2)]
    assert ids == sorted(ids)
    received = pipeline.lake.frame("SELECT received_at FROM lake.batch ORDER BY batch_id")
    expected = [NOW.replace(tzinfo=None) + timedelta(seconds=n) for n in (1, 2, 3)]
    assert received["received_at"].to_list() == expected
