"""Search on the 2,526 real products, and on small frames made for a rule."""

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.search import (
    Filters,
    SearchIndex,
    SearchIndexError,
    Suggestion,
    update_index,
    write_index,
)

GROCERIES = Path(__file__).parents[2] / "../shared/data/groceries.parquet"
NO = Filters()
SCHEMA: dict[str, Any] = {
    "product_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "gtin": pl.String,
    "gtins": pl.List(pl.String),
    "category": pl.String,
    "category_slugs": pl.List(pl.String),
    "brand_slug": pl.String,
    "retailers": pl.List(pl.String),
    "availability": pl.List(pl.String),
    "currency": pl.String,
    "price": pl.Decimal(18, 4),
    "offers": pl.Int64,
    "first_seen_at": pl.Datetime("us"),
}


def slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def number_id(number: int) -> str:
    return f"{number:08x}{0:08x}"


def product(number: int, title: str | None, **fields: Any) -> dict[str, Any]:
    brand, category = fields.get("brand"), fields.get("category")
    levels = category.split(" > ") if category else []
    row = {
        "product_id": number_id(number),
        "title": title,
        "gtins": [],
        "category_slugs": [slug(" ".join(levels[: at + 1])) for at in range(len(levels))],
        "brand_slug": slug(brand) if brand else None,
        "retailers": ["shop"],
        "availability": ["InStock"],
        "currency": "HKD",
        "price": Decimal(10),
        "offers": 1,
    }
    return row | fields


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA)


def made(folder: Path, *rows: dict[str, Any]) -> SearchIndex:
    write_index(folder, frame(*rows))
    return SearchIndex.open(folder)


def found(index: SearchIndex, text: str, filters: Filters = NO) -> list[str]:
    return [hit.product_id for hit in index.search(text, filters, limit=10_000, offset=0).hits]


def numbers(index: SearchIndex, text: str, filters: Filters = NO) -> list[int]:
    return [int(product_id[:8], 16) for product_id in found(index, text, filters)]


@pytest.fixture(scope="module")
def groceries() -> pl.DataFrame:
    """One row a product of the real data, with a second currency and stock-outs put in."""
    last = (
        pl.scan_parquet(GROCERIES)
        .group_by("product_key")
        .agg(
            pl.col("title", "brand", "category").sort_by("observed_at").last(),
            pl.col("price").sort_by("observed_at").last(),
            retailers=pl.col("retailer").unique().sort(),
        )
    )
    rows = []
    for at, row in enumerate(last.sort("product_key").collect().iter_rows(named=True)):
        digest = hashlib.blake2b(row["product_key"].encode(), digest_size=4).digest()
        rows.append(
            product(
                int.from_bytes(digest),
                row["title"],
                brand=row["brand"],
                category=row["category"],
                retailers=row["retailers"],
                offers=len(row["retailers"]),
                price=row["price"] if at % 17 else None,
                currency="USD" if at % 5 == 0 else "HKD",
                availability=["OutOfStock"] if at % 7 == 0 else ["InStock", "LimitedAvailability"],
                gtin=f"{at:014d}" if at % 2 else None,
                gtins=[f"{at:014d}", f"{at + 10**13:014d}"] if at % 2 else [],
            )
        )
    return frame(*rows)


@pytest.fixture(scope="module")
def real(groceries: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> SearchIndex:
    folder = tmp_path_factory.mktemp("search") / "real"
    write_index(folder, groceries)
    return SearchIndex.open(folder)


@pytest.mark.parametrize(
    ("text", "all_of_first", "among_first_5"),
    [
        ("dove", 5, "Dove "),
        ("nestle", 5, "Nestle "),
        ("NESTLÉ", 5, "Nestle "),
        ("lee kum kee oyster", 2, "Lee Kum Kee .*Oyster"),
        ("oyster lee kum kee", 2, "Lee Kum Kee .*Oyster"),
        ("chocolte", 3, "(?i)choco"),
        ("pampres diapers", 3, "Pampers .*Diapers|Pampers .*Pants"),
        ("Kellogs corn flakes", 0, "Kellogg's Classic Corn Flakes"),
        ("cocacola zero", 4, "Coca Cola .*Zero"),
        ("7up", 2, "7 Up"),
        ("toothpast", 5, "(?i)toothpaste"),
        ("eau minerale", 2, "Eau Minérale"),
        ("雜菜", 1, "雜菜粒"),
        ("朱古力", 1, "黑朱古力"),
        ("arnotts tim tam", 1, "Arnott's Tim Tam"),
        ("sanitary napkins", 0, "Pad"),
        ("s26 gold", 4, "S-26 Gold"),
        ("heinekin", 5, "Heineken"),
        ("Snickers Peanut Chocolate 51 g", 1, "Snickers Peanut Chocolate 51g"),
        ("Glad Double Lock Bag (Gallon) 40pcs", 1, r"Glad Double Lock Bag \(Gallon\) 40pcs"),
    ],
)
def test_what_people_type_comes_first(
    real: SearchIndex, groceries: pl.DataFrame, text: str, all_of_first: int, among_first_5: str
) -> None:
    titles = dict(groceries.select("product_id", "title").iter_rows())
    page = [titles[product_id] for product_id in found(real, text)]
    assert any(re.search(among_first_5, title) for title in page[:5]), page[:5]
    assert all(re.search(among_first_5, title) for title in page[:all_of_first]), page[:5]


def test_a_gtin_in_any_of_its_lengths_finds_the_product(tmp_path: Path) -> None:
    index = made(
        tmp_path / "s",
        product(1, "Tea", gtin="04006381333931", gtins=["04006381333931", "00000096385074"]),
        product(2, "Coffee 96385074 4006381333931"),
    )
    for typed in ("4006381333931", "04006381333931", "4006381-333931", " 96385074", "000096385074"):
        assert numbers(index, typed)[0] == 1, typed
    assert index.search("4006381333931", NO, limit=1, offset=0).hits[0].score == 100
    assert numbers(index, "4006381333932") == []


def test_better_matches_stand_above_worse_ones_whatever_their_offers(tmp_path: Path) -> None:
    index = made(
        tmp_path / "s",
        product(1, "Green tea", offers=1),
        product(2, "Green tea bags", offers=2),
        product(3, "Fine green tea", offers=3),
        product(4, "Tea, green", offers=4),
        product(5, "Green leaves", category="Drinks > Tea", offers=5),
        product(6, "Green teapot", offers=6),
        product(7, "Grene tea", offers=7),
        product(8, "Green soap", offers=8),
        product(9, "Coffee", offers=9),
    )
    assert numbers(index, "green tea") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers(index, "GREEN   tea!") == [1, 2, 3, 4, 5, 6, 7, 8]


def test_equal_matches_are_ordered_by_offers_then_product_id(tmp_path: Path) -> None:
    offers = [3, 9, 3, 1, 9, 200, 5000]
    rows = [product(at, f"Milk {at}", offers=count) for at, count in enumerate(offers)]
    index = made(tmp_path / "s", *reversed(rows))
    assert numbers(index, "milk") == [6, 5, 1, 4, 0, 2, 3]
    pages = [index.search("milk", NO, limit=2, offset=at) for at in range(0, 8, 2)]
    assert [int(hit.product_id[:8], 16) for page in pages for hit in page.hits] == [
        6,
        5,
        1,
        4,
        0,
        2,
        3,
    ]
    assert {page.total for page in pages} == {7}
    assert index.search("milk", NO, limit=0, offset=0).total == 7


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("cafe creme", True),
        ("CAFÉ CRÈME", True),
        ("cafe\u0301", True),
        ("ｃａｆｅ", True),
        ("牛奶", True),
        ("維他", True),
        ("維他牛奶", True),  # not in this order side by side: both are there
        ("茶葉", False),
        ("우유", True),
        ("смета", True),
        ("bottled", True),
        ("500", True),
        ("500 ml", True),
        ("600ml", False),
    ],
)
def test_scripts_accents_and_sizes(tmp_path: Path, text: str, hit: bool) -> None:
    titles = ["Café Crème", "維他低脂牛奶", "서울우유 팩", "Сметана", "Bottle 500mL"]
    index = made(tmp_path / "s", *(product(at, title) for at, title in enumerate(titles)))
    assert bool(numbers(index, text)) is hit


def brute_force(rows: list[dict[str, Any]], filters: Filters) -> list[dict[str, Any]]:
    def keeps(row: dict[str, Any]) -> bool:
        price = row["price"]
        return (
            (filters.category is None or filters.category in row["category_slugs"])
            and (filters.brand is None or filters.brand == row["brand_slug"])
            and (filters.retailer is None or filters.retailer in row["retailers"])
            and (filters.availability is None or filters.availability in row["availability"])
            and (filters.currency is None or filters.currency == row["currency"])
            and (filters.min_price is None or (price is not None and price >= filters.min_price))
            and (filters.max_price is None or (price is not None and price <= filters.max_price))
        )

    return [row for row in rows if keeps(row)]


def top(counted: Iterator[str], most: int) -> list[tuple[str, int]]:
    return sorted(Counter(counted).items(), key=lambda pair: (-pair[1], pair[0]))[:most]


ALL_FILTERS = [
    NO,
    Filters(category="dairy-soy-products-eggs"),
    Filters(category="dairy-soy-products-eggs-milk-milk-drinks"),
    Filters(category="nowhere"),
    Filters(brand="nestle"),
    Filters(retailer="aeon", availability="OutOfStock"),
    Filters(currency="HKD", min_price=Decimal(20), max_price=Decimal("49.9")),
    Filters(currency="USD", max_price=Decimal("36.90004")),
    Filters(currency="USD", min_price=Decimal("36.89999")),
    Filters(currency="HKD", min_price=Decimal(5), max_price=Decimal(4)),
    Filters(currency="HKD", min_price=Decimal("1e40")),
]


@pytest.mark.parametrize("filters", ALL_FILTERS)
@pytest.mark.parametrize("text", ["milk", "o", "chocolte", "nestle milk powder", "g"])
def test_filters_and_facets_are_counted_exactly(
    real: SearchIndex, groceries: pl.DataFrame, text: str, filters: Filters
) -> None:
    unfiltered = set(found(real, text))
    rows = [row for row in groceries.iter_rows(named=True) if row["product_id"] in unfiltered]
    assert len(rows) == len(unfiltered) >= 10
    expected = brute_force(rows, filters)
    assert set(found(real, text, filters)) == {row["product_id"] for row in expected}
    assert real.search(text, filters, limit=1, offset=0).total == len(expected)
    facets = real.facets(text, filters, top=7)
    assert facets.categories == top((s for row in expected for s in row["category_slugs"]), 7)
    assert facets.brands == top((row["brand_slug"] for row in expected), 7)
    assert facets.retailers == top((s for row in expected for s in row["retailers"]), 7)
    priced = [(row["currency"], row["price"]) for row in expected if row["price"] is not None]
    assert sum(part.count for part in facets.prices) == len(priced)
    for part in facets.prices:
        inside = [
            1
            for currency, price in priced
            if currency == part.currency and part.low <= price < part.high
        ]
        assert part.count == len(inside)


@pytest.mark.parametrize("text", ["milk", "choc", "rice", "pampers", "beer can"])
def test_hits_are_the_products_with_these_words(
    real: SearchIndex, groceries: pl.DataFrame, text: str
) -> None:
    *whole, begun = text.split()
    expected = set()
    for row in groceries.iter_rows(named=True):
        words = re.findall("[a-z]+", f"{row['title']} {row['brand']} {row['category']}".lower())
        if set(whole) <= set(words) and any(word.startswith(begun) for word in words):
            expected.add(row["product_id"])
    assert len(expected) >= 10
    assert set(found(real, text)) == expected


def test_suggestions_complete_brands_categories_and_products(tmp_path: Path) -> None:
    phones = "Electronics > Phones"
    index = made(
        tmp_path / "s",
        product(1, "Samsung Galaxy S24", brand="Samsung", category=phones, offers=3),
        product(2, "Samsung Galaxy A15", brand="Samsung", category=phones, offers=2),
        product(3, "Sample tea", brand="Acme", category="Food > Tea"),
    )
    brand = Suggestion("brand", "Samsung", "samsung")
    galaxies = [
        Suggestion("product", "Samsung Galaxy S24", number_id(1)),
        Suggestion("product", "Samsung Galaxy A15", number_id(2)),
    ]
    assert index.suggest("sam", 4) == [
        brand,
        *galaxies,
        Suggestion("product", "Sample tea", number_id(3)),
    ]
    assert index.suggest("samsung gal", 2) == galaxies
    assert index.suggest("samsng", 3) == [brand, *galaxies]
    assert index.suggest("elec", 3)[0] == Suggestion("category", "Electronics", "electronics")
    phone = Suggestion("category", phones, "electronics-phones")
    assert index.suggest("pho", 9) == [phone, *galaxies]
    assert index.suggest("sam", 1) == [brand]
    assert index.suggest("", 5) == index.suggest("((", 5) == index.suggest("sam", 0) == []


def test_missing_values_are_left_out(tmp_path: Path) -> None:
    bare = product(1, None, price=None, currency=None, retailers=[], availability=[])
    index = made(tmp_path / "s", bare, product(2, "Tea"), product(3, "", brand="Tea house"))
    assert numbers(index, "tea") == [2, 3]
    assert made(tmp_path / "none").search("tea", NO, limit=5, offset=0).total == 0


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


QUERIES = [
    "milk",
    "nestle",
    "chocolte",
    "lee kum kee",
    "cocacola",
    "500",
    "雜菜",
    "g",
    "zzz",
    "new",
]


def test_an_updated_index_answers_like_a_fresh_one(
    real: SearchIndex, groceries: pl.DataFrame, tmp_path: Path
) -> None:
    before = groceries.head(2000)
    after = groceries[150:].with_columns(
        title=pl.when(pl.int_range(pl.len()) % 9 == 0)
        .then(pl.concat_str(pl.lit("New "), "title"))
        .otherwise("title"),
        offers=pl.col("offers") + pl.int_range(pl.len()) % 3,
    )
    write_index(tmp_path / "old", before)
    old, files = SearchIndex.open(tmp_path / "old"), snapshot(tmp_path / "old")
    answers = [old.search(text, NO, limit=50, offset=0) for text in QUERIES]
    changed = after.join(groceries, on=groceries.columns, how="anti", nulls_equal=True)
    changed = pl.concat([changed, after[1850:]]).unique("product_id", maintain_order=True)
    removed = groceries["product_id"][:150].to_list()
    update_index(tmp_path / "old", tmp_path / "updated", changed, removed)
    write_index(tmp_path / "fresh", after)
    updated, fresh = (SearchIndex.open(tmp_path / name) for name in ("updated", "fresh"))
    for text in QUERIES:
        for filters in ALL_FILTERS:
            assert updated.search(text, filters, limit=3000, offset=0) == fresh.search(
                text, filters, limit=3000, offset=0
            )
            assert updated.facets(text, filters) == fresh.facets(text, filters)
        assert updated.suggest(text, 9) == fresh.suggest(text, 9)
    assert snapshot(tmp_path / "old") == files
    assert [old.search(text, NO, limit=50, offset=0) for text in QUERIES] == answers


def test_200_updates_in_a_row_leave_a_bounded_index(tmp_path: Path) -> None:
    """A year of updates every minute must not grow: files and space stay near a fresh index's."""
    rows = [product(at, f"Milk number {at}", brand="Dairy") for at in range(2000)]
    write_index(tmp_path / "0", frame(*rows))
    fresh_bytes = sum(file.stat().st_size for file in (tmp_path / "0").iterdir())
    most_files = most_bytes = 0
    for step in range(1, 201):
        part = [rows[(step * 37 + at) % 2000] | {"offers": step} for at in range(50)]
        update_index(tmp_path / str(step - 1), tmp_path / str(step), frame(*part), [])
        for file in (tmp_path / str(step - 1)).iterdir():
            file.unlink()
        sizes = [file.stat().st_size for file in (tmp_path / str(step)).iterdir()]
        most_files, most_bytes = max(most_files, len(sizes)), max(most_bytes, sum(sizes))
    index = SearchIndex.open(tmp_path / "200")
    assert index.search("milk", NO, limit=1, offset=0).total == 2000
    assert index.search("number 1234", NO, limit=1, offset=0).hits[0].product_id == number_id(1234)
    assert most_files < 120
    assert most_bytes < 5 * fresh_bytes


def test_writing_leaves_no_threads_behind(tmp_path: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    write_index(tmp_path / "a", frame(product(1, "Tea")))
    update_index(tmp_path / "a", tmp_path / "b", frame(product(2, "Tea")), [number_id(1)])
    deadline = time.monotonic() + 10
    while threads() > before:  # the watcher of meta.json ends at its next look, twice a second
        assert time.monotonic() < deadline, f"{threads()} threads, {before} before"
        os.sched_yield()
    assert numbers(SearchIndex.open(tmp_path / "b"), "tea") == [2]


def test_errors_say_where_and_what(tmp_path: Path) -> None:
    with pytest.raises(SearchIndexError, match=r"no search index in .*nowhere"):
        SearchIndex.open(tmp_path / "nowhere")
    with pytest.raises(SearchIndexError, match=r"no search index in .*nowhere"):
        update_index(tmp_path / "nowhere", tmp_path / "new", frame(), [])
    assert not (tmp_path / "new").exists()
    write_index(tmp_path / "s", frame(product(1, "Tea")))
    with pytest.raises(SearchIndexError, match="is not empty"):
        write_index(tmp_path / "s", frame())
    with pytest.raises(SearchIndexError, match="is not empty"):
        update_index(tmp_path / "s", tmp_path / "s", frame(), [])
    with pytest.raises(SearchIndexError, match="'P1' is not 16 lower-case hex digits"):
        write_index(tmp_path / "t", frame(product(1, "Tea", product_id="P1")))
    with pytest.raises(SearchIndexError, match="twice"):
        write_index(tmp_path / "u", frame(product(1, "Tea"), product(1, "Tea")))
    for file in (tmp_path / "s").glob("*.fast"):
        file.unlink()
    with pytest.raises(SearchIndexError, match="is damaged"):
        SearchIndex.open(tmp_path / "s")


HOSTILE = [
    "", " ", "\0", '"', "AND", "OR NOT", "title:x", "*", "(((", "[a TO b]", "~2", "\\", "^ $", "$",
    "😀", "👨‍👩‍👧", "\ud800", "é" * 5000, "x" * 10_000, "牛" * 10_000, "a " * 5000, "1" * 10_000,
    "milk AND (", "'; --", "\u202emilk", "\x1f", "ﬀ", "İ", "ǅ", "٣٤٥٦٧٨٩٠", "１２３４５６７８",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_query_text_is_never_syntax(real: SearchIndex, text: str) -> None:
    check_answers(real, text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='milk choc"()*:~^$AND\\/+-牛奶é 0123', max_size=40))
def test_any_text_is_answered(real: SearchIndex, text: str) -> None:
    check_answers(real, text)


def check_answers(index: SearchIndex, text: str) -> None:
    page = index.search(text, NO, limit=5, offset=0)
    facets = index.facets(text, NO)
    index.suggest(text, 5)
    assert len(page.hits) == min(5, page.total)
    assert [hit.score for hit in page.hits] == sorted(
        (hit.score for hit in page.hits), reverse=True
    )
    assert sum(part.count for part in facets.prices) <= page.total
    if not any(character.isalnum() for character in text):
        assert page.total == 0
