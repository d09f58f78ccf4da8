"""The slow, obvious oracle of price statistics and deals: its own reading of docs/definitions.md.

A stretch holds from `start` until just before `until`; the one that still holds at `as_of` is
`now`, and it alone may be without length. Everything ends with what is known of it (`end_of`). Times are naive UTC to the whole second, money Decimal,
ratios exact Fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import floor

from tests.oracle import CAN_BE_BOUGHT, CENT_OF_A_CENT, Market, Offer

DAY = 86_400
MONTH = Fraction("30.4375")
NOISE = Fraction("0.03")


@dataclass(frozen=True)
class Stretch:
    start: datetime
    until: datetime
    price: Decimal
    offer: Offer
    now: bool  # still known at as_of; it is then cut at the end
    list_price: Decimal | None = None  # filled by `payable` only


@dataclass(frozen=True)
class Statistics:
    mean: Decimal
    median: Decimal
    min: Decimal
    max: Decimal
    min_at: datetime
    max_at: datetime
    min_offer: Offer
    max_offer: Offer
    cheaper_ratio: Fraction | None  # this and the next two: None where nothing is known at as_of
    no_dearer_ratio: Fraction | None
    change_ratio: Fraction | None
    price_since: datetime | None
    changes: int
    changes_per_month: Fraction | None
    median_spell_days: Fraction
    known_days: Fraction
    coverage_ratio: Fraction
    confidence: Fraction


@dataclass(frozen=True)
class Deal:
    price: Decimal
    began: datetime
    claimed_discount_ratio: Fraction | None
    prior_price: Decimal | None
    real_discount_ratio: Fraction | None
    usual_price: Decimal
    usual_discount_ratio: Fraction
    list_charged_ratio: Fraction | None
    lowest_in_days: int
    is_all_time_low: bool
    verdict: str
    ground: str
    really_reduced: bool | None
    score: int
    points: Fraction  # the score before it was rounded


@dataclass(frozen=True)
class Before:
    """The 30 days before a reduction began: seconds known, lowest price; the median is of 90."""

    known: int
    lowest: Decimal | None
    median: Decimal | None


# What is known


def second(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def end_of(market: Market, offers: set[Offer]) -> datetime:
    """When one of them was last looked at or grew stale, at the earliest the midnight before as_of."""
    assert market.as_of is not None
    instants = [market.as_of.replace(hour=0, minute=0, second=0, microsecond=0)]
    for offer in offers:
        looked = second(market.offers[offer].spells[-1].last)
        stale = looked + market.vouch
        instants.append(stale if stale < second(market.as_of) else looked)
    return max(instants)


def payable(market: Market, offer: Offer, currency: str, end: datetime) -> list[Stretch]:
    """A stretch for each spell in which the offer could be bought in that currency, until the end."""
    assert market.as_of is not None
    as_of = second(market.as_of)
    spells = market.offers[offer].spells
    found = []
    for index, spell in enumerate(spells):
        is_last = index + 1 == len(spells)
        vouched = second(spell.last) + market.vouch
        until = min(vouched, end if is_last else second(spells[index + 1].first))
        now = is_last and vouched >= as_of
        start = second(spell.first)
        held = start < until or now
        if held and spell.currency == currency and spell.availability in CAN_BE_BOUGHT:
            found.append(Stretch(start, until, spell.price, offer, now, spell.list_price))
    return found


def joined(pieces: list[Stretch]) -> list[Stretch]:
    """Pieces of one price at one offer, each beginning where the one before ends, are one."""
    found: list[Stretch] = []
    for raw in pieces:
        piece = replace(raw, list_price=None)
        before = found[-1] if found else None
        if (
            before is not None
            and before.until == piece.start
            and (before.offer, before.price) == (piece.offer, piece.price)
        ):
            found[-1] = replace(before, until=piece.until, now=piece.now)
        else:
            found.append(piece)
    return found


def offer_timeline(market: Market, offer: Offer) -> list[Stretch]:
    currency = market.offers[offer].spells[-1].currency
    return joined(payable(market, offer, currency, end_of(market, {offer})))


def product_timeline(
    market: Market, offers: set[Offer], currency: str, offer_id_of: Callable[[Offer], int]
) -> list[Stretch]:
    """Between any two instants at which something begins or ends: the lowest price of new offers."""

    def rank(stretch: Stretch) -> tuple[Decimal, int]:
        return stretch.price, offer_id_of(stretch.offer)

    new = [offer for offer in offers if market.offers[offer].attributes["condition"] == "new"]
    end = end_of(market, offers)
    every = [stretch for offer in new for stretch in payable(market, offer, currency, end)]
    instants = sorted({each.start for each in every} | {each.until for each in every})
    pieces = []
    for begin, end in pairwise(instants):
        holding = [each for each in every if each.start <= begin and each.until >= end]
        if holding:
            best = min(holding, key=rank)
            pieces.append(Stretch(begin, end, best.price, best.offer, now=False))
    current = [each for each in every if each.now]
    if current:
        best = min(current, key=rank)
        pieces.append(Stretch(best.until, best.until, best.price, best.offer, now=True))
    return joined(pieces)


# Statistics


def seconds(stretch: Stretch, begin: datetime, end: datetime) -> int:
    """For how long it held from begin to end."""
    overlap = min(stretch.until, end) - max(stretch.start, begin)
    return max(0, int(overlap.total_seconds()))


def known_seconds(timeline: list[Stretch], begin: datetime, end: datetime) -> int:
    return sum(seconds(each, begin, end) for each in timeline)


def weighed(timeline: list[Stretch], begin: datetime, end: datetime) -> list[tuple[int, Decimal]]:
    """Weight and price; where no second passed, each price counts the same."""
    found = [(seconds(each, begin, end), each.price) for each in timeline]
    if not any(weight for weight, _ in found):
        return [(1, price) for _, price in found]
    return found


def share(weights: list[tuple[int, Decimal]], fits: Callable[[Decimal], bool]) -> Fraction:
    fitting = sum(weight for weight, price in weights if fits(price))
    return Fraction(fitting, sum(weight for weight, _ in weights))


def median(weights: list[tuple[int, Decimal]]) -> Decimal:
    """The lowest price that was not exceeded for at least half of the time."""

    def not_exceeded(limit: Decimal) -> Fraction:
        return share(weights, lambda price: price <= limit)

    return min(price for _, price in weights if not_exceeded(price) >= Fraction(1, 2))


def mean(weights: list[tuple[int, Decimal]]) -> Decimal:
    total = sum((Fraction(price) * weight for weight, price in weights), Fraction(0))
    units = total / sum(weight for weight, _ in weights) / Fraction(CENT_OF_A_CENT)
    return half_up(units) * CENT_OF_A_CENT


def half_up(number: Fraction) -> int:
    return floor(number + Fraction(1, 2))


def change_ratio(timeline: list[Stretch], begin: datetime) -> Fraction | None:
    """Today's price against the one that held at begin."""
    for each in timeline:
        if each.start <= begin < each.until:
            return Fraction(timeline[-1].price) / Fraction(each.price) - 1
    return None


def price_since(timeline: list[Stretch]) -> datetime:
    """When the last price became what it is, whatever gaps there were since."""
    since = timeline[-1]
    for each in reversed(timeline):
        if each.price != since.price:
            break
        since = each
    return since.start


def statistics(
    timeline: list[Stretch], end: datetime, window_days: int | None
) -> Statistics | None:
    """Of the last days before the end, or of all; None if nothing is known in them."""
    if not timeline:
        return None
    begin = timeline[0].start if window_days is None else end - timedelta(days=window_days)
    within = [each for each in timeline if each.until > begin or each.now]
    if not within:
        return None

    weights = weighed(within, begin, end)
    lowest = min(each.price for each in within)
    highest = max(each.price for each in within)
    last_low = [each for each in within if each.price == lowest][-1]
    last_high = [each for each in within if each.price == highest][-1]

    today = timeline[-1].price
    fresh = timeline[-1].now
    changes = sum(
        later.start > begin and later.price != earlier.price
        for earlier, later in pairwise(timeline)
    )
    lengths = sorted(int((each.until - each.start).total_seconds()) for each in within)
    known = known_seconds(within, begin, end)
    length = int((end - begin).total_seconds())
    coverage = Fraction(known, length) if length else Fraction(0)
    known_days = Fraction(known, DAY)
    return Statistics(
        mean=mean(weights),
        median=median(weights),
        min=lowest,
        max=highest,
        min_at=max(last_low.start, begin),
        max_at=max(last_high.start, begin),
        min_offer=last_low.offer,
        max_offer=last_high.offer,
        cheaper_ratio=share(weights, lambda price: price < today) if fresh else None,
        no_dearer_ratio=share(weights, lambda price: price <= today) if fresh else None,
        change_ratio=change_ratio(timeline, begin) if fresh and window_days is not None else None,
        price_since=price_since(timeline) if fresh else None,
        changes=changes,
        changes_per_month=changes / (known_days / MONTH) if known >= DAY else None,
        median_spell_days=Fraction(lengths[(len(lengths) - 1) // 2], DAY),
        known_days=known_days,
        coverage_ratio=coverage,
        confidence=coverage * min(Fraction(1), known_days / 30),
    )


# Deals


def claims(stretch: Stretch) -> bool:
    return stretch.list_price is not None and stretch.list_price > stretch.price


def discount(price: Decimal, from_price: Decimal | None) -> Fraction | None:
    return None if from_price is None else 1 - Fraction(price) / Fraction(from_price)


def counts(stretch: Stretch) -> bool:
    """A claim of less than 3 % counts as none."""
    claimed = discount(stretch.price, stretch.list_price)
    return claims(stretch) and claimed is not None and claimed >= NOISE


def claimed_reduction_began(pieces: list[Stretch]) -> datetime:
    """Back through the stretches as long as each claims a list price and none rises to the next; a
    step down more than 30 days after what began before is a reduction of its own."""
    at = len(pieces) - 1
    while at > 0 and counts(pieces[at - 1]) and pieces[at - 1].price >= pieces[at].price:
        if pieces[at - 1].price > pieces[at].price:
            since = at - 1
            while (
                since > 0
                and counts(pieces[since - 1])
                and pieces[since - 1].price == pieces[since].price
            ):
                since -= 1
            if pieces[at].start - pieces[since].start > timedelta(days=30):
                break
        at -= 1
    return pieces[at].start


def unclaimed_reduction_began(timeline: list[Stretch]) -> datetime | None:
    """Back through the drops as long as each is at most 30 days before the next."""
    began = None
    for before, after in reversed(list(pairwise(timeline))):
        if before.price == after.price:
            continue
        is_drop = after.price < before.price
        if not is_drop or (began is not None and began - after.start > timedelta(days=30)):
            break
        began = after.start
    return began


def between(timeline: list[Stretch], begin: datetime, end: datetime) -> list[Stretch]:
    return [each for each in timeline if seconds(each, begin, end)]


def before_the_reduction(timeline: list[Stretch], began: datetime) -> Before:
    month, quarter = began - timedelta(days=30), began - timedelta(days=90)
    in_month = between(timeline, month, began)
    in_quarter = between(timeline, quarter, began)
    return Before(
        known=known_seconds(timeline, month, began),
        lowest=min((each.price for each in in_month), default=None),
        median=median(weighed(in_quarter, quarter, began)) if in_quarter else None,
    )


def list_charged_ratio(
    timeline: list[Stretch], list_price: Decimal | None, begin: datetime, end: datetime
) -> Fraction | None:
    if list_price is None or not known_seconds(timeline, begin, end):
        return None
    enough = list_price * Decimal("0.99")
    within = [each for each in timeline if each.until > begin or each.now]
    return share(weighed(within, begin, end), lambda price: price >= enough)


def deal(market: Market, offer: Offer, best_price: Decimal | None) -> Deal | None:
    """Of one offer; best_price is the best current one of its product, in the same currency."""
    timeline = offer_timeline(market, offer)
    if not timeline or not timeline[-1].now:
        return None
    end, price = end_of(market, {offer}), timeline[-1].price
    pieces = payable(market, offer, market.offers[offer].spells[-1].currency, end)
    list_price = pieces[-1].list_price
    claimed = discount(price, list_price) if claims(pieces[-1]) else None
    is_claimed = claimed is not None and claimed >= NOISE
    began = claimed_reduction_began(pieces) if is_claimed else unclaimed_reduction_began(timeline)
    if began is None:
        return None

    before = before_the_reduction(timeline, began)
    half_year_ago = end - timedelta(days=180)
    charged = (
        None if claimed is None else list_charged_ratio(timeline, list_price, half_year_ago, end)
    )
    quarter = statistics(timeline, end, 90)
    assert quarter is not None
    real = discount(price, before.lowest)
    usual = discount(price, quarter.median)
    assert usual is not None

    judged: tuple[str, str] | None
    odd = before.median is not None and price < before.median / 5
    odd = odd and end - began < timedelta(days=3)
    if odd:
        judged = "unproven", "hard_to_believe"
    elif is_claimed:
        known = known_seconds(timeline, half_year_ago, end)
        never_charged = charged is not None and known >= 60 * DAY and charged < Fraction(1, 10)
        judged = of_claimed(price, real, before, never_charged=never_charged)
    else:
        judged = of_unclaimed(usual, real, before)
    if judged is None:
        return None
    verdict, ground = judged

    points = score_points(timeline, began, usual if real is None else min(real, usual), best_price)
    if odd:
        points = Fraction(0)
    elif verdict != "genuine":
        points /= 2
    lower = [each.until for each in timeline if each.price < price]
    return Deal(
        price=price,
        began=began,
        claimed_discount_ratio=claimed,
        prior_price=before.lowest,
        real_discount_ratio=real,
        usual_price=quarter.median,
        usual_discount_ratio=usual,
        list_charged_ratio=charged,
        lowest_in_days=(end - max(lower, default=timeline[0].start)).days,
        is_all_time_low=not lower,
        verdict=verdict,
        ground=ground,
        really_reduced=None if odd else really_reduced(price, real, usual, before),
        score=half_up(points),
        points=points,
    )


def of_claimed(
    price: Decimal, real: Fraction | None, before: Before, *, never_charged: bool
) -> tuple[str, str]:
    if never_charged:
        return "inflated", "list_price_not_charged"
    if before.known < 15 * DAY:
        return "unproven", "little_history"
    assert real is not None  # what is known has a lowest price and a median
    assert before.median is not None
    if real < NOISE:
        return "inflated", "prior_price_no_higher"
    if before.median <= price * Decimal("1.01"):
        return "inflated", "raised_before"
    return "genuine", "below_prior_price"


def of_unclaimed(usual: Fraction, real: Fraction | None, before: Before) -> tuple[str, str] | None:
    if usual < NOISE:
        return None
    if before.known < 15 * DAY:
        return "unproven", "little_history"
    assert real is not None
    return None if real < NOISE else ("genuine", "below_prior_price")


def really_reduced(
    price: Decimal, real: Fraction | None, usual: Fraction, before: Before
) -> bool | None:
    """Whatever is claimed."""
    if before.known < 15 * DAY:
        return None
    assert real is not None
    assert before.median is not None
    return min(real, usual) >= NOISE and before.median > price * Decimal("1.01")


def score_points(
    timeline: list[Stretch], began: datetime, smaller: Fraction, best_price: Decimal | None
) -> Fraction:
    """The score of a genuine deal, not yet rounded; `smaller` is the real or the usual discount."""
    if smaller < NOISE:
        return Fraction(0)
    end, price = timeline[-1].until, timeline[-1].price
    quarter, year = statistics(timeline, end, 90), statistics(timeline, end, 365)
    assert quarter is not None
    assert year is not None
    assert year.no_dearer_ratio is not None
    days = Fraction(int((end - began).total_seconds()), DAY)
    size = min(Fraction(1), smaller / Fraction("0.4"))
    rare = 1 - year.no_dearer_ratio
    new = max(Fraction(0), 1 - days / 30)
    best = Fraction(price if best_price is None else best_price)
    in_market = min(Fraction(1), best / Fraction(price))
    return 100 * quarter.confidence * in_market * (size / 2 + rare * 3 / 10 + new / 5)
