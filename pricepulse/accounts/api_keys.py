"""GET, POST, DELETE /users/me/api-keys: keys for programs that act for their owner."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import Role, Scope, may
from pricepulse.accounts.keys import new_key
from pricepulse.accounts.me import OWN, Own, PasswordIfAny, confirm
from pricepulse.accounts.tables import Account, ApiKey, now
from pricepulse.accounts.tokens import Claims, hashed
from pricepulse.errors import (
    ConflictError,
    FieldError,
    ForbiddenError,
    NotFoundError,
    UnprocessableError,
    told_as,
)
from pricepulse.mail import post as post_mail
from pricepulse.sealing import Sealer
from pricepulse.store import Db

MOST = 20  # of one account: each has a rate limit of its own
KeyName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=told_as(r"^[^\x00-\x1f\x7f]+(?![\s\S])", "must be text of one line"),
        description="What the key is for.",
    ),
]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`expires_at`: null for a key that is good until it is taken away."""

    name: KeyName
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=len(Scope))]
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class KeyAsked(Wanted, frozen=True, forbid_unknown_fields=True):
    """With password and `code` as for anything that concerns signing in."""

    password: PasswordIfAny = ""
    code: Annotated[str, Meta(max_length=64)] = ""


class OwnKey(msgspec.Struct, frozen=True):
    """`last_used_at`: to the minute."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def from_key(cls, key: ApiKey) -> OwnKey:
        return cls(
            key.id, key.name, key.scopes, key.created_at, key.expires_at, key.last_used_at
        )  # fmt: skip


class NewKey(OwnKey, frozen=True):
    """`key` is shown this one time."""

    key: str


class OwnKeys(msgspec.Struct, frozen=True):
    items: list[OwnKey]


@get("/users/me/api-keys", **may(Role.USER), **OWN)
async def list_api_keys(me: Own, db: Db) -> OwnKeys:
    """The account's API keys, newest first."""
    mine = select(ApiKey).where(ApiKey.account_id == me.id)
    found = await db.scalars(mine.order_by(ApiKey.created_at.desc(), ApiKey.id))
    return OwnKeys([OwnKey.from_key(each) for each in found])


@post("/users/me/api-keys", **may(Role.USER, problems=(409, 422)), **OWN)
async def create_api_key(
    request: Request[Claims, Any, Any], data: JSONBody[KeyAsked], me: Own, db: Db
) -> NewKey:
    """Make an API key.

    Scopes: `read` profile, settings, favourites, followed categories and dashboard, `ingest` (operators), `sql` (analysts), `admin`
    (admins). Should the owner lose the role, the key is refused within a second. It outlives the session, so it
    asks for the password, and the code of a second factor. The key itself is in this answer and nowhere else; the
    owner is told by mail."""
    if data.expires_at is not None and data.expires_at <= now():
        told = "is in the past"
        raise UnprocessableError(
            f"expires_at {told}", errors=[FieldError("/body/expires_at", told)]
        )
    # Locks the account, so that two at once cannot both be the twentieth.
    await confirm(db, request, me, data.password, data.code)
    sealer: Sealer = request.app.state["sealer"]
    key, text = await make_key(db, sealer, me, data)
    target = f"api_key:{key.id}"
    scopes = " ".join(key.scopes)
    audit.record(db, "api_key.create", target, request=request, actor=me.id, scopes=scopes)
    return NewKey(**msgspec.structs.asdict(OwnKey.from_key(key)), key=text)


@delete("/users/me/api-keys/{key_id:str}", **may(Role.USER), **OWN)
async def delete_api_key(
    request: Request[Claims, Any, Any], key_id: FromPath[str], me: Own, db: Db
) -> None:
    """Take an API key away: it is refused within a second."""
    mine = (ApiKey.account_id == me.id, ApiKey.id == key_id)
    if await db.scalar(sql_delete(ApiKey).where(*mine).returning(ApiKey.id)) is None:
        raise NotFoundError("you have no such key; /api/v1/users/me/api-keys lists them")
    audit.record(db, "api_key.delete", f"api_key:{key_id}", request=request, actor=me.id)


async def make_key(
    db: AsyncSession, sealer: Sealer, owner: Account, wanted: Wanted
) -> tuple[ApiKey, str]:
    """The row and the key itself, of which the row has only the hash; tells the owner by mail."""
    for scope in wanted.scopes:
        if not Role(owner.role).includes(scope.least):
            told = f"a key with the scope {scope} takes an owner with the role {scope.least}"
            raise ForbiddenError(f"{told}; this one has {owner.role}")
    has = await db.scalar(select(func.count()).where(ApiKey.account_id == owner.id))
    if has is not None and has >= MOST:
        raise ConflictError(f"the account has {MOST} API keys; take one away first")
    key_id, text = new_key()
    key = ApiKey(
        id=key_id, account_id=owner.id, hash=hashed(text), name=wanted.name,
        scopes=sorted(set(wanted.scopes)), created_at=now(), expires_at=wanted.expires_at,
    )  # fmt: skip
    db.add(key)
    await db.flush()
    scopes = ", ".join(key.scopes)
    post_mail(db, sealer, owner.email, "key_created", name=wanted.name, scopes=scopes)
    return key, text


ROUTES = (list_api_keys, create_api_key, delete_api_key)
