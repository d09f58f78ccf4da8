"""Deals: which reductions are real, and why."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter

from pricepulse.catalog import EPOCH, Text, shop_slug
from pricepulse.contract import Cursor, Limit, one_of, version_of
from pricepulse.paging import BuildPage, about, offset_of, told_page
from warehouse.history import amount, in_words

MONEY = ("price", "list_price", "prior_price", "usual_price")
LEAST = 0.01  # less than one in a hundred is not worth a sentence
Verdict = Annotated[
    str | None,
    one_of("genuine", "inflated", "unproven", description="All three unless one is asked for."),
]
MinScore = Annotated[int, QueryParameter(ge=0, le=100, description="The least score to list.")]
BestOnly = Annotated[
    str, one_of("true", "false", description="Only what no other shop sells new for less now.")
]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What to think of a reduced price: docs/definitions.md says each rule.

    `prior_price` is the lowest in the 30 days before the reduction began at `began_at` (Directive
    98/6/EC, article 6a), `usual_price` the time-weighted median of the last 90 days; the discounts
    are against the shop's list price, the prior and the usual price. `real_discount_ratio` is
    negative where the shop "reduced" to more than it asked before. `verdict` is about what the shop
    announces, `really_reduced` about the price alone: with `inflated` it can be true, where the list
    price is made up and the price came down all the same; null where too little is known."""

    verdict: Literal["genuine", "inflated", "unproven"]
    really_reduced: bool | None
    score: int
    reasons: list[str]
    price: float | Decimal
    list_price: float | Decimal | None
    prior_price: float | Decimal | None
    usual_price: float | Decimal | None
    currency: str
    claimed_discount_ratio: float | None
    real_discount_ratio: float | None
    usual_discount_ratio: float | None
    began_at: datetime
    lowest_in_days: int
    is_all_time_low: bool
    confidence: float

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Judgement":
        return cls(**_judged(row))


class Deal(Judgement, frozen=True, kw_only=True):
    """A reduced offer."""

    product_id: str
    offer_id: str
    title: str | None
    brand: str | None
    category: str | None
    category_slug: str | None
    image_url: str | None
    retailer: str
    sku: str
    url: str | None
    condition: str
    observed_at: datetime

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Deal":
        return cls(
            **about(row),
            condition=row["condition"],
            observed_at=EPOCH + timedelta(microseconds=row["last_observed_at"]),
            **_judged(row),
        )


class DealPage(BuildPage[Deal], frozen=True, kw_only=True):
    items: list[Deal]


AS_IT_IS = set(Judgement.__struct_fields__) - {*MONEY, "began_at", "reasons"}


def _judged(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of Judgement of a hot row: its ratios are rounded."""
    known = {name: row[name] for name in AS_IT_IS}
    for name in MONEY:
        units = row[name]
        known[name] = None if units is None else amount(units)
    known["began_at"] = datetime.fromtimestamp(row["began_at"], UTC)
    known["reasons"] = list(reasons(row | {"began_at": known["began_at"]}))
    return known


def reasons(row: dict[str, Any]) -> Iterator[str]:
    """The evidence in plain words, what decides first. Money in `row` is in units of 1/10,000."""
    day = row["began_at"].date().isoformat()
    if row["verdict"] == "inflated" and row["really_reduced"]:
        yield _overstated(row, day)
        yield GROUNDS[row["ground"]](row, day)
    else:
        yield GROUNDS[row["ground"]](row, day)
        if row["ground"] == "list_price_not_charged" and row["prior_price"] is not None:
            yield _genuine(row, day)
    usual, days = row["usual_discount_ratio"], row["lowest_in_days"]
    if usual is not None and abs(usual) >= LEAST:
        yield f"{_against(usual)} its usual price of {_money(row['usual_price'], row)} (median of 90 days)"
    elif usual is not None:
        yield f"{_money(row['price'], row)} is its usual price (median of 90 days)"
    if row["is_all_time_low"] and days > 1:
        yield f"never cheaper at this shop in the {days} days since it was first seen"
    elif days > 1:
        yield f"no lower price at this shop in {days} days"
    best = row["best_price"]
    if best is not None and best < row["price"]:
        yield f"another shop asks {_money(best, row)}"


def _genuine(row: dict[str, Any], day: str) -> str:
    prior = _money(row["prior_price"], row)
    return f"{_against(row['real_discount_ratio'])} {prior}, its lowest price in the 30 days before {day}"


def _overstated(row: dict[str, Any], day: str) -> str:
    real, claimed = row["real_discount_ratio"], row["claimed_discount_ratio"]
    instead = f", not the claimed {_share(claimed)}" if _share(real) != _share(claimed) else ""
    prior = _money(row["prior_price"], row)
    return (
        f"a real reduction of {_share(real)}{instead}: "
        f"its lowest price in the 30 days before {day} was {prior}"
    )


def _not_charged(row: dict[str, Any], day: str) -> str:
    listed, share = _money(row["list_price"], row), row["list_charged_ratio"] or 0
    if share < LEAST:
        return f"the list price of {listed} was not charged in what is known of the last 180 days"
    return f"the list price of {listed} was charged in only {_share(share)} of what is known of the last 180 days"


def _no_higher(row: dict[str, Any], day: str) -> str:
    prior = _money(row["prior_price"], row)
    dearer = -(row["real_discount_ratio"] or 0)
    now = f"; it is {_share(dearer)} dearer now" if dearer >= LEAST else ""
    return f"{prior} was its price already in the 30 days before the reduction of {day}{now}"


def _raised(row: dict[str, Any], day: str) -> str:
    before = _money(row["usual_before"], row)
    return f"raised before it was reduced: in the 90 days before {day} it usually cost {before}"


def _hard_to_believe(row: dict[str, Any], day: str) -> str:
    usual = _money(row["usual_before"], row)
    return f"less than a fifth of the {usual} that it usually cost before {day}: likelier an error than a deal"


def _little(row: dict[str, Any], day: str) -> str:
    return (
        f"too little history: {row['prior_known_days']:.0f} of the 30 days before {day} are known"
    )


GROUNDS = {
    "below_prior_price": _genuine,
    "list_price_not_charged": _not_charged,
    "prior_price_no_higher": _no_higher,
    "raised_before": _raised,
    "little_history": _little,
    "hard_to_believe": _hard_to_believe,
}


def _money(units: int, row: dict[str, Any]) -> str:
    return f"{in_words(units)} {row['currency']}"


def _share(ratio: float) -> str:
    return f"{abs(ratio) * 100:.0f} %"


def _against(ratio: float) -> str:
    if abs(ratio) < LEAST:
        return "no less than"
    return f"{_share(ratio)} {'below' if ratio > 0 else 'above'}"


@get("/deals", tags=["insights"], opt={"versioned": True})
async def list_deals(
    request: Request[Any, Any, Any],
    verdict: Verdict = None,
    category: Text = None,
    brand: Text = None,
    retailer: Text = None,
    min_score: MinScore = 0,
    best_only: BestOnly = "false",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DealPage:
    """Offers that are reduced or claim to be, with what speaks for it and against it, best first.

    `category` and `brand` take slugs; a category includes what is below it. `score`, 0 to 100, is
    made of the size of the real discount, how rare the price is, how new, and how much is known."""
    version, offset = version_of(request), offset_of(request, cursor)
    places = version.lists.deals(
        verdict=verdict,
        category=category,
        brand=brand,
        retailer=shop_slug(retailer),
        min_score=min_score,
        best_only=best_only == "true",
        limit=limit + 1,
        offset=offset,
    )
    return DealPage(**told_page(request, "deal", places, Deal.from_row, limit, offset))


ROUTES = (list_deals,)
