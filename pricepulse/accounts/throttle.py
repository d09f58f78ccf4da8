"""Guesses at passwords and codes are slowed down, for each account and each address; strangers lock nobody out.

An attempt takes a token before anything is looked at, since a thousand at once would all be under way
before the first has failed; who was right gets it back. For one account strangers have `sign_in_limit`
tokens, and one comes back in 15 minutes: about 100 guesses a day, for ever. NIST SP 800-63B-4, 3.2.2 disables the
authenticator after 100 in a row, which anybody could do to anybody; so this departs from it. Strangers can
use these up, but not the owner's: from where an account has been signed in with, or where a link of its mails was
opened, its attempts are counted apart (the address in the place of the device cookies of OWASP's "Slow Down Online
Guessing Attacks"). So an owner at a new place who has to wait can ask for a mail instead. Who shares the owner's
network is no stranger by this, and can make the owner wait there.

What is counted is the address of mail that was given, whether it has an account or not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from litestar import Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse.accounts.tables import Account, KnownAddress, now
from pricepulse.audit import client_address
from pricepulse.errors import RateLimitedError
from pricepulse.ratelimit import Counters, Limit, client_key
from pricepulse.sealing import Sealer
from pricepulse.store import insert

REFILL_SECONDS = 15 * 60
# People behind one address are more than one, and those who get it right cost nothing.
PER_ADDRESS = 5
# An hour, for each purpose: as many as fill nobody's mailbox. Each link of them is good for an hour at least, so
# whoever has used up the mails with a way back in has put such links into the mailbox.
MAILBOX = 5
REMEMBERED = timedelta(days=90)


class Guess:
    """An attempt that has been counted."""

    def __init__(self, counters: Counters, taken: list[tuple[Limit, str]]) -> None:
        self.counters = counters
        self.taken = taken

    async def was_right(self, db: AsyncSession) -> None:
        for limit, who in self.taken:
            await self.counters.give_back(limit, who, db)


async def guess(request: Request[Any, Any, Any], who: str = "", *, known: bool = False) -> Guess:
    """Count an attempt at what belongs to `who` (nobody: a token that can be anybody's); a 429 where there
    have been too many. No transaction may be open: counting may take one."""
    limit = request.app.state["settings"].sign_in_limit
    counters: Counters = request.app.state["counters"]
    network = client_key(client_address(request))
    wanted = [(_per_address(limit), network)] if limit else []
    if limit and who:
        wanted.append((_per_account(limit), f"{who} {network}" if known else who))
    for each, name in wanted:
        await _take(counters, each, name)
    return Guess(counters, wanted)


async def mail(request: Request[Any, Any, Any], purpose: str, mailbox: str) -> None:
    """Count a mail for this purpose that somebody who may be anybody has sent to `mailbox`; a 429 after
    too many. Other purposes are counted apart: else "register" would use up what "forgot" needs."""
    limit = request.app.state["settings"].sign_in_limit
    if limit:
        counters: Counters = request.app.state["counters"]
        await _take(counters, _per_address(limit), client_key(client_address(request)))
        await _take(counters, Limit(f"mailbox {purpose}", MAILBOX, 3600), mailbox)


async def is_known(db: AsyncSession, request: Request[Any, Any, Any], email_key: str) -> bool:
    """Whether the account of this address of mail was used from where this request comes from."""
    query = select(KnownAddress.at).where(KnownAddress.hash == _hash(request, email_key))
    return (await db.scalar(query)) is not None


async def remember(db: AsyncSession, request: Request[Any, Any, Any], account: Account) -> None:
    """The account is used from here: what strangers do counts no longer against it here."""
    row = {"hash": _hash(request, account.email_key), "account_id": account.id, "at": now()}
    statement = insert(db, KnownAddress).values(**row)
    await db.execute(statement.on_conflict_do_update(index_elements=["hash"], set_=row))


async def begin_anew(db: AsyncSession, request: Request[Any, Any, Any], account: Account) -> None:
    """Whoever has opened a link of the account's mails here may try as if nobody had tried before."""
    await remember(db, request, account)
    if limit := request.app.state["settings"].sign_in_limit:
        counters: Counters = request.app.state["counters"]
        who = f"{account.email_key} {client_key(client_address(request))}"
        await counters.give_back(_per_account(limit), who, db, limit)


def _per_account(limit: int) -> Limit:
    return Limit("sign-in", limit, limit * REFILL_SECONDS)


def _per_address(limit: int) -> Limit:
    return Limit("attempts", limit * PER_ADDRESS, limit * REFILL_SECONDS)


async def _take(counters: Counters, limit: Limit, who: str) -> None:
    # Which limit it was, and what is left, is not told: it would say what others do.
    if wait := (await counters.take(limit, who)).wait:
        raise RateLimitedError(
            f"too many attempts for this address of mail, or from where you are; wait {wait} s. A link of a "
            "mail to set a new password lets its owner in before",
            retry_after=wait,
        )


def _hash(request: Request[Any, Any, Any], email_key: str) -> bytes:
    sealer: Sealer = request.app.state["sealer"]
    network = client_key(client_address(request))
    return sealer.derive("known address", f"{email_key} {network}".encode())
