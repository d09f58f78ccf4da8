"""What stands at the axes of a price chart, as a person would write it: money, days, round steps.

Money is in units of 1/10,000 (`warehouse.columns.SCALE`), time in seconds since 1970, UTC.
"""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from warehouse.columns import SCALE

DAY = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NBSP = "\u00a0"
SYMBOLS = {
    "EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥", "INR": "₹", "KRW": "₩", "HKD": "HK$",
    "AUD": "A$", "CAD": "C$", "NZD": "NZ$", "CNY": "CN¥",
}  # fmt: skip
NO_CENTS = {"JPY", "KRW", "CLP", "ISK", "VND", "XAF", "XOF"}  # of ISO 4217, those with shops
LARGE = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))

# Advance widths of Noto Sans from the space to the tilde, in 1/1000 em. The widest font that a browser
# falls back on, DejaVu Sans, is a tenth wider: what fits by that fits in any.
WIDEST = 1.1
WIDTHS = (
    260, 269, 408, 646, 572, 831, 732, 225, 300, 300, 551, 572, 268, 322, 268, 372, 572, 572, 572,
    572, 572, 572, 572, 572, 572, 572, 268, 268, 572, 572, 572, 434, 899, 639, 650, 632, 730, 556,
    519, 728, 741, 339, 273, 619, 524, 907, 760, 781, 605, 781, 622, 549, 556, 731, 600, 930, 586,
    566, 572, 329, 372, 329, 572, 444, 281, 561, 615, 480, 615, 564, 344, 615, 618, 258, 258, 534,
    258, 935, 618, 605, 615, 615, 413, 479, 361, 618, 508, 786, 529, 510, 470, 380, 551, 380, 572,
)  # fmt: skip
BOLD = 1.06


class Tick(NamedTuple):
    """`short` is what to write where `text` finds no room."""

    at: int
    text: str
    short: str


def width_of(text: str, size: float) -> float:
    """The most pixels that the text may take, by common fonts."""
    total = 0
    for letter in text:
        code = ord(letter)
        if 32 <= code < 127:
            total += WIDTHS[code - 32]
        elif unicodedata.east_asian_width(letter) in "WF":
            total += 1000
        elif not unicodedata.combining(letter):
            total += 650
    return WIDEST * total * size / 1000


def fitted(text: str, size: float, room: float) -> str:
    """The text, cut with an ellipsis where it would be wider than `room`."""
    if width_of(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle] + "…", size) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low else ""


def price_text(units: int, currency: str) -> str:
    """One price: €12.99, CHF 1,299.00, ¥1200, €0.0475."""
    return _with_currency(_decimal(units, 0 if currency in NO_CENTS else 2), currency)


def price_range(low: int, high: int) -> tuple[int, int]:
    """What the axis must show so that its prices fill it without making much of little: at least a tenth
    of the highest price, or four of the smallest unit; from 0 where they come near it."""
    span = max(high - low, high // 10, 4)
    bottom = max(low - (span - (high - low)) // 2, 0)
    top = max(bottom + span, high)
    return (0 if bottom * 5 < top else bottom), top


def price_ticks(low: int, high: int, most: int, currency: str) -> list[Tick]:
    """Round prices in [low, high], at most about `most`; the highest one names the currency."""
    least = max((high - low) / max(most, 1), 1)
    step = 1
    while step < least:  # 1, 2, 5, 10, 20, …
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    places = _multiples(low, high, step)
    while len(places) < 2 and step > 1:  # one price alone is no measure
        step = step * 2 // 5 if str(step)[0] == "5" else step // 2
        finer = _multiples(low, high, step)
        if places and len(finer) > most + 1:
            break
        places = finer
    if not places:
        return []
    decimals = 0 if places.step % SCALE == 0 else 2
    divisor, letter = 1, ""
    if high >= 10**5 * SCALE:
        divisor, letter = next(each for each in LARGE if high >= each[0] * SCALE)
        decimals = 0
    texts = [_decimal(at, decimals, divisor) + letter if at else "0" for at in places]
    texts[-1] = _with_currency(texts[-1], currency)
    return [Tick(place, text, text) for place, text in zip(places, texts, strict=True)]


def _multiples(low: int, high: int, step: int) -> range:
    return range(-(-low // step) * step, high + 1, step)


def day_text(seconds: int) -> str:
    day = moment(seconds)
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def moment(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def time_ticks(start: int, end: int, room: float) -> list[Tick]:
    """Hours, days, weeks (Mondays), months, quarters or years in [start, end]: the finest whose
    labels find room, `room` being how many labels of the width of "12 Mar" do."""
    days = (end - start) / DAY
    for hours in (1, 3, 6, 12):
        if days * 24 / hours <= room:
            return _with_first(_hours(start, end, hours))
    for step, offset in ((1, 0), (2, 0), (7, 4)):  # 1970-01-05 was a Monday
        if days / step <= room:
            return _with_first(_days(start, end, step, offset))
    for months in (1, 3, 6):
        if days / 30.4 / months <= room * 1.4:
            return _months(start, end, months)
    years = 1
    while days / 365.25 / years > room * 1.4:
        years = years * 5 // 2 if str(years)[0] == "2" else years * 2
    return _months(start, end, 12 * years)


def _hours(start: int, end: int, step: int) -> list[Tick]:
    made = []
    for at in range(-(-start // (step * 3600)) * step * 3600, end + 1, step * 3600):
        when = moment(at)
        text = _day(when) if when.hour == 0 else f"{when.hour:02}:00"
        made.append(Tick(at, text, text))
    return made


def _days(start: int, end: int, step: int, offset: int) -> list[Tick]:
    first = -(-(start - offset * DAY) // (step * DAY)) * step * DAY + offset * DAY
    texts = ((at, _day(moment(at))) for at in range(first, end + 1, step * DAY))
    return [Tick(at, text, text) for at, text in texts]


def _day(when: datetime) -> str:
    return f"{when.day} {MONTHS[when.month - 1]}"


def _with_first(ticks: list[Tick]) -> list[Tick]:
    """The first names the year, or the day of its hour, where it has room for it: no other does."""
    if ticks:
        at, text, short = ticks[0]
        when = moment(at)
        longer = f"{_day(when)} {text}" if ":" in text else f"{text} {when.year}"
        ticks[0] = Tick(at, longer, short)
    return ticks


def _months(start: int, end: int, step: int) -> list[Tick]:
    """January is written as its year, and if there is none, the first month names it."""
    begin, finish = moment(start), moment(end)
    number = begin.year * 12 + begin.month - 1
    if begin.replace(day=1, hour=0, minute=0, second=0, microsecond=0) < begin:
        number += 1
    number = -(-number // step) * step
    made = []
    while number <= finish.year * 12 + finish.month - 1:
        year, month = divmod(number, 12)
        text = MONTHS[month] if month else str(year)
        when = datetime(year, month + 1, 1, tzinfo=UTC)
        made.append(Tick(int((when - EPOCH).total_seconds()), text, text))
        number += step
    if made and not any(each.text.isdigit() for each in made):
        at, text, short = made[0]
        made[0] = Tick(at, f"{text} {moment(at).year}", short)
    return made


def _decimal(units: int, decimals: int, divisor: int = 1) -> str:
    """With as many decimals as it needs, and at least these: none if it is whole and they are 0."""
    whole, rest = divmod(units, SCALE * divisor)
    tail = f"{rest:0{len(str(SCALE * divisor)) - 1}}".rstrip("0") if rest else ""
    if tail and divisor == 1:
        decimals = max(decimals, 2)
    tail = tail.ljust(decimals, "0")
    return f"{whole:,}" + (f".{tail}" if tail else "")


def _with_currency(amount: str, currency: str) -> str:
    symbol = SYMBOLS.get(currency)
    return symbol + amount if symbol else currency + NBSP + amount
