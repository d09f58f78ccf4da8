"""PUT, DELETE /products/{product_id}/image: an operator's picture in the place of the shops'.
GET /images/{image_id}: the picture, for everybody and for ever."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, delete, get, put
from litestar.params import FromPath
from litestar.response.base import Response
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit, pictures
from pricepulse.access import Role, Scope, may, public
from pricepulse.accounts.keys import KnownKey
from pricepulse.accounts.tokens import Claims
from pricepulse.answer import Json
from pricepulse.catalog import known_product
from pricepulse.contract import build_of
from pricepulse.docs import confirmed
from pricepulse.errors import NotFoundError
from pricepulse.ingest import Intake
from pricepulse.pictures import FORMATS, HASH, PRODUCT, WEBP, PictureUpload
from pricepulse.settings import Settings
from pricepulse.store import Db
from warehouse import images

# Never asked for again (RFC 8246), and to be shown by pages of any origin.
HEADERS = {
    "cache-control": "public, max-age=31536000, immutable",
    "cross-origin-resource-policy": "cross-origin",
}


class GivenImage(msgspec.Struct, frozen=True):
    """`image_url`: what the product's will be, a path on this server."""

    image_url: str


# Whoever delivers a product's prices may deliver its picture: a feed can name any `image_url` anyway.
@put(
    "/products/{product_id:str}/image",
    **may(Role.OPERATOR, Scope.INGEST, consumes=tuple(FORMATS), problems=(413, 415, 422)),
    tags=["catalog"],
    operation_class=PictureUpload,
    request_max_body_size=PRODUCT.most_bytes,
)
async def set_product_image(
    request: Request[Any, Any, Any], product_id: FromPath[str], db: Db
) -> GivenImage:
    """Give a product a picture: PNG, JPEG or WebP, at most 2 MB and 4,096 × 4,096 pixels.

    It is kept whole, at most 1,024 pixels wide and high, without anything that was written into the
    file, and takes the place of the shops' pictures with the next build, moments later."""
    offers = await _offers(request, product_id)
    picture = await pictures.taken(request, PRODUCT)
    # Of the content alone: whatever products show the same picture, it is one file.
    digest = hashlib.sha256(picture).hexdigest()
    path = pictures.path_of(request.app.state["settings"], PRODUCT, digest)
    await asyncio.to_thread(pictures.store, path, picture)
    await _give(request, db, product_id, offers, digest)
    return GivenImage(images.ADDRESS + digest)


@delete(
    "/products/{product_id:str}/image", **may(Role.OPERATOR, Scope.INGEST), tags=["catalog"]
)  # fmt: skip
async def remove_product_image(
    request: Request[Any, Any, Any], product_id: FromPath[str], db: Db
) -> None:
    """Take the picture away that was given to a product; with the next build it has a shop's again."""
    offers = await _offers(request, product_id)
    lake = await _intake(request).open()
    if not await asyncio.to_thread(images.carried, lake, offers):
        raise NotFoundError("no picture was given to this product")
    await _give(request, db, product_id, offers, None)


@get("/images/{image_id:str}", **public(produces=(WEBP,)), tags=["catalog"], media_type=WEBP)
async def get_image(request: Request[Any, Any, Any], image_id: FromPath[str]) -> Response[bytes]:
    """A picture that was given to a product, WebP, as its `image_url` names it.

    By its content: it never changes, and may be kept for ever."""
    lost = "there is no such picture; `image_url` of a product names one"
    if not HASH.fullmatch(image_id):
        raise NotFoundError(lost)
    settings: Settings = request.app.state["settings"]
    content = await pictures.kept(settings, PRODUCT, image_id, lost=lost)
    headers = {"etag": f'"{image_id}"'} | HEADERS
    if confirmed(request, headers["etag"]):
        return Response(b"", status_code=304, headers=headers)
    return Json(content, media_type=WEBP, headers=headers)


async def _offers(request: Request[Any, Any, Any], product_id: str) -> list[int]:
    """The product's in the build in service, or 404."""
    version = build_of(request)
    page, _ = version.columns.page(known_product(version, product_id))
    return await asyncio.to_thread(images.offers_of, version, page.product_id)


async def _give(
    request: Request[Any, Any, Any],
    db: AsyncSession,
    product_id: str,
    offers: list[int],
    digest: str | None,
) -> None:
    """The audit first: lake and database cannot commit together, and nothing may be done unseen."""
    caller: Claims | KnownKey | None = request.user  # None: PRICEPULSE_INGEST_KEY, of nobody
    audit.record(
        db,
        "product.image",
        f"product:{int(product_id)}",
        request=request,
        actor=caller.sub if caller else "",
        key=caller.id if isinstance(caller, KnownKey) else None,
        image=digest,
    )
    await db.commit()
    lake = await _intake(request).open()
    await asyncio.to_thread(images.give_image, lake, offers, digest, datetime.now(UTC))


def _intake(request: Request[Any, Any, Any]) -> Intake:
    intake: Intake = request.app.state["intake"]
    return intake


ROUTES = (set_product_image, remove_product_image, get_image)
