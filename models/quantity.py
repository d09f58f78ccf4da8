"""How much is in it, where only the title says so: "6 x 330 ml", "47g x 8 packs", "500 G"."""

from __future__ import annotations

import polars as pl

# What a shop calls it → (our unit, how many of it).
MEASURES = {
    "g": ("g", 1.0), "gm": ("g", 1.0), "gr": ("g", 1.0), "gram": ("g", 1.0), "grams": ("g", 1.0),
    "kg": ("kg", 1.0), "kilo": ("kg", 1.0),
    "ml": ("ml", 1.0), "cl": ("ml", 10.0), "dl": ("ml", 100.0),
    "l": ("l", 1.0), "lt": ("l", 1.0), "ltr": ("l", 1.0), "liter": ("l", 1.0), "litre": ("l", 1.0),
    "liters": ("l", 1.0), "litres": ("l", 1.0),
}  # fmt: skip
PIECES = dict.fromkeys(("pcs", "pc", "piece", "pieces", "stk", "stück", "'s", "tablets", "tabs", "capsules", "sheets", "rolls", "bags", "slices"), ("pcs", 1.0))  # fmt: skip
BEGIN, END = r"(?:^|[^\p{L}\p{N}.,])", r"(?:[^\p{L}\p{N}]|$)"
# "1,000 g" and "1.000 g" may be a kilogram or a gram: three digits after the sign say nothing.
NUMBER = r"(0[.,]\d{1,3}|\d{1,5}(?:[.,]\d{1,2})?)\s?"
MANY, TIMES = r"(\d{1,3})", r"\s?[x×*]\s?"
MULTIPLIED = r"(?:^|[\s\d])[x×*]\s?\d"  # in a way that no pattern reads: nothing is said
GENERATION = r"\b[2-6]G\b"  # of a mobile network


def _words(*tables: dict[str, tuple[str, float]]) -> str:
    words = sorted((word for table in tables for word in table), key=len, reverse=True)
    return f"({'|'.join(words)})"


ANY = NUMBER + _words(MEASURES, PIECES)
# In this order; each gives how many, how much, of what. A weight tells more than a count of pieces.
PATTERNS = (
    (f"{BEGIN}{MANY}{TIMES}{ANY}{END}", (1, 2, 3)),  # 6 x 330 ml
    (f"{BEGIN}{ANY}{TIMES}{MANY}{END}", (3, 1, 2)),  # 330ml x 6
    (f"{BEGIN}{NUMBER}{_words(MEASURES)}{END}", (0, 1, 2)),
    (f"{BEGIN}{NUMBER}{_words(PIECES)}{END}", (0, 1, 2)),
)
COUNTED = {2: rf"\d\s?{_words(MEASURES)}\b", 3: rf"\d\s?{_words(PIECES)}\b"}


def quantities(titles: pl.DataFrame) -> pl.DataFrame:
    """`titles` (`title`, Utf8) with `unit_quantity` (Float64) and `unit` (g, kg, ml, l, pcs), null
    where the title does not say, or says two things of a kind: "75g + 25g"."""
    text = pl.col("title").str.replace_all(GENERATION, " ").str.to_lowercase()
    found = titles.with_columns(text=text.str.replace_all(r"[\s()\[\]/;|]+", " "))
    said = []
    for place, (pattern, groups) in enumerate(PATTERNS):
        many, amount, word = (
            pl.col("text").str.extract(pattern, group) if group else pl.lit("1") for group in groups
        )
        clear = word.is_not_null()
        if place in COUNTED:
            clear = clear & (pl.col("text").str.count_matches(COUNTED[place]) == 1)
            clear = clear & ~pl.col("text").str.contains(MULTIPLIED)
        number = amount.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        size = number * many.cast(pl.Float64)
        said.append(pl.when(clear).then(pl.struct(size=size, word=word)))
    units = MEASURES | PIECES
    found = found.select("title", said=pl.coalesce(said)).unnest("said")
    holds = pl.col("word").replace_strict(
        {word: size for word, (_, size) in units.items()}, return_dtype=pl.Float64
    )
    quantity = (pl.col("size") * holds).round(4)
    unit = pl.col("word").replace_strict({word: unit for word, (unit, _) in units.items()})
    return found.select(
        "title",
        unit_quantity=pl.when(quantity > 0).then(quantity),
        unit=pl.when(quantity > 0).then(unit),
    )
