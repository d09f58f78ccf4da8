"""A made-up market that behaves like real ones: for `pricepulse demo`, for tests, for `bench/`.

The statistics follow 4.5 million real shelf prices of eight supermarkets: the median price spell
lasts 8 days and the 90th percentile 49, 19 % of prices change on one weekday against 1 % on
others, and half of all changes go back to the price before the last. A weekly change that every
offer draws with a probability of its own gives the lengths: 32 % of offers are busy (0.7 a week),
the others calm (0.06), so most spells are short and a few very long. Everything is computed for all
offers at once; the same arguments give the same market.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rng = np.random.Generator

DAY = 86_400
BUSY = 0.32  # share of offers
CHANGE_WEEKDAY = 4  # Friday, Monday is 0
# So many days before the first look the prices begin to move: on its first day a market has as many
# promotions as on any other. Whole weeks, so that the weekday of changes stays.
RUN_UP = 26 * 7
ENDINGS = {"nine": 1, "five": 5, "round": 0}  # cents below the step: 2.99, 2.95, 3.00


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


class Shop(NamedTuple):
    """`inflates`: share of sales whose list price is made up; `fee`: shipping below 50 euro."""

    slug: str
    kinds: str
    level: float
    ending: str
    inflates: float
    hour: int
    fee: float | None = None
    follows: str = ""
    lag: int = 0
    ids: str = "gtin13 key"


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
# fmt: off
SHOPS = (
    Shop("alder-market", "food drug", 1.00, "nine", 0.10, 5),
    Shop("brook-and-barley", "food", 1.12, "five", 0.05, 6),
    Shop("copper-lane", "food drug", 0.96, "nine", 0.20, 7, follows="alder-market", lag=1),
    Shop("daybreak-grocers", "food drug", 1.05, "round", 0.15, 6, ids="key"),
    Shop("eastgate-electronics", "tech", 1.00, "nine", 0.10, 4, 4.99),
    Shop("fernhill-outlet", "tech home", 0.97, "round", 0.60, 8, 6.90, ids="gtin14"),
    Shop("gable-and-sons", "tech home", 1.02, "five", 0.15, 9, 3.95, "eastgate-electronics", 2),
    Shop("haywain", "food drug tech home", 1.03, "nine", 0.30, 3, 2.99),
    Shop("ivory-lane", "own", 0.90, "nine", 0.10, 7, 3.50, ids=""),
)
COLUMNS = [
    "retailer", "sku", "observed_at", "price", "currency", "list_price", "availability",
    "condition", "shipping", "promotion", "title", "brand", "gtin", "mpn", "url", "image_url",
    "category", "unit_quantity", "unit", "product_key",
]
# fmt: on
OUTLET, REFURBISHER = 5, 4  # positions in SHOPS: who was not looked at, who sells refurbished


class Spells(NamedTuple):
    """Prices of all offers, ascending by `key` = offer * span + first day; cents; list 0 = none."""

    span: int
    key: Ints
    price: Ints
    list_price: Ints

    def at(self, offer: Ints, day: Ints) -> Ints:
        """The position of the spell that each (offer, day) lies in; day below `span`."""
        place: Ints = np.searchsorted(self.key, offer * self.span + day, side="right") - 1
        return place


class Outages(NamedTuple):
    """Times without stock, ascending by `key` = offer * span + first day; `end` likewise."""

    span: int
    key: Ints
    end: Ints

    def covers(self, offer: Ints, day: Ints) -> Bools:
        wanted = offer * self.span + day
        covered: Bools = wanted < self.end[np.searchsorted(self.key, wanted, side="right") - 1]
        return covered


def believable(cents: Floats, below: Ints) -> Ints:
    """The nearest price that a shop would print: 2.99, 12.50, 149.00; `below` from ENDINGS."""
    sizes = [cents < 1000, cents < 5000, cents < 20_000, cents < 1e5]
    step = np.select(sizes, [10, 50, 100, 500], default=1000)
    near: Ints = np.rint((cents + below) / step).astype(np.int64) * step - below
    return np.maximum(near, 19, dtype=np.int64)


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


def change_days(rng: Rng, offers: int, days: int, weekday: int, busy: float) -> tuple[Ints, Ints]:
    """Offer and first day of every spell, ascending; each offer's first spell starts on day 0."""
    weekly = np.where(rng.random(offers) < busy, 0.7, 0.06)
    changes = rng.random((offers, (days + 6) // 7 + 1), dtype=np.float32) < weekly[:, None]
    changes[:, 0] = True
    offer, week = np.nonzero(changes)
    # A fifth of the changes falls on other days: 6 % of prices over six days against 19 %.
    shift = np.where(rng.random(len(offer)) < 0.22, rng.integers(-3, 4, len(offer)), 0)
    friday = (CHANGE_WEEKDAY - weekday) % 7
    start = np.where(week == 0, 0, np.maximum(7 * (week - 1) + friday + shift, 1))
    return offer[start < days], start[start < days]


def price_spells(
    rng: Rng, base: Floats, below: Ints, inflates: Floats, *, days: int, weekday: int, busy: float
) -> Spells:
    """What each offer costs on `days` days: `base` (cents) is its usual price on the first, `below`
    its price ending, `inflates` the share of its sales with a made-up list price. `weekday` is
    the first day's (Monday 0), `busy` the share of offers that change two weeks in three."""
    offer, start = change_days(rng, len(base), days, weekday, busy)
    opening = start == 0
    first = np.flatnonzero(opening)[offer]
    size = len(offer)
    turn = np.arange(size) - first + rng.integers(0, 2, len(base))[offer]
    sale = (turn % 2 == 1) & (rng.random(size) < 0.9) & ~opening
    lasts = np.where(np.append(opening[1:], True), days, np.append(start[1:], days)) - start
    sale &= lasts <= 28
    after_sale = np.append(False, sale[:-1])
    moves = ~opening & ~sale & ~(after_sale & (rng.random(size) < 0.93))
    step = np.where(rng.random(size) < 0.66, 1, -1) * rng.uniform(0.03, 0.12, size) * moves
    walk = np.cumsum(step)
    regular = base[offer] * np.exp(np.clip(walk - walk[first], -0.35, 0.45))

    depths = np.array([0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
    usual = depths[rng.integers(0, 6, len(base))][offer]
    depth = np.where(rng.random(size) < 0.6, usual, depths[rng.integers(0, 6, size)])
    inflated = sale & (rng.random(size) < inflates[offer])
    depth[inflated] = 0.05
    claim = np.where(inflated, rng.uniform(1.2, 1.5, size), 1.0)
    # Where the spell before is short, most made-up list prices were charged, but only in it.
    raised = (lasts <= 14) & ~sale & np.append(inflated[1:], False) & (rng.random(size) < 0.7)
    raise_by = np.where(raised, np.append(claim[1:], 1.0), 1.0)

    price = believable(regular * np.where(sale, 1 - depth, raise_by), below[offer])
    shown = inflated | (sale & (rng.random(size) < 0.75))
    listed = np.where(shown, believable(regular * claim, below[offer]), 0)
    # One offer in 20 always shows a manufacturer's price that nobody ever paid.
    standing = (rng.random(len(base)) < 0.05)[offer] & ~shown
    listed = np.where(standing, believable(base[offer] * 1.3, below[offer]), listed)
    span = days + 8
    return Spells(span, offer * span + start, price, np.where(listed > price, listed, 0))


def copied(spells: Spells, leader: Ints, lag: Ints, ratio: Floats, below: Ints) -> Spells:
    """The same spells, but where `leader` (per offer, -1: nobody) names an offer, that one's prices
    times `ratio`, `lag` days (at most 7) later."""
    offers = np.arange(len(leader))
    source = np.where(leader >= 0, leader, offers)
    owner = spells.key // spells.span
    first, count = np.searchsorted(owner, offers), np.bincount(owner, minlength=len(offers))
    sizes = count[source]
    offer = np.repeat(offers, sizes)
    taken = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken += np.repeat(first[source], sizes)
    start = spells.key[taken] % spells.span
    follows = leader[offer] >= 0
    start += np.where(follows & (start > 0), lag[offer], 0)
    price, listed = spells.price[taken], spells.list_price[taken]
    ratio, below = ratio[offer], below[offer]
    price = np.where(follows, believable(price * ratio, below), price)
    listed = np.where(follows & (listed > 0), believable(listed * ratio, below), listed)
    key = offer * spells.span + start
    return Spells(spells.span, key, price, np.where(listed > price, listed, 0))


def outages(rng: Rng, offers: int, span: int) -> Outages:
    """Two offers in five run out of stock about three times a year, for 6 days on average."""
    often = np.where(rng.random(offers) < 0.4, span / 120, 0.0)
    offer = np.repeat(np.arange(offers), rng.poisson(often))
    key = np.sort(offer * span + rng.integers(0, span, len(offer)))
    end = np.minimum(key + rng.geometric(1 / 6, len(key)), (key // span + 1) * span)
    # The first one ends before all days, so that every look comes after one.
    return Outages(span, np.append(-1, key), np.append(-1, end))


def money(cents: Ints, name: str, null: int = 0) -> pl.Series:
    """DECIMAL(18,4) from cents; null where they equal `null`."""
    series = pl.Series(name, cents)
    return (series.cast(pl.Decimal(18, 2)) / 100).cast(pl.Decimal(18, 4)).set(series == null, None)


def listings(rng: Rng, goods: pl.DataFrame, days: int) -> pl.DataFrame:
    """One row per offer: product and shop (positions), first and last day on sale, base (cents),
    whether it opens as a pre-order."""
    kinds = goods["kind"].to_numpy()
    carried = np.stack([np.isin(kinds, shop.kinds.split()) for shop in SHOPS], axis=1)
    choice = carried & (rng.random(carried.shape) < 0.85)
    choice[np.arange(len(kinds)), carried.argmax(axis=1)] = True
    product, shop = np.nonzero(choice)
    size = len(product)

    launch = np.where(rng.random(len(kinds)) < 0.12, rng.uniform(0.1, 0.99, len(kinds)) * days, 0)
    first = launch[product] + np.where(launch[product] > 0, rng.integers(0, 20, size), 0)
    last = np.where(rng.random(size) < 0.05, rng.uniform(0.3, 0.97, size) * days, days)
    last = np.where(last > first + 20, last, days)
    level = np.array([s.level for s in SHOPS])[shop] * rng.normal(1, 0.03, size)
    tech = np.isin(kinds[product], ("tech",))
    refurbished = (shop == REFURBISHER) & tech & (rng.random(size) < 0.1)
    return pl.DataFrame(
        {
            "product": product,
            "shop": shop,
            "first": np.minimum(first, days - 1).astype(np.int64),
            "last": last.astype(np.int64),
            "preorder": (first > 0) & tech & (rng.random(size) < 0.4),
            "refurbished": refurbished,
            "base": goods["base"].to_numpy()[product] * level * np.where(refurbished, 0.75, 1.0),
        }
    )


def described(offers: pl.DataFrame, goods: pl.DataFrame) -> pl.DataFrame:
    """What the rows of each offer say of it: which ids depends on the shop."""
    shop = offers["shop"]
    slug = pl.Series("retailer", [s.slug for s in SHOPS])[shop]
    ids = pl.Series("ids", [s.ids for s in SHOPS])[shop]
    told = goods[offers["product"]].with_columns(offers["refurbished"], slug, ids)
    used, has = pl.col("refurbished"), pl.col("ids").str.contains
    prefix = pl.when(has("gtin14")).then(pl.lit("0")).when(has("gtin13")).then(pl.lit(""))
    sku = pl.col("retailer").str.head(2).str.to_uppercase() + pl.lit(
        (offers["product"] * 7 + 100_003).cast(pl.String)
    )
    return told.with_columns(
        title=pl.col("title") + pl.when(used).then(pl.lit(" (refurbished)")).otherwise(pl.lit("")),
        condition=pl.when(used).then(pl.lit("refurbished")).otherwise(pl.lit("new")),
        gtin=prefix + pl.col("gtin13"),
        product_key=pl.when(has("key")).then("product_key"),
        mpn=pl.when(pl.col("unit").is_null()).then("mpn"),
        sku=sku,
        url=pl.format("https://{}.example/p/{}", "retailer", sku),
        image_url=pl.lit(None, pl.String),
        currency=pl.lit("EUR"),
    )


def leaders(rng: Rng, offers: pl.DataFrame) -> Ints:
    """For each offer the offer whose prices it copies (half of a follower's range), or -1."""
    product, shop = offers["product"].to_list(), offers["shop"].to_list()
    position = {pair: at for at, pair in enumerate(zip(product, shop, strict=True))}
    followed = [next((n for n, t in enumerate(SHOPS) if t.slug == s.follows), -1) for s in SHOPS]
    copies = rng.random(len(product)) < 0.5
    pairs = zip(product, shop, copies.tolist(), strict=True)
    found = [position.get((p, followed[s]), -1) if c else -1 for p, s, c in pairs]
    return np.array(found, dtype=np.int64)


def promotions(rng: Rng, spells: Spells, food: Bools) -> pl.Series:
    """A multi-buy text for one in eight spells of food, else null."""
    many = rng.integers(2, 4, len(spells.price))
    total = believable(np.float64(0.88) * spells.price * many, np.zeros_like(many))
    wanted = food[spells.key // spells.span] & (rng.random(len(many)) < 0.125)
    frame = pl.DataFrame({"many": many, "wanted": wanted}).with_columns(money(total, "total"))
    text = pl.format("{} for {}", "many", pl.col("total").cast(pl.Decimal(18, 2)))
    return frame.select(promotion=pl.when("wanted").then(text)).to_series()


def looks(
    rng: Rng, offers: pl.DataFrame, days: int, per_day: float, newest: int
) -> tuple[Ints, Ints]:
    """Offer and second (since midnight of the first day) of every look, in the order of time. A
    shop is looked at from an hour of its own on, for 40 minutes; one not at all for 12 days."""
    shop = offers["shop"].to_numpy()
    size = len(shop)
    hours = np.array([s.hour for s in SHOPS])[shop] * 3600 + rng.integers(0, 2400, size)
    rounds = (np.arange(int(np.ceil(days * per_day))) * DAY / per_day).astype(np.int64)
    second = hours[:, None] + rounds + rng.integers(0, 120, (size, len(rounds)))
    day = second // DAY
    seen = (day >= offers["first"].to_numpy()[:, None]) & (second <= newest)
    seen &= day <= offers["last"].to_numpy()[:, None]
    gap = int(days * 0.6) if days > 60 else days
    seen &= (shop != OUTLET)[:, None] | (day < gap) | (day >= gap + 12)
    offer = np.nonzero(seen)[0]
    order = np.argsort(second[seen], kind="stable")
    return offer[order], second[seen][order]


def availability(rng: Rng, offers: pl.DataFrame, offer: Ints, day: Ints, span: int) -> pl.Series:
    """The schema.org word of every look. Three in five offers that end say so, the others are just no
    longer there: stale."""
    out = outages(rng, len(offers), span)
    told = rng.random(len(offers)) < 0.6
    last, first = offers["last"].to_numpy()[offer], offers["first"].to_numpy()[offer]
    opening = offers["preorder"].to_numpy()[offer] & (day < first + 5)
    ending = told[offer] & (last < span - 8) & (day > last - 3)
    cases = [ending, opening, out.covers(offer, day), out.covers(offer, day + 2)]
    code = np.select(cases, [4, 3, 2, 1])
    words = ["InStock", "LimitedAvailability", "OutOfStock", "PreOrder", "Discontinued"]
    return pl.Series("availability", words)[code]


def shipping(offers: pl.DataFrame, offer: Ints, price: Ints) -> pl.Series:
    """Cost of shipping: the shop's fee, free from 50 euro; null where the shop does not ship."""
    fees = np.array([-1 if s.fee is None else round(s.fee * 100) for s in SHOPS])
    fee = fees[offers["shop"].to_numpy()][offer]
    return money(np.where((price >= 5000) & (fee > 0), 0, fee), "shipping", null=-1)


def slipped(rng: Rng, price: Ints) -> Ints:
    """A few wrong prices, for one look each and every other one lately: the decimal point lost (100 or
    10 times too high), or that of another pack (1.6 times). `price` is in the order of time. Feed
    rule: more than 10 times is suspect; the others are left to the anomaly detectors."""
    size = len(price) // 25_000 + 1
    lately = np.arange(size) % 2 == 1
    place = np.where(lately, rng.uniform(0.93, 0.99, size), rng.random(size))
    wrong = np.unique((place * len(price)).astype(np.int64))
    slips = price.copy()
    slips[wrong] = price[wrong] * rng.choice([1000, 100, 16], size=len(wrong)) // 10
    return slips


def market(
    *,
    seed: int = 7,
    products: int = 400,
    days: int = 400,
    until: datetime,
    looks_per_day: float = 1.0,
) -> pl.DataFrame:
    """The market's observations of `days` days up to `until`, all columns of the feed (version 1),
    in the order of time; money is DECIMAL(18,4) in EUR. With the defaults about half a million
    rows of 1,500 offers at nine shops. ValueError for an `until` without zone or empty ranges."""
    if until.tzinfo is None or min(products, days, looks_per_day) <= 0:
        raise ValueError(f"until needs a time zone, the rest be above zero: {until!r}, {products=}")
    rng = np.random.default_rng(seed)
    until = until.astimezone(UTC)
    midnight = until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    goods = catalogue(rng, products)
    offers = listings(rng, goods, days)
    shop = offers["shop"].to_numpy()
    below = np.array([ENDINGS[s.ending] for s in SHOPS])[shop]
    inflates = np.array([s.inflates for s in SHOPS])[shop]
    base = offers["base"].to_numpy()
    spells = price_spells(
        rng, base, below, inflates, days=RUN_UP + days, weekday=midnight.weekday(), busy=BUSY
    )
    leader = leaders(rng, offers)
    lag = np.array([s.lag for s in SHOPS])[shop] + rng.integers(0, 2, len(shop))
    spells = copied(spells, leader, lag, base / base[leader], below)

    newest = int((until - midnight).total_seconds())
    offer, second = looks(rng, offers, days, looks_per_day, newest)
    day = second // DAY
    at = spells.at(offer, RUN_UP + day)
    price, listed = spells.price[at], spells.list_price[at]
    told = described(offers, goods)
    food = told["category"].str.starts_with("Groceries").to_numpy()
    instant = (int(midnight.timestamp()) + second) * 1_000_000
    rows = told[offer].with_columns(
        pl.Series("observed_at", instant).cast(pl.Datetime("us", "UTC")),
        money(slipped(rng, price), "price"),
        money(listed, "list_price"),
        availability(rng, offers, offer, day, days + 8),
        shipping(offers, offer, price),
        promotions(rng, spells, food)[at],
    )
    return rows.select(COLUMNS)
