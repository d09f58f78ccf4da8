"""Pages of a list: `?limit=&cursor=` in, `items` and `next_cursor` out."""

import base64
import binascii
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from litestar import Request

from pricepulse.answer import ENCODER
from pricepulse.contract import version_of
from pricepulse.errors import InvalidInputError
from warehouse.columns import TOLD_OF_PRODUCT
from warehouse.connection import Version

Item = TypeVar("Item")


class Place(msgspec.Struct, frozen=True, array_like=True):
    """What a cursor holds: how far the reader has come, in which list."""

    offset: int
    list: int


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """`next_cursor` is null on the last page. A cursor is exact within one `version`; after a new
    build it goes on at the same place of the new list."""

    items: Sequence[Item]
    next_cursor: str | None


class BuildPage(Page[Item], Generic[Item], frozen=True, kw_only=True):
    """A page of what one build shows. Subclasses name their `items` again: the API's document sees
    the item of a generic struct only where a field says it."""

    as_of: datetime | None
    version: int


def offset_of(request: Request[Any, Any, Any], cursor: str | None) -> int:
    """Where the page begins; a cursor of another list or other filters is a 400."""
    if cursor is None:
        return 0
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=="), type=Place)
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise InvalidInputError.at("/query/cursor", "is not one that a page gave") from error
    if place.list != _list(request) or not 0 <= place.offset < 10**9:
        raise InvalidInputError.at(
            "/query/cursor", "belongs to another list; take it from a page with the same filters"
        )
    return place.offset


def cut(
    request: Request[Any, Any, Any], rows: list[Any], limit: int, offset: int
) -> tuple[list[Any], str | None]:
    """The page of `limit` from up to `limit + 1` rows, and the cursor of the next."""
    if len(rows) <= limit:
        return rows, None
    place = msgspec.json.encode(Place(offset + limit, _list(request)))
    return rows[:limit], base64.urlsafe_b64encode(place).decode().rstrip("=")


def about(row: dict[str, Any]) -> dict[str, Any]:
    """What an item about an offer says of it and its product, from `Columns.listed`."""
    ids = {name: str(row[name]) for name in ("product_id", "offer_id")}
    return ids | {name: row[name] for name in (*TOLD_OF_PRODUCT, "retailer", "sku", "url")}


def told_page(
    request: Request[Any, Any, Any],
    mart: str,
    places: list[int],
    item: Callable[[dict[str, Any]], msgspec.Struct],
    limit: int,
    offset: int,
) -> dict[str, Any]:
    """The fields of a BuildPage of rows of a mart, from up to `limit + 1` places; each item as JSON
    already."""
    version = version_of(request)
    here, after = cut(request, places, limit, offset)
    told = version.lists.told(mart, here, lambda row: ENCODER.encode(item(row)))
    return {"items": list(map(msgspec.Raw, told)), "next_cursor": after, **stamp(version)}


def stamp(version: Version) -> dict[str, Any]:
    """What every answer from the warehouse carries."""
    return {"as_of": version.as_of, "version": version.number}


def _list(request: Request[Any, Any, Any]) -> int:
    """A fingerprint of the address and its filters."""
    given = sorted(
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in {"cursor", "limit"}
    )
    return zlib.crc32(repr((request.scope["path"], given)).encode())
