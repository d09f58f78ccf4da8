"""Favourites: products that somebody watches, with today's price and the change since they were added.

What was added is kept as it was then. Where nothing can be said of the change, `change_unknown` says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec
from litestar import Request, delete, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response.base import Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse.access import Role, Scope, may
from pricepulse.accounts import belongings
from pricepulse.accounts.me import OWN, Own, lock
from pricepulse.accounts.preferences import preferences_of
from pricepulse.accounts.tables import Account
from pricepulse.answer import Json
from pricepulse.catalog import ProductSummary, id_of, known_product, rounded
from pricepulse.contract import Cursor, Limit, build_of
from pricepulse.conversion import units_in
from pricepulse.errors import ConflictError, NotFoundError
from pricepulse.paging import BuildPage, cut, offset_of, stamp
from pricepulse.store import Db
from warehouse.columns import SCALE
from warehouse.connection import Version
from warehouse.history import amount
from warehouse.queries.products import products_of_offers

MOST = 1000  # a list of one's own, not a copy of the catalogue; the dashboard reads all of it
Unknown = Literal["gone", "no_price_now", "no_price_when_added", "other_currency"]


class Favorite(msgspec.Struct, frozen=True, kw_only=True):
    """`product` is its card as lists show it, null where the product is gone; `moved_to`: the id that it
    has today, where its offers were linked to another product since. `price` is today's best,
    `price_when_added` that of `added_at`: both in the account's currency with the rates of `rates_of`
    (so that the change is the shop's and not the exchange rate's), or as they are where that is null.
    `change_unknown` says why there is no change: the product is gone, has no price now, had none when it
    was added, or is sold in another currency than then. `verdict` is that of the best offer's
    reduction (/api/v1/deals), null where it is none."""

    product_id: str
    moved_to: str | None
    added_at: datetime
    title: str | None
    price: float | Decimal | None
    currency: str | None
    price_when_added: float | Decimal | None
    currency_when_added: str
    change: float | Decimal | None
    change_ratio: float | None
    change_unknown: Unknown | None
    rates_of: date | None
    verdict: Literal["genuine", "inflated", "unproven"] | None
    product: ProductSummary | None


class FavoritePage(BuildPage[Favorite], frozen=True, kw_only=True):
    items: list[Favorite]


class Today(NamedTuple):
    """A favourite and what the build says of it: its product's row of `Columns.product`, if it is there."""

    kept: belongings.Favorite
    product: dict[str, Any] | None
    verdict: str | None

    @property
    def price(self) -> int | None:
        """The best price in units of 1/10,000, in the product's currency."""
        price: Decimal | None = self.product["best_price"] if self.product else None
        return None if price is None else int(price * SCALE)

    @property
    def unknown(self) -> Unknown | None:
        if self.product is None:
            return "gone"
        if self.price is None:
            return "no_price_now"
        if self.kept.price is None:
            return "no_price_when_added"
        return "other_currency" if self.product["currency"] != self.kept.currency else None

    @property
    def change_ratio(self) -> float | None:
        if self.unknown or self.price is None or not self.kept.price:
            return None
        return self.price / self.kept.price - 1


@get("/users/me/favorites", **may(Role.USER, Scope.READ, problems=(503,)), **OWN)
async def list_favorites(
    request: Request[Any, Any, Any], me: Own, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> FavoritePage:
    """Favourites, the newest first."""
    version, offset = build_of(request), offset_of(request, cursor)
    query = select(belongings.Favorite).where(belongings.Favorite.account_id == me.id)
    newest = query.order_by(belongings.Favorite.added_at.desc(), belongings.Favorite.product_id)
    rows = list(await db.scalars(newest.limit(limit + 1).offset(offset)))
    here, after = cut(request, rows, limit, offset)
    items = await asyncio.to_thread(told, version, here, await currency_of(db, me))
    return FavoritePage(items=items, next_cursor=after, **stamp(version))


@get("/users/me/favorites/{product_id:str}", **may(Role.USER, Scope.READ, problems=(503,)), **OWN)
async def get_favorite(
    request: Request[Any, Any, Any], product_id: FromPath[str], me: Own, db: Db
) -> Favorite:
    """One favourite."""
    version, kept = build_of(request), await _kept(db, me, product_id)
    if kept is None:
        raise _not_one()
    (item,) = await asyncio.to_thread(told, version, [kept], await currency_of(db, me))
    return item


@put(
    "/users/me/favorites/{product_id:str}",
    **may(Role.USER, problems=(409, 503)),
    **OWN,
    responses={201: ResponseSpec(Favorite, description="It was none before.")},
)
async def add_favorite(
    request: Request[Any, Any, Any], product_id: FromPath[str], me: Own, db: Db
) -> Response[Favorite]:
    """Make a product a favourite, with its price of now.

    Of one that is a favourite already nothing changes. An account has at most 1,000."""
    version = build_of(request)
    await lock(db, me)  # the same twice at once, or one over the limit
    kept = await _kept(db, me, product_id)
    status = 200
    if kept is None:
        at = known_product(version, product_id)
        await _check_room(db, me)
        kept, status = _made(version, at, me), 201
        db.add(kept)
        await db.flush()
    (item,) = await asyncio.to_thread(told, version, [kept], await currency_of(db, me))
    return Json(item, status_code=status)


@delete("/users/me/favorites/{product_id:str}", **may(Role.USER), **OWN)
async def remove_favorite(product_id: FromPath[str], me: Own, db: Db) -> None:
    """Take a product off the favourites."""
    kept = await _kept(db, me, product_id)
    if kept is None:
        raise _not_one()
    await db.delete(kept)


async def currency_of(db: AsyncSession, me: Account) -> str | None:
    return (await preferences_of(db, me)).currency


def today(version: Version, kept: Sequence[belongings.Favorite]) -> list[Today]:
    """What the build says of each: one look at the hot columns, and one query for all whose id is gone."""
    columns = version.columns
    places = {each.product_id: columns.find(each.product_id) for each in kept}
    lost = [each.offer_id for each in kept if places[each.product_id] is None]
    moved = products_of_offers(version, lost)
    found = []
    for each in kept:
        at = places[each.product_id]
        if at is None and each.offer_id in moved:
            at = columns.find(moved[each.offer_id])
        if at is None:
            found.append(Today(each, None, None))
            continue
        product = columns.product(at)
        verdicts = {row["offer_id"]: row["verdict"] for row in columns.mart("deal", at)}
        found.append(Today(each, product, verdicts.get(product["best_offer_id"])))
    return found


def told(
    version: Version, kept: Sequence[belongings.Favorite], wanted: str | None
) -> list[Favorite]:
    """Favourites as they are answered, prices in the currency wanted where rates allow."""
    return [tell(version, each, wanted) for each in today(version, kept)]


def tell(version: Version, about: Today, wanted: str | None) -> Favorite:
    kept, product = about.kept, about.product
    now, then = about.price, kept.price
    currency = product["currency"] if product else None
    currency_then, rates_of = kept.currency, None
    money = [(now, currency), (then, currency_then)]
    known = [(units, code) for units, code in money if units is not None and code]
    if wanted and (made := units_in(version, wanted, known)):
        units, rates_of = made
        then = units.pop() if then is not None else None
        now = units.pop() if now is not None else None
        currency = wanted if product else None
        currency_then = wanted
    ratio, change = about.change_ratio, None
    if ratio is not None and now is not None and then is not None:
        change = amount(now - then)
    same = product is None or product["product_id"] == kept.product_id
    return Favorite(
        product_id=str(kept.product_id),
        moved_to=None if same or not product else str(product["product_id"]),
        added_at=kept.added_at,
        title=product["title"] if product else kept.title,
        price=None if now is None else amount(now),
        currency=currency,
        price_when_added=None if then is None else amount(then),
        currency_when_added=currency_then,
        change=change,
        change_ratio=rounded(ratio),
        change_unknown=about.unknown,
        rates_of=rates_of,
        verdict=about.verdict,  # type: ignore[arg-type]
        product=ProductSummary.from_row(product) if product else None,
    )


def _made(version: Version, at: int, me: Account) -> belongings.Favorite:
    product, offers = version.columns.page(at)
    best = next((each for each in offers if each.offer_id == product.best_offer_id), None)
    return belongings.Favorite(
        account_id=me.id,
        product_id=product.product_id,
        offer_id=(best or offers[0]).offer_id,
        price=best.price if best else None,
        currency=product.currency,
        title=product.title[:500] if product.title else None,
    )


async def _kept(db: AsyncSession, me: Account, product_id: str) -> belongings.Favorite | None:
    key = id_of(product_id)
    return None if key is None else await db.get(belongings.Favorite, (me.id, key))


async def _check_room(db: AsyncSession, me: Account) -> None:
    mine = belongings.Favorite.account_id == me.id
    many = await db.scalar(select(func.count()).select_from(belongings.Favorite).where(mine)) or 0
    if many >= MOST:
        raise ConflictError(
            f"you have {MOST:,} favourites, and more are not kept: remove one first"
        )


def _not_one() -> NotFoundError:
    return NotFoundError("that is none of your favourites; /api/v1/users/me/favorites lists them")


ROUTES = (list_favorites, get_favorite, add_favorite, remove_favorite)
