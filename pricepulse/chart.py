"""A price chart as one SVG: plain data in, text out, with neither clock nor files.

The thick line is the lowest price at which the product could be bought; thin lines are shops. Dotted:
out of stock. Dashed: a list price that a shop claims. A gap: nobody knows.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pricepulse.chart_axes import BOLD, Tick, fitted, price_range, price_ticks, time_ticks, width_of
from pricepulse.chart_steps import Line, lowest, steps, trace
from pricepulse.chart_style import FONTS, SHOPS, sheet
from pricepulse.chart_svg import Area, Sizes, circle, clean, diamond, number, text_at
from pricepulse.chart_words import Chart, Seen, description, footnote, heading

# Steps in one picture; more are merged, at some 35 characters each: under 60 kB with all the rest.
MOST_STEPS = 1_500
# A list price beyond twice the highest price would leave the prices a strip at the bottom.
FAR = 2


class Label(NamedTuple):
    """A line's name at its right end; `known` while its price is."""

    y: float
    style: str
    name: str
    price: str
    known: bool


def render(chart: Chart) -> str:
    """The SVG. A window without length cannot be drawn: the caller makes it a day at least."""
    sizes = Sizes.of(chart.width, chart.height)
    seen = _seen(chart)
    body = "".join(_body(seen, sizes))
    size = f'width="{chart.width}" height="{chart.height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="price-{chart.theme}" role="img" {size} '
        f'viewBox="0 0 {chart.width} {chart.height}" font-family="{FONTS}" '
        f'font-size="{sizes.small:g}" aria-labelledby="title-{chart.key} desc-{chart.key}">'
        f'<title id="title-{chart.key}">{clean("Price history of " + chart.title)}</title>'
        f'<desc id="desc-{chart.key}">{clean(description(seen))}</desc>'
        f"<style>{sheet(chart.theme, sizes.scale)}</style>"
        f'<rect class="back" {size}/>{body}</svg>'
    )


def _seen(chart: Chart) -> Seen:
    lines = [line.within(chart.start, chart.end) for line in chart.lines]
    lines = [line for line in lines if len(line.first)]
    best = lowest(lines, chart.end)
    if not len(best.price):
        return Seen(chart, lines, best, None)
    last = len(best.price) - 1 - int(best.price[::-1].argmin())
    return Seen(chart, lines, best, (int(best.first[last]), int(best.price[last])))


def _body(seen: Seen, sizes: Sizes) -> Iterator[str]:
    chart, scale = seen.chart, sizes.scale
    top, bottom = _rows(chart, sizes)
    named = len(seen.lines) > 1 and chart.width >= 420 * scale
    claimed = _claimed(seen)
    most = min(SHOPS, int((bottom - top) / sizes.gap) - (claimed is not None))
    shown = seen.lines[: max(most, 1)]
    yield from _heading(seen, sizes)
    area = _area(seen, sizes, (top, bottom), shown, claimed, named=named)
    yield from _time_axis(area, sizes)
    if not seen.lines:
        place = f'x="{number((area.left + area.right) / 2)}" y="{number((top + bottom) / 2)}"'
        yield f'<text class="muted" text-anchor="middle" {place}>No price known in this period</text>'
        return
    yield from _price_axis(area, sizes, chart.currency)
    yield from _lines(seen, area, shown, claimed, named=named)
    yield from _marks(seen, area, sizes)
    if named:
        yield from _labels(_at_the_end(seen, area, shown, claimed), area, sizes, chart.width)
    dotted = any(not line.available.all() for line in shown)
    note = footnote(
        seen, len(seen.lines) - len(shown), dotted=dotted, dashed=claimed is not None and not named
    )
    if _has_note(chart, sizes):
        room = chart.width - 20 * scale
        text = fitted(note, 0.9 * sizes.small, room)
        yield text_at(text, 10 * scale, chart.height - 7 * scale, "muted", size=0.9 * sizes.small)


def _rows(chart: Chart, sizes: Sizes) -> tuple[float, float]:
    """From where to where the lines may go."""
    top = 24 * sizes.scale + (18 * sizes.scale if _has_heading(chart, sizes) else 0)
    below = 22 * sizes.scale + (14 * sizes.scale if _has_note(chart, sizes) else 0)
    return top + 9 * sizes.scale, chart.height - below


def _has_heading(chart: Chart, sizes: Sizes) -> bool:
    return chart.height >= 140 * sizes.scale


def _has_note(chart: Chart, sizes: Sizes) -> bool:
    return chart.height >= 180 * sizes.scale and chart.width >= 300 * sizes.scale


def _claimed(seen: Seen) -> Line | None:
    """The list price of the most telling offer that has one, as a line of its own."""
    for line in seen.lines:
        most = FAR * int(max(each.price.max() for each in seen.lines))
        has = (line.list_price > 0) & (line.list_price <= most)
        if has.any():
            mine = line.only(has)
            every = np.ones(len(mine.first), np.bool_)
            return mine._replace(label="list price", price=mine.list_price, available=every)
    return None


def _area(
    seen: Seen,
    sizes: Sizes,
    rows: tuple[float, float],
    shown: Any,
    claimed: Line | None,
    *,
    named: bool,
) -> Area:
    chart, scale = seen.chart, sizes.scale
    top, bottom = rows
    drawn = [*shown, *([claimed] if claimed else [])]
    if len(seen.lowest.price):
        drawn.append(seen.lowest)
    low = min((int(line.price.min()) for line in drawn), default=0)
    high = max((int(line.price.max()) for line in drawn), default=0)
    low, high = price_range(low, high)
    # Room for the value below the lowest mark and half a line's width above the highest.
    per_pixel = (high - low) / (bottom - top - 20 * scale)
    least, most = max(low - 16 * scale * per_pixel, 0), high + 4 * scale * per_pixel
    ticks = _price_ticks(least, most, bottom - top, sizes, chart.currency)
    widths = [width_of(each.text, sizes.small) + 6 * scale for each in ticks if drawn]
    left = 10 * scale + max(widths, default=14 * scale)
    right = chart.width - 14 * scale
    if named:
        names, prices = _widths(seen, shown, claimed, sizes)
        right -= names + prices + 26 * scale
    return Area(left, right, top, bottom, chart.start, chart.end, least, most)


def _price_ticks(low: float, high: float, height: float, sizes: Sizes, currency: str) -> list[Tick]:
    """Close together where there is little room, further apart where there is plenty."""
    many = max(min(height / 26, 6 * sizes.scale), height / 45) / sizes.scale
    return price_ticks(int(np.ceil(low)), int(high), max(int(many), 2), currency)


def _widths(seen: Seen, shown: Any, claimed: Line | None, sizes: Sizes) -> tuple[float, float]:
    """Of the names and of the prices beside them."""
    lines = [*shown, *([claimed] if claimed else [])]
    names = max(width_of(line.label, sizes.small) for line in lines)
    prices = max(width_of(seen.chart.money(int(line.price[-1])), sizes.small) for line in lines)
    return min(names, 0.16 * seen.chart.width), prices


def _heading(seen: Seen, sizes: Sizes) -> Iterator[str]:
    chart, scale = seen.chart, sizes.scale
    left, room = 10 * scale, chart.width - 20 * scale
    now, rest = heading(seen)
    row = 19 * scale
    if _has_heading(chart, sizes):
        size = 1.08 * sizes.small
        rest = fitted(rest, size, room - BOLD * width_of(now, size))
        now = fitted(now, BOLD * size, room)
        # One text, so that the second part follows the first in whatever font there is.
        place = f'x="{number(left)}" y="{number(row + 18 * scale)}" font-size="{number(size)}"'
        yield f'<text {place} class="muted"><tspan class="bold ink">{clean(now)}</tspan>'
        yield f"{clean(rest)}</text>"
    else:
        now = fitted(now, BOLD * sizes.small, 0.6 * room)
        yield text_at(now, chart.width - left, row, "bold", anchor="end")
        room -= BOLD * width_of(now, sizes.small) + 10 * scale
    title = fitted(chart.title, BOLD * sizes.large, room)
    yield text_at(title, left, row, "bold", size=sizes.large)


def _time_axis(area: Area, sizes: Sizes) -> Iterator[str]:
    base = area.bottom
    scale = sizes.scale
    yield f'<path class="axis" d="M{number(area.left)},{number(base)}H{number(area.right)}"/>'
    free = area.left - 10 * scale
    marks = []
    for tick in time_ticks(area.start, area.end, (area.right - area.left) / (58 * scale)):
        x = float(area.x(tick.at))
        marks.append(f"M{number(x)},{number(base)}v{number(4 * scale)}")
        for text in (tick.text, tick.short):
            half = width_of(text, sizes.small) / 2
            middle = max(x, area.left - 10 * scale + half)
            middle = min(middle, area.right + 10 * scale - half)
            if middle - half >= free:
                yield text_at(text, middle, base + 15 * scale, "muted", anchor="middle")
                free = middle + half + 8 * scale
                break
    yield f'<path class="axis" d="{"".join(marks)}"/>'


def _price_axis(area: Area, sizes: Sizes, currency: str) -> Iterator[str]:
    height = area.bottom - area.top
    ticks = _price_ticks(area.low, area.high, height, sizes, currency)
    places: list[tuple[Tick, float]] = [(tick, float(area.y(tick.at))) for tick in ticks]
    across = "".join(f"M{number(area.left)},{number(y)}H{number(area.right)}" for _, y in places)
    yield f'<path class="grid" d="{across}"/>'
    for tick, y in places:
        x = area.left - 6 * sizes.scale
        yield text_at(tick.text, x, y + 0.35 * sizes.small, "muted", anchor="end")


def _lines(
    seen: Seen, area: Area, shown: Any, claimed: Line | None, *, named: bool
) -> Iterator[str]:
    paths = sum(1 + (not line.available.all()) for line in (*shown, seen.lowest))
    most = min(MOST_STEPS // (paths + (claimed is not None)), int(area.right - area.left))
    if claimed is not None:
        yield from _paths(claimed, claimed.available, area, "list thin", most)
    alone = len(seen.lines) == 1
    # Where it moves every few pixels, a thick line would be a black area.
    thick = "best thick" if len(seen.lowest.price) * 9 < area.right - area.left else "best medium"
    for at, line in reversed(list(enumerate(shown))):
        style = f"shop{at} thin" if named else "other thin"
        if not alone:
            yield from _paths(line, line.available, area, style, most)
        yield from _paths(line, ~line.available, area, "out " + (thick if alone else style), most)
    yield from _paths(seen.lowest, seen.lowest.available, area, thick, most)


def _paths(line: Line, keep: Any, area: Area, style: str, most: int) -> Iterator[str]:
    if not keep.any():
        return
    drawn, dots = trace(steps(line, area.x, area.y), keep, most)
    yield f'<path class="{style}" d="{drawn}"/>'
    if dots:
        colour = style.removeprefix("out ").partition(" ")[0]
        yield f'<path class="{colour} dot" d="{dots}"/>'


def _marks(seen: Seen, area: Area, sizes: Sizes) -> Iterator[str]:
    """Anomalies; the lowest price and its value, unless there was no other; the price now."""
    chart, scale = seen.chart, sizes.scale
    for at, price in seen.odd:
        yield diamond(float(area.x(at)), float(area.y(price)), 4.5 * scale, "odd thin")
    if seen.low is not None and not seen.constant:
        since, price = seen.low
        x, y = float(area.x(since)), float(area.y(price))
        yield circle(x, y, 3.5 * scale, "low thin")
        text = chart.money(price)
        half = BOLD * width_of(text, sizes.small) / 2
        middle = min(max(x, area.left + half + 2), area.right - half)
        below = y + 15 * scale < area.bottom
        height = y + 15 * scale if below else y - 8 * scale
        yield text_at(text, middle, height, "bold halo", anchor="middle")
    if chart.best:
        x, y = float(area.x(chart.end)), float(area.y(chart.best[1]))
        yield circle(x, y, 4 * scale, "now thin")


def _at_the_end(seen: Seen, area: Area, shown: Any, claimed: Line | None) -> list[Label]:
    made = []
    for at, line in enumerate(shown):
        known = bool(line.until[-1] >= area.end)
        price = seen.chart.money(int(line.price[-1])) if known else "–"
        y = float(area.y(line.price[-1]))
        style = f"shop{at} thin" + ("" if line.available[-1] else " out")
        made.append(Label(y, style, line.label, price, known and bool(line.available[-1])))
    if claimed is not None:
        price = seen.chart.money(int(claimed.price[-1]))
        known = bool(claimed.until[-1] >= area.end)
        y = float(area.y(claimed.price[-1]))
        made.append(Label(y, "list thin", claimed.label, price if known else "–", False))
    return made


def _apart(heights: list[float], gap: float, bottom: float) -> list[float]:
    """Near their heights, which are sorted, but `gap` apart and not below `bottom`."""
    groups: list[tuple[float, int]] = []  # where the first of so many stands
    for height in heights:
        first, many = height, 1
        while groups and groups[-1][0] + groups[-1][1] * gap > first:
            above, count = groups.pop()
            first = (above * count + (first - count * gap) * many) / (count + many)
            many += count
        groups.append((first, many))
    places = [first + at * gap for first, many in groups for at in range(many)]
    for at in range(len(places) - 1, -1, -1):
        places[at] = min(places[at], bottom - (len(places) - 1 - at) * gap)
    return places


def _labels(labels: list[Label], area: Area, sizes: Sizes, width: int) -> Iterator[str]:
    """Beside the ends of their lines, moved apart where those are close, each with a line to it."""
    scale, gap = sizes.scale, sizes.gap
    labels = sorted(labels)
    places = _apart([label.y for label in labels], gap, area.bottom)
    edge = width - 10 * scale
    start, turn, end = area.right + 6 * scale, area.right + 12 * scale, area.right + 18 * scale
    for label, place in zip(labels, places, strict=True):
        way = f"M{number(start)},{number(label.y)}L{number(turn)},{number(place)}H{number(end)}"
        if label.price == "–":
            way = f"M{number(turn)},{number(place)}H{number(end)}"
        yield f'<path class="{label.style}" d="{way}"/>'
        colour = "" if label.known else "muted"
        base = place + 0.35 * sizes.small
        taken = width_of(label.price, sizes.small) + 6 * scale
        left = end + 4 * scale
        name = fitted(label.name, sizes.small, edge - left - taken)
        yield text_at(name, left, base, colour)
        yield text_at(label.price, edge, base, colour, anchor="end")
