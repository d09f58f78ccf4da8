"""DELETE /users/me: the account goes, and with it all that is held about it."""

from __future__ import annotations

import asyncio
import email
import re
from contextlib import suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, NamedTuple

from litestar import Request, delete
from litestar.params import JSONBody
from sqlalchemy import delete as sql_delete
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import Role, may
from pricepulse.accounts import avatar, sessions
from pricepulse.accounts.me import OWN, Confirmed, Own, confirm, lock
from pricepulse.accounts.tables import Account, Link, Session, now
from pricepulse.accounts.tokens import Claims, hashed
from pricepulse.mail import OUTBOX, Mail, opened
from pricepulse.sealing import Sealer, Unsealable
from pricepulse.settings import Settings
from pricepulse.store import Db, Store

TOKEN = re.compile(r"\bppl_[\w-]+")


@delete("/users/me", **may(Role.USER, problems=(422,)), **OWN)
async def delete_me(
    request: Request[Claims, Any, Any], data: JSONBody[Confirmed], me: Own, db: Db
) -> None:
    """Delete the account, and all that is held about it, for good.

    Asks for the password again. What the audit keeps is an id that leads nowhere."""
    await confirm(db, request, me, data.password, data.code)
    state = request.app.state
    await remove(db, state["store"], state["sealer"], state["settings"], me)
    audit.record(db, "account.delete", f"account:{me.id}", request=request, actor=me.id)


async def remove(
    db: AsyncSession, store: Store, sealer: Sealer, settings: Settings, me: Account
) -> None:
    """The account, and all that is held about it but for the audit."""
    await db.commit()  # nobody waits while the outbox is read
    read_at = now() - timedelta(minutes=1)  # clocks of other machines
    async with store.begin(write=False) as reading:
        theirs = await _of_account(reading, me)
        mails = await _mails(reading, sealer, theirs)
    await asyncio.to_thread(_forget_files, settings.data / OUTBOX, theirs)
    await lock(db, me)
    await db.refresh(me)
    # And what came since.
    mails += await _mails(db, sealer, await _of_account(db, me), since=read_at)
    await db.execute(sql_delete(Mail).where(Mail.id.in_(mails)))
    await avatar.forget(db, settings, me)
    await sessions.end(db, Session.account_id == me.id)
    await db.execute(sql_delete(Link).where(Link.email_key == me.email_key))
    # The rows of all other tables go with this one: their foreign keys say so.
    await db.delete(me)


class Theirs(NamedTuple):
    """What a mail of an account names: its address, not as a part of a longer one, or one of its links."""

    address: re.Pattern[str]
    links: set[bytes]

    def is_in(self, said: str) -> bool:
        tokens = {hashed(each) for each in TOKEN.findall(said)}
        return bool(tokens & self.links) or self.address.search(said) is not None


async def _of_account(db: AsyncSession, me: Account) -> Theirs:
    of_account = or_(Link.account_id == me.id, Link.email_key == me.email_key)
    links = set(await db.scalars(select(Link.hash).where(of_account)))
    address = rf"(?<![^\s<>:,;\"(]){re.escape(me.email_key)}(?![\w.-]*\w)"
    return Theirs(re.compile(address, re.IGNORECASE), links)


async def _mails(
    db: AsyncSession, sealer: Sealer, theirs: Theirs, since: datetime | None = None
) -> list[str]:
    """Ids of the mails that wait to or about the account.

    All that waits is unsealed for that: a few, or after a day without the mail server some thousand at
    30 µs each."""
    query = select(Mail) if since is None else select(Mail).where(Mail.created_at >= since)
    waiting = list(await db.scalars(query))

    def work() -> list[str]:
        return [mail.id for mail in waiting if theirs.is_in(_said(mail, sealer))]

    return await asyncio.to_thread(work)


def _said(mail: Mail, sealer: Sealer) -> str:
    try:
        letter = opened(mail, sealer)
    except Unsealable:
        return ""  # nobody can read it
    return " ".join(map(str, (letter.to, *letter.values.values())))


def _forget_files(outbox: Path, theirs: Theirs) -> None:
    for path in outbox.glob("*.eml"):
        with suppress(FileNotFoundError):
            mail: EmailMessage = email.message_from_bytes(path.read_bytes(), policy=default)
            body = mail.get_body(("plain",))
            if theirs.is_in(f"{mail['to']} {body.get_content() if body else ''}"):
                path.unlink()


ROUTES = (delete_me,)
