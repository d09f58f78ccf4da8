"""The rules, one by one; and the same rows give the same frame from every format."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warehouse.feed import open_feed
from warehouse.quality import RULES, SCHEMA, Checked, check

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD = {
    "retailer": "shop",
    "sku": "1",
    "observed_at": "2026-11-22T10:00:00Z",
    "price": "10",
    "currency": "EUR",
}


def one(**values: Any) -> Checked:
    row = GOOD | values
    frame = pl.DataFrame({name: [value] for name, value in row.items()})
    return check(frame.with_columns(line=pl.lit(7, pl.Int64)), NOW)


def clean(**values: Any) -> Any:
    checked = one(**values)
    assert checked.rejected.is_empty(), checked.rejected
    return checked.accepted[next(iter(values))][0]


REFUSED = [
    *[("required_missing", {name: ""}) for name in GOOD],
    *[("required_missing", {name: None}) for name in GOOD],
    ("required_missing", {"sku": " \t"}),
    *[
        ("not_a_number", {"price": text})
        for text in (
            "abc",
            "1,299.00",
            "12,50",
            "1 000",
            "NaN",
            "Infinity",
            "-inf",
            "€5",
            "1e",
            ".",
        )
    ],
    *[("not_a_number", {"price": text}) for text in ("5.", "--1", "1.2.3", "0x10", "١", "e5")],
    ("not_a_number", {"price": float("nan")}),
    ("not_a_number", {"price": float("inf")}),
    ("not_a_number", {"list_price": "12,50"}),
    *[("not_above_zero", {"price": v}) for v in ("0", "-1", "0.0000", "-0", "-1e300", 0, -2.5)],
    ("not_above_zero", {"price": Decimal("0.00")}),
    *[("too_large", {"price": v}) for v in ("1e12", "1000000000000", "1e999999999999999999999")],
    *[("too_large", {"price": v}) for v in (10**12, 1e12, 1e300, Decimal(10**20), 10**18)],
    *[("too_many_decimals", {"price": v}) for v in ("1.00001", "1e-5", "0.1" + "0" * 99 + "1")],
    *[("too_many_decimals", {"price": v}) for v in (1.00001, Decimal("1.00001"), 1 / 3)],
    ("too_many_decimals", {"list_price": "99.12345"}),
    *[("unknown_currency", {"currency": text}) for text in ("EURO", "XXX", "€", "DEM", "E U")],
    *[
        ("time_unreadable", {"observed_at": text})
        for text in (
            *(
                "yesterday",
                "2026-02-30T00:00:00Z",
                "2026-01-01",
                "2026-01-01T24:00:00Z",
                "1767225600",
            ),
            *("2026-01-01T00:00:60Z", "2026-01-01T00:00Z", "2026-1-1T00:00:00Z"),
            *("2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+0100", "2026-01-01T00:00:00.Z"),
            *("2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:60:00Z", "2026-13-01T00:00:00Z"),
        )
    ],
    ("time_without_offset", {"observed_at": "2026-01-01T00:00:00"}),
    ("time_without_offset", {"observed_at": "2026-01-01 00:00:00.5"}),
    ("time_in_future", {"observed_at": "2026-11-22T12:05:00.000001Z"}),
    ("time_in_future", {"observed_at": "9999-12-31T23:59:59Z"}),
    ("time_in_future", {"observed_at": NOW + timedelta(minutes=6)}),
    ("time_too_old", {"observed_at": "1969-12-31T23:59:59Z"}),
    ("time_too_old", {"observed_at": "0001-01-01T00:00:00Z"}),
    ("time_too_old", {"observed_at": datetime(1900, 1, 1, tzinfo=UTC)}),
    ("unknown_availability", {"availability": "maybe"}),
    ("unknown_condition", {"condition": "broken"}),
    ("text_too_long", {"sku": "x" * 201}),
    ("text_too_long", {"retailer": "x" * 100_000}),
    ("control_character", {"sku": "a\0b"}),
    ("control_character", {"retailer": "a\nb"}),
]
DROPPED = [
    ("bad_gtin", {"gtin": "4006381333932"}),
    *[("bad_gtin", {"gtin": v}) for v in ("123", "40063813339311x", "00000000", "abc", 5)],
    ("list_price_below_price", {"list_price": "9.9999"}),
    *[("list_price_below_price", {"list_price": v}) for v in ("0", "-5", 9.99, Decimal("9.5"))],
    ("negative", {"shipping": "-1"}),
    ("not_a_number", {"shipping": "free"}),
    ("not_above_zero", {"unit_quantity": "0"}),
    ("not_a_number", {"unit_quantity": "a dozen"}),
    ("unknown_unit", {"unit": "cups"}),
    *[("text_too_long", {name: "x" * 2001}) for name in ("title", "url", "category")],
    ("text_too_long", {"product_key": "x" * 201}),
    ("control_character", {"title": "a\x07b"}),
    ("control_character", {"url": "a\nb"}),
]


@pytest.mark.parametrize(("rule", "values"), [*REFUSED, *DROPPED])
def test_rule(rule: str, values: dict[str, Any]) -> None:
    accepted, rejected = one(**values)
    kept = (rule, values) in DROPPED
    (field, value) = next(iter(values.items()))
    assert rejected.select("line", "field", "rule", "kept").rows() == [(7, field, rule, kept)]
    if isinstance(value, str) or value is None:
        assert rejected["value"][0] == (value[:200] if value is not None else None)
    assert accepted.height == kept
    if kept:
        assert accepted[field][0] is None
        assert accepted["price"][0] == 10


def test_every_rule_is_tested_and_described() -> None:
    tested = {rule for rule, _ in [*REFUSED, *DROPPED]}
    assert tested | {"two_prices_one_instant"} == set(RULES)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"retailer": " Shop.DE "}, "shop.de"),
        ({"sku": "\u00a0aB "}, "aB"),
        ({"currency": " eur"}, "EUR"),
        ({"availability": "https://schema.org/OutOfStock"}, "OutOfStock"),
        ({"availability": "HTTP://SCHEMA.ORG/preorder"}, "PreOrder"),
        ({"availability": "in_stock"}, "InStock"),
        ({"availability": ""}, "InStock"),
        ({"condition": None}, "new"),
        ({"condition": "https://schema.org/UsedCondition"}, "used"),
        ({"unit": "KG"}, "kg"),
        ({"title": "  "}, None),
        ({"title": "a\nb\tc"}, "a\nb\tc"),
        ({"category": " a>b  > >c"}, "a > b > c"),
        ({"category": " > "}, None),
        ({"gtin": "4006381333931"}, "04006381333931"),
        ({"gtin": 4006381333931}, "04006381333931"),
        ({"gtin": "96385074"}, "00000096385074"),
        ({"gtin": "978-0-306-40615-7"}, "09780306406157"),
        ({"sku": 12}, "12"),
        ({"shipping": "0"}, Decimal(0)),
        ({"list_price": "10.0000"}, Decimal(10)),
        ({"price": "+5"}, Decimal(5)),
        ({"price": ".5"}, Decimal("0.5")),
        ({"price": "007.50"}, Decimal("7.5")),
        ({"price": "19.99000000000"}, Decimal("19.99")),
        ({"price": "1e3"}, Decimal(1000)),
        ({"price": "1.5E+2"}, Decimal(150)),
        ({"price": "12345e-4"}, Decimal("1.2345")),
        ({"price": "999999999999.9999"}, Decimal("999999999999.9999")),
        ({"price": 19.99}, Decimal("19.99")),
        ({"price": 5}, Decimal(5)),
        ({"price": 987654321012.25}, Decimal("987654321012.25")),
        ({"price": Decimal("1.2300000")}, Decimal("1.23")),
        ({"observed_at": "2026-11-22T10:00:00.000009999Z"}, datetime(2026, 11, 22, 10, 0, 0, 9)),
        ({"observed_at": "2026-11-22t10:00:00.5z"}, datetime(2026, 11, 22, 10, 0, 0, 500000)),
        ({"observed_at": "2026-11-22 10:00:00-01:30"}, datetime(2026, 11, 22, 11, 30)),
    ],
)  # fmt: skip
def test_normalised(values: dict[str, Any], wanted: Any) -> None:
    assert clean(**values) == wanted


def test_now_in_any_zone() -> None:
    frame = pl.DataFrame({k: [v] for k, v in GOOD.items()}).with_columns(line=pl.lit(1, pl.Int64))
    berlin = timezone(timedelta(hours=1))
    for now in (datetime(2026, 11, 22, 9, 55), datetime(2026, 11, 22, 10, 55, tzinfo=berlin)):
        assert check(frame, now).rejected.is_empty()
        assert check(frame, now - timedelta(seconds=1)).accepted.is_empty()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_timestamps_of_any_unit(unit: Any) -> None:
    at = pl.Series([datetime(2026, 1, 1, 12, tzinfo=UTC)], dtype=pl.Datetime(unit, "Asia/Tokyo"))
    frame = pl.DataFrame({k: [v] for k, v in GOOD.items()}).with_columns(
        at.alias("observed_at"), line=pl.lit(1, pl.Int64)
    )
    assert check(frame, NOW).accepted["observed_at"].to_list() == [datetime(2026, 1, 1, 12)]


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64, pl.Decimal(38, 10), pl.Categorical])
def test_price_dtypes(dtype: Any) -> None:
    prices = ["19.99", "0.1", "1234.5", "7"]
    frame = pl.DataFrame({k: [v] * 4 for k, v in GOOD.items()}).with_columns(
        pl.Series("price", prices).cast(dtype), line=pl.int_range(4, dtype=pl.Int64)
    )
    assert check(frame, NOW).accepted["price"].to_list() == [Decimal(p) for p in prices]


@given(st.lists(st.integers(1, 10**16 - 1), min_size=1))
def test_doubles_are_their_nearest_decimal(units: list[int]) -> None:
    """Below 2^53 ten-thousandths a double names one decimal of four places at most."""
    units = [unit % 2**51 + 1 for unit in units]
    frame = pl.DataFrame({k: [v] * len(units) for k, v in GOOD.items()}).with_columns(
        pl.Series("price", [unit / 10_000 for unit in units]),
        line=pl.int_range(len(units), dtype=pl.Int64),
    )
    wanted = [Decimal(unit).scaleb(-4) for unit in units]
    assert check(frame, NOW).accepted["price"].to_list() == wanted


@given(st.text("0123456789.eE+-", max_size=12))
def test_number_text_against_decimal(text: str) -> None:
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = None
    accepted, rejected = one(price=text)
    if value is None or text.strip("+-").split("e")[0].split("E")[0].endswith("."):
        assert accepted.is_empty()
        return
    fits = 0 < value < 10**12 and value == value.quantize(Decimal("0.0001"))
    assert accepted.height == fits
    if fits:
        assert accepted["price"][0] == value
    else:
        assert rejected["rule"][0] in ("not_above_zero", "too_large", "too_many_decimals")


def test_frame_is_whole_and_faults_add_up() -> None:
    names = [*SCHEMA, "line"]
    empty = pl.DataFrame(schema=dict.fromkeys(GOOD, pl.String) | {"line": pl.Int64})
    rows = pl.DataFrame(
        {
            "line": [2, 3, 4],
            "retailer": ["a", "b", None],
            "sku": ["1", "2", "3"],
            "observed_at": [GOOD["observed_at"]] * 3,
            "price": ["1", "x", "0"],
            "currency": ["EUR"] * 3,
            "gtin": ["1", "2", "4006381333931"],
        }
    )
    for frame in (empty, rows):
        accepted, rejected = check(frame, NOW)
        assert accepted.schema == pl.Schema({**SCHEMA, "line": pl.Int64})
        assert accepted.columns == names
        assert rejected.schema == {
            "line": pl.Int64, "field": pl.String, "rule": pl.String, "value": pl.String,
            "kept": pl.Boolean,
        }  # fmt: skip
    assert accepted["line"].to_list() == [2]
    assert rejected.rows() == [
        (2, "gtin", "bad_gtin", "1", True),
        (3, "price", "not_a_number", "x", False),
        (3, "gtin", "bad_gtin", "2", False),
        (4, "retailer", "required_missing", None, False),
        (4, "price", "not_above_zero", "0", False),
    ]


def test_absent_required_column_is_missing_everywhere() -> None:
    frame = pl.DataFrame({k: [v] for k, v in GOOD.items() if k != "price"})
    rejected = check(frame.with_columns(line=pl.lit(1, pl.Int64)), NOW).rejected
    assert rejected.rows() == [(1, "price", "required_missing", None, False)]


def test_real_rows_are_accepted() -> None:
    rows = prices = 0
    for frame in open_feed(Path("../shared/data/groceries.parquet")).chunks():
        accepted, rejected = check(frame, NOW)
        assert rejected.is_empty()
        assert accepted["observed_at"].equals(
            frame["observed_at"].dt.replace_time_zone(None), check_names=False
        )
        rows += accepted.height
        prices += int((accepted["price"] == frame["price"]).sum())
    assert rows == prices == 4_503_986


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\"',"), max_size=12
)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2026, 11, 1), timezones=st.just(UTC))
ROW = st.fixed_dictionaries(
    {
        "retailer": st.from_regex(r"[a-zA-Z][a-zäßI-]{0,5}", fullmatch=True),
        "sku": st.from_regex(r"[!-~]([ -~]{0,5}[!-~])?", fullmatch=True),
        "observed_at": TIMES,
        "price": st.decimals("0.0001", "999999999999.9999", places=4),
        "currency": st.sampled_from(["EUR", "usd", "HKD"]),
        "list_price": st.none() | st.just(Decimal("999999999999.9999")),
        "availability": st.none() | st.sampled_from(["instock", "https://schema.org/PreOrder"]),
        "shipping": st.none() | st.decimals(0, 100, places=2),
        "title": st.none() | TEXT,
        "category": st.none() | TEXT,
        "gtin": st.sampled_from([None, "4006381333931", "96385074"]),
    }
)


def json_row(row: dict[str, Any]) -> str:
    """Decimals as bare JSON numbers with all their digits."""
    pairs = []
    for name, value in row.items():
        if isinstance(value, Decimal):
            pairs.append(f'"{name}": {value:f}')
        elif value is not None:
            text = value.isoformat() if isinstance(value, datetime) else value
            pairs.append(f"{json.dumps(name)}:{json.dumps(text)}")
    return "{" + ", ".join(pairs) + "}"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ROW, min_size=1, max_size=8))
def test_formats_agree(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    decimals = {name: pl.Decimal(18, 4) for name in ("price", "list_price", "shipping")}
    schema = {n: decimals.get(n, pl.Datetime("us", "UTC") if n == "observed_at" else pl.String)
              for n in rows[0]}  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema)
    frame.write_parquet(tmp_path / "rows.parquet")
    text = frame.with_columns(pl.col("observed_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"))
    text.write_csv(tmp_path / "rows.csv")
    (tmp_path / "rows.ndjson").write_text("\n".join(map(json_row, rows)), encoding="utf-8")
    found = []
    for name in ("rows.parquet", "rows.csv", "rows.ndjson"):
        feed = open_feed(tmp_path / name)
        accepted, rejected = check(pl.concat(list(feed.chunks())), NOW)
        assert rejected.is_empty(), rejected
        found.append(accepted.drop("line"))
    assert found[0].height == len(rows)
    assert found[1].equals(found[0])
    assert found[2].equals(found[0])
