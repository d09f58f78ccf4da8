"""PUT, GET, DELETE /users/me/avatar: the account's picture, for nobody else's eyes."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
from litestar import Request, delete, get, put
from litestar.response.base import Response
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit, pictures
from pricepulse.access import Role, may
from pricepulse.accounts.belongings import Avatar
from pricepulse.accounts.me import OWN, Own, lock
from pricepulse.accounts.tables import Account, now
from pricepulse.accounts.tokens import Claims
from pricepulse.answer import Json
from pricepulse.docs import confirmed
from pricepulse.errors import NotFoundError
from pricepulse.pictures import AVATAR, FORMATS, WEBP, PictureUpload
from pricepulse.settings import Settings
from pricepulse.store import Db

UPLOAD: dict[str, Any] = OWN | {
    "operation_class": PictureUpload,
    "request_max_body_size": AVATAR.most_bytes,
}


class Stored(msgspec.Struct, frozen=True):
    """`avatar`: as in the profile, another one for another picture."""

    avatar: str


@put(
    "/users/me/avatar",
    **may(Role.USER, consumes=tuple(FORMATS), problems=(413, 415, 422)),
    **UPLOAD,
)
async def set_avatar(request: Request[Claims, Any, Any], me: Own, db: Db) -> Stored:
    """Set the account's picture: PNG, JPEG or WebP, at most 2 MB and 4,096 × 4,096 pixels.

    The middle of it is kept, 256 × 256 pixels, without anything that was written into the file."""
    await db.commit()  # no transaction is open while the picture is received and encoded
    picture = await pictures.taken(request, AVATAR)
    await lock(db, me)
    # With the account: a file has one owner, and goes with it whoever else has the same picture.
    digest = hashlib.sha256(f"{me.id}\n".encode() + picture).hexdigest()
    path = pictures.path_of(request.app.state["settings"], AVATAR, digest)
    await asyncio.to_thread(pictures.store, path, picture)
    row = await db.get(Avatar, me.id, populate_existing=True) or Avatar(account_id=me.id)
    if row.hash != digest:
        row.hash, row.changed_at = digest, now()
        db.add(row)
        audit.record(db, "account.avatar", f"account:{me.id}", request=request, actor=me.id)
    return Stored(digest)


@get(
    "/users/me/avatar",
    **may(Role.USER, produces=(WEBP,)),
    **OWN,
    media_type=WEBP,
)
async def get_avatar(request: Request[Claims, Any, Any], me: Own, db: Db) -> Response[bytes]:
    """The account's picture, WebP of 256 × 256 pixels."""
    row = await db.get(Avatar, me.id)
    if row is None:
        raise NotFoundError("you have no picture; PUT /api/v1/users/me/avatar sets one")
    headers = {"etag": f'"{row.hash}"', "cache-control": "private, no-cache"}
    if confirmed(request, headers["etag"]):
        return Response(b"", status_code=304, headers=headers)
    lost = "the picture was lost; set it again"
    content = await pictures.kept(request.app.state["settings"], AVATAR, row.hash, lost=lost)
    return Json(content, media_type=WEBP, headers=headers)


@delete("/users/me/avatar", **may(Role.USER), **OWN)
async def remove_avatar(request: Request[Claims, Any, Any], me: Own, db: Db) -> None:
    """Take the account's picture away."""
    await lock(db, me)
    if not await forget(db, request.app.state["settings"], me):
        raise NotFoundError("you have no picture")
    audit.record(db, "account.avatar", f"account:{me.id}", request=request, actor=me.id)


async def forget(db: AsyncSession, settings: Settings, me: Account) -> bool:
    """Remove the picture, row and file, of the account that the caller has locked: whether there was one.

    The file goes before the commit: afterwards the owner could have set the same one again."""
    row = await db.get(Avatar, me.id, populate_existing=True)
    if row is None:
        return False
    await db.delete(row)
    await db.flush()
    path = pictures.path_of(settings, AVATAR, row.hash)
    await asyncio.to_thread(path.unlink, missing_ok=True)
    return True


ROUTES = (set_avatar, get_avatar, remove_avatar)
