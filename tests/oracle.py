"""The slow, obvious oracle: its own reading of feed.md and of the glossary, in plain Python.

Rows are dictionaries in the order of delivery, times naive UTC, money Decimal. Nothing here comes
from `warehouse`, `models` or `pricepulse`, and nothing is fast.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Row = dict[str, Any]
Offer = tuple[str, str]  # retailer, sku
Identity = tuple[str, ...]

VOUCH = timedelta(days=10)
NEWEST_ROW_SAYS = ("condition", "shipping", "promotion")
NEWEST_NON_EMPTY = (
    *("title", "brand", "gtin", "mpn", "url", "image_url", "category", "unit_quantity", "unit"),
    "product_key",
)
CAN_BE_BOUGHT = {"InStock", "LimitedAvailability", "PreOrder", "BackOrder"}
CENT_OF_A_CENT = Decimal("0.0001")


@dataclass(frozen=True)
class Spell:
    first: datetime
    last: datetime
    price: Decimal
    list_price: Decimal | None
    currency: str
    availability: str
    observations: int


@dataclass(frozen=True)
class Suspect:
    observed_at: datetime
    price: Decimal
    currency: str
    open: bool


@dataclass(frozen=True)
class Period:
    start: datetime
    open: Decimal
    close: Decimal
    low: Decimal
    high: Decimal
    mean: Decimal  # weighted by time, to 4 places, half up


@dataclass(frozen=True)
class History:
    """What one offer's rows come to."""

    spells: list[Spell]
    suspects: list[Suspect]
    superseded: list[tuple[datetime, Decimal, str]]  # when, price, currency: in order of delivery
    attributes: dict[str, Any]
    last_seen: datetime


class Market:
    """All offers of the rows; `linked` puts an offer where a person put it."""

    def __init__(
        self,
        rows: Iterable[Row],
        vouch: timedelta = VOUCH,
        linked: dict[Offer, Identity] | None = None,
    ) -> None:
        of_offer: dict[Offer, list[Row]] = defaultdict(list)
        for raw in rows:
            row = accepted(raw)
            if row is not None:
                of_offer[row["retailer"], row["sku"]].append(row)
        self.vouch = vouch
        self.offers = {offer: history(mine, vouch) for offer, mine in of_offer.items()}
        self.as_of = max((known.last_seen for known in self.offers.values()), default=None)
        self._linked = linked or {}

    def identity(self, offer: Offer) -> Identity:
        """A manual link, a GTIN, the only GTIN of the product_key, the product_key, or itself."""
        if offer in self._linked:
            return self._linked[offer]
        about = self.offers[offer].attributes
        if about["gtin"]:
            return ("gtin", about["gtin"])
        key = about["product_key"]
        if key:
            gtins = {
                other.attributes["gtin"]
                for other in self.offers.values()
                if other.attributes["product_key"] == key and other.attributes["gtin"]
            }
            return ("gtin", gtins.pop()) if len(gtins) == 1 else ("key", key)
        return ("offer", *offer)

    def products(self) -> dict[Identity, set[Offer]]:
        found = defaultdict(set)
        for offer in self.offers:
            found[self.identity(offer)].add(offer)
        return dict(found)

    def best_price(self, offers: set[Offer]) -> Decimal | str | None:
        """Of one product; the word "tie" where no single currency has the most offers."""
        last = {offer: self.offers[offer].spells[-1] for offer in offers}
        ranked = Counter(spell.currency for spell in last.values()).most_common()
        if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
            return "tie"
        assert self.as_of is not None
        good = [
            spell.price
            for offer, spell in last.items()
            if spell.currency == ranked[0][0]
            and spell.availability in CAN_BE_BOUGHT
            and spell.last + self.vouch >= self.as_of.replace(microsecond=0)
            and self.offers[offer].attributes["condition"] == "new"
        ]
        return min(good, default=None)

    def periods(self, offer: Offer, currency: str, resolution: str) -> list[Period]:
        assert self.as_of is not None
        return periods(self.offers[offer].spells, currency, resolution, self.vouch, self.as_of)


def accepted(raw: Row) -> Row | None:
    """The row as feed.md lets it in, or None. Only the rules that the tests' data can break."""
    row: Row = {name: value if value != "" else None for name, value in raw.items()}
    for name in ("retailer", "sku", "observed_at", "price", "currency"):
        if row.get(name) is None:
            return None
    for name in (*NEWEST_ROW_SAYS, *NEWEST_NON_EMPTY, "list_price"):
        row.setdefault(name, None)
    row["retailer"] = row["retailer"].lower()
    row["availability"] = row.get("availability") or "InStock"
    row["condition"] = row["condition"] or "new"
    row["price"] = Decimal(row["price"])
    if not 0 < row["price"] < 10**12 or row["price"] % CENT_OF_A_CENT:
        return None
    if row["list_price"] is not None:
        row["list_price"] = Decimal(row["list_price"])
        if row["list_price"] < row["price"]:
            row["list_price"] = None
    if row["gtin"] is not None:
        row["gtin"] = normal_gtin(row["gtin"])
    return row


def normal_gtin(text: str) -> str | None:
    """14 digits, or None: GS1's check digit makes the weighted sum a multiple of ten."""
    if not text.isdigit() or len(text) not in (8, 12, 13, 14):
        return None
    total = 0
    for place, digit in enumerate(reversed(text)):
        total += int(digit) * (3 if place % 2 == 1 else 1)
    return text.rjust(14, "0") if total % 10 == 0 else None


def history(rows: list[Row], vouch: timedelta) -> History:
    at: dict[datetime, list[Row]] = defaultdict(list)
    for row in rows:
        at[row["observed_at"]].append(row)
    times = sorted(at)
    winners = [at[time][-1] for time in times]
    superseded: list[tuple[datetime, Decimal, str]] = []
    for time in times:
        wins = at[time][-1]
        superseded += [
            (time, row["price"], row["currency"])
            for row in at[time]
            if (row["price"], row["currency"]) != (wins["price"], wins["currency"])
        ]
    verdicts = judge(winners)
    good = [row for row, verdict in zip(winners, verdicts, strict=True) if verdict == "good"]
    suspects = [
        Suspect(row["observed_at"], row["price"], row["currency"], verdict == "open")
        for row, verdict in zip(winners, verdicts, strict=True)
        if verdict != "good"
    ]
    return History(spells(good, vouch), suspects, superseded, attributes(rows), times[-1])


def attributes(rows: list[Row]) -> dict[str, Any]:
    in_time = sorted(rows, key=lambda row: row["observed_at"])  # stable: delivery decides ties
    found = {name: in_time[-1][name] for name in NEWEST_ROW_SAYS}
    for name in NEWEST_NON_EMPTY:
        found[name] = None
        for row in in_time:
            if row[name] is not None:
                found[name] = row[name]
    return found


def apart(one: Decimal, other: Decimal, factor: int) -> bool:
    return max(one, other) > min(one, other) * factor


def judge(rows: list[Row]) -> list[str]:
    """For each row, in the order of time: good, suspect, or open (suspect and not yet decided)."""
    verdicts = ["good"] * len(rows)
    last_good: Row | None = None
    waiting: list[int] = []
    for index, row in enumerate(rows):
        believable = (
            last_good is None
            or row["currency"] != last_good["currency"]
            or not apart(row["price"], last_good["price"], 10)
        )
        if believable:
            for each in waiting:
                verdicts[each] = "suspect"
            waiting = []
            last_good = row
            continue
        alike = [each for each in waiting if not apart(row["price"], rows[each]["price"], 2)]
        hour = timedelta(hours=1)
        if any(row["observed_at"] - rows[each]["observed_at"] >= hour for each in alike):
            for each in waiting:
                verdicts[each] = "good" if each in alike else "suspect"
            waiting = []
            last_good = row
        else:
            verdicts[index] = "open"
            waiting.append(index)
    return verdicts


def state(row: Row) -> tuple[Any, ...]:
    return row["price"], row["list_price"], row["currency"], row["availability"]


def spells(good: list[Row], vouch: timedelta) -> list[Spell]:
    groups: list[list[Row]] = []
    for row in good:
        same = bool(groups) and state(groups[-1][-1]) == state(row)
        if same and row["observed_at"] - groups[-1][-1]["observed_at"] <= vouch:
            groups[-1].append(row)
        else:
            groups.append([row])
    found = []
    for group in groups:
        first, last = group[0], group[-1]
        found.append(
            Spell(
                first=first["observed_at"],
                last=last["observed_at"],
                price=first["price"],
                list_price=first["list_price"],
                currency=first["currency"],
                availability=first["availability"],
                observations=len(group),
            )
        )
    return found


def period_start(time: datetime, resolution: str) -> datetime:
    day = datetime(time.year, time.month, time.day)
    if resolution == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if resolution == "month" else day


def period_end(start: datetime, resolution: str) -> datetime:
    if resolution == "month":
        return datetime(start.year + start.month // 12, start.month % 12 + 1, 1)
    return start + timedelta(days=7 if resolution == "week" else 1)


def known_stretches(
    all_spells: list[Spell], currency: str, vouch: timedelta, as_of: datetime
) -> list[tuple[datetime, datetime, Decimal]]:
    """From when until when a price of that currency was known to hold, to the whole second."""
    found = []
    for index, spell in enumerate(all_spells):
        end = spell.last.replace(microsecond=0) + vouch
        following = all_spells[index + 1].first if index + 1 < len(all_spells) else as_of
        end = min(end, following.replace(microsecond=0))
        if spell.currency == currency:
            found.append((spell.first.replace(microsecond=0), end, spell.price))
    return found


def periods(
    all_spells: list[Spell], currency: str, resolution: str, vouch: timedelta, as_of: datetime
) -> list[Period]:
    pieces: dict[datetime, list[tuple[int, Decimal]]] = defaultdict(list)  # seconds, price
    for begin, end, price in known_stretches(all_spells, currency, vouch, as_of):
        if begin == end:
            pieces[period_start(begin, resolution)].append((0, price))
        while begin < end:
            start = period_start(begin, resolution)
            until = min(end, period_end(start, resolution))
            pieces[start].append((int((until - begin).total_seconds()), price))
            begin = until
    found = []
    for start, mine in sorted(pieces.items()):
        prices = [price for _, price in mine]
        total = sum(seconds for seconds, _ in mine)
        if total:
            mean = sum((seconds * price for seconds, price in mine), Decimal(0)) / total
        else:
            mean = sum(prices, Decimal(0)) / len(prices)
        mean = mean.quantize(CENT_OF_A_CENT, ROUND_HALF_UP)
        found.append(Period(start, prices[0], prices[-1], min(prices), max(prices), mean))
    return found
