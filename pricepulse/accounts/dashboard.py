"""GET /users/me/dashboard: what somebody wants to know first."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, get
from sqlalchemy import select

from pricepulse.access import Role, Scope, may
from pricepulse.accounts import belongings
from pricepulse.accounts.favorites import Favorite, Today, currency_of, tell, today
from pricepulse.accounts.me import OWN, Own
from pricepulse.catalog import rounded
from pricepulse.contract import build_of
from pricepulse.deals import Deal
from pricepulse.paging import stamp
from pricepulse.store import Db
from warehouse.columns import SCALE
from warehouse.connection import Version
from warehouse.history import amount
from warehouse.queries.products import best_prices_before

DAYS = 7
MOST_MOVED = MOST_DEALS = 20


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A favourite whose best price is another than 7 days before its last look: from `price_before`
    to `price_now`, in the product's own `currency`."""

    favorite: Favorite
    price_before: float | Decimal
    price_now: float | Decimal
    currency: str
    change_7d_ratio: float


class Saving(msgspec.Struct, frozen=True):
    """What `favorites` favourites cost less, together, than when they were added. Products' own
    currencies, one figure each."""

    currency: str
    amount: float | Decimal
    favorites: int


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """`moved`: at most 20 favourites, what moved most first; `deals`: at most 20 genuine ones in followed
    categories that no other shop beats, the best first. `favorites` counts all of them."""

    favorites: int
    moved: list[Moved]
    deals: list[Deal]
    savings: list[Saving]
    as_of: datetime | None
    version: int


@get("/users/me/dashboard", **may(Role.USER, Scope.READ, problems=(503,)), **OWN)
async def get_dashboard(request: Request[Any, Any, Any], me: Own, db: Db) -> Dashboard:
    """Favourites that moved in 7 days, deals in followed categories, savings."""
    version = build_of(request)
    mine = select(belongings.Favorite).where(belongings.Favorite.account_id == me.id)
    kept = list(await db.scalars(mine))
    query = select(belongings.FollowedCategory.slug)
    slugs = await db.scalars(query.where(belongings.FollowedCategory.account_id == me.id))
    wanted = await currency_of(db, me)
    return await asyncio.to_thread(_board, version, kept, list(slugs), wanted)


def _board(
    version: Version, kept: Sequence[belongings.Favorite], slugs: Sequence[str], wanted: str | None
) -> Dashboard:
    found = today(version, kept)
    return Dashboard(
        favorites=len(kept),
        moved=_moved(version, found, wanted),
        deals=_deals(version, slugs),
        savings=_savings(found),
        **stamp(version),
    )


def _moved(version: Version, found: Sequence[Today], wanted: str | None) -> list[Moved]:
    sold = {each.product["product_id"] for each in found if each.product and each.price}
    before = best_prices_before(version, list(sold), DAYS)
    moved: list[tuple[float, Today, int]] = []
    for each in found:
        if each.product is None or each.price is None:
            continue
        then = int(before.get(each.product["product_id"], 0) * SCALE)
        if then and then != each.price:
            moved.append((each.price / then - 1, each, then))
    moved.sort(key=lambda each: (-abs(each[0]), each[1].kept.product_id))
    return [
        Moved(
            favorite=tell(version, each, wanted),
            price_before=amount(then),
            price_now=amount(each.price or 0),
            currency=each.product["currency"] if each.product else "",
            change_7d_ratio=rounded(ratio) or 0.0,
        )
        for ratio, each, then in moved[:MOST_MOVED]
    ]


def _deals(version: Version, slugs: Sequence[str]) -> list[Deal]:
    places: set[int] = set()  # a category and what is below it may both be followed
    for slug in slugs:
        places |= set(
            version.lists.deals(
                verdict="genuine", category=slug, brand=None, retailer=None, min_score=0,
                best_only=True, limit=MOST_DEALS, offset=0,
            )
        )  # fmt: skip
    rows = version.columns.listed("deal", sorted(places))
    rows.sort(key=lambda row: (-row["score"], row["offer_id"]))
    return [Deal.from_row(row) for row in rows[:MOST_DEALS]]


def _savings(found: Sequence[Today]) -> list[Saving]:
    saved: dict[str, list[int]] = defaultdict(list)
    for each in found:
        if each.unknown is None and each.price and each.kept.price and each.price < each.kept.price:
            saved[each.kept.currency].append(each.kept.price - each.price)
    return [Saving(code, amount(sum(units)), len(units)) for code, units in sorted(saved.items())]


ROUTES = (get_dashboard,)
