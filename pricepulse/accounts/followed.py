"""GET /users/me/categories, PUT, DELETE /users/me/categories/{slug}: categories that somebody follows."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, delete, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response.base import Response
from sqlalchemy import func, select

from pricepulse.access import Role, Scope, may
from pricepulse.accounts.belongings import FollowedCategory
from pricepulse.accounts.me import OWN, Own, lock
from pricepulse.answer import Json
from pricepulse.contract import Cursor, Limit, build_of
from pricepulse.errors import ConflictError, NotFoundError
from pricepulse.paging import BuildPage, cut, offset_of, stamp
from pricepulse.store import Db
from pricepulse.taxonomy import Category
from warehouse.queries.taxonomy import categories_by_slug

MOST = 100  # the dashboard looks for the deals of each


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """`category` is null while no product is in it."""

    slug: str
    added_at: datetime
    category: Category | None

    @classmethod
    def from_row(cls, row: FollowedCategory, known: dict[str, dict[str, Any]]) -> Followed:
        category = Category(**known[row.slug]) if row.slug in known else None
        return cls(slug=row.slug, added_at=row.added_at, category=category)


class FollowedPage(BuildPage[Followed], frozen=True, kw_only=True):
    items: list[Followed]


@get("/users/me/categories", **may(Role.USER, Scope.READ, problems=(503,)), **OWN)
async def list_followed(
    request: Request[Any, Any, Any], me: Own, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> FollowedPage:
    """Followed categories by slug."""
    version, offset = build_of(request), offset_of(request, cursor)
    query = select(FollowedCategory).where(FollowedCategory.account_id == me.id)
    page = query.order_by(FollowedCategory.slug).limit(limit + 1).offset(offset)
    here, after = cut(request, list(await db.scalars(page)), limit, offset)
    known = await asyncio.to_thread(categories_by_slug, version, [each.slug for each in here])
    items = [Followed.from_row(each, known) for each in here]
    return FollowedPage(items=items, next_cursor=after, **stamp(version))


@put(
    "/users/me/categories/{slug:str}",
    **may(Role.USER, problems=(409, 503)),
    **OWN,
    responses={201: ResponseSpec(Followed, description="It was not followed before.")},
)
async def follow_category(
    request: Request[Any, Any, Any], slug: FromPath[str], me: Own, db: Db
) -> Response[Followed]:
    """Follow a category, with what is below it.

    Of one that is followed already nothing changes. An account follows at most 100."""
    version = build_of(request)
    known = await asyncio.to_thread(categories_by_slug, version, [slug])
    await lock(db, me)
    row, status = await db.get(FollowedCategory, (me.id, slug)), 200
    if row is None:
        if slug not in known:
            raise NotFoundError("there is no such category; /api/v1/categories lists all")
        mine = select(func.count()).where(FollowedCategory.account_id == me.id)
        if (await db.scalar(mine) or 0) >= MOST:
            raise ConflictError(
                f"you follow {MOST} categories, and more are not kept: end one first"
            )
        row, status = FollowedCategory(account_id=me.id, slug=slug), 201
        db.add(row)
        await db.flush()
    return Json(Followed.from_row(row, known), status_code=status)


@delete("/users/me/categories/{slug:str}", **may(Role.USER), **OWN)
async def unfollow_category(slug: FromPath[str], me: Own, db: Db) -> None:
    """Follow a category no more."""
    row = await db.get(FollowedCategory, (me.id, slug))
    if row is None:
        raise NotFoundError("you do not follow it; /api/v1/users/me/categories lists what you do")
    await db.delete(row)


ROUTES = (list_followed, follow_category, unfollow_category)
