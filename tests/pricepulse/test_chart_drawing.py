"""The parts of a chart by themselves: round steps, lines, what merging may not lose."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricepulse.chart import render
from pricepulse.chart_axes import (
    fitted,
    price_range,
    price_text,
    price_ticks,
    time_ticks,
    width_of,
)
from pricepulse.chart_steps import Line, Steps, lowest, trace
from pricepulse.chart_words import Chart
from tests.drawn import SVG, Drawn, corners

DAY = 86_400
YEAR = 365 * DAY


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("units", "currency", "text"),
    [
        (129_900, "EUR", "€12.99"),
        (300_000, "EUR", "€30.00"),
        (125_000, "GBP", "£12.50"),
        (12_345_678_900, "USD", "$1,234,567.89"),
        (475, "EUR", "€0.0475"),
        (1, "EUR", "€0.0001"),
        (12_000_000, "JPY", "¥1,200"),
        (125_000, "JPY", "¥12.50"),
        (129_900, "CHF", "CHF\u00a012.99"),
        (9_999_999_999_999_999, "EUR", "€999,999,999,999.9999"),
    ],
)
def test_prices_in_words(units: int, currency: str, text: str) -> None:
    assert price_text(units, currency) == text


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (88, 113, 5, ["90", "95", "100", "105", "€110"]),
        (0, 40, 5, ["0", "10", "20", "30", "€40"]),
        (1.2, 1.9, 5, ["1.20", "1.40", "1.60", "€1.80"]),
        (2.994, 3.01, 4, ["2.995", "3.00", "3.005", "€3.01"]),
        (950, 1_600, 4, ["1,000", "1,200", "1,400", "€1,600"]),
        (13, 17.9, 2, ["14", "€16"]),
        (13.1, 18.9, 1, ["€15"]),
        (11.1, 14.9, 1, ["12", "€14"]),
        (120_000, 190_000, 4, ["120k", "140k", "160k", "€180k"]),
        (1_200_000, 1_900_000, 4, ["1.2M", "1.4M", "1.6M", "€1.8M"]),
        (0, 0.0004, 4, ["0", "0.0001", "0.0002", "0.0003", "€0.0004"]),
    ],
)
def test_round_prices(low: float, high: float, most: int, texts: list[str]) -> None:
    ticks = price_ticks(round(low * 10_000), round(high * 10_000), most, "EUR")
    assert [tick.text for tick in ticks] == texts


@given(st.integers(0, 10**16), st.integers(1, 10**16), st.integers(2, 12))
def test_round_prices_are_few_and_inside(low: int, span: int, most: int) -> None:
    ticks = price_ticks(low, low + span, most, "EUR")
    assert len(ticks) <= most + 1
    assert all(low <= tick.at <= low + span for tick in ticks)
    assert len({tick.text for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (100_000, 100_000, (95_000, 105_000)),  # what never changed stands in the middle
        (99_900, 100_000, (94_950, 104_950)),  # 1 % stays 1 %
        (50_000, 100_000, (50_000, 100_000)),
        (10_000, 100_000, (0, 100_000)),  # near enough to 0 to show it
        (1, 1, (0, 4)),
        (0, 0, (0, 4)),
    ],
)
def test_the_range_of_prices(low: int, high: int, expected: tuple[int, int]) -> None:
    assert price_range(low, high) == expected


@pytest.mark.parametrize(
    ("start", "end", "room", "texts"),
    [
        ("2026-03-20 09:00", "2026-03-21 09:00", 9, ["20 Mar 09:00", "12:00", "15:00", "18:00", "21:00", "21 Mar", "03:00", "06:00", "09:00"]),
        ("2026-03-15", "2026-03-21", 8, ["15 Mar 2026", "16 Mar", "17 Mar", "18 Mar", "19 Mar", "20 Mar", "21 Mar"]),
        ("2026-02-19", "2026-03-21", 7, ["23 Feb 2026", "2 Mar", "9 Mar", "16 Mar"]),
        ("2026-01-10", "2026-04-10", 7, ["Feb 2026", "Mar", "Apr"]),
        ("2025-11-22", "2026-11-22", 7, ["2026", "Apr", "Jul", "Oct"]),
        ("2025-11-22", "2026-02-22", 7, ["Dec", "2026", "Feb"]),
        ("2024-11-22", "2026-11-22", 7, ["2025", "Apr", "Jul", "Oct", "2026", "Apr", "Jul", "Oct"]),
        ("2016-11-22", "2026-11-22", 7, ["2018", "2020", "2022", "2024", "2026"]),
        ("1726-11-22", "2026-11-22", 7, ["1750", "1800", "1850", "1900", "1950", "2000"]),
    ],
)  # fmt: skip
def test_days_that_a_person_would_choose(
    start: str, end: str, room: float, texts: list[str]
) -> None:
    ticks = time_ticks(at(start), at(end), room)
    assert [tick.text for tick in ticks] == texts
    assert all(at(start) <= tick.at <= at(end) for tick in ticks)


@given(st.text(max_size=60), st.integers(0, 300))
def test_text_is_cut_to_its_room(text: str, room: int) -> None:
    cut = fitted(text, 12, room)
    assert width_of(cut, 12) <= room
    assert cut == text or cut == "" or cut.endswith("…")


Spell = tuple[int, int, int, bool]  # gap before, length, price, available


@st.composite
def offers(draw: st.DrawFn) -> list[Line]:
    spell = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 5), st.booleans())
    made = []
    for _ in range(draw(st.integers(0, 3))):
        rows, now = [], draw(st.integers(0, 5))
        for gap, length, price, available in draw(st.lists(spell, max_size=6)):
            now += gap
            rows.append((now, now + length, price, available))
            now += max(length, 1)
        made.append(line_of(rows))
    return made


def line_of(rows: Sequence[tuple[int, int, int, bool]]) -> Line:
    first, until, price = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    available = np.array([row[3] for row in rows], np.bool_)
    return Line("a", first, until, price, np.zeros_like(price), available)


@given(offers())
def test_the_lowest_price_is_the_lowest_second_by_second(lines: list[Line]) -> None:
    """A price of an instant counts for that second, as it does at the end of a history."""
    end = 60
    found = lowest(lines, end)
    known: dict[int, int] = {}
    for first, until, price in zip(found.first, found.until, found.price, strict=True):
        assert first < until
        known |= {int(second): int(price) for second in range(first, until)}
    for second in range(end):
        asked = [
            int(price)
            for line in lines
            for first, until, price, _, available in zip(*line[1:], strict=True)
            if available and first <= second < max(until, first + 1)
        ]
        assert known.get(second) == min(asked, default=None)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 400)), max_size=80),
    st.integers(1, 12),
)
def test_merging_keeps_every_extreme(rows: list[tuple[int, int, int]], most: int) -> None:
    """In each column the merged line reaches as high and as low as the whole one does."""
    left, right, y, now = [], [], [], 0
    for gap, length, height in rows:
        now += gap
        left.append(now)
        now += length
        right.append(now)
        y.append(height)
    joined = [at > 0 and right[at - 1] == left[at] for at in range(len(rows))]
    steps = Steps(
        np.array(left, np.int64),
        np.array(right, np.int64),
        np.array(y, np.int64),
        np.array(joined, np.bool_),
    )
    every = np.ones(len(rows), np.bool_)
    whole = [point for line in corners(trace(steps, every, 10**6)[0]) for point in line]
    fewer = [point for line in corners(trace(steps, every, most)[0]) for point in line]
    assert len(trace(steps, every, most)[0].split("H")) <= most + 3
    for reach in (min, max):
        for where in (0, 1):
            ends = [
                reach((point[where] for point in points), default=0) for points in (whole, fewer)
            ]
            assert ends[0] == ends[1]


def hourly(years: int, shops: int) -> Chart:
    rng = np.random.default_rng(5)
    end, many = at("2026-03-21"), years * 365 * 24
    prices = (20 + rng.normal(0, 0.05, many).cumsum()).clip(5) + rng.integers(0, 9, many) / 10
    first = end - np.arange(many, 0, -1) * 3600
    line = Line("alpha", first, first + 3600, np.rint(prices * 10_000).astype(np.int64),
                np.zeros(many, np.int64), rng.random(many) > 0.1)  # fmt: skip
    lines = [line._replace(label=f"shop {n}", price=line.price + n * 500) for n in range(shops)]
    return Chart(
        key="1", title="Hourly", currency="EUR", lines=lines, best=None, left_out=(), odd=(),
        start=end - years * YEAR, end=end, width=600, height=240, theme="auto",
    )  # fmt: skip


@pytest.mark.parametrize(("years", "shops"), [(10, 1), (3, 9)])
def test_a_price_that_changes_every_hour_stays_small(years: int, shops: int) -> None:
    chart = hourly(years, shops)
    svg = render(chart).encode()
    assert len(svg) < 60_000
    drawn = Drawn.read(svg)
    buyable = chart.lines[0].price[chart.lines[0].available]
    for reach, of in ((buyable.min(), max), (buyable.max() if shops == 1 else None, min)):
        if reach is not None:
            y = of(y for line in drawn.lines("best") for _, y in line)
            ((_, price),) = drawn.in_words([(0, y)], chart.start, chart.end)
            assert price == pytest.approx(reach / 10_000, abs=0.05)


def test_what_xml_cannot_hold_is_left_out() -> None:
    title = "a\x00b\x0bc\ud800d\u202ee\ufffff\x1b 奶茶 🎉"
    chart = hourly(1, 0)
    svg = render(Chart(**{**vars(chart), "title": title}))
    drawn = Drawn.read(svg.encode())
    assert drawn.root.findtext(f"{SVG}title") == "Price history of abcdef 奶茶 🎉"
    assert "No price known in this period" in drawn.texts()


def test_anomalies_are_marked_where_they_are() -> None:
    chart = hourly(1, 1)
    middle, top = (chart.start + chart.end) // 2, int(chart.lines[0].price.max())
    told = [(middle, top), (chart.start - 1, top), (middle, top * 9)]
    svg = render(Chart(**{**vars(chart), "odd": told}))
    assert svg.count('class="odd thin"') == 1  # the others are before the window, or off the scale
    assert "diamond: unusual" in svg
    assert "Unusual: " in svg
    assert "diamond" not in render(chart)
