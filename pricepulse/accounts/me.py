"""GET, PATCH /users/me: the own account, its password, address and sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, patch, put
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import delete as sql_delete
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import Role, Scope, may
from pricepulse.accounts import sessions, throttle, totp
from pricepulse.accounts.addresses import Address
from pricepulse.accounts.belongings import Avatar
from pricepulse.accounts.passwords import Hasher
from pricepulse.accounts.registration import (
    Name,
    Posted,
    add_link,
    check_new_password,
    tell_of_new_password,
)
from pricepulse.accounts.signin import FORM, Email, Password
from pricepulse.accounts.tables import Account, Link, Session, now
from pricepulse.accounts.throttle import Guess
from pricepulse.accounts.tokens import Claims
from pricepulse.errors import (
    ConflictError,
    FieldError,
    NotFoundError,
    UnauthorizedError,
    UnprocessableError,
)
from pricepulse.mail import post as post_mail
from pricepulse.sealing import Sealer
from pricepulse.store import Db

# Whoever signs in through a provider only has none, and must have done that just now.
PasswordIfAny = Annotated[str, Meta(max_length=1024)]


class Me(msgspec.Struct, frozen=True):
    """`second_factor`: whether sign-in asks for a code; `has_password`: whether there is one to confirm
    things with, else a sign-in of the last ten minutes does. `avatar`: another one for another
    picture (GET /users/me/avatar), null where there is none."""

    id: str
    email: str
    name: str
    role: str
    second_factor: bool
    has_password: bool
    created_at: datetime
    avatar: str | None

    @classmethod
    async def from_account(cls, account: Account, db: AsyncSession) -> Me:
        avatar = await db.scalar(select(Avatar.hash).where(Avatar.account_id == account.id))
        return cls(
            account.id, account.email, account.name, account.role, account.totp is not None,
            bool(account.password_hash), account.created_at, avatar,
        )  # fmt: skip


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not given stays as it is."""

    name: Name | UnsetType = UNSET


class Confirmed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password again, where the account has one; with a second factor, a `code`, too."""

    password: PasswordIfAny = ""
    code: str = ""


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: Password
    current_password: PasswordIfAny = ""


class NewEmail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Email
    password: PasswordIfAny = ""


class OwnSession(msgspec.Struct, frozen=True):
    """`current`: the one that asks. `address` and `agent`: of whoever used it last, or began it."""

    id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str
    agent: str
    current: bool

    @classmethod
    def from_session(cls, each: Session, current: str) -> OwnSession:
        return cls(
            each.id, each.created_at, each.last_used_at, each.expires_at, each.address, each.agent,
            each.id == current,
        )  # fmt: skip


class OwnSessions(msgspec.Struct, frozen=True):
    items: list[OwnSession]


async def _me(request: Request[Claims, Any, Any], db: Db) -> Account:
    account = await db.get(Account, request.user.sub)
    if account is None or account.disabled_at:
        raise UnauthorizedError("the account is gone", error="invalid_token")
    return account


Own = NamedDependency[Account]
OWN: dict[str, Any] = {"dependencies": {"me": Provide(_me)}, **FORM}


@get("/users/me", **may(Role.USER, Scope.READ), **OWN)
async def get_me(me: Own, db: Db) -> Me:
    """Who is signed in."""
    return await Me.from_account(me, db)


@patch("/users/me", **may(Role.USER), **OWN)
async def change_me(
    request: Request[Claims, Any, Any], data: JSONBody[Profile], me: Own, db: Db
) -> Me:
    """Change the profile."""
    if data.name is not UNSET and data.name != me.name:
        me.name = data.name
        audit.record(db, "account.profile", f"account:{me.id}", request=request, actor=me.id)
    return await Me.from_account(me, db)


@put("/users/me/password", **may(Role.USER, problems=(409, 422)), **OWN, status_code=204)
async def change_password(
    request: Request[Claims, Any, Any], data: JSONBody[NewPassword], me: Own, db: Db
) -> None:
    """Set a new password.

    Ends all other sessions, and links to reset it; tells the owner by mail."""
    check_new_password(data.password, me)
    guess = await confirmed(
        db, request, me, data.current_password, pointer="/body/current_password"
    )
    stored = me.password_hash
    await db.commit()  # nobody waits for Argon2
    # The attempt stays counted until then, so one account has no more hashes made at once than it has attempts.
    password_hash = await request.app.state["hasher"].hash(data.password)
    await lock(db, me)
    await db.refresh(me)
    if me.password_hash != stored:
        raise ConflictError("the password has just been changed by another request")
    await guess.was_right(db)
    me.password_hash = password_hash
    await db.execute(sql_delete(Link).where(Link.account_id == me.id))
    others = (Session.account_id == me.id, Session.id != request.user.sid)
    await sessions.end(db, *others)
    tell_of_new_password(db, request, me, by_mail=False)
    audit.record(db, "password.change", f"account:{me.id}", request=request, actor=me.id)


@put("/users/me/email", **may(Role.USER, problems=(422,)), **OWN, status_code=202)
async def change_email(
    request: Request[Claims, Any, Any], data: JSONBody[NewEmail], me: Own, db: Db
) -> Posted:
    """Ask for another address.

    It counts from the moment on when the link that goes there is opened; the old address is told
    of both."""
    address = Address.from_text(data.email)
    await db.commit()
    await throttle.mail(request, "email", address.key)
    await confirm(db, request, me, data.password)
    sealer = request.app.state["sealer"]
    # Also where it leads nowhere: the asker's export shows the row.
    token = add_link(db, "email", address, account_id=me.id)
    if await db.scalar(select(Account.id).where(Account.email_key == address.key)):
        # Whose it is, its owner learns, and nobody else.
        post_mail(db, sealer, address.email, "already_registered")
    else:
        post_mail(db, sealer, address.email, "confirm_new_address", token=token)
    post_mail(db, sealer, me.email, "address_changing", new=address.email)
    audit.record(db, "account.address_ask", f"account:{me.id}", request=request, actor=me.id)
    return Posted("look into the new mailbox: a link there makes it yours")


@get("/users/me/sessions", **may(Role.USER), **OWN)
async def list_sessions(request: Request[Claims, Any, Any], me: Own, db: Db) -> OwnSessions:
    """Where the account is signed in, last used first."""
    query = select(Session).where(Session.account_id == me.id, Session.expires_at > now())
    found = await db.scalars(query.order_by(Session.last_used_at.desc()).limit(200))
    return OwnSessions([OwnSession.from_session(each, request.user.sid) for each in found])


@delete("/users/me/sessions", **may(Role.USER), **OWN)
async def end_sessions(request: Request[Claims, Any, Any], me: Own, db: Db) -> None:
    """Sign out everywhere, here as well."""
    ended = await sessions.end(db, Session.account_id == me.id)
    target = f"account:{me.id}"
    audit.record(db, "session.end_all", target, request=request, actor=me.id, sessions=ended)


@delete("/users/me/sessions/{session_id:str}", **may(Role.USER), **OWN)
async def end_session(
    request: Request[Claims, Any, Any], session_id: FromPath[str], me: Own, db: Db
) -> None:
    """Sign out one device."""
    if not await sessions.end(db, Session.account_id == me.id, Session.id == session_id):
        raise NotFoundError("you have no such session; /api/v1/users/me/sessions lists them")
    audit.record(db, "session.end", f"session:{session_id}", request=request, actor=me.id)


async def lock(db: AsyncSession, me: Account) -> None:
    """Let nobody else change what is the account's until the transaction ends."""
    mine = select(Account.id).where(Account.id == me.id).with_for_update()
    if await db.scalar(mine) is None:
        raise UnauthorizedError("the account is gone", error="invalid_token")


async def confirm(
    db: AsyncSession,
    request: Request[Claims, Any, Any],
    me: Account,
    password: str,
    code: str | None = None,
) -> None:
    """That it is the owner who asks: a 422 unless the password (and the code, where `code` is given
    and the account has a second factor) is right; without a password, unless the session is fresh.
    `me` is locked and as it is now after it."""
    guess = await confirmed(db, request, me, password, code)
    await guess.was_right(db)


async def confirmed(
    db: AsyncSession,
    request: Request[Claims, Any, Any],
    me: Account,
    password: str,
    code: str | None = None,
    *,
    pointer: str = "/body/password",
) -> Guess:
    """As `confirm`, and the attempt stays counted until it is said that it was right."""
    await db.commit()  # nobody waits for Argon2
    hasher: Hasher = request.app.state["hasher"]
    hasher.check_line()
    guess = await throttle.guess(request, me.id)
    stored = me.password_hash
    if stored and not password:
        right, told = False, "is needed again"
    elif stored:
        right, told = await hasher.verify(stored, password), "is not the password of this account"
    else:
        right = await sessions.is_fresh(db, request.user.sid)
        told = "cannot be asked for, the account has none: sign in anew, then try within 10 minutes"
    await db.refresh(me, with_for_update=True)
    if not right or me.password_hash != stored:
        await _not_confirmed(db, request, me, pointer, told)
    if code is not None and me.totp:
        sealer: Sealer = request.app.state["sealer"]
        if not code:
            told = "is needed: of the authenticator, or a recovery code"
            await _not_confirmed(db, request, me, "/body/code", told)
        if not await totp.accept(db, sealer, me, code):
            await _not_confirmed(db, request, me, "/body/code", "is not, or no longer, good")
    return guess


async def _not_confirmed(
    db: AsyncSession, request: Request[Claims, Any, Any], me: Account, pointer: str, told: str
) -> None:
    audit.record(db, "account.not_confirmed", f"account:{me.id}", request=request, actor=me.id)
    await db.commit()
    name = pointer.rpartition("/")[2]
    raise UnprocessableError(f"{name} {told}", errors=[FieldError(pointer, told)])


ROUTES = (
    get_me, change_me, change_password, change_email, list_sessions, end_sessions,
    end_session,
)  # fmt: skip
