"""Categories, brands, retailers."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath

from pricepulse.contract import Cursor, Limit, version_of
from pricepulse.errors import NotFoundError
from pricepulse.paging import BuildPage, cut, offset_of, stamp
from warehouse.queries import taxonomy


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """`products` counts those in it and below."""

    slug: str
    parent_slug: str | None
    name: str
    path: str
    depth: int
    products: int


class CategoryPage(BuildPage[Category], frozen=True, kw_only=True):
    items: list[Category]


class CategoryDetail(Category, frozen=True, kw_only=True):
    ancestors: list[Category]
    children: list[Category]
    as_of: datetime | None
    version: int


class Brand(msgspec.Struct, frozen=True):
    slug: str
    name: str
    products: int


class BrandPage(BuildPage[Brand], frozen=True, kw_only=True):
    items: list[Brand]


class Retailer(msgspec.Struct, frozen=True):
    retailer: str
    offers: int
    products: int
    first_observed_at: datetime
    last_observed_at: datetime

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Retailer":
        times = {
            name: row[name].replace(tzinfo=UTC) for name in row if name.endswith("observed_at")
        }
        return cls(**row | times)


class RetailerPage(BuildPage[Retailer], frozen=True, kw_only=True):
    items: list[Retailer]


@get("/categories", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def list_categories(
    request: Request[Any, Any, Any], limit: Limit = 50, cursor: Cursor = None
) -> CategoryPage:
    """The tree of categories with counts, every branch before its twigs."""
    version = version_of(request)
    offset = offset_of(request, cursor)
    rows = taxonomy.categories(version, limit + 1, offset)
    items, after = cut(request, rows, limit, offset)
    return CategoryPage(
        items=[Category(**row) for row in items], next_cursor=after, **stamp(version)
    )


@get("/categories/{slug:str}", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def get_category(request: Request[Any, Any, Any], slug: FromPath[str]) -> CategoryDetail:
    """One category with what is above and right below it."""
    version = version_of(request)
    kin = [Category(**row) for row in taxonomy.category_and_kin(version, slug)]
    me = next((each for each in kin if each.slug == slug), None)
    if me is None:
        raise NotFoundError("there is no such category; /api/v1/categories lists all")
    return CategoryDetail(
        **msgspec.structs.asdict(me),
        ancestors=[each for each in kin if each.depth < me.depth],
        children=[each for each in kin if each.depth > me.depth],
        **stamp(version),
    )


@get("/brands", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def list_brands(
    request: Request[Any, Any, Any], limit: Limit = 50, cursor: Cursor = None
) -> BrandPage:
    """Brands by name."""
    version = version_of(request)
    offset = offset_of(request, cursor)
    items, after = cut(request, taxonomy.brands(version, limit + 1, offset), limit, offset)
    return BrandPage(items=[Brand(**row) for row in items], next_cursor=after, **stamp(version))


@get("/retailers", tags=["catalog"], opt={"versioned": True}, sync_to_thread=True)
def list_retailers(
    request: Request[Any, Any, Any], limit: Limit = 50, cursor: Cursor = None
) -> RetailerPage:
    """Shops by slug."""
    version = version_of(request)
    offset = offset_of(request, cursor)
    items, after = cut(request, taxonomy.retailers(version, limit + 1, offset), limit, offset)
    shops = [Retailer.from_row(row) for row in items]
    return RetailerPage(items=shops, next_cursor=after, **stamp(version))


ROUTES = (list_categories, get_category, list_brands, list_retailers)
