"""Pictures that operators give: which product shows which, whatever becomes of its offers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import upkeep
from tests.pipeline import NOW, Pipeline, open_lake
from tests.warehouse.test_build import (
    MAY,
    assert_content,
    assert_incremental_is_full,
    look,
    offer_id,
    product_of,
)
from warehouse import images

OURS = images.ADDRESS
GTINS = ("4006381333931", "96385074")
TEAS = 5
STEPS = ("give", "give", "give", "take", "link", "link", "unlink", "gtin")


def shop(sku: str) -> str:
    return f"https://shop.example/{sku}.png"


def tea(pipeline: Pipeline, *skus: str, key: str | None = None) -> None:
    """Offers in the order of their skus, each with a picture of its own."""
    about = {"product_key": key} if key else {}
    pipeline.put(
        [look(int(sku), "5", sku, title=f"Tea {sku}", image_url=shop(sku), **about) for sku in skus]
    )
    pipeline.build()


def shown(pipeline: Pipeline, sku: str) -> str | None:
    """The picture of the product that the offer is of."""
    rows = pipeline.query(
        "SELECT p.image_url FROM product AS p JOIN offer AS o USING (product_id) WHERE o.sku = ?",
        sku,
    )
    return str(rows[0][0]) if rows[0][0] else None


def give(pipeline: Pipeline, sku: str, image: str | None) -> None:
    """To the product that the offer is of in the file in service."""
    pipeline.give(pipeline.offers_of(product_of(pipeline, sku)), image)


def carriers(pipeline: Pipeline) -> list[tuple[int, str]]:
    rows = pipeline.lake.frame(f"SELECT offer_id, hash FROM ({images.NOW}) ORDER BY ALL").rows()
    return [(int(offer), str(image)) for offer, image in rows]


class Expected:
    """What products show, in plain Python: offers by their skus, the longest known first."""

    def __init__(self) -> None:
        self.carried: dict[str, tuple[int, str]] = {}
        self.given = 0

    def give(self, skus: list[str], image: str | None) -> None:
        before = {self.carried[sku][1] for sku in skus if sku in self.carried}
        if before == ({image} if image else set()):
            return
        for sku in skus:
            self.carried.pop(sku, None)
        self.given += 1
        if image:
            self.carried[min(skus)] = (self.given, image)

    def shown(self, skus: list[str]) -> str:
        last = max((self.carried[sku] for sku in skus if sku in self.carried), default=None)
        return OURS + last[1] if last else shop(min(skus))


def take_step(
    pipeline: Pipeline, expected: Expected, number: int, step: str, one: int, other: int
) -> None:
    sku = str(one)
    match step:
        case "give" | "take":
            offers = pipeline.offers_of(product_of(pipeline, sku))
            known = dict(pipeline.query("SELECT offer_id, sku FROM offer"))
            image = "abcde"[other] if step == "give" else None
            pipeline.give(offers, image)
            expected.give([known[offer] for offer in offers], image)
        case "link" | "unlink":
            target = product_of(pipeline, str(other)) if step == "link" else None
            pipeline.link(offer_id(pipeline, sku), target, MAY + timedelta(days=number))
        case _:
            pipeline.put([look(100 + number, "5", sku, gtin=GTINS[other % 2])])


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, TEAS - 1), st.integers(0, TEAS - 1)),
        min_size=5,
        max_size=14,
    )
)
def test_whatever_becomes_of_the_products(
    pipelines: Callable[[], Pipeline], steps: list[tuple[str, int, int]]
) -> None:
    """Offers are linked, get GTINs and are parted again while pictures are given and taken; not every
    step is built before the next."""
    pipeline, expected = pipelines(), Expected()
    tea(pipeline, *map(str, range(TEAS)))
    for number, (step, one, other) in enumerate(steps, 1):
        take_step(pipeline, expected, number, step, one, other)
        if number % 3 and number < len(steps):
            continue
        pipeline.build()
        products = "SELECT list(sku), p.image_url FROM offer JOIN product AS p USING (product_id) GROUP BY ALL"
        for skus, image in pipeline.query(products):
            assert image == expected.shown(skus), (skus, steps[:number])
    afresh = pipeline.beside("afresh")
    afresh.build(full=True)
    assert_content(pipeline.content(), afresh.content(), "of the incremental and the full build")


def test_it_takes_the_place_of_the_shops_and_goes_again(pipeline: Pipeline) -> None:
    tea(pipeline, "1", "2", key="A")
    assert shown(pipeline, "2") == shop("1")
    give(pipeline, "2", "a")
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == OURS + "a"
    assert carriers(pipeline) == [(offer_id(pipeline, "1"), "a")]
    # What is so already is not written again, and nothing is built.
    before = pipeline.lake.snapshot()
    give(pipeline, "1", "a")
    assert pipeline.lake.snapshot() == before
    assert pipeline.build().kind == "none"
    give(pipeline, "1", "b")
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == OURS + "b"
    # What an offer says of itself is still the shop's.
    pictures = "SELECT image_url FROM offer ORDER BY sku"
    assert pipeline.query(pictures) == [(shop("1"),), (shop("2"),)]
    give(pipeline, "1", None)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == shop("1")
    before = pipeline.lake.snapshot()
    give(pipeline, "2", None)
    assert pipeline.lake.snapshot() == before


def test_it_stays_when_the_product_gets_another_id(pipeline: Pipeline) -> None:
    tea(pipeline, "1", "2", "3", key="A")
    first = product_of(pipeline, "1")
    give(pipeline, "1", "a")
    pipeline.put([look(9, "5", "2", gtin=GTINS[0])])
    assert_incremental_is_full(pipeline)
    assert product_of(pipeline, "1") == product_of(pipeline, "3") != first
    assert shown(pipeline, "3") == OURS + "a"


def test_parted_the_offer_with_the_title_keeps_it(pipeline: Pipeline) -> None:
    """The others do not show what may be another thing; and what was taken away does not come back."""
    tea(pipeline, "1", "2", "3")
    for sku in "23":
        give(pipeline, sku, "old")
    pipeline.build()
    for sku in "23":
        pipeline.link(offer_id(pipeline, sku), product_of(pipeline, "1"), MAY)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == OURS + "old"
    give(pipeline, "1", "new")
    assert_incremental_is_full(pipeline)
    assert [shown(pipeline, sku) for sku in "123"] == [OURS + "new"] * 3
    pipeline.link(offer_id(pipeline, "2"), None, MAY + timedelta(days=1))
    assert_incremental_is_full(pipeline)
    assert [shown(pipeline, sku) for sku in "123"] == [OURS + "new", shop("2"), OURS + "new"]


def test_of_two_products_that_become_one_the_newer_picture_is_shown(pipeline: Pipeline) -> None:
    tea(pipeline, "1", "2")
    give(pipeline, "1", "a")
    give(pipeline, "2", "b")
    both = [pipeline.offers_of(product_of(pipeline, sku))[0] for sku in "12"]
    pipeline.link(both[1], product_of(pipeline, "1"), MAY)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == OURS + "b"
    give(pipeline, "2", None)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == shop("1")


def test_the_one_given_last_is_shown_whatever_the_clocks_say(pipeline: Pipeline) -> None:
    tea(pipeline, "1")
    offers = pipeline.offers_of(product_of(pipeline, "1"))
    pipeline.give(offers, "a", NOW + timedelta(days=1000))
    pipeline.give(offers, "b", NOW - timedelta(days=1000))
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == OURS + "b"


def test_two_writers_at_once(pipeline: Pipeline) -> None:
    """Each with a lake of its own, as processes have: one picture is left, the last one given."""
    tea(pipeline, "1", "2", key="A")
    offers = pipeline.offers_of(product_of(pipeline, "1"))

    def write(name: str) -> None:
        with closing(open_lake(pipeline.folder)) as lake:
            for number in range(10):
                images.give_image(lake, offers, f"{name}{number}", NOW)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "xy"))
    assert_incremental_is_full(pipeline)
    ((offer, image),) = carriers(pipeline)
    assert offer == offers[0]
    assert shown(pipeline, "1") == OURS + image
    assert image[1] == "9"
    given = pipeline.lake.frame("SELECT count(*), count(DISTINCT given_at) FROM lake.offer_image")
    assert given.row(0) == (20, 20)


def test_an_incremental_build_sees_it_after_upkeep(pipeline: Pipeline) -> None:
    tea(pipeline, "1")
    give(pipeline, "1", "a")
    upkeep.merge(pipeline.lake)
    upkeep.remove(pipeline.folder, pipeline.lake, timedelta(0))
    assert_incremental_is_full(pipeline)
    assert shown(pipeline, "1") == OURS + "a"


def test_what_the_build_in_service_shows_is_needed_until_the_next(pipeline: Pipeline) -> None:
    tea(pipeline, "1", "2")
    give(pipeline, "1", "a")
    give(pipeline, "2", "b")
    built = pipeline.build().version
    give(pipeline, "1", "c")
    give(pipeline, "2", None)
    assert images.needed(pipeline.lake, None) == {"c"}
    assert images.needed(pipeline.lake, built) == {"a", "b", "c"}
    assert images.needed(pipeline.lake, pipeline.build().version) == {"c"}


def test_a_lake_of_an_older_release_learns_of_pictures(pipeline: Pipeline) -> None:
    tea(pipeline, "1")
    with pipeline.lake.cursor() as cursor:
        cursor.execute("DROP TABLE lake.offer_image")
    with closing(open_lake(pipeline.folder)) as lake:
        images.give_image(lake, pipeline.offers_of(product_of(pipeline, "1")), "a", NOW)
    pipeline.build(full=True)
    assert shown(pipeline, "1") == OURS + "a"
