"""What the made-up market sells: categories, brands, products, and GTINs that are on no real thing."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Rng = np.random.Generator


class Leaf(NamedTuple):
    """A leaf of the category tree; `low` to `high`: price in euro of the first of `sizes`."""

    path: str
    kind: str
    sizes: list[str]
    low: float
    high: float
    brands: list[str]
    nouns: list[str]
    variants: list[str]

    @classmethod
    def from_text(cls, text: str) -> Leaf:
        path, kind, sizes, low, high, *names = [part.strip() for part in text.split(";")]
        words = [part.split("|") for part in names]
        return cls(path, kind, sizes.split("|"), float(low), float(high), *words)


CATALOGUE = """Groceries > Drinks > Plant drinks; food; 1 l|500 ml|6 x 1 l; 1.3; 2.6;
    Brookfield|Oatmere|Lumivale; Oat Drink|Almond Drink|Soy Drink; Barista|Original|Vanilla|Organic
Groceries > Drinks > Coffee; food; 500 g|250 g|1 kg; 6; 11;
    Corvano|Brookfield; Espresso Beans|Ground Coffee|Coffee Pods; Dark Roast|Crema|Decaf|Organic
Groceries > Drinks > Tea; food; 40 pcs|20 pcs|100 g; 2.2; 4.8;
    Harlow Green|Tessaly; Green Tea|Black Tea|Herbal Tea; Classic|Lemon|Mint|Ginger|Organic
Groceries > Drinks > Soft drinks; food; 1.5 l|330 ml|6 x 330 ml; 1.2; 2.3;
    Fizzel|Sunmarl|Polar Spring; Cola|Lemonade|Tonic Water|Iced Tea; Classic|Zero|Cherry|Lemon
Groceries > Drinks > Beer; food; 6 x 500 ml|500 ml|330 ml; 6; 10;
    Old Tollgate|Kesselbrau; Lager|Pale Ale|Wheat Beer; Classic|Alcohol Free|Unfiltered
Groceries > Pantry > Pasta and rice; food; 500 g|1 kg|2 kg; 0.9; 2.8;
    Bellacorta|Ricefield; Spaghetti|Penne|Basmati Rice|Risotto Rice; Classic|Wholegrain|Organic
Groceries > Pantry > Oils and vinegar; food; 500 ml|750 ml|1 l; 4; 9.5;
    Olivaro|Sunmarl; Olive Oil|Rapeseed Oil|Balsamic Vinegar; Extra Virgin|Mild|Organic
Groceries > Pantry > Canned food; food; 400 g|200 g|3 x 200 g; 0.9; 2.9;
    Bellacorta|Harbour & Sons; Chopped Tomatoes|Tuna|Chickpeas|Sweetcorn; Classic|Organic|No Salt
Groceries > Breakfast > Cereals; food; 500 g|375 g|1 kg; 2.1; 4.6;
    Brookfield|Crunchwell; Muesli|Granola|Corn Flakes|Porridge Oats; Classic|Berry|Nut|No Sugar
Groceries > Breakfast > Spreads; food; 400 g|250 g|750 g; 2.3; 5.5;
    Nocella|Hivebrook; Hazelnut Spread|Honey|Strawberry Jam|Peanut Butter; Classic|Light|Organic
Groceries > Fresh > Dairy; food; 500 g|250 g|150 g; 2.0; 5.2;
    Meadowlark|Alpenrose; Yoghurt|Butter|Cheddar|Cottage Cheese; Classic|Light|Organic|Lactose Free
Groceries > Snacks > Chocolate; food; 100 g|200 g|5 x 40 g; 1.4; 3.4;
    Cacaoline|Montarel; Milk Chocolate|Dark Chocolate|Biscuits; Classic|Sea Salt|Hazelnut|Orange
Household > Cleaning > Laundry; drug; 1.5 l|3 l|750 ml; 5; 11;
    Cleanova|Whitebeck; Washing Liquid|Washing Powder|Fabric Softener; Colour|Sensitive|Fresh
Household > Cleaning > Dishwashing; drug; 40 pcs|80 pcs|24 pcs; 5.5; 12;
    Cleanova|Sparkwell; Dishwasher Tabs|Washing-up Liquid; Classic|Lemon|All in One|Eco
Household > Paper > Toilet paper; drug; 8 pcs|16 pcs|4 pcs; 3; 6.5;
    Softleaf|Whitebeck; Toilet Paper|Kitchen Roll; 2-ply|3-ply|4-ply|Recycled
Health and beauty > Care > Hair; drug; 250 ml|400 ml|2 x 250 ml; 2.4; 7.5;
    Lunessa|Verdane; Shampoo|Conditioner|Hair Mask; Repair|Volume|Moisture|Sensitive
Health and beauty > Care > Oral; drug; 75 ml|125 ml|2 x 75 ml; 1.6; 4.4;
    Dentiva|Verdane; Toothpaste|Tooth Gel; Fresh Mint|Whitening|Sensitive|Kids
Electronics > Screens > Monitors; tech; 24"|27"|32"|34"; 129; 260;
    Halden|Vistrom|Orbix; Monitor|Curved Monitor; 1440p|4K|1080p 144 Hz|USB-C
Electronics > Screens > Televisions; tech; 43"|55"|65"|75"; 279; 620;
    Vistrom|Halden; OLED TV|LED TV|QLED TV; 4K|4K 120 Hz|Full HD
Electronics > Phones > Smartphones; tech; 128 GB|256 GB|512 GB; 249; 780;
    Kestrel|Nuvio|Orbix; Smartphone|Smartphone Pro; Black|Silver|Blue|Green
Electronics > Audio > Headphones; tech; S1|S2|S3|S4; 39; 160;
    Sonora|Auralis|Kestrel; Headphones|Earbuds; Noise Cancelling|Wireless|Sport|Studio
Electronics > Computing > Storage; tech; 500 GB|1 TB|2 TB|4 TB; 42; 80;
    Datalith|Nuvio; SSD|Portable SSD|Memory Card; NVMe|USB-C|Classic
Home and garden > Kitchen > Coffee machines; home; M100|M200|M300; 59; 240;
    Brewmark|Casa Lindo; Espresso Machine|Filter Coffee Machine|Coffee Grinder; Black|Steel|White
Home and garden > Kitchen > Pans; home; 24 cm|28 cm|32 cm; 19; 55;
    Ferrovale|Casa Lindo; Frying Pan|Saucepan|Wok; Non-Stick|Steel|Cast Iron
Home and garden > Tools > Drills; home; Basic|Kit|Pro Kit; 45; 120;
    Torqmann|Ironbridge; Cordless Drill|Hammer Drill|Screwdriver Set; 12 V|18 V|18 V Brushless
"""
LEAVES = [Leaf.from_text(text) for text in re.split(r"\n(?=\S)", CATALOGUE)]


def gtin13(serial: Ints) -> list[str]:
    """GTINs with valid check digits, different for up to 10^9 serials. GS1 keeps the prefix 952
    for demonstrations, so none of them is on a real thing."""
    body = 952_000_000_000 + serial * 104_729 % 10**9
    digits = body[:, None] // 10 ** np.arange(11, -1, -1) % 10
    check = -(digits * np.tile([1, 3], 6)).sum(axis=1) % 10
    return [f"{number}" for number in body * 10 + check]


def size_of(text: str) -> tuple[float | None, str | None]:
    """Quantity and unit of a size: "6 x 330 ml" is 1980 ml; (None, None) for '27"' or "S1"."""
    *number, unit = text.split(" ")
    if not number or unit not in ("g", "kg", "ml", "l", "pcs"):
        return None, None
    packs = float(number[0]) if "x" in number else 1.0
    return round(packs * float(number[-1]), 3), unit


def dearer(sizes: list[str], size: int) -> float:
    """How many times the price of the first of `sizes` this one costs: bigger packs are cheaper by
    the gram, each further size of a device costs 35 % more."""
    (amount, unit), (first, first_unit) = size_of(sizes[size]), size_of(sizes[0])
    if amount is None or first is None:
        return 1.35**size
    grams = {"kg": 1000, "l": 1000}
    ratio = amount * grams.get(unit or "", 1) / (first * grams.get(first_unit or "", 1))
    return 1.0 if "pcs" in (unit, first_unit) and unit != first_unit else float(ratio**0.85)


def catalogue(rng: Rng, products: int) -> pl.DataFrame:
    """`products` rows: title, brand, size (text), category, kind, gtin13, mpn, product_key, unit
    quantity and unit, base (cents, float). One in 20 is of kind "own": sold by one shop alone."""
    rows = []
    orders: dict[int, Ints] = {}
    for number in range(products):
        at, turn = number % len(LEAVES), number // len(LEAVES)
        leaf = LEAVES[at]
        own = (at + 7 * turn) % 20 == 19
        counts = (len(leaf.sizes), len(leaf.variants), len(leaf.nouns), len(leaf.brands))
        if at not in orders:
            orders[at] = rng.permutation(np.prod(counts))
        again, pick = divmod(turn, len(orders[at]))
        size, variant, noun, make = np.unravel_index(orders[at][pick], counts)
        brand = "Ivory Lane" if own else leaf.brands[make]
        quantity, unit = size_of(leaf.sizes[size])
        words = [brand, leaf.nouns[noun], leaf.variants[variant], leaf.sizes[size]]
        if unit is None:
            words.insert(1, words.pop())
        words += [f"Edition {again + 1}"] if again else []
        place = 0.6 * make / max(len(leaf.brands) - 1, 1) + 0.4 * rng.random()
        base = 100 * leaf.low * (leaf.high / leaf.low) ** place * dearer(leaf.sizes, int(size))
        told = (" ".join(words), brand, leaf.path, "own" if own else leaf.kind)
        rows.append((*told, quantity, unit, base))
    names = ["title", "brand", "category", "kind", "unit_quantity", "unit", "base"]
    nth = pl.int_range(pl.len())
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None).with_columns(
        pl.col("unit_quantity").cast(pl.Decimal(18, 4)),
        pl.Series("gtin13", gtin13(np.arange(products))),
        mpn=pl.format("{}-{}", pl.col("brand").str.head(3).str.to_uppercase(), 10_007 + nth * 37),
        product_key=pl.format("pk-{}", nth.cast(pl.String).str.zfill(6)),
    )
