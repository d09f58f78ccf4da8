"""Accounts are made, and forgotten passwords replaced, by links in mails."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Request, post
from litestar.params import JSONBody
from msgspec import Meta
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import public
from pricepulse.accounts import passwords, sessions, throttle
from pricepulse.accounts.addresses import Address
from pricepulse.accounts.signin import FORM, Email, Opaque, Password
from pricepulse.accounts.tables import Account, ApiKey, Identity, Link, Session, now
from pricepulse.accounts.throttle import Guess
from pricepulse.accounts.tokens import hashed, new_token
from pricepulse.errors import FieldError, UnprocessableError, told_as
from pricepulse.mail import post as post_mail
from pricepulse.sealing import Sealer
from pricepulse.store import Db

# A link to a new password is as good as the password: one hour. (OWASP, Forgot
# Password, asks for "an appropriate period".)
LASTS = {
    "register": timedelta(hours=24),
    "email": timedelta(hours=24),
    "reset": timedelta(hours=1),
    # Leads nowhere: written so that an answer takes as long where there is nothing to write.
    "decoy": timedelta(hours=1),
}
Name = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=told_as(r"^[^\x00-\x1f\x7f]*(?![\s\S])", "must be text of one line"),
    ),
]


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`password`: 15 characters and more, of any kind."""

    email: Email
    password: Password
    name: Name = ""


class Posted(msgspec.Struct, frozen=True):
    """What is told to everybody, whether there is an account or not."""

    detail: str


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`password`: of a registration, the one that was given with it."""

    token: Opaque
    password: Annotated[str, Meta(max_length=1024)] = ""


class Verified(msgspec.Struct, frozen=True):
    """The address that the account has now."""

    email: str


class Forgotten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Email


class Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: Opaque
    password: Password


@post("/auth/register", **public(problems=(422,)), **FORM, status_code=202)
async def register(request: Request[Any, Any, Any], data: JSONBody[Registration], db: Db) -> Posted:
    """Ask for an account.

    The answer is the same whether the address has one or not: a mail with a link goes there, or one
    that says that there is an account. There is none before the link is opened."""
    address = Address.from_text(data.email)
    passwords.check_password(
        data.password, "/body/password", least=passwords.ALONE, about=address.key
    )
    hasher: passwords.Hasher = request.app.state["hasher"]
    hasher.check_line()
    await throttle.mail(request, "register", address.key)
    password_hash = await hasher.hash(data.password)
    taken = await db.scalar(select(Account.id).where(Account.email_key == address.key))
    sealer: Sealer = request.app.state["sealer"]
    if taken:
        add_link(db, "decoy", address)
        post_mail(db, sealer, address.email, "already_registered")
    else:
        token = add_link(db, "register", address, name=data.name, password_hash=password_hash)
        post_mail(db, sealer, address.email, "verify_address", token=token)
    audit.record(db, "account.ask", f"account:{taken}" if taken else "", request=request)
    return Posted("look into your mailbox: what to do next is there")


@post("/auth/verify-email", **public(problems=(422,)), **FORM, status_code=200)
async def verify_email(request: Request[Any, Any, Any], data: JSONBody[Proof], db: Db) -> Verified:
    """Prove an address with the token of a mail: makes the account, or gives it its new address.

    An account is made only together with the password that was given when it was asked for: else
    whoever opened the link of somebody else's registration would have an account with their password."""
    guess = await _asked_for(request, data, db)
    link = await take_link(db, data.token, "register", "email")
    await guess.was_right(db)
    account = await db.get(Account, link.account_id) if link.account_id else None
    sealer: Sealer = request.app.state["sealer"]
    if account is not None:
        post_mail(db, sealer, account.email, "address_changed", new=link.email)
        account.email, account.email_key = link.email, link.email_key
        # Links on their way to the old mailbox must not open the account any more.
        await db.execute(delete(Link).where(Link.account_id == account.id))
    else:
        account = Account(
            email=link.email, email_key=link.email_key, name=link.name,
            password_hash=link.password_hash,
        )  # fmt: skip
        db.add(account)
    try:
        await db.flush()
    except IntegrityError:  # another link to this address was first
        raise _no_link() from None
    await db.execute(delete(Link).where(Link.email_key == link.email_key))
    await throttle.remember(db, request, account)
    action = "account.address" if link.kind == "email" else "account.create"
    audit.record(db, action, f"account:{account.id}", request=request, actor=account.id)
    return Verified(account.email)


async def _asked_for(request: Request[Any, Any, Any], data: Proof, db: AsyncSession) -> Guess:
    """Count an attempt; a 422 unless who opens the link of a registration knows its password."""
    mine = (Link.hash == hashed(data.token), Link.kind == "register", Link.expires_at > now())
    stored = await db.scalar(select(Link.password_hash).where(*mine))
    await db.commit()  # nobody waits for Argon2
    if stored is None:
        return await throttle.guess(request)
    hasher: passwords.Hasher = request.app.state["hasher"]
    hasher.check_line()
    # Of the link, and not of the address: with that, strangers would use up the owner's attempts.
    guess = await throttle.guess(request, f"link {hashed(data.token).hex()}")
    if not await hasher.verify(stored, data.password):
        told = "is not the password that was given when the account was asked for"
        raise UnprocessableError(
            f"this {told}; if it was not you who asked, leave the link alone",
            errors=[FieldError("/body/password", told)],
        )
    return guess


@post("/auth/forgot-password", **public(problems=(422,)), **FORM, status_code=202)
async def forgot_password(
    request: Request[Any, Any, Any], data: JSONBody[Forgotten], db: Db
) -> Posted:
    """Ask for a link to set a new password.

    The answer is the same whether the address has an account or not; the mail tells."""
    address = Address.from_text(data.email)
    await throttle.mail(request, "reset", address.key)
    account = await db.scalar(select(Account).where(Account.email_key == address.key))
    sealer: Sealer = request.app.state["sealer"]
    if account is None or account.disabled_at:
        add_link(db, "decoy", address)
        post_mail(db, sealer, address.email, "no_account")
    else:
        token = add_link(db, "reset", address, account_id=account.id)
        post_mail(db, sealer, account.email, "reset_password", token=token)
    target = f"account:{account.id}" if account else ""
    audit.record(db, "password.forgotten", target, request=request)
    return Posted("look into your mailbox: what to do next is there")


@post("/auth/reset-password", **public(problems=(422,)), **FORM, status_code=204)
async def reset_password(request: Request[Any, Any, Any], data: JSONBody[Reset], db: Db) -> None:
    """Set a new password with the token of a mail.

    Ends all sessions, and takes the identities of providers and all API keys away: who has lost an account
    gets it back whole. Signs nobody in: with a second factor its code is still asked for."""
    guess = await throttle.guess(request)
    query = select(Account).join(Link, Link.account_id == Account.id)
    account = await db.scalar(query.where(Link.hash == hashed(data.token)))
    await db.commit()  # nobody waits for Argon2
    if account is None:
        raise _no_link()
    check_new_password(data.password, account)
    password_hash = await request.app.state["hasher"].hash(data.password)
    link = await take_link(db, data.token, "reset")
    await guess.was_right(db)
    account = await db.get_one(Account, link.account_id, populate_existing=True)
    account.password_hash = password_hash
    await db.execute(delete(Link).where(Link.account_id == account.id))
    for table in (Identity, ApiKey):
        await db.execute(delete(table).where(table.account_id == account.id))
    await sessions.end(db, Session.account_id == account.id)
    await throttle.begin_anew(db, request, account)
    tell_of_new_password(db, request, account, by_mail=True)
    audit.record(db, "password.reset", f"account:{account.id}", request=request, actor=account.id)


def check_new_password(password: str, account: Account) -> None:
    """Beside a second factor a password may be shorter."""
    least = passwords.WITH_SECOND_FACTOR if account.totp else passwords.ALONE
    passwords.check_password(password, "/body/password", least=least, about=account.email_key)


def tell_of_new_password(
    db: AsyncSession, request: Request[Any, Any, Any], account: Account, *, by_mail: bool
) -> None:
    sealer: Sealer = request.app.state["sealer"]
    post_mail(db, sealer, account.email, "password_changed", by_mail=by_mail)


def add_link(db: AsyncSession, kind: str, address: Address, **of: str) -> str:
    """A link to be mailed to `address`; its token, which nothing else knows."""
    token = new_token("ppl_")
    expires_at = now() + LASTS[kind]
    db.add(
        Link(
            hash=hashed(token),
            kind=kind,
            email=address.email,
            email_key=address.key,
            expires_at=expires_at,
            **of,
        )
    )
    return token


async def take_link(db: AsyncSession, token: str, *kinds: str) -> Link:
    """The link of this token, which is used up; a 422 if there is none of these kinds.

    Locks all links of the address, in one order: else two requests that each hold one of them would
    wait for the other's."""
    mine = (Link.hash == hashed(token), Link.kind.in_(kinds), Link.expires_at > now())
    key = select(Link.email_key).where(*mine).scalar_subquery()
    query = select(Link).where(Link.email_key == key).order_by(Link.hash).with_for_update()
    link = next((each for each in await db.scalars(query) if each.hash == hashed(token)), None)
    if link is None:
        raise _no_link()
    await db.delete(link)
    return link


def _no_link() -> UnprocessableError:
    told = "is not, or no longer, good: ask for a new mail"
    return UnprocessableError(f"the token {told}", errors=[FieldError("/body/token", told)])


ROUTES = (register, verify_email, forgot_password, reset_password)
