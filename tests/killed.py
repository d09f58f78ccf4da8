"""What test_kill.py kills: a process that ingests, builds and tidies up until it is killed.

`python -m tests.killed` is the nursery: it imports everything once (0.7 s), then forks a child for
each folder named on its standard input. Nothing has started a thread before the fork.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobs import upkeep
from jobs.marts import MARTS
from pricepulse import pictures
from pricepulse.settings import Settings
from tests.pipeline import Pipeline, open_lake
from warehouse.batch import append
from warehouse.build import build
from warehouse.feed import open_feed
from warehouse.images import give_image
from warehouse.lake import Lake
from warehouse.versions import current_tag

START = datetime(2026, 1, 1, tzinfo=UTC)
REJECTED = 2
STEPS = {"append": 12, "build": 6, "full": 2, "picture": 4, "merge": 2, "remove": 1}


def feed(n: int) -> bytes:
    """The n-th batch: small enough for the catalog or large enough for a file; some rows late and
    two of them wrong. No two batches look at an offer at the same instant."""
    draw = random.Random(n)
    late = timedelta(days=20) if n % 5 == 4 else timedelta(0)
    moment = (START + timedelta(minutes=7 * n, seconds=n % 3) - late).isoformat()
    size = (30, 400, 150, 3000)[n % 4]
    rows = [
        f"shop-{i % 5},{i},{moment},{draw.randint(1000, 2000) / 100},EUR,Thing {i}"
        for i in range(size)
    ]
    rows += [f"shop-0,wrong-{i},{moment},nothing,EUR," for i in range(REJECTED)]
    return "\n".join(["retailer,sku,observed_at,price,currency,title", *rows, ""]).encode()


def content_of(n: int) -> str:
    return hashlib.sha256(feed(n)).hexdigest()


def send(folder: Path, lake: Lake, n: int) -> None:
    path = folder / "feed.csv"
    path.write_bytes(feed(n))
    append(lake, open_feed(path), content=content_of(n), now=datetime.now(UTC))


def give_picture(folder: Path, lake: Lake, draw: random.Random) -> None:
    """As the API does it: the file, then the lake; or the picture is taken away."""
    if current_tag(folder) is None:
        return
    products = Pipeline.reading(folder)
    found = products.query(
        "SELECT product_id FROM product ORDER BY hash(product_id + ?) LIMIT 1", draw.randrange(1000)
    )
    if not found:
        return  # a build before the first batch
    ((product,),) = found
    digest = None
    if draw.random() < 0.8:
        content = draw.randbytes(20_000)
        digest = hashlib.sha256(content).hexdigest()
        pictures.store(picture_file(folder, digest), content)
    give_image(lake, products.offers_of(product), digest, datetime.now(UTC))


def picture_file(folder: Path, digest: str) -> Path:
    return pictures.path_of(Settings.from_env({}, data=folder), pictures.PRODUCT, digest)


def work(folder: Path, acknowledged: int, seed: int) -> None:
    """Never returns. Each batch is acknowledged with a line; the first one sent is the first not
    acknowledged, which may be in the lake nevertheless."""
    draw = random.Random(seed)
    lake = open_lake(folder)
    tell("open")
    while True:
        step = draw.choices(list(STEPS), weights=list(STEPS.values()))[0]
        match step:
            case "append":
                send(folder, lake, acknowledged)
                acknowledged += 1
            case "picture":
                give_picture(folder, lake, draw)
            case "merge":
                upkeep.merge(lake)
            case "remove":
                upkeep.remove(folder, lake, timedelta(0))
            case _:
                build(folder, lake, MARTS, full=step == "full")
        tell(step)


def tell(what: object) -> None:
    os.write(1, f"{what}\n".encode())


def nursery() -> None:
    """For each line (seed, acknowledged, folder): the child's process id, its steps, and how it
    ended once it has."""
    for line in sys.stdin:
        seed, acknowledged, folder = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if child == 0:
            work(Path(folder), int(acknowledged), int(seed))
        tell(f"pid {child}")
        tell(f"ended {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    nursery()
