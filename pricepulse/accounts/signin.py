"""Sign in, stay signed in, sign out: POST /auth/login, /auth/refresh, /auth/logout."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import msgspec
from litestar import Request, post
from litestar.params import JSONBody
from msgspec import Meta
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import public
from pricepulse.accounts import sessions, throttle, totp
from pricepulse.accounts.addresses import Address
from pricepulse.accounts.passwords import Hasher
from pricepulse.accounts.sessions import Tokens
from pricepulse.accounts.tables import Account, RefreshToken, Session
from pricepulse.accounts.tokens import hashed
from pricepulse.errors import (
    SecondFactorError,
    SignInError,
    UnauthorizedError,
    UnavailableError,
    UnprocessableError,
)
from pricepulse.store import Db

# 16 kB are enough for every body here: a megabyte of password is refused unread.
FORM: dict[str, Any] = {"tags": ["accounts"], "request_max_body_size": 16 << 10}
Email = Annotated[str, Meta(min_length=3, max_length=320, description="An address of mail.")]
Password = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        description="A new one: 15 to 128 characters, or 8 for an account with a second factor, and "
        "none that is known to be common.",
    ),
]
Opaque = Annotated[str, Meta(min_length=1, max_length=256, description="As it was given.")]


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code`: of the second factor, or a recovery code, where the account has one."""

    email: Email
    password: Password
    code: Annotated[str, Meta(max_length=64)] = ""


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Opaque


@post("/auth/login", **public(problems=(401, 503)), **FORM, status_code=200)
async def login(request: Request[Any, Any, Any], data: JSONBody[Login], db: Db) -> Tokens:
    """Sign in with address and password.

    Whether an account exists is told neither by the answer nor by how long it takes. With a second
    factor the first answer is a 401 of the type `second-factor-required`."""
    key = _key_of(data.email)
    account = await db.scalar(select(Account).where(Account.email_key == key))
    known_here = await throttle.is_known(db, request, key)
    # No transaction is open while Argon2 works: it would hold up every other writer.
    await db.commit()
    hasher: Hasher = request.app.state["hasher"]
    hasher.check_line()
    guess = await throttle.guess(request, key, known=known_here)
    known, stored = (account.id, account.password_hash) if account else ("", "")
    right = await hasher.verify(stored, data.password)
    anew = await _made_anew(hasher, stored, data.password) if right else ""
    account = await _unchanged(db, known, stored) if right else None
    if account is None:
        await _refuse(db, request, known)
    if account.totp:
        if not data.code:
            await guess.was_right(db)
            await db.commit()
            raise SecondFactorError("the account has a second factor: send its `code`, too")
        if not await totp.accept(db, request.app.state["sealer"], account, data.code):
            await _refuse(db, request, account.id)
    await guess.was_right(db)
    if anew:
        account.password_hash = anew
    tokens = await sessions.begin(db, request, account)
    audit.record(db, "session.begin", f"account:{account.id}", request=request, actor=account.id)
    return tokens


@post("/auth/refresh", **public(problems=(401, 503)), **FORM, status_code=200)
async def refresh(request: Request[Any, Any, Any], data: JSONBody[Refresh], db: Db) -> Tokens:
    """New tokens for a refresh token, which is good once.

    The same one again within ten seconds gives the same answer; later it ends the session, since then
    two hold it."""
    tokens = await sessions.prolong(db, request, data.refresh_token)
    if tokens is None:
        raise UnauthorizedError(
            "this refresh token is not, or no longer, good; sign in again", error="invalid_token"
        )
    return tokens


@post("/auth/logout", **public(), **FORM, status_code=204)
async def logout(request: Request[Any, Any, Any], data: JSONBody[Refresh], db: Db) -> None:
    """End the session of a refresh token.

    Its access tokens are refused within a second. A token that is none is no error: it is as ended as
    it can be."""
    token = await db.get(RefreshToken, hashed(data.refresh_token))
    # Two sign-outs at once: the session of the slower one is gone.
    if token is not None and (session := await db.get(Session, token.session_id)) is not None:
        target = f"session:{session.id}"
        audit.record(db, "session.end", target, request=request, actor=session.account_id)
        await sessions.end(db, Session.id == session.id)


def _key_of(email: str) -> str:
    try:
        return Address.from_text(email).key
    except UnprocessableError:
        return "nobody"  # no account has that, and it takes as long to find out


async def _made_anew(hasher: Hasher, stored: str, password: str) -> str:
    """The hash with the parameters of today, where it has others; made before the account is locked."""
    if not hasher.is_outdated(stored):
        return ""
    try:
        return await hasher.hash(password)
    except UnavailableError:
        return ""  # a busy moment; the next sign-in will do


async def _unchanged(db: AsyncSession, account_id: str, stored: str) -> Account | None:
    """The account, locked, unless its password was changed meanwhile, or it is disabled."""
    query = select(Account).where(Account.id == account_id).with_for_update()
    found = await db.scalar(query.execution_options(populate_existing=True))
    if found is None or found.password_hash != stored or found.disabled_at:
        return None
    return found


async def _refuse(db: AsyncSession, request: Request[Any, Any, Any], account_id: str) -> NoReturn:
    """One answer for all that may be wrong; that somebody tried is kept."""
    target = f"account:{account_id}" if account_id else ""
    audit.record(db, "session.refused", target, request=request)
    await db.commit()
    raise SignInError("address, password or code is wrong")


ROUTES = (login, refresh, logout)
