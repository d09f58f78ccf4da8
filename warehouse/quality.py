"""The rules of the feed: a frame as `warehouse.feed` gives it → accepted rows and rejected values.

Text is judged by its distinct values: a million rows hold a few thousand titles and prices, so a
rule costs one hash of the column (10 to 25 ms) whatever it does. Typed columns are judged whole by
their minimum and maximum, and row by row only where those break a rule.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import polars as pl

from warehouse.currencies import CURRENCIES
from warehouse.quality_values import (
    MONEY,
    TIME,
    Judged,
    V,
    first_rule,
    number_text,
    spread,
    time_text,
    typed_number,
    typed_time,
    where_kept,
)

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


class Checked(NamedTuple):
    """`accepted`: SCHEMA and line Int64. `rejected`: line, field, rule, value, kept (see check)."""

    accepted: pl.DataFrame
    rejected: pl.DataFrame


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
    """Distinct values of the text columns; of columns that seldom repeat (URLs) the values as they
    are, because a join with them gains nothing; of constant ones (currency) without a hash.

    By `arg_unique`, because `unique` takes three times as long where thousands of values differ.
    """
    found: dict[str, pl.Series] = {}
    for name, raw in raws.items():
        if raw.dtype != pl.String:
            continue
        if len(raw) and raw.null_count() == 0 and (raw == raw[0]).all():
            found[name] = raw.head(1)
            continue
        first = raw.arg_unique()
        found[name] = raw if len(first) > 0.7 * len(raw) else raw[first]
    return found


def _judge(name: str, raw: pl.Series, distinct: pl.Series | None, latest: datetime) -> Judged:
    if distinct is not None:
        judged = spread(raw, distinct, lambda values: _judge_text(name, values, latest))
    elif isinstance(raw.dtype, pl.Datetime):
        judged = typed_time(raw, latest)
    else:
        judged = _bounded(name, typed_number(raw))
    clean, rule = judged
    if name in REQUIRED and clean.null_count():
        missing = clean.is_null() & rule.is_null() if rule is not None else clean.is_null()
        rule = first_rule(rule, missing, "required_missing") if missing.any() else rule
    elif name in DEFAULTS and clean.null_count():
        clean = clean.fill_null(DEFAULTS[name])
    return Judged(clean, rule)


# Text. Each judge is a pair of expressions on the trimmed text `value`: the clean value, the rule.


def _judge_text(name: str, values: pl.Series, latest: datetime) -> Judged:
    cap = LONGEST_NAME if name in ("retailer", "sku", "product_key") else LONGEST
    trimmed = V.str.strip_chars()
    text = values.to_frame("value").with_columns(
        value=pl.when(trimmed != "").then(trimmed),
        rule=pl.when(trimmed.str.len_chars() > cap)
        .then(pl.lit("text_too_long"))
        .when(trimmed.str.contains(_control(name)))
        .then(pl.lit("control_character")),
    )
    text = text.with_columns(value=pl.when(pl.col("rule").is_null()).then(V))
    if SCHEMA[name] == MONEY:
        judged = _bounded(name, number_text(text["value"]))
    elif name == "observed_at":
        judged = time_text(text["value"], latest)
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


def _bounded(name: str, judged: Judged) -> Judged:
    """Below 10^12 everywhere; above zero, or for shipping not below it."""
    clean, rule = judged
    highest, lowest = clean.max(), clean.min()
    if isinstance(highest, Decimal) and highest >= LIMIT:
        rule = first_rule(rule, (clean >= LIMIT).fill_null(False), "too_large")
    if isinstance(lowest, Decimal) and lowest <= 0 and name in ("price", "unit_quantity"):
        rule = first_rule(rule, (clean <= 0).fill_null(False), "not_above_zero")
    if isinstance(lowest, Decimal) and lowest < 0 and name == "shipping":
        rule = first_rule(rule, (clean < 0).fill_null(False), "negative")
    return Judged(clean if rule is None else where_kept(clean, rule), rule)


def _below_price(listed: Judged, price: Judged) -> Judged:
    if listed.clean.null_count() == len(listed.clean):
        return listed
    below = (listed.clean < price.clean).fill_null(False)
    below |= (listed.clean <= 0).fill_null(False)
    if not below.any():
        return listed
    rule = first_rule(listed.rule, below, "list_price_below_price")
    return Judged(where_kept(listed.clean, rule), rule)
