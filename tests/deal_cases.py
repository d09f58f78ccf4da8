"""Deals by hand: what was seen of an offer, and what docs/definitions.md makes of it.

Days count back from `as_of`, day 0. Some offers are not seen on day 0, so all cases belong in one
market; each is a product of its own. Only the figures that a case is about are expected.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

Look = tuple[float, str, str | None, str]  # days ago, price, list price, availability

FIRST = "6a (1): a reduction is announced with the prior price"
LOWEST = "6a (2): the lowest price in not less than 30 days prior to the application"
STEPS = "6a (5): increased step by step, the prior price is that of the first step"
SMALLER = "A reduction that is made smaller is a new one"
NOISE = "A reduction of less than 3 % is noise"
NOT_CHARGED = "60 days known, and in less than a tenth of the time the list price was charged"
HISTORY = "Less than 15 days known before the reduction began"
RAISED = "The median of the 90 days before the reduction began is at most 1.01 x price"
IN_STOCK_ONLY = "What a shop writes on a thing that it does not have is no price"
FRESH = "What is not fresh has no deal"
ODD = "Below a fifth of what it usually was, and for less than 3 days"
DROPS = "Only further drops, each at most 30 days after the one before"


class Case(NamedTuple):
    name: str
    rule: str
    rows: list[Look]
    expected: dict[str, Any] | None  # None: no deal


def seen(
    first: float, last: float, price: str, claim: str | None = None, state: str = "InStock"
) -> list[Look]:
    """Looks from `first` days ago every 5 days, and one at `last`."""
    days = []
    day = first
    while day > last:
        days.append(day)
        day -= 5
    return [(day, price, claim, state) for day in [*days, last]]


def deal(
    began: float,
    prior: str | None,
    real: str | None,
    claimed: str | None,
    verdict: str,
    **also: Any,
) -> dict[str, Any]:
    """`verdict` is "verdict ground"; ratios are written as fractions."""
    return {
        "began_days_ago": began,
        "prior_price": None if prior is None else Decimal(prior),
        "real_discount_ratio": None if real is None else Fraction(real),
        "claimed_discount_ratio": None if claimed is None else Fraction(claimed),
        "verdict": verdict.split()[0],
        "ground": verdict.split()[1],
    } | also


GENUINE = "genuine below_prior_price"
NO_HIGHER = "inflated prior_price_no_higher"
BELIEVE = "unproven hard_to_believe"

CASES = [
    Case(
        "a plain reduction",
        FIRST,
        [*seen(200, 25, "100"), *seen(20, 0, "80", "100")],
        deal(
            20,
            "100",
            "1/5",
            "1/5",
            GENUINE,
            usual_price=Decimal(100),
            usual_discount_ratio=Fraction(1, 5),
            list_charged_ratio=Fraction(8, 9),  # 160 of 180 days
            lowest_in_days=200,
            is_all_time_low=True,
            really_reduced=True,
            # size 0.5, rare 0.9 (20 of 200 days no dearer), new 1/3: 25 + 27 + 6.67
            score=59,
        ),
    ),
    Case(
        "a tenth of the usual price since yesterday",
        ODD,
        [*seen(200, 2, "17.99"), *seen(1, 0, "1.80", "17.99")],
        deal(1, "17.99", "1619/1799", "1619/1799", BELIEVE, really_reduced=None, score=0),
    ),
    Case(
        "a tenth of the usual price for a week",
        ODD,
        [*seen(200, 9, "17.99"), *seen(7, 0, "1.80")],
        deal(7, "17.99", "1619/1799", None, GENUINE, really_reduced=True),
    ),
    Case(
        "step by step, the first prior price stays",
        STEPS,
        [
            *seen(200, 45, "100"),
            *seen(40, 25, "90", "100"),
            *seen(20, 10, "80", "100"),
            *seen(5, 0, "70", "100"),
        ],
        deal(40, "100", "3/10", "3/10", GENUINE),
    ),
    Case(
        "interrupted: the reduced price of 40 to 60 days ago is the lowest of the 30 days before",
        LOWEST,
        [
            *seen(200, 65, "100"),
            *seen(60, 45, "80", "100"),
            *seen(40, 25, "100"),
            *seen(20, 0, "75", "100"),
        ],
        deal(20, "80", "1/16", "1/4", GENUINE),
    ),
    Case(
        "interrupted for ten days, then the same again",
        LOWEST,
        [
            *seen(200, 45, "100"),
            *seen(40, 25, "80", "100"),
            *seen(20, 15, "100"),
            *seen(10, 0, "80", "100"),
        ],
        deal(10, "80", "0", "1/5", NO_HIGHER, list_charged_ratio=Fraction(5, 6), score=0),
    ),
    Case(
        "made smaller",
        SMALLER,
        [*seen(200, 45, "100"), *seen(40, 25, "70", "100"), *seen(20, 0, "80", "100")],
        deal(20, "70", "-1/7", "1/5", NO_HIGHER, lowest_in_days=20, is_all_time_low=False),
    ),
    Case(
        "60 days reduced: the prior price is from before that, not from before today",
        LOWEST,
        [*seen(200, 65, "100"), *seen(60, 0, "80", "100")],
        # 60 of the last 90 days at 80: that has become usual, and the score nothing.
        deal(
            60, "100", "1/5", "1/5", GENUINE, usual_price=Decimal(80), score=0, really_reduced=False
        ),
    ),
    Case(
        "a low that ended 31 days before the reduction began",
        LOWEST,
        [
            *seen(200, 75, "100"),
            *seen(70, 56, "60"),
            *seen(51, 25, "100"),
            *seen(20, 0, "80", "100"),
        ],
        deal(20, "100", "1/5", "1/5", GENUINE, lowest_in_days=51, is_all_time_low=False),
    ),
    Case(
        "a low that ended 30 days before, when the month begins",
        LOWEST,
        [
            *seen(200, 75, "100"),
            *seen(70, 55, "60"),
            *seen(50, 25, "100"),
            *seen(20, 0, "80", "100"),
        ],
        deal(20, "100", "1/5", "1/5", GENUINE, lowest_in_days=50),
    ),
    Case(
        "a low that ended 29 days before",
        LOWEST,
        [
            *seen(200, 75, "100"),
            *seen(70, 54, "60"),
            *seen(49, 25, "100"),
            *seen(20, 0, "80", "100"),
        ],
        deal(20, "60", "-1/3", "1/5", NO_HIGHER, lowest_in_days=49),
    ),
    Case(
        "raised 20 days before",
        LOWEST,
        [*seen(200, 45, "80"), *seen(40, 25, "100"), *seen(20, 0, "80", "100")],
        deal(20, "80", "0", "1/5", NO_HIGHER, list_charged_ratio=Fraction(1, 9)),
    ),
    Case(
        "raised 45 days before: the prior price looks fine, the median does not",
        RAISED,
        # Of the 90 days before, 45 at 80: not exceeded for half of the time, so 80 is the median.
        [*seen(200, 70, "80"), *seen(65, 25, "100"), *seen(20, 0, "80", "100")],
        deal(
            20,
            "100",
            "1/5",
            "1/5",
            "inflated raised_before",
            list_charged_ratio=Fraction(1, 4),
            really_reduced=False,
        ),
    ),
    Case(
        "raised 46 days before: long enough to have been the price",
        RAISED,
        [*seen(200, 71, "80"), *seen(66, 25, "100"), *seen(20, 0, "80", "100")],
        deal(20, "100", "1/5", "1/5", GENUINE),
    ),
    Case(
        "list price never charged",
        NOT_CHARGED,
        [*seen(200, 25, "80"), *seen(20, 0, "70", "100")],
        deal(
            20,
            "80",
            "1/8",
            "3/10",
            "inflated list_price_not_charged",
            list_charged_ratio=Fraction(0),
            really_reduced=True,
            # size 0.3125, rare 0.9, new 1/3: 15.6 + 27 + 6.67, and half of it
            score=25,
        ),
    ),
    Case(
        "list price never charged, and raised before",
        NOT_CHARGED,
        [*seen(200, 70, "80"), *seen(65, 25, "100"), *seen(20, 0, "80", "130")],
        deal(
            20,
            "100",
            "1/5",
            "5/13",
            "inflated list_price_not_charged",
            really_reduced=False,
        ),
    ),
    Case(
        "reduced ever since it was first seen",
        NOT_CHARGED,
        [*seen(200, 0, "80", "100")],
        deal(
            200,
            None,
            None,
            "1/5",
            "inflated list_price_not_charged",
            usual_discount_ratio=Fraction(0),
            really_reduced=None,
            score=0,
        ),
    ),
    Case(
        "99 % of the list price charged in a tenth of the half-year, 18 days",
        NOT_CHARGED,
        [
            *seen(200, 135, "90"),
            *seen(130, 117, "99"),
            *seen(112, 25, "90"),
            *seen(20, 0, "80", "100"),
        ],
        deal(20, "90", "1/9", "1/5", GENUINE, list_charged_ratio=Fraction(1, 10)),
    ),
    Case(
        "98.99 charged in a tenth of the half-year",
        NOT_CHARGED,
        [
            *seen(200, 135, "90"),
            *seen(130, 117, "98.99"),
            *seen(112, 25, "90"),
            *seen(20, 0, "80", "100"),
        ],
        deal(20, "90", "1/9", "1/5", "inflated list_price_not_charged"),
    ),
    Case(
        "list price not charged, but only 50 days are known",
        NOT_CHARGED,
        [*seen(50, 25, "90"), *seen(20, 0, "80", "100")],
        deal(20, "90", "1/9", "1/5", GENUINE, list_charged_ratio=Fraction(0)),
    ),
    Case(
        "penny noise, claimed",
        NOISE,
        [*seen(200, 25, "100"), *seen(20, 0, "98", "100")],
        None,
    ),
    Case(
        "penny noise, unclaimed",
        NOISE,
        [*seen(200, 15, "100"), *seen(10, 0, "99.99")],
        None,
    ),
    Case(
        "a claim of less than 3 % on a real drop",
        NOISE,
        [*seen(200, 25, "100"), *seen(20, 0, "80", "82")],
        deal(20, "100", "1/5", "1/41", GENUINE, usual_price=Decimal(100)),
    ),
    Case(
        "new: 10 days of history",
        HISTORY,
        [*seen(10, 7, "100"), *seen(2, 0, "80", "100")],
        deal(
            2,
            "100",
            "1/5",
            "1/5",
            "unproven little_history",
            lowest_in_days=10,
            really_reduced=None,
        ),
    ),
    Case(
        "new, unclaimed",
        HISTORY,
        [*seen(10, 7, "100"), *seen(2, 0, "80")],
        deal(2, "100", "1/5", None, "unproven little_history", list_charged_ratio=None),
    ),
    Case(
        "15 days known before are enough",
        HISTORY,
        [*seen(20, 10, "100"), *seen(5, 0, "80", "100")],
        deal(5, "100", "1/5", "1/5", GENUINE),
    ),
    Case(
        "out of stock at a low price in the month before",
        IN_STOCK_ONLY,
        [
            *seen(200, 45, "100"),
            *seen(40, 35, "60", None, "OutOfStock"),
            *seen(30, 25, "100"),
            *seen(20, 0, "80", "100"),
        ],
        deal(20, "100", "1/5", "1/5", GENUINE, is_all_time_low=True),
    ),
    Case(
        "sold out now",
        IN_STOCK_ONLY,
        [*seen(200, 25, "100"), *seen(20, 5, "80", "100"), (0, "80", "100", "OutOfStock")],
        None,
    ),
    Case(
        "stale: last seen 15 days ago",
        FRESH,
        [*seen(200, 35, "100"), *seen(30, 15, "80", "100")],
        None,
    ),
    Case(
        "an unclaimed drop",
        DROPS,
        [*seen(200, 15, "100"), *seen(10, 0, "80")],
        # size 0.5, rare 0.95 (10 of 200 days no dearer), new 2/3: 25 + 28.5 + 13.33
        deal(10, "100", "1/5", None, GENUINE, usual_discount_ratio=Fraction(1, 5), score=67),
    ),
    Case(
        "an unclaimed drop, then a rise",
        DROPS,
        [*seen(200, 25, "100"), *seen(20, 15, "70"), *seen(10, 0, "80")],
        None,
    ),
    Case(
        "two unclaimed drops 40 days apart",
        DROPS,
        [*seen(200, 65, "100"), *seen(60, 25, "90"), *seen(20, 0, "80")],
        deal(20, "90", "1/9", None, GENUINE, usual_price=Decimal(90)),
    ),
    Case(
        "two unclaimed drops 30 days apart",
        DROPS,
        [*seen(200, 55, "100"), *seen(50, 25, "90"), *seen(20, 0, "80")],
        # The usual discount is the smaller, 1/9; size 5/18, rare 0.9, new 0: 13.89 + 27
        deal(50, "100", "1/5", None, GENUINE, usual_price=Decimal(90), score=41),
    ),
    Case(
        "an unclaimed drop to what it was a month ago",
        LOWEST,
        [*seen(200, 50, "100"), *seen(45, 40, "80"), *seen(35, 15, "100"), *seen(10, 0, "80")],
        None,
    ),
]
