"""A made-up market that behaves like real ones: for `pricepulse demo`, for tests, for `bench/`.

The statistics follow 4.5 million real shelf prices of eight supermarkets: the median price spell
lasts 8 days and the 90th percentile 49, 19 % of prices change on one weekday against 1 % on
others, and half of all changes go back to the price before the last. A weekly change that every
offer draws with a probability of its own gives the lengths: 32 % of offers are busy (0.7 a week),
the others calm (0.06), so most spells are short and a few very long. Everything is computed for all
offers at once; the same arguments give the same market.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pricepulse.demo_catalogue import Ints, Rng, catalogue

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DAY = 86_400
BUSY = 0.32  # share of offers
CHANGE_WEEKDAY = 4  # Friday, Monday is 0
# So many days before the first look the prices begin to move: on its first day a market has as many
# promotions as on any other. Whole weeks, so that the weekday of changes stays.
RUN_UP = 26 * 7
ENDINGS = {"nine": 1, "five": 5, "round": 0}  # cents below the step: 2.99, 2.95, 3.00


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
