"""Which account an identity at a provider signs in to.

The rule against taking over accounts: an identity gets to an account by its subject alone, once linked.
It is linked by whoever is signed in to the account; or by its address, if the provider has proven that and
the operator trusts it to (`TRUST_EMAIL`). Accounts have a proven address, always, so nobody
can have laid one out for somebody else beforehand.
"""

from __future__ import annotations

from typing import Any, NoReturn

from litestar import Request
from sqlalchemy import delete as sql_delete
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.accounts import oauth_state, sessions, throttle, totp
from pricepulse.accounts.addresses import Address
from pricepulse.accounts.oauth2 import Person
from pricepulse.accounts.oauth_state import Brought
from pricepulse.accounts.sessions import Tokens
from pricepulse.accounts.tables import Account, Identity, Link, OAuthReturn, now
from pricepulse.accounts.throttle import Guess
from pricepulse.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotLinkedError,
    PricePulseError,
    SecondFactorError,
    SignInError,
    UnprocessableError,
)
from pricepulse.mail import post as post_mail
from pricepulse.providers import Provider
from pricepulse.settings import Settings


async def sign_in(
    db: AsyncSession, request: Request[Any, Any, Any], row: OAuthReturn, brought: Brought, code: str
) -> Tokens:
    """A session for whom a browser has brought from a provider; `code`: of the second factor."""
    provider = provider_of(request, brought.provider)
    person = brought.person
    identity = await known(db, person)
    account = await _account_of(db, identity, provider, person)
    if account is not None:
        await _admit(db, request, row, account, code)
    try:
        if account is None:
            account = await _made(db, request, provider, person)
        if identity is None:
            identity = await link(db, request, account, provider, person)
    except IntegrityError:
        raise ConflictError("somebody signs in with the same identity; try again") from None
    identity.last_used_at = now()
    oauth_state.used_up(row)
    tokens = await sessions.begin(db, request, account)
    audit.record(
        db, "session.begin", f"account:{account.id}", request=request, actor=account.id,
        provider=provider.name,
    )  # fmt: skip
    return tokens


async def guess(db: AsyncSession, request: Request[Any, Any, Any], brought: Brought) -> Guess:
    """Count an attempt at the second factor, in one bucket with those of POST /auth/login: a new sign-in
    at the provider, for the next code, costs whoever has that identity nothing."""
    mine = Identity.issuer == brought.person.issuer, Identity.subject == brought.person.subject
    query = select(Account.email_key).join(Identity, Identity.account_id == Account.id)
    key = await db.scalar(query.where(*mine))
    address = _address(brought.person)
    if key is None and address is not None and provider_of(request, brought.provider).trust_email:
        key = address.key
    known_here = bool(key) and await throttle.is_known(db, request, key or "")
    # Counting may take a transaction of its own.
    await db.commit()
    return await throttle.guess(request, key or "", known=known_here)


async def known(db: AsyncSession, person: Person) -> Identity | None:
    return await db.get(Identity, (person.issuer, person.subject), with_for_update=True)


async def _account_of(
    db: AsyncSession, identity: Identity | None, provider: Provider, person: Person
) -> Account | None:
    """Whose identity it is, locked; None if it may have a new account."""
    accounts = select(Account).with_for_update()
    if identity is not None:
        return await db.scalar(accounts.where(Account.id == identity.account_id))
    address = _address(person)
    if address is None or not provider.trust_email:
        # The same words whether the address has an account: this provider has proven nothing.
        raise NotLinkedError(
            f"no account is linked to this identity at {provider.title}: sign in to yours, or make "
            "one with your address, and link it from there"
        )
    account = await db.scalar(accounts.where(Account.email_key == address.key))
    if account is not None and await has_one_at(db, account, provider):
        # Addresses are given to somebody else when an employee leaves, and the subject tells.
        raise NotLinkedError(
            f"the account with this address is linked to another identity at {provider.title}: sign "
            "in to it another way, and take that away first"
        )
    return account


async def _admit(
    db: AsyncSession, request: Request[Any, Any, Any], row: OAuthReturn, account: Account, code: str
) -> None:
    """Raises unless the account may be signed in to. A provider's own second factor does not stand in for
    ours: its owner has switched that on against whoever gets hold of the other."""
    if account.disabled_at:
        await _refuse(db, request, row, account, ForbiddenError("the account is disabled"))
    if not account.totp:
        return
    if not code:
        raise SecondFactorError("the account has a second factor: send its code as `second_factor`")
    if not await totp.accept(db, request.app.state["sealer"], account, code):
        told = "the code of the second factor is wrong; sign in again"
        await _refuse(db, request, row, account, SignInError(told))


async def _refuse(
    db: AsyncSession,
    request: Request[Any, Any, Any],
    row: OAuthReturn,
    account: Account,
    error: PricePulseError,
) -> NoReturn:
    """Uses the code up: what is left of it is nothing to go on trying with."""
    oauth_state.used_up(row)
    audit.record(db, "session.refused", f"account:{account.id}", request=request)
    await db.commit()
    raise error


async def _made(
    db: AsyncSession, request: Request[Any, Any, Any], provider: Provider, person: Person
) -> Account:
    """An account without a password, whose address the provider has proven."""
    address = _address(person)
    assert address
    account = Account(email=address.email, email_key=address.key, name=person.name[:100])
    db.add(account)
    await db.flush()
    # Registrations on their way to the same mailbox, whoever asked for them.
    await db.execute(sql_delete(Link).where(Link.email_key == address.key))
    audit.record(
        db, "account.create", f"account:{account.id}", request=request, actor=account.id,
        provider=provider.name,
    )  # fmt: skip
    return account


async def link(
    db: AsyncSession,
    request: Request[Any, Any, Any],
    account: Account,
    provider: Provider,
    person: Person,
) -> Identity:
    identity = Identity(
        issuer=person.issuer, subject=person.subject, account_id=account.id,
        provider=provider.name, email=person.email[:254],
    )  # fmt: skip
    db.add(identity)
    await db.flush()
    tell(db, request, account, provider.name, provider.title, on=True)
    return identity


def tell(
    db: AsyncSession,
    request: Request[Any, Any, Any],
    account: Account,
    name: str,
    title: str,
    *,
    on: bool,
) -> None:
    sealer = request.app.state["sealer"]
    post_mail(db, sealer, account.email, "identity_changed", provider=title, on=on)
    action, target = "identity.link" if on else "identity.unlink", f"account:{account.id}"
    audit.record(db, action, target, request=request, actor=account.id, provider=name)


async def has_one_at(db: AsyncSession, account: Account, provider: Provider) -> bool:
    mine = (Identity.account_id == account.id, Identity.provider == provider.name)
    return await db.scalar(select(Identity.subject).where(*mine)) is not None


def _address(person: Person) -> Address | None:
    try:
        return Address.from_text(person.email) if person.email else None
    except UnprocessableError:
        return None  # of a kind that no account here has


def provider_of(request: Request[Any, Any, Any], name: str) -> Provider:
    settings: Settings = request.app.state["settings"]
    for each in settings.providers:
        if each.name == name:
            return each
    raise NotFoundError("there is no such provider; /api/v1/auth/oauth lists them")
