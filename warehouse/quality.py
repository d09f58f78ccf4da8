"""The rules of the feed: a frame as `warehouse.feed` gives it → accepted rows and rejected values.

Text is judged by its distinct values: a million rows hold a few thousand titles and prices, so a
rule costs one hash of the column (10 to 25 ms) whatever it does. Typed columns are judged whole by
their minimum and maximum, and row by row only where those break a rule.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import polars as pl

from warehouse.currencies import CURRENCIES

MONEY = pl.Decimal(18, 4)
TIME = pl.Datetime("us")
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "retailer": pl.String,
    "sku": pl.String,
    "observed_at": TIME,
    "price": MONEY,
    "currency": pl.String,
    "list_price": MONEY,
    "availability": pl.String,
    "condition": pl.String,
    "shipping": MONEY,
    "promotion": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "gtin": pl.String,
    "mpn": pl.String,
    "url": pl.String,
    "image_url": pl.String,
    "category": pl.String,
    "unit_quantity": MONEY,
    "unit": pl.String,
    "product_key": pl.String,
}
REQUIRED = ("retailer", "sku", "observed_at", "price", "currency")
DEFAULTS = {"availability": "InStock", "condition": "new"}

# A wrong value here sets the row aside. An unreadable availability or condition does so too: to
# drop it would be to claim the default (in stock, new), which nobody said. Everything else only
# describes the offer: it is dropped, reported with `kept`, and the price is kept.
DECISIVE = (*REQUIRED, "list_price", "availability", "condition")

RULES = {
    "required_missing": "A required value is missing.",
    "not_a_number": "The value is not a number such as 1299.99: no thousands separator, no decimal "
    "comma, no currency sign, not NaN or Infinity.",
    "not_above_zero": "The price or unit quantity is not above zero.",
    "negative": "The shipping cost is below zero; only the shipping cost is dropped.",
    "too_large": "The number is not below 1,000,000,000,000.",
    "too_many_decimals": "The number has more than 4 decimal places (trailing zeros do not count).",
    "unknown_currency": "The currency is not an active ISO 4217 code such as EUR.",
    "time_unreadable": "The time is not RFC 3339, such as 2026-11-22T17:00:00Z.",
    "time_without_offset": "The time has no offset from UTC; write Z or +01:00 at its end.",
    "time_in_future": "The time is more than 5 minutes in the future.",
    "time_too_old": "The time is before 1970.",
    "list_price_below_price": "The list price is below the price; only the list price is dropped.",
    "unknown_availability": "The availability is none of InStock, OutOfStock, PreOrder, BackOrder, "
    "LimitedAvailability, Discontinued.",
    "unknown_condition": "The condition is none of new, refurbished, used.",
    "unknown_unit": "The unit is none of g, kg, ml, l, m, pcs; only the unit is dropped.",
    "bad_gtin": "The GTIN is not 8, 12, 13 or 14 digits with a right check digit; only the GTIN is "
    "dropped.",
    "text_too_long": "The text is longer than 2,000 characters (200 for retailer, sku and "
    "product_key).",
    "control_character": "The text holds a control character, such as NUL.",
    "two_prices_one_instant": "Two prices for one offer at one instant; the later delivery wins.",
}

AVAILABILITY = (
    *("InStock", "OutOfStock", "PreOrder", "BackOrder", "LimitedAvailability", "Discontinued"),
)
CONDITIONS = ("new", "refurbished", "used")
UNITS = ("g", "kg", "ml", "l", "m", "pcs")

LONGEST = 2_000
LONGEST_NAME = 200
VALUE_SHOWN = 200
LIMIT = Decimal(10) ** 12
LATEST = timedelta(minutes=5)

V = pl.col("value")


class Checked(NamedTuple):
    """`accepted`: SCHEMA and line Int64. `rejected`: line, field, rule, value, kept (see check)."""

    accepted: pl.DataFrame
    rejected: pl.DataFrame


class Judged(NamedTuple):
    """A column and, where something is wrong, the rule that each row breaks (else null)."""

    clean: pl.Series
    rule: pl.Series | None = None


def check(frame: pl.DataFrame, now: datetime) -> Checked:
    """Judge every value of a frame of known columns and `line`; `now` is UTC if it has no zone.

    `accepted` always has all columns of SCHEMA and `line`; times are naive and mean UTC, empty text
    is null. `rejected` has one row per fault: line Int64, field, rule, value String (as written,
    at most 200 characters), kept Boolean: true where only this field was dropped from the row.
    """
    latest = (now.astimezone(UTC).replace(tzinfo=None) if now.tzinfo else now) + LATEST
    raws = _plain_text(frame)
    distinct = _distinct(raws)
    judged = {
        name: _judge(name, raws[name], distinct.get(name), latest)
        if name in raws
        else Judged(pl.repeat(DEFAULTS.get(name), frame.height, dtype=dtype, eager=True))
        for name, dtype in SCHEMA.items()
    }
    judged["list_price"] = _below_price(judged["list_price"], judged["price"])
    accepted = pl.DataFrame({name: column.clean for name, column in judged.items()})
    accepted = accepted.with_columns(frame["line"])
    faults = {name: column.rule for name, column in judged.items() if column.rule is not None}
    if not faults:
        return Checked(accepted, _no_rejected())
    return _split(accepted, frame, faults)


def _split(accepted: pl.DataFrame, frame: pl.DataFrame, faults: dict[str, pl.Series]) -> Checked:
    refused = pl.repeat(False, frame.height, eager=True)
    for name, rule in faults.items():
        if name in DECISIVE:
            refused |= rule.is_not_null() & (rule != "list_price_below_price").fill_null(True)
    parts = []
    for name, rule in faults.items():
        at = rule.is_not_null()
        raw = frame[name] if name in frame.columns else pl.repeat(None, frame.height, eager=True)
        part = {
            "line": frame["line"].filter(at),
            "field": pl.repeat(name, int(at.sum()), eager=True),
            "rule": rule.filter(at),
            "value": _as_written(raw.filter(at)),
            "kept": ~refused.filter(at),
        }
        parts.append(pl.DataFrame(part, schema=_no_rejected().schema))
    rejected = pl.concat(parts).sort("line", maintain_order=True)
    return Checked(accepted.filter(~refused) if refused.any() else accepted, rejected)


def _no_rejected() -> pl.DataFrame:
    text = dict.fromkeys(("field", "rule", "value"), pl.String)
    return pl.DataFrame(schema={"line": pl.Int64, **text, "kept": pl.Boolean})


def _as_written(raw: pl.Series) -> pl.Series:
    if isinstance(raw.dtype, pl.Datetime):
        raw = raw.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")
    return raw.cast(pl.String).str.head(VALUE_SHOWN)


def _plain_text(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """The columns that say something; text, categories and whole-number ids as String.

    Longer text than any rule allows is cut first: a Parquet dictionary can repeat one text of a
    megabyte in a million rows, and hashing those would take minutes.
    """
    raws: dict[str, pl.Series] = {}
    for name in SCHEMA:
        if name not in frame.columns or frame[name].null_count() == frame.height:
            continue
        raw = frame[name]
        numeric = SCHEMA[name] == MONEY and raw.dtype.is_numeric()
        if not numeric and not isinstance(raw.dtype, pl.Datetime):
            raw = raw.cast(pl.String)
            longest = raw.str.len_bytes().max()
            if isinstance(longest, int) and longest > 4 * LONGEST:
                cut = pl.when(V.str.len_bytes() > 4 * LONGEST).then(V.str.head(LONGEST + 1))
                raw = raw.to_frame("value").select(cut.otherwise(V)).to_series()
        raws[name] = raw
    missing = [name for name in REQUIRED if name not in raws]
    return raws | {
        name: pl.repeat(None, frame.height, dtype=pl.String, eager=True) for name in missing
    }


def _distinct(raws: dict[str, pl.Series]) -> dict[str, pl.Series]:
    """Distinct values of the text columns, all at once (half the time on two cores); of columns
    that seldom repeat (URLs) the values as they are, because a hash of them gains nothing."""
    texts = {name: raw for name, raw in raws.items() if raw.dtype == pl.String}
    seldom = {
        name: raw
        for name, raw in texts.items()
        if raw.head(4096).n_unique() > 0.7 * min(4096, len(raw))
    }
    often = pl.DataFrame({name: raw for name, raw in texts.items() if name not in seldom})
    lists = often.select(pl.all().unique().implode())
    return seldom | {name: lists[name].explode() for name in often.columns}


def _judge(name: str, raw: pl.Series, distinct: pl.Series | None, latest: datetime) -> Judged:
    if distinct is not None:
        judged = _spread(raw, distinct, lambda values: _judge_text(name, values, latest))
    elif isinstance(raw.dtype, pl.Datetime):
        judged = _typed_time(raw, latest)
    else:
        judged = _bounded(name, _typed_number(raw))
    clean, rule = judged
    if name in REQUIRED and clean.null_count():
        missing = clean.is_null() & rule.is_null() if rule is not None else clean.is_null()
        rule = _first_rule(rule, missing, "required_missing") if missing.any() else rule
    elif name in DEFAULTS and clean.null_count():
        clean = clean.fill_null(DEFAULTS[name])
    return Judged(clean, rule)


def _first_rule(rule: pl.Series | None, broken: pl.Series, name: str) -> pl.Series:
    """`rule`, and `name` where it says nothing yet and `broken` is true."""
    blank = pl.repeat(None, len(broken), dtype=pl.String, eager=True) if rule is None else rule
    frame = pl.DataFrame({"rule": blank, "broken": broken})
    found = pl.when("broken").then(pl.lit(name))
    return frame.select(pl.coalesce("rule", found).alias("rule")).to_series()


def _spread(raw: pl.Series, distinct: pl.Series, judge: Callable[[pl.Series], Judged]) -> Judged:
    """Judge the distinct values and give each row what its value got."""
    clean, rule = judge(distinct)
    if rule is not None and rule.null_count() == len(rule):
        rule = None
    if distinct is raw:
        return Judged(clean, rule)
    if rule is None and clean.dtype == pl.String and clean.equals(distinct):
        return Judged(raw)
    verdicts = pl.DataFrame({"value": distinct, "clean": clean})
    if rule is not None:
        verdicts = verdicts.with_columns(rule=rule)
    rows = raw.to_frame("value").join(
        verdicts, on="value", how="left", nulls_equal=True, maintain_order="left"
    )
    return Judged(rows["clean"], rows["rule"] if rule is not None else None)


# Text. Each judge is a pair of expressions on the trimmed text `value`: the clean value, the rule.


def _judge_text(name: str, values: pl.Series, latest: datetime) -> Judged:
    cap = LONGEST_NAME if name in ("retailer", "sku", "product_key") else LONGEST
    trimmed = V.str.strip_chars()
    text = values.to_frame("value").with_columns(
        value=pl.when(trimmed != "").then(trimmed),
        rule=pl.when(V.str.len_chars() > cap)
        .then(pl.lit("text_too_long"))
        .when(V.str.contains(_control(name)))
        .then(pl.lit("control_character")),
    )
    text = text.with_columns(value=pl.when(pl.col("rule").is_null()).then(V))
    if SCHEMA[name] == MONEY:
        judged = _bounded(name, _number(text["value"]))
    elif name == "observed_at":
        judged = _time(text["value"], latest)
    else:
        clean, broken = _word(name)
        found = text.select(
            clean=clean, rule=pl.when(broken & V.is_not_null()).then(pl.lit(_WORD_RULES.get(name)))
        )
        judged = Judged(found["clean"], found["rule"])
    if judged.rule is None:
        return Judged(judged.clean, text["rule"])
    return Judged(judged.clean, text["rule"].zip_with(text["rule"].is_not_null(), judged.rule))


def _control(name: str) -> str:
    """Prose may hold tabs and line breaks; what identifies or is a single word may not."""
    prose = name in ("promotion", "title", "brand", "category")
    return r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]" if prose else r"[\x00-\x1f\x7f-\x{9f}]"


_WORD_RULES = {
    "currency": "unknown_currency",
    "availability": "unknown_availability",
    "condition": "unknown_condition",
    "unit": "unknown_unit",
    "gtin": "bad_gtin",
}


def _word(name: str) -> tuple[pl.Expr, pl.Expr]:
    if name in _WORD_RULES:
        clean = _gtin() if name == "gtin" else _listed(name)
        return clean, clean.is_null()
    if name == "retailer":
        return V.str.to_lowercase(), pl.lit(False)
    if name == "category":
        levels = V.str.split(">").list.eval(pl.element().str.strip_chars())
        levels = levels.list.eval(pl.element().filter(pl.element() != ""))
        path = levels.list.join(" > ")
        return pl.when(path != "").then(path), pl.lit(False)
    return V, pl.lit(False)


def _listed(name: str) -> pl.Expr:
    """A word of a list whatever its case; schema.org addresses and Google's spelling are known."""
    if name == "currency":
        return pl.when(V.str.to_uppercase().is_in(CURRENCIES)).then(V.str.to_uppercase())
    words = {"availability": AVAILABILITY, "condition": CONDITIONS, "unit": UNITS}[name]
    word = V.str.to_lowercase().str.replace(r"^https?://schema\.org/", "")
    if name == "availability":
        word = word.str.replace_all("[ _-]", "")
    elif name == "condition":
        word = word.str.replace("condition$", "")
    lower = {each.lower(): each for each in words}
    return word.replace_strict(lower, default=None, return_dtype=pl.String)


def _gtin() -> pl.Expr:
    """GS1: digits weigh 3 and 1 in turn from the right, the check digit 1; the sum is a ten."""
    digits = V.str.replace_all("[ -]", "")
    shaped = digits.str.contains(r"^(?:[0-9]{8}|[0-9]{12,14})$")
    number = pl.when(shaped).then(digits).cast(pl.Int64)
    total = pl.sum_horizontal(number // 10**i % 10 * (3 if i % 2 else 1) for i in range(14))
    return pl.when(shaped & (total % 10 == 0) & (number > 0)).then(digits.str.zfill(14))


def normal_gtin(text: str) -> str | None:
    """A GTIN as `gtin` columns have it, 14 digits; None if it is none."""
    found: str | None = pl.DataFrame({"value": [text]}).select(_gtin()).item()
    return found


# Numbers


_SHAPE = r"^([+-])?([0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$"


def _number(values: pl.Series) -> Judged:
    """Decimal text, exactly: its digits without zeros at either end, and a power of ten."""
    part = V.str.extract_groups(_SHAPE).struct
    exponent = part[3].cast(pl.Int64, strict=False).clip(-10_000, 10_000)
    huge = pl.when(part[3].str.starts_with("-")).then(-10_000).otherwise(10_000)
    parts = values.to_frame("value").select(
        V,
        minus=(part[0] == "-").fill_null(False),
        digits=part[1] + part[2].fill_null(""),
        decimals=part[2].str.len_bytes().fill_null(0).cast(pl.Int64),
        exponent=pl.when(part[3].is_null()).then(0).otherwise(exponent.fill_null(huge)),
    )
    digits = pl.col("digits").str.strip_chars_start("0")
    short = digits.str.strip_chars_end("0")
    zeros = digits.str.len_bytes().cast(pl.Int64) - short.str.len_bytes()
    scale = pl.col("decimals") - pl.col("exponent") - zeros
    parts = parts.with_columns(short=short, scale=pl.when(short == "").then(0).otherwise(scale))
    size = pl.col("short").str.len_bytes().cast(pl.Int64) - pl.col("scale")
    rule = (
        pl.when(V.is_null())
        .then(None)
        .when(pl.col("digits").fill_null("") == "")
        .then(pl.lit("not_a_number"))
        .when((size > 12) & ~pl.col("minus"))
        .then(pl.lit("too_large"))
        .when((pl.col("scale") > 4) & (size <= 12))
        .then(pl.lit("too_many_decimals"))
    )
    # A number far below zero is as wrong as the least one that can be stored.
    fits = rule.is_null() & (size <= 12)
    power = pl.lit(10, pl.Int64).pow(pl.when(fits).then(4 - pl.col("scale")))
    units = pl.when(fits).then(pl.col("short").str.zfill(1)).cast(pl.Int64) * power
    units = pl.when(rule.is_null() & (size > 12)).then(10**16 - 1).otherwise(units)
    signed = pl.when(pl.col("minus")).then(-units).otherwise(units)
    found = parts.select(clean=_from_units(signed), rule=rule)
    return Judged(found["clean"], found["rule"])


def _from_units(units: pl.Expr) -> pl.Expr:
    """Ten-thousandths as Int64 → Decimal(18, 4), without a text or a float between."""
    return (units.cast(pl.Decimal(20, 0)) * pl.lit(Decimal("0.0001"))).cast(MONEY)


def _typed_number(raw: pl.Series) -> Judged:
    if raw.dtype.is_float():
        return _float_number(raw)
    clean = raw.cast(MONEY, strict=False)
    rule = None
    if clean.null_count() > raw.null_count():
        rule = _first_rule(rule, clean.is_null() & raw.is_not_null(), "too_large")
    if isinstance(raw.dtype, pl.Decimal) and raw.dtype.scale > MONEY.scale:
        changed = (clean != raw).fill_null(False)
        if changed.any():
            rule = _first_rule(rule, changed, "too_many_decimals")
    return Judged(clean, rule)


def _float_number(raw: pl.Series) -> Judged:
    """A double that is the nearest one to a decimal of 4 places is that decimal.

    Exact below 2e11, where ten-thousandths have at most 51 bits; other values, and Float32, go
    through their shortest text, which gives the same decimal and is slower.
    """
    if raw.dtype == pl.Float64:
        units = (V * 10_000.0).round()
        found = raw.to_frame("value").select(
            exact=((units / 10_000.0 == V) & (V.abs() < 2e11)).all(),
            units=pl.when(V.abs() < 2e11).then(units).cast(pl.Int64, strict=False),
        )
        if found["exact"][0] and found.height:
            return Judged(found.select(_from_units(pl.col("units"))).to_series())
    text = raw.cast(pl.String)
    return _spread(text, text.unique(), _number)


def _bounded(name: str, judged: Judged) -> Judged:
    """Below 10^12 everywhere; above zero, or for shipping not below it."""
    clean, rule = judged
    highest, lowest = clean.max(), clean.min()
    if isinstance(highest, Decimal) and highest >= LIMIT:
        rule = _first_rule(rule, (clean >= LIMIT).fill_null(False), "too_large")
    if isinstance(lowest, Decimal) and lowest <= 0 and name in ("price", "unit_quantity"):
        rule = _first_rule(rule, (clean <= 0).fill_null(False), "not_above_zero")
    if isinstance(lowest, Decimal) and lowest < 0 and name == "shipping":
        rule = _first_rule(rule, (clean < 0).fill_null(False), "negative")
    return Judged(clean if rule is None else _where_kept(clean, rule), rule)


def _where_kept(clean: pl.Series, rule: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"clean": clean, "rule": rule})
    return frame.select(pl.when(pl.col("rule").is_null()).then("clean").alias("clean")).to_series()


def _below_price(listed: Judged, price: Judged) -> Judged:
    if listed.clean.null_count() == len(listed.clean):
        return listed
    below = (listed.clean < price.clean).fill_null(False)
    below |= (listed.clean <= 0).fill_null(False)
    if not below.any():
        return listed
    rule = _first_rule(listed.rule, below, "list_price_below_price")
    return Judged(_where_kept(listed.clean, rule), rule)


# Times


_INSTANT = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:(?:[0-5][0-9])"
    r"(?:\.([0-9]{1,9}))?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?$"
)


def _time(values: pl.Series, latest: datetime) -> Judged:
    """RFC 3339 → naive UTC, cut to the microsecond. A leap second (:60) is no time of ours."""
    parts = V.str.extract_groups(_INSTANT).struct
    day, clock = V.str.slice(0, 10), V.str.slice(11, 8)
    local = (day + pl.lit("T") + clock).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False
    )
    found = values.to_frame("value").select(
        V,
        local=pl.when(V.str.contains(_INSTANT)).then(local),
        micros=parts[0].str.pad_end(6, "0").str.head(6).cast(pl.Int64).fill_null(0),
        offset=parts[1].str.to_uppercase().replace("Z", "+00:00"),
    )
    away = pl.col("offset").str.slice(1, 2).cast(pl.Int64) * 60
    away = away + pl.col("offset").str.slice(4, 2).cast(pl.Int64)
    away = pl.when(pl.col("offset").str.starts_with("-")).then(-away).otherwise(away)
    utc = pl.col("local") + pl.duration(microseconds=pl.col("micros")) - pl.duration(minutes=away)
    rule = (
        pl.when(V.is_null())
        .then(None)
        .when(pl.col("local").is_null())
        .then(pl.lit("time_unreadable"))
        .when(pl.col("offset").is_null())
        .then(pl.lit("time_without_offset"))
    )
    found = found.select(clean=utc, rule=rule)
    return _in_time(Judged(found["clean"].cast(TIME), found["rule"]), latest)


def _typed_time(raw: pl.Series, latest: datetime) -> Judged:
    """A zoned timestamp is UTC inside; judged in its own unit, since seconds may overflow µs."""
    assert isinstance(raw.dtype, pl.Datetime)  # noqa: S101
    naive = raw.to_physical().cast(pl.Datetime(raw.dtype.time_unit))
    judged = _in_time(Judged(naive), latest)
    return Judged(judged.clean.cast(TIME), judged.rule)


def _in_time(judged: Judged, latest: datetime) -> Judged:
    clean, rule = judged
    newest, oldest = clean.to_physical().max(), clean.to_physical().min()
    assert isinstance(clean.dtype, pl.Datetime)  # noqa: S101
    bounds = pl.Series([datetime(1970, 1, 1), latest], dtype=clean.dtype)
    if isinstance(newest, int) and newest > bounds.to_physical()[1]:
        rule = _first_rule(rule, (clean > bounds[1]).fill_null(False), "time_in_future")
    if isinstance(oldest, int) and oldest < 0:
        rule = _first_rule(rule, (clean.to_physical() < 0).fill_null(False), "time_too_old")
    return Judged(clean if rule is None else _where_kept(clean, rule), rule)
