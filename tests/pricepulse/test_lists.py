"""Lists that come from hot columns say what SQL on the same build says, under whatever filters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from tests.pipeline import Pipeline
from tests.served import DAY, HOUR, Row, Served, look, serving

ROUNDS = 120
ABOUT = """
SELECT m.* EXCLUDE (retailer, category_slug, brand_slug), o.retailer, o.sku, o.url, o.condition,
    o.last_observed_at AS observed_at, p.title, p.brand, p.category, p.category_slug, p.image_url
FROM {mart} AS m JOIN offer AS o USING (offer_id) JOIN product AS p ON p.product_id = m.product_id,
    build AS b
WHERE {moved} AND {where} ORDER BY {order}
"""
SINCE = "m.{} >= b.as_of - to_days($days)"
OF_CATEGORY = "(p.category_slug = $category OR starts_with(p.category_slug, $category || '.'))"
OF_RETAILER = "o.retailer = lower(trim($retailer))"
# Filter → its condition, by list; what is asked for always comes first.
WHERE: dict[str, dict[str, str]] = {
    "/deals": {
        "verdict": "m.verdict = $verdict",
        "category": OF_CATEGORY,
        "brand": "p.brand_slug = $brand",
        "retailer": OF_RETAILER,
        "min_score": "m.score >= $min_score",
        "best_only": "m.price = m.best_price",
    },
    "/price-drops": {
        "days": SINCE.format("changed_at"), "category": OF_CATEGORY, "retailer": OF_RETAILER,
    },
    "/price-rises": {
        "days": SINCE.format("changed_at"), "category": OF_CATEGORY, "retailer": OF_RETAILER,
    },
    "/anomalies": {
        "days": SINCE.format("began_at"),
        "kind": "m.kind = $kind",
        "category": OF_CATEGORY,
        "retailer": OF_RETAILER,
        "min_severity": "m.severity >= $min_severity",
    },
}  # fmt: skip
MOVES = "abs(m.change_ratio) DESC, m.changed_at DESC, m.offer_id"
MARTS = {
    "/deals": ("deal", "true", "m.score DESC, m.verdict, m.real_discount_ratio DESC NULLS LAST, m.offer_id"),
    "/price-drops": ("price_move", "m.price <= 0.99 * m.price_before", MOVES),
    "/price-rises": ("price_move", "m.price >= 1.01 * m.price_before", MOVES),
    "/anomalies": ("anomaly", "true", "m.began_at DESC, m.severity DESC, m.offer_id, m.kind"),
}  # fmt: skip
WORST = "m.severity DESC, m.began_at DESC, m.offer_id, m.kind"


def shelves() -> list[Row]:
    """A hundred offers of five shops over 200 days in steps of 3; most prices move, some are odd, some
    are no longer seen. Categories whose slugs are one another's beginnings."""
    roll = random.Random(5)
    categories = [None, "Tea", "Tea > Green", "Tea > Green > Leaf", "Tea > Black", "Tea-Sets", "Tea2",
                  "Home > Tea"]  # fmt: skip
    rows = []
    for number in range(100):
        about = {
            "product_key": f"p{number // 3}",
            "title": f"Thing {number}",
            "category": categories[number // 3 % len(categories)],
            "brand": roll.choice([None, "Alpha", "Alpha & Co", "Beta"]),
        }
        shop, usual = roll.choice(["one", "two", "three", "four", "five"]), roll.randint(5, 99)
        price, listed = Decimal(usual), None
        last = roll.choice([0, 0, 0, 0, 12])
        for day in range(198, last - 1, -3):
            if roll.random() < 0.1:
                price = Decimal(roll.choice([usual, usual, usual * 8, usual * 13])) / roll.choice(
                    [1, 10]
                )
                listed = roll.choice([None, usual, usual * 2])
            odd = price * 4 if roll.random() < 0.01 else price
            rows.append(
                look(shop, f"s{number}", day * DAY + HOUR, str(odd), list_price=listed, **about)
            )
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pipeline = Pipeline(tmp_path_factory.mktemp("shelves"))
    rows = shelves()
    pipeline.put(rows[:-300])
    pipeline.build()
    pipeline.put(rows[-300:])
    pipeline.build()
    pipeline.lake.close()
    with serving(pipeline.folder) as client:
        yield Served(client, None, pipeline.folder)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def file(shop: Served) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(shop.folder / "warehouse.duckdb"), read_only=True) as db:
        yield db


def words(file: duckdb.DuckDBPyConnection, column: str) -> list[str]:
    return [row[0] for row in file.execute(
        f"SELECT DISTINCT {column} FROM product WHERE {column} IS NOT NULL ORDER BY 1"
    ).fetchall()]  # fmt: skip


def drawn(file: duckdb.DuckDBPyConnection, roll: random.Random) -> dict[str, Callable[[], Any]]:
    """A value for each filter there is, mostly one that finds something."""
    slugs = words(file, "category_slug")
    above = [".".join(slug.split(".")[:depth]) for slug in slugs for depth in range(1, 4)]
    return {
        "verdict": lambda: roll.choice(["genuine", "inflated", "unproven"]),
        "category": lambda: roll.choice([*above, "te", "tea.", "tea.gree", "nowhere"]),
        "brand": lambda: roll.choice([*words(file, "brand_slug"), "nobody"]),
        "retailer": lambda: roll.choice(["one", " Two ", "three", "four", "FIVE", "six"]),
        "min_score": lambda: roll.randint(0, 100),
        "best_only": lambda: "true",
        "days": lambda: roll.choice([1, 2, 7, 30, 100, 365]),
        "kind": lambda: roll.choice(["spike", "level_shift", "suspected_error", "stale"]),
        "min_severity": lambda: roll.choice([0, 0.25, 0.5, 0.7501, 1]),
    }


def plain(name: str, value: Any) -> Any:
    """A value of the file as the API gives it."""
    if name in {"product_id", "offer_id"}:
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    return Decimal(repr(value)) if isinstance(value, float) else value


@pytest.mark.parametrize("address", list(MARTS))
def test_lists_are_what_sql_says(
    shop: Served, file: duckdb.DuckDBPyConnection, address: str
) -> None:
    roll = random.Random(address)
    draw = drawn(file, roll)
    mart, moved, order = MARTS[address]
    sizes = []
    for _ in range(ROUNDS):
        asked = {name: draw[name]() for name in WHERE[address] if roll.random() < 0.4}
        if "days" in WHERE[address]:
            asked.setdefault("days", 365)
        where = " AND ".join(WHERE[address][name] for name in asked) or "true"
        bound = {name: value for name, value in asked.items() if f"${name}" in where}
        if address == "/anomalies" and roll.random() < 0.5:
            asked["sort"], here = "severity", WORST
        else:
            here = order
        sql = ABOUT.format(mart=mart, moved=moved, where=where, order=here)
        found = file.execute(sql, bound)
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        items = shop.walk(address, limit=roll.choice([1, 3, 20, 200]), **asked)
        for item, row in zip(items, rows, strict=True):
            said = {name: value for name, value in item.items() if name in row}
            assert said == {name: plain(name, row[name]) for name in said}, asked
            assert set(item) - set(said) <= {"reasons", "reason"}
        sizes.append(len(items))
    # The comparison is of something, and of nothing now and then.
    assert sum(size > 3 for size in sizes) > ROUNDS / 5
    assert 0 in sizes


FILTERED = {
    "/products": {"category", "brand", "retailer", "currency"},
    "/search": {"category", "brand", "retailer", "currency"},
    "/deals": {"category", "brand", "retailer"},
    "/price-drops": {"category", "retailer"},
    "/price-rises": {"category", "retailer"},
    "/new-arrivals": {"category", "retailer"},
    "/trending": {"category"},
    "/anomalies": {"category", "retailer"},
    "/insights/market": {"category", "currency"},
}
UNKNOWN = {"category": "nowhere", "brand": "nobody", "retailer": "no-shop", "currency": "XAU"}


def test_what_no_filter_knows_is_an_empty_list(shop: Served) -> None:
    """A filter narrows; only an address that names one thing can name what is not there."""
    document = shop.get("/openapi.json")
    for address, item in document["paths"].items():
        names = {each["name"] for each in item.get("get", {}).get("parameters", [])}
        short = address.removeprefix("/api/v1")
        if "{" not in address and short != "/products/lookup":
            assert names & set(UNKNOWN) == FILTERED.get(short, set()), address
    for address, filters in FILTERED.items():
        query = {"q": "thing"} if address == "/search" else {}
        for name in filters:
            page = shop.get(address, **query, **{name: UNKNOWN[name]})
            lists = [value for value in page.values() if isinstance(value, list)]
            assert lists, address
            assert not any(lists), (address, name)
    for path in ("/categories/nowhere", "/categories/nowhere/index", "/retailers/no-shop"):
        shop.refused(path, 404)
