"""What a price chart says in words: its heading, its footnote, and for who cannot see it all of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pricepulse.chart_axes import DAY, day_text, price_text
from pricepulse.chart_steps import Line


@dataclass(frozen=True, kw_only=True)
class Chart:
    """`lines`: the offers to compare, the most telling first, all in `currency`. `best`: which shop
    has the lowest price now, and that price. `left_out`: what is not shown, `2 offers in USD`. `odd`:
    since when and at which price there was an anomaly."""

    key: str
    title: str
    currency: str
    lines: Sequence[Line]
    best: tuple[str, int] | None
    left_out: Sequence[str]
    odd: Sequence[tuple[int, int]]
    start: int
    end: int
    width: int
    height: int
    theme: str

    def money(self, units: int) -> str:
        return price_text(units, self.currency)


@dataclass(frozen=True)
class Seen:
    """What of it lies in the window. `lowest`: the lowest price at which it could be bought; `low`:
    since when that was at its least the last time, and how much it was."""

    chart: Chart
    lines: Sequence[Line]
    lowest: Line
    low: tuple[int, int] | None

    @property
    def odd(self) -> list[tuple[int, int]]:
        """The anomalies within the window, at prices that it shows."""
        chart = self.chart
        most = max((int(line.price.max()) for line in self.lines), default=0)
        return [(at, price) for at, price in chart.odd if chart.start <= at and price <= most]

    @property
    def constant(self) -> bool:
        prices = self.lowest.price
        return len(prices) > 0 and bool(prices.min() == prices.max())


def heading(seen: Seen) -> tuple[str, str]:
    """The price now, and what is to be known about it."""
    chart = seen.chart
    if not chart.best:
        return _without_price(seen)
    shop, price = chart.best
    now = f" at {shop}"
    if seen.constant:
        return chart.money(price), f"{now} · no other price {_period(chart)}"
    if seen.low is None:
        return chart.money(price), now
    since, low = seen.low
    if price <= low:
        return chart.money(price), f"{now} · the lowest {_period(chart)}, since {day_text(since)}"
    return chart.money(price), f"{now} · lowest {chart.money(low)} on {day_text(since)}"


def _without_price(seen: Seen) -> tuple[str, str]:
    chart = seen.chart
    known = [line for line in chart.lines if len(line.first)]
    if any(line.until[-1] >= chart.end for line in known):
        told = "Out of stock"
    else:
        told = "No current price"
    bought = [
        (int(line.until[places[-1]]), int(line.price[places[-1]]), line.label)
        for line in known
        if len(places := line.available.nonzero()[0])
    ]
    if not bought:
        return told, ""
    until, price, shop = max(bought)
    return told, f" · last {chart.money(price)} at {shop}, known until {day_text(until)}"


def _period(chart: Chart) -> str:
    days = round((chart.end - chart.start) / DAY)
    return "in a day" if days == 1 else f"in {days:,} days"


def footnote(seen: Seen, hidden: int, *, dotted: bool, dashed: bool) -> str:
    said = []
    if len(seen.lines) > 1:
        said.append("thick: lowest price in stock")
    if dotted:
        said.append("dotted: out of stock")
    if dashed:
        said.append("dashed: list price")
    if seen.odd:
        said.append("diamond: unusual")
    left_out = [*seen.chart.left_out]
    if hidden:
        left_out.insert(0, "1 more offer" if hidden == 1 else f"{hidden} more offers")
    if left_out:
        said.append("not shown: " + ", ".join(left_out))
    return " · ".join(said)


def description(seen: Seen) -> str:
    chart = seen.chart
    said = [f"Prices in {chart.currency} from {day_text(chart.start)} to {day_text(chart.end)}."]
    now, rest = heading(seen)
    said.append(f"Now: {now}{rest}.")
    if seen.low is not None and not seen.constant:
        high = int(seen.lowest.price.max())
        said.append(
            f"The lowest price in stock moved between {chart.money(seen.low[1])} and "
            f"{chart.money(high)}."
        )
    for line in seen.lines:
        last = f"{line.label}: {chart.money(int(line.price[-1]))}"
        if line.until[-1] < chart.end:
            last += f", last known {day_text(int(line.until[-1]))}"
        elif not line.available[-1]:
            last += ", out of stock"
        said.append(last + ".")
    for at, price in seen.odd:
        said.append(f"Unusual: {chart.money(price)} on {day_text(at)}.")
    if not seen.lines:
        said.append("No price is known in this period.")
    if chart.left_out:
        said.append(f"Not shown: {', '.join(chart.left_out)}.")
    return " ".join(said)
