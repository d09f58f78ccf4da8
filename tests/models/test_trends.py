"""Trends, seasons and who moves first: by hand, against the oracle, and at the edges."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.lead_follow import LEAD, lead_follow
from models.price_index import category_index
from models.seasonality import SEASON, seasonality
from models.trends import category_trends, theil_sen, trends
from tests.models import slow
from tests.models.slow import AS_OF, DAY, OFFERS, PRODUCTS, WEEK, Stretch

SEEDS = range(6)


def steps(prices: list[int], lasts: int = WEEK) -> list[Stretch]:
    """Prices one after another, the last one half over at AS_OF."""
    first = AS_OF - len(prices) * lasts + lasts // 2
    edges = [*range(first, AS_OF, lasts), AS_OF]
    return [(edges[at], edges[at + 1], each) for at, each in enumerate(prices)]


def trend_of(known: list[Stretch], days: int = 90) -> dict[str, Any]:
    (row,) = trends(slow.timeline({7: known}), AS_OF, [days]).to_dicts()
    return row


# --- trends ---------------------------------------------------------------------------------------


def test_theil_sen_by_hand() -> None:
    times = np.array([[0.0, 1.0, 2.0, 4.0]])
    values = np.array([[0.0, 1.0, 1.0, 8.0]])
    # 0-1: 1, 0-2: 1/2, 0-4: 2, 1-2: 0, 1-4: 7/3, 2-4: 7/2; sorted 0, 1/2, 1, 2, 7/3, 7/2.
    slope, tau = theil_sen(times, values)
    assert slope[0] == pytest.approx(1.5)
    assert tau[0] == pytest.approx(5 / math.sqrt(5 * 6))  # five pairs rise, one ties


def test_an_outlier_does_not_bend_the_line() -> None:
    rising = [round(10_000 * 1.01**week) for week in range(14)]
    steady = trend_of(steps(rising))
    assert steady["change_per_30d_ratio"] == pytest.approx(1.01 ** (30 / 7) - 1, rel=1e-3)
    assert (steady["strength"], steady["direction"], steady["points"]) == (1, "rising", 13)
    rising[10] *= 9
    bent = trend_of(steps(rising))
    assert bent["change_per_30d_ratio"] == pytest.approx(1.01 ** (30 / 7) - 1, rel=0.05)
    assert bent["direction"] == "rising"
    assert trend_of(steps(rising[::-1]))["direction"] == "falling"


def test_flat_is_what_moves_too_little_or_without_agreement() -> None:
    assert trend_of(steps([100] * 14)) == {
        "series": 7, "days": 90, "change_per_30d_ratio": 0, "strength": 0, "direction": "flat",
        "points": 13,
    }  # fmt: skip
    # The line rises by 0.9 % over 90 days, and by 1.1 %: only the second is a trend.
    for change, direction in ((0.009, "flat"), (0.011, "rising")):
        weekly = (1 + change) ** (7 / 90)
        found = trend_of(steps([round(10**9 * weekly**week) for week in range(14)]))
        assert (found["strength"], found["direction"]) == (1, direction)
    # Up and down by 30 %, a little higher in the end: large steps, no agreement.
    saw = [1300, 1000, 1250, 1100, 1350, 1050, 1200, 1150, 1320, 1120, 1310, 1010, 1340]
    found = trend_of(steps(saw))
    assert abs(found["change_per_30d_ratio"]) * 3 > 0.01
    assert abs(found["strength"]) < 0.4
    assert found["direction"] == "flat"


def test_too_few_points_tell_nothing() -> None:
    for weeks, direction in ((7, None), (8, "rising")):
        found = trend_of(steps([100 + each for each in range(weeks)]))
        assert (found["points"], found["direction"]) == (weeks, direction)
        assert (found["change_per_30d_ratio"] is None) == (direction is None)
    # Over a year every second week is read: 27 samples, of which 13 must be known.
    assert trend_of(steps([100] * 26), 365)["points"] == 13
    assert trend_of(steps([100] * 26), 365)["direction"] == "flat"
    assert trend_of(steps([100] * 24), 365)["direction"] is None
    # Ended before the window: not there.
    old = slow.timeline({7: [(AS_OF - 99 * DAY, AS_OF - 91 * DAY, 5)]})
    assert trends(old, AS_OF, [90]).is_empty()
    assert trends(old, AS_OF)["days"].to_list() == [365]


@pytest.mark.parametrize("seed", SEEDS)
def test_trends_equal_the_oracle(seed: int) -> None:
    market = slow.market(seed)
    timeline, *_ = market.frames()
    found = trends(timeline, AS_OF)
    expected = {}
    for days, step, fewest in ((90, 1, 8), (365, 2, 13)):
        for product, known in market.of_product.items():
            points = slow.weekly(known, days, step)
            if points:
                expected[product, days] = (*slow.trend(points, days, fewest), len(points))
    assert list(found.select("series", "days").iter_rows()) == list(expected)
    for series, days, change, strength, direction, points in found.iter_rows():
        wanted = expected[series, days]
        assert (direction, points) == wanted[2:], (series, days)
        for one, other in zip((change, strength), wanted, strict=False):
            assert one == (other if other is None else pytest.approx(other, rel=1e-9, abs=1e-12))


def test_trend_of_a_category() -> None:
    timeline = slow.timeline({1: steps([round(10**6 * 1.02**week) for week in range(20)], WEEK)})
    of = pl.DataFrame([(1, "EUR", "tea")], schema=PRODUCTS, orient="row")
    found = category_trends(category_index(timeline, of, AS_OF), AS_OF, [90])
    assert found["category_slug"].to_list() == ["", "tea"]
    assert found["direction"].to_list() == ["rising", "rising"]
    assert found["points"].to_list() == [13, 13]
    # What came later is not known then.
    earlier = category_trends(category_index(timeline, of, AS_OF), AS_OF - 11 * WEEK, [90])
    assert earlier["points"].to_list() == [10, 10]
    # The first week in the window may be known in part only.
    assert found["change_per_30d_ratio"][0] == pytest.approx(1.02 ** (30 / 7) - 1, rel=0.01)


# --- seasons --------------------------------------------------------------------------------------


def by_place(frame: pl.DataFrame, cycle: str, slug: str = "") -> dict[int, dict[str, Any]]:
    rows = frame.filter((pl.col("cycle") == cycle) & (pl.col("category_slug") == slug))
    return {row["place"]: row for row in rows.to_dicts()}


def test_cheap_fridays() -> None:
    monday = slow.period_of(AS_OF, "week") - 10 * WEEK
    known = []
    for week in range(10):
        begin = monday + week * WEEK
        known += [
            (begin, begin + 4 * DAY, 100),
            (begin + 4 * DAY, begin + 5 * DAY, 80),
            (begin + 5 * DAY, begin + 7 * DAY, 100),
        ]
    of = pl.DataFrame([(1, "EUR", "tea")], schema=PRODUCTS, orient="row")
    found = by_place(seasonality(slow.timeline({1: known}), of, AS_OF), "weekday", "tea")
    assert found[4]["effect_ratio"] == pytest.approx(0.8 ** (6 / 7))
    assert [found[day]["effect_ratio"] for day in (0, 1, 2, 3, 5, 6)] == pytest.approx(
        [0.8 ** (-1 / 7)] * 6
    )
    assert [found[day]["drop_ratio"] for day in range(7)] == [0, 0, 0, 0, 1, 0, 0]
    assert (found[0]["observations"], found[0]["series"]) == (10, 1)
    # Seven weeks are too few; a week in which an hour is unknown is none.
    assert seasonality(slow.timeline({1: known[:21]}), of, AS_OF).is_empty()
    torn = [*known[:22], (known[22][0], known[22][1] - 3600, 80), *known[23:27]]
    found = by_place(seasonality(slow.timeline({1: torn}), of, AS_OF), "weekday")
    assert found[0]["observations"] == 8


@pytest.mark.parametrize("seed", SEEDS)
def test_weekdays_equal_the_oracle(seed: int) -> None:
    market = slow.market(seed)
    timeline, _, _, of = market.frames()
    found = seasonality(timeline, of, AS_OF)
    assert dict(found.schema) == SEASON
    assert set(found["cycle"]) == {"weekday"}  # 400 days are no two years
    expected = slow.weekdays(market)
    assert list(found.select("category_slug", "currency", "place").iter_rows()) == sorted(expected)
    for row in found.to_dicts():
        effect, share, weeks, series = expected[row["category_slug"], row["currency"], row["place"]]
        assert row["effect_ratio"] == pytest.approx(effect, rel=1e-9)
        assert row["drop_ratio"] == (share if share is None else pytest.approx(share))
        assert (row["observations"], row["series"]) == (weeks, series)


def months(levels: list[float]) -> pl.DataFrame:
    """One product, a price a month, the last in the month of AS_OF (May 2026)."""
    edges = [
        int(datetime(2026 + (4 - back) // 12, (4 - back) % 12 + 1, 1, tzinfo=UTC).timestamp())
        for back in range(len(levels) - 1, -1, -1)
    ]
    untils = [*edges[1:], AS_OF]
    prices = [round(each * 10**8) for each in levels]
    return slow.timeline({1: list(zip(edges, untils, prices, strict=True))})


def test_a_month_against_its_year() -> None:
    of = pl.DataFrame([(1, "EUR", None)], schema=PRODUCTS, orient="row")
    # Each December 20 % dearer, all of it on a drift of 1 % a month, which is no season.
    numbers = range(2026 * 12 + 4 - 37, 2026 * 12 + 5)
    levels = [1.01 ** (n - numbers[0]) * (1.2 if n % 12 == 11 else 1) for n in numbers]
    found = by_place(seasonality(months(levels), of, AS_OF), "month")
    assert sorted(found) == list(range(1, 13))
    for place, row in found.items():
        december = 1.2 ** (11 / 12) if place == 12 else 1.2 ** (-1 / 12)
        assert row["effect_ratio"] == pytest.approx(december, rel=1e-6)
        assert (row["observations"], row["agreement_ratio"], row["series"]) == (3, 1, 1)
        assert row["drop_ratio"] is None
    # A level that moved once is no season: the years do not agree.
    once = [1.0] * 20 + [1.3] * 6
    found = by_place(seasonality(months(once), of, AS_OF), "month")
    assert (found[4]["observations"], found[4]["agreement_ratio"]) == (2, 0.5)
    # 24 whole months are needed: with the first month of all and that of AS_OF, 26.
    assert by_place(seasonality(months(levels[-26:]), of, AS_OF), "month")
    assert not by_place(seasonality(months(levels[-25:]), of, AS_OF), "month")
    # A hole in the row: what is newer counts, here too little.
    torn = months(levels).filter(pl.int_range(pl.len()) != 20)
    assert not by_place(seasonality(torn, of, AS_OF), "month")


# --- who moves first ------------------------------------------------------------------------------

START = AS_OF // DAY * DAY - 200 * DAY


def moving(days: list[int], until: int = AS_OF) -> list[Stretch]:
    """A price that rises on these days after START."""
    edges = [START, *(START + day * DAY + 3600 for day in days), until]
    return [(edges[at], edges[at + 1], 100 + at) for at in range(len(edges) - 1)]


def two_shops(leads: list[int], follows: list[int], **more: Any) -> pl.DataFrame:
    timeline = slow.timeline({1: moving(leads), 2: moving(follows)})
    rows = [(1, 5, "alder", "EUR", 0, 1, True), (2, 5, "birch", "EUR", 0, 1, True)]
    offers = pl.DataFrame(rows, schema=OFFERS, orient="row")
    return lead_follow(timeline, offers, AS_OF, fewest_products=1, **more)


def test_a_follower_by_hand() -> None:
    # Followed after 2, 3 and 7 days; on day 90 together; on day 120 after 8, which is too late.
    found = two_shops([10, 40, 60, 90, 120], [12, 43, 67, 90, 128])
    leader, follower = found.to_dicts()
    assert (leader["leader"], leader["follower"], leader["products"]) == ("alder", "birch", 1)
    assert (leader["changes"], leader["together"], leader["followed"]) == (5, 1, 3)
    assert leader["median_lag_days"] == 3
    assert leader["followed_ratio"] == 3 / 4
    # Each of birch's five moves is within the next 7 days of 7 days; of 193 (0 to 192) 35 are such.
    assert leader["chance_ratio"] == pytest.approx(35 / 193)
    assert leader["lead_ratio"] == pytest.approx(0.75 / (35 / 193))
    assert (follower["leader"], follower["changes"], follower["together"]) == ("birch", 5, 1)
    assert (follower["followed"], follower["followed_ratio"]) == (0, 0)
    assert follower["median_lag_days"] is None


def test_only_the_same_direction_follows() -> None:
    down = [(START, START + 20 * DAY, 9), (START + 20 * DAY, AS_OF, 8)]
    timeline = slow.timeline({1: moving([18]), 2: down})
    rows = [(1, 5, "alder", "EUR", 0, 1, True), (2, 5, "birch", "EUR", 0, 1, True)]
    offers = pl.DataFrame(rows, schema=OFFERS, orient="row")
    found = lead_follow(timeline, offers, AS_OF, fewest_products=1)
    assert found["followed"].to_list() == [0, 0]
    assert found["chance_ratio"].to_list() == [0, 0]
    assert found["lead_ratio"].to_list() == [None, None]


def test_whom_it_leaves_out() -> None:
    # Changes in the last 8 days cannot be judged yet.
    assert two_shops([191, 192, 193], [2])["changes"].to_list() == [2, 1]
    # Too few common products.
    assert two_shops([10], [12]).height == 2
    timeline = slow.timeline({1: moving([10]), 2: moving([12]), 3: moving([12])})
    rows = [
        (1, 5, "alder", "EUR", 0, 1, True),
        (2, 5, "birch", "USD", 0, 1, True),
        (3, 5, "alder", "EUR", 0, 1, True),
    ]
    offers = pl.DataFrame(rows, schema=OFFERS, orient="row")
    assert lead_follow(timeline, offers, AS_OF, fewest_products=1).is_empty()
    assert lead_follow(timeline, offers, AS_OF).is_empty()
    # Known for less than 80 % of the time.
    for until, pairs in ((START + 150 * DAY, 0), (START + 170 * DAY, 2)):
        timeline = slow.timeline({1: moving([10]), 2: moving([12], until)})
        offers = offers.with_columns(currency=pl.lit("EUR"))
        assert lead_follow(timeline, offers[:2], AS_OF, fewest_products=1).height == pairs


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("days", [90, 365])
def test_lead_follow_equals_the_oracle(seed: int, days: int) -> None:
    market = slow.market(seed, days=300)
    _, timeline, offers, _ = market.frames()
    found = lead_follow(timeline, offers, AS_OF, days, fewest_products=2)
    assert dict(found.schema) == LEAD
    expected = slow.lead_follow(market, days, 2)
    assert found.select("leader", "follower", "currency").rows() == sorted(expected)
    for row in found.to_dicts():
        wanted = expected[row["leader"], row["follower"], row["currency"]]
        counts = tuple(row[name] for name in ("products", "changes", "together", "followed"))
        assert counts == wanted[:4], row
        chance, lag = wanted[4:]
        assert row["chance_ratio"] == (chance if chance is None else pytest.approx(chance))
        assert row["median_lag_days"] == lag
        apart = counts[1] - counts[2]
        assert row["followed_ratio"] == (counts[3] / apart if apart else None)
        if chance and apart:
            assert row["lead_ratio"] == pytest.approx(counts[3] / apart / chance)
        else:
            assert row["lead_ratio"] is None


def test_nothing_known_nothing_said() -> None:
    nothing, offers, of = (
        slow.timeline({}),
        pl.DataFrame(schema=OFFERS),
        pl.DataFrame(schema=PRODUCTS),
    )
    index = category_index(nothing, of, AS_OF)
    assert trends(nothing, AS_OF).is_empty()
    assert category_trends(index, AS_OF).is_empty()
    assert dict(seasonality(nothing, of, AS_OF).schema) == SEASON
    assert dict(lead_follow(nothing, offers, AS_OF).schema) == LEAD
    # A single observation, and prices at both ends of what a price can be.
    one = slow.timeline({1: [(AS_OF, AS_OF, 1)], 2: steps([1, 10**16] * 30, 5 * DAY)})
    of = pl.DataFrame([(1, "EUR", None), (2, "EUR", None)], schema=PRODUCTS, orient="row")
    for frame in (trends(one, AS_OF), seasonality(one, of, AS_OF)):
        numbers = frame.select(pl.selectors.float().fill_null(0))
        assert frame.height
        assert all(numbers.select(pl.all().is_finite().all()).row(0))
