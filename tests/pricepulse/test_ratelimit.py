"""Token buckets, in memory and in the database: the same rules, whoever counts."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from pricepulse import migrations
from pricepulse.ratelimit import Counters, InMemory, Limit, client_key
from pricepulse.sealing import Sealer
from pricepulse.shared_counters import Counter, InDatabase
from pricepulse.store import Store

T = TypeVar("T")
SEALER = Sealer(b"a secret of the server")
SMALL = Limit("small", 5, 300)
LARGE = Limit("large", 500, 60)


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 20))
def test_no_minute_has_more_than_the_burst_and_the_refill(gaps: list[float], quota: int) -> None:
    limit, counters, now, allowed = Limit("one", quota, 60), InMemory(), 1000.0, []
    for gap in gaps:
        now += gap
        remaining, reset, wait = counters.take_at(limit, "one", now)
        assert 0 <= remaining < quota
        assert 0 <= reset <= 60
        if not wait:
            allowed.append(now)
        else:
            assert counters.take_at(limit, "one", now + wait).wait == 0
            counters.full_at["one"]["one"] -= limit.interval  # the question itself took one
    for start in allowed:
        assert sum(start <= each < start + 60 for each in allowed) <= 2 * quota


def test_the_table_of_clients_is_bounded() -> None:
    counters = InMemory(most=100)
    for i in range(1000):
        counters.take_at(SMALL, f"client {i}", 5.0)
        assert len(counters.full_at["small"]) <= 100
    assert client_key("2001:db8:1:2:3:4:5:6") == client_key("2001:db8:1:2::1")
    assert client_key("::ffff:192.0.2.1") == "192.0.2.1"


Work = Callable[[Store, Counters], Awaitable[T]]


def counting(url: str, kind: str, work: Work[T]) -> T:
    async def run() -> T:
        store = Store(url)
        try:
            counters: Counters = InMemory() if kind == "memory" else InDatabase(store, SEALER)
            return await work(store, counters)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.mark.parametrize("kind", ["memory", "database"])
def test_both_count_alike(database: str, kind: str) -> None:
    async def work(store: Store, counters: Counters) -> None:
        taken = [await counters.take(SMALL, "ann") for _ in range(6)]
        assert [(each.remaining, each.wait > 0) for each in taken] == [
            (4, False), (3, False), (2, False), (1, False), (0, False), (0, True),
        ]  # fmt: skip
        assert taken[0].reset == 60
        assert 55 <= taken[5].wait <= 60
        assert (await counters.take(SMALL, "bob")).remaining == 4
        assert (await counters.take(LARGE, "ann")).remaining >= 489
        async with store.begin(write=True) as db:
            await counters.give_back(SMALL, "ann", db, 2)
        again = [(await counters.take(SMALL, "ann")).wait > 0 for _ in range(3)]
        assert again == [False, False, True]

    counting(database, kind, work)


@pytest.mark.parametrize("limit", [SMALL, LARGE], ids=["one by one", "in parts"])
def test_two_processes_on_one_database_share_a_quota(database: str, limit: Limit) -> None:
    async def work(store: Store, _: Counters) -> list[bool]:
        processes = [InDatabase(store, SEALER), InDatabase(store, SEALER)]

        async def take(number: int) -> bool:
            return not (await processes[number % 2].take(limit, "ann")).wait

        waves = [await asyncio.gather(*map(take, range(20))) for _ in range(1 + limit.quota // 15)]
        return [allowed for wave in waves for allowed in wave]

    started = time.monotonic()
    allowed = sum(counting(database, "database", work))
    refilled = (time.monotonic() - started) / limit.interval
    # In parts, what two processes have taken and not spent may be missing.
    assert limit.quota * 0.95 - 1 <= allowed <= limit.quota + refilled + 1


def test_a_part_that_is_held_spares_the_database(database: str) -> None:
    async def work(store: Store, counters: Counters) -> None:
        assert isinstance(counters, InDatabase)
        for _ in range(10):
            await counters.take(LARGE, "ann")
        async with store.begin(write=False) as db:
            full_at = await db.scalar(select(Counter.full_at))
        assert full_at is not None
        assert full_at - time.time() <= 10 * LARGE.interval

    counting(database, "database", work)


def test_the_rows_tell_of_nobody(database: str) -> None:
    async def work(store: Store, counters: Counters) -> Any:
        await counters.take(SMALL, "ann@example.org 192.0.2.1")
        async with store.begin(write=True) as db:
            await db.execute(update(Counter).values(full_at=Counter.full_at))
            return await db.scalar(select(Counter.hash)), await db.scalar(func.count(Counter.hash))

    row, count = counting(database, "database", work)
    assert (len(row), count) == (32, 1)


def test_without_the_database_each_counts_for_itself() -> None:
    gone = "postgresql://nobody@127.0.0.1:9/nothing"

    async def work(_: Store, counters: Counters) -> list[bool]:
        return [(await counters.take(SMALL, "ann")).wait > 0 for _ in range(6)]

    assert counting(gone, "database", work) == [False] * 5 + [True]


def test_a_database_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    """Not one after another, either: a public price is behind each of these."""
    url = f"sqlite:///{tmp_path}/people.sqlite"
    migrations.upgrade(url)

    async def work(_: Store, counters: Counters) -> list[bool]:
        lock = sqlite3.connect(tmp_path / "people.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(3):
            asked = [counters.take(SMALL, f"client {number}") for number in range(20)]
            taken = [each.wait > 0 for each in await asyncio.gather(*asked)]
            taken += [(await counters.take(SMALL, "ann")).wait > 0 for _ in range(6)]
        lock.close()
        return taken

    assert counting(url, "database", work) == [False] * 25 + [True]
