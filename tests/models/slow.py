"""Small made-up markets, and the market models once more: slow, in plain Python, one product, one
day, one pair at a time. Nothing here is shared with `models/`."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import mean, median, pstdev
from typing import Any

import polars as pl

HOUR, DAY = 3600, 86_400
WEEK = 7 * DAY
AS_OF = int(datetime(2026, 5, 13, 9, 30, tzinfo=UTC).timestamp())  # a Wednesday
SLUGS = ["food.drinks.tea", "food.drinks", "food.pasta", "home", None]
Stretch = tuple[int, int, int]  # start, until, price
Key = tuple[str, str]
TIMELINE: dict[str, Any] = {
    "series": pl.Int64, "start": pl.Int64, "until": pl.Int64, "price": pl.Int64,
}  # fmt: skip
OFFERS: dict[str, Any] = {
    "offer_id": pl.Int64, "product_id": pl.Int64, "retailer": pl.String, "currency": pl.String,
    "list_price": pl.Int64, "price": pl.Int64, "fresh": pl.Boolean,
}  # fmt: skip
PRODUCTS: dict[str, Any] = {
    "product_id": pl.Int64, "currency": pl.String, "category_slug": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Market:
    """`products` and `offers` as rows; `of_product`, `of_offer`: their stretches."""

    products: list[dict[str, Any]]
    offers: list[dict[str, Any]]
    of_product: dict[int, list[Stretch]]
    of_offer: dict[int, list[Stretch]]

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        return (
            timeline(self.of_product),
            timeline(self.of_offer),
            pl.DataFrame(self.offers, schema=OFFERS),
            pl.DataFrame(self.products, schema=PRODUCTS),
        )


def timeline(stretches: dict[int, list[Stretch]]) -> pl.DataFrame:
    rows = [(series, *stretch) for series, mine in stretches.items() for stretch in mine]
    return pl.DataFrame(rows, schema=TIMELINE, orient="row")


def stretches(chance: random.Random, days: int, level: int, pace: float) -> list[Stretch]:
    """Prices of one series: mostly whole days apart, some hours or one instant, some gaps."""
    found, start = [], AS_OF - days * DAY + chance.randrange(0, 20 * DAY, HOUR)
    while start < AS_OF:
        lasts = max(1, round(chance.expovariate(1 / pace))) * DAY
        if chance.random() < 0.1:
            lasts = chance.choice([0, 1, HOUR, 5 * HOUR])
        until = min(start + lasts, AS_OF)
        found.append((start, until, max(1, round(level * chance.choice([0.7, 0.9, 1, 1, 1.1])))))
        unknown = chance.choice([HOUR, 3 * DAY, 25 * DAY])
        start = until + (unknown if chance.random() < 0.08 or not lasts else 0)
    return found


def market(seed: int, days: int = 400, size: int = 30) -> Market:
    chance = random.Random(seed)
    products: list[dict[str, Any]] = []
    offers: list[dict[str, Any]] = []
    of_product, of_offer = {}, {}
    for number in range(size):
        product, currency = 1000 - 7 * number, chance.choice(["EUR", "EUR", "USD", "JPY"])
        level = chance.choice([9, 12_300, 10**6, 10**16])
        slug = chance.choice(SLUGS)
        products.append({"product_id": product, "currency": currency, "category_slug": slug})
        if chance.random() < 0.9:
            of_product[product] = stretches(chance, days, level, chance.choice([3, 9, 60]))
        for shop in chance.sample(["alder", "birch", "cedar", "cedar"], chance.randrange(5)):
            offer = product * 10 + len(offers) % 10
            while offer in of_offer:
                offer += 10**6
            known = stretches(chance, days, level, chance.choice([3, 9, 60]))
            of_offer[offer] = known
            price = known[-1][2] if known else level
            offers.append(
                {
                    "offer_id": offer,
                    "product_id": product,
                    "retailer": shop,
                    "currency": currency,
                    "list_price": chance.choice([0, 0, price, price + 1]),
                    "price": price,
                    "fresh": chance.random() < 0.8,
                }
            )
    of_offer = {offer: known for offer, known in of_offer.items() if known}
    return Market(products, offers, of_product, of_offer)


def classes(slug: str | None) -> list[str]:
    parts = slug.split(".") if slug else []
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]


def changes(known: list[Stretch]) -> list[tuple[int, int, int]]:
    """When, from what, to what: of neighbours without a gap."""
    found = []
    for (_, until, before), (start, _, after) in pairwise(known):
        if start == until and before != after:
            found.append((start, before, after))
    return found


# --- the index ------------------------------------------------------------------------------------


def period_of(second: int, period: str) -> int:
    """The second at which its period begins."""
    at = datetime.fromtimestamp(second, UTC).replace(hour=0, minute=0, second=0)
    at = at.replace(day=1) if period == "month" else at - timedelta(days=at.weekday())
    return int(at.timestamp())


def after(begin: int, period: str) -> int:
    at = datetime.fromtimestamp(begin, UTC)
    if period == "week":
        return begin + WEEK
    return int(datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC).timestamp())


def means(known: list[Stretch], period: str) -> dict[int, float]:
    """Time-weighted mean price by period; where no time passed, the plain mean."""
    pieces: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for start, until, price in known:
        if start == until:
            pieces[period_of(start, period)].append((0, price))
        while start < until:
            begin = period_of(start, period)
            end = min(until, after(begin, period))
            pieces[begin].append((end - start, price))
            start = end
    found = {}
    for begin, mine in pieces.items():
        total = sum(seconds for seconds, _ in mine)
        paid = sum(seconds * price for seconds, price in mine)
        found[begin] = paid / total if total else mean(price for _, price in mine)
    return found


def index(market: Market, period: str) -> dict[tuple[str, str, int], tuple[float, int, int, int]]:
    """By class, currency and period: index, matched, entered, left. The manual's way: who is missing
    gets an imputed price that moves with the class, and comes back against that."""
    members: dict[Key, list[dict[int, float]]] = defaultdict(list)
    for product in market.products:
        known = market.of_product.get(product["product_id"])
        if known:
            for slug in classes(product["category_slug"]):
                members[slug, product["currency"]].append(means(known, period))
    found = {}
    for (slug, currency), prices in members.items():
        level = math.log(100)
        held: dict[int, float] = {}  # log price, known or imputed, of all seen so far
        there: set[int] = set()
        for begin in sorted({begin for mine in prices for begin in mine}):
            now = {who: math.log(mine[begin]) for who, mine in enumerate(prices) if begin in mine}
            matched = [who for who in now if who in held]
            entered = len(now) - len(matched)
            link = mean(now[who] - held[who] for who in matched) if matched else 0.0
            level += link
            held = {who: price + link for who, price in held.items()}
            held |= now
            left = len(there - set(now))
            found[slug, currency, begin] = (math.exp(level), len(matched), entered, left)
            there = set(now)
    return found


# --- trends and seasons ---------------------------------------------------------------------------


def price_at(known: list[Stretch], second: int) -> int | None:
    found = None
    for start, until, price in known:
        if start <= second <= until:
            found = price  # the later one, where two touch
    return found


def trend(points: list[tuple[float, float]], days: int, fewest: int) -> tuple[Any, Any, Any]:
    """Change per 30 days, tau-b, direction of (day, log price)."""
    if len(points) < fewest:
        return None, None, None
    slopes, up, down, pairs = [], 0, 0, 0
    for place, (late, high) in enumerate(points):
        for early, low in points[:place]:
            slopes.append((high - low) / (late - early))
            up, down, pairs = up + (high > low), down + (high < low), pairs + 1
    slope = median(slopes)
    tau = (up - down) / math.sqrt(pairs * (up + down)) if up + down else 0.0
    direction = "flat"
    if abs(slope) * days >= math.log(1.01) and abs(tau) >= 0.4:
        direction = "rising" if slope > 0 else "falling"
    return math.exp(30 * slope) - 1, tau, direction


def weekly(known: list[Stretch], days: int, step: int) -> list[tuple[float, float]]:
    points = []
    for back in range(days // (7 * step), -1, -1):
        price = price_at(known, AS_OF - back * step * WEEK)
        if price is not None:
            points.append((-7.0 * step * back, math.log(price)))
    return points


def weekdays(market: Market) -> dict[tuple[str, str, int], tuple[float, float | None, int, int]]:
    """By class, currency and weekday: effect, share of drops, weeks of products, products."""
    logs: dict[Key, list[list[float]]] = defaultdict(list)
    drops: dict[Key, list[int]] = defaultdict(list)
    series: dict[Key, int] = defaultdict(int)
    for product in market.products:
        known = market.of_product.get(product["product_id"], [])
        mine, mine_drops = whole_weeks(known)
        if len(mine) < 8:
            continue
        for slug in classes(product["category_slug"]):
            key = (slug, product["currency"])
            logs[key] += mine
            drops[key] += mine_drops
            series[key] += 1
    found = {}
    for key, weeks in logs.items():
        for day in range(7):
            effect = math.exp(mean(week[day] - mean(week) for week in weeks))
            share = drops[key].count(day) / len(drops[key]) if drops[key] else None
            found[*key, day] = (effect, share, len(weeks), series[key])
    return found


def whole_weeks(known: list[Stretch]) -> tuple[list[list[float]], list[int]]:
    """The mean log price of each day of each week known throughout, and the days of their drops."""
    if not known:
        return [], []
    weeks, drops = [], []
    begin = period_of(known[0][0], "week")
    while begin < known[-1][1]:
        days = []
        for day in range(7):
            low, high = begin + day * DAY, begin + (day + 1) * DAY
            overlaps = [
                (min(until, high) - max(start, low), price) for start, until, price in known
            ]
            held = [(seconds, price) for seconds, price in overlaps if seconds > 0]
            if sum(seconds for seconds, _ in held) == DAY:
                days.append(sum(seconds * math.log(price) for seconds, price in held) / DAY)
        if len(days) == 7:
            weeks.append(days)
            drops += [
                datetime.fromtimestamp(when, UTC).weekday()
                for when, before, now in changes(known)
                if begin <= when < begin + WEEK and now < before
            ]
        begin += WEEK
    return weeks, drops


# --- who moves first ------------------------------------------------------------------------------


Moves = dict[tuple[int, str, str], dict[bool, set[int]]]


def lead_follow(
    market: Market, days: int, fewest: int
) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """By leader, follower, currency: products, changes, together, followed, chance, median lag."""
    oldest = min(known[0][0] for known in market.of_offer.values()) // DAY
    first, last = max(AS_OF // DAY - days, oldest), AS_OF // DAY - 8
    moves = days_of_moves(market, first)
    totals: dict[tuple[str, str, str], list[tuple[list[int | None], list[float]]]] = defaultdict(
        list
    )
    for (product, currency, leader), mine in moves.items():
        for (other, other_currency, follower), theirs in moves.items():
            if (other, other_currency) == (product, currency) and leader != follower:
                totals[leader, follower, currency].append(
                    answers(mine, theirs, range(first, last + 1))
                )
    found: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for key, parts in totals.items():
        lags = [lag for mine, _ in parts for lag in mine]
        shares = [share for _, mine in parts for share in mine]
        followed = [lag for lag in lags if lag]
        if len(parts) >= fewest:
            found[key] = (
                *(len(parts), len(lags), lags.count(0), len(followed)),
                mean(shares) if shares else None,
                median(followed) if followed else None,
            )
    return found


def days_of_moves(market: Market, first: int) -> Moves:
    """By product, currency and shop, of listings known for long enough: days of rises (True), falls."""
    moves: Moves = {}
    for offer in market.offers:
        known = market.of_offer.get(offer["offer_id"], [])
        held = sum(max(0, until - max(start, first * DAY)) for start, until, _ in known)
        if held < 0.8 * (AS_OF - first * DAY):
            continue
        key = (offer["product_id"], offer["currency"], offer["retailer"])
        mine = moves.setdefault(key, {True: set(), False: set()})
        for when, before, now in changes(known):
            if when // DAY >= first:
                mine[now > before].add(when // DAY)
    return moves


def answers(
    mine: dict[bool, set[int]], theirs: dict[bool, set[int]], span: range
) -> tuple[list[int | None], list[float]]:
    """For each of my moves: after how many days they moved likewise (None: not within 7), and on
    what share of all days they would have."""
    lags: list[int | None] = []
    shares = []
    for rose in (True, False):
        ahead = [day for day in span if any(day + lag in theirs[rose] for lag in range(1, 8))]
        for day in mine[rose]:
            if day in span:
                lags.append(next((lag for lag in range(8) if day + lag in theirs[rose]), None))
                shares.append(len(ahead) / len(span))
    return lags, shares


# --- figures --------------------------------------------------------------------------------------


def usual_price(known: list[Stretch]) -> int | None:
    held: dict[int, float] = defaultdict(float)
    for start, until, price in known:
        if until > AS_OF - 90 * DAY:
            held[price] += max(until - max(start, AS_OF - 90 * DAY), 1e-9)
    passed = 0.0
    for price in sorted(held):
        passed += held[price]
        if passed >= sum(held.values()) / 2:
            return price
    return None


def figures(market: Market) -> dict[tuple[str, str, str], dict[str, Any]]:
    """By class, retailer and currency: what `market_figures` gives, by name."""
    slug_of = {row["product_id"]: row["category_slug"] for row in market.products}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for offer in market.offers:
        for slug in classes(slug_of[offer["product_id"]]):
            for retailer in ("", offer["retailer"]):
                groups[slug, retailer, offer["currency"]].append(offer)
    return {key: of_group(market, key, mine, groups) for key, mine in groups.items()}


def of_group(
    market: Market, key: tuple[str, str, str], mine: list[dict[str, Any]], groups: Any
) -> dict[str, Any]:
    fresh = [offer for offer in mine if offer["fresh"]]
    moved, seconds, spells = 0, 0, []
    promoted = 0
    for offer in mine:
        known = market.of_offer.get(offer["offer_id"], [])
        usual = usual_price(known)
        promoted += offer["fresh"] and usual is not None and offer["price"] < usual
        seconds += sum(max(0, until - max(start, AS_OF - 90 * DAY)) for start, until, _ in known)
        moved += sum(when > AS_OF - 90 * DAY for when, _, _ in changes(known))
        spells += completed(known)
    shops = best_prices(groups[key[0], "", key[2]])
    compared = [prices for prices in shops.values() if len(prices) > 1]
    found = {
        "offers": len(fresh),
        "promotion_ratio": promoted / len(fresh) if fresh else None,
        "list_price_ratio": (
            sum(offer["list_price"] > offer["price"] for offer in fresh) / len(fresh)
            if fresh
            else None
        ),
        "changes_per_month": moved / (seconds / (30.4375 * DAY)) if seconds else None,
        "median_spell_days": median(spells) / DAY if spells else None,
        "spells": len(spells),
    }
    return found | (between(compared) if key[1] == "" else position(key[1], compared))


def completed(known: list[Stretch]) -> list[int]:
    """Seconds from a change to the next, where the price was known all the while."""
    found = []
    moved = [when for when, _, _ in changes(known)]
    ends = [one[1] for one, other in pairwise(known) if one[1] != other[0]]
    for begin, end in pairwise(moved):
        if begin > AS_OF - 365 * DAY and not any(begin <= gap < end for gap in ends):
            found.append(end - begin)
    return found


def best_prices(offers: list[dict[str, Any]]) -> dict[int, dict[str, int]]:
    best: dict[int, dict[str, int]] = defaultdict(dict)
    for offer in offers:
        if offer["fresh"]:
            shops = best[offer["product_id"]]
            shops[offer["retailer"]] = min(
                offer["price"], shops.get(offer["retailer"], offer["price"])
            )
    return best


def between(compared: list[dict[str, int]]) -> dict[str, Any]:
    spreads = [(max(p.values()) - min(p.values())) / min(p.values()) for p in compared]
    variations = [pstdev(map(float, p.values())) / mean(map(float, p.values())) for p in compared]
    return {
        "spread_ratio": median(spreads) if spreads else None,
        "variation_ratio": median(variations) if variations else None,
        "price_position_ratio": None,
        "cheapest_ratio": None,
        "compared": len(compared),
    }


def position(retailer: str, compared: list[dict[str, int]]) -> dict[str, Any]:
    ratios, cheapest = [], 0
    for prices in compared:
        if retailer in prices:
            others = [price for shop, price in prices.items() if shop != retailer]
            ratios.append(math.log(prices[retailer] / median(others)))
            cheapest += prices[retailer] <= min(others)
    return {
        "spread_ratio": None,
        "variation_ratio": None,
        "price_position_ratio": math.exp(mean(ratios)) if ratios else None,
        "cheapest_ratio": cheapest / len(ratios) if ratios else None,
        "compared": len(ratios),
    }
