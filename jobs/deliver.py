"""Mails out of the outbox: to the mail server, or without one into files."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTPRecipientsRefused
from sqlalchemy import delete, select, update

from pricepulse.mail import KEPT_TRYING, OUTBOX, Mail, message, opened
from pricepulse.sealing import Sealer, Unsealable, write_private
from pricepulse.settings import Settings
from pricepulse.store import Database

log = logging.getLogger("pricepulse.mail")

LOOK_SECONDS = 0.5  # an indexed look at an empty outbox takes 0.3 ms
REST_SECONDS = 30  # after a failure of the database itself
AT_ONCE = 20  # over one connection
# Whoever was killed with mails in hand leaves them for so long; no batch may take longer.
LEASE = timedelta(minutes=3)
BATCH_SECONDS = 120
TIMEOUT_SECONDS = 8
PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}


class Ready(NamedTuple):
    """A mail that can be sent. `to`: as it was given; headers are parsed."""

    mail: Mail
    to: str
    made: EmailMessage


class Delivery:
    """The job. What was taken and not delivered is due again: later and later, for a day."""

    def __init__(self, settings: Settings, sealer: Sealer) -> None:
        self.settings = settings
        self.sealer = sealer
        self.database = Database(settings.database)
        self._not_before = 0.0

    def if_due(self) -> str | None:
        """`run`, but not again at once when the database cannot be reached."""
        if time.monotonic() < self._not_before:
            return None
        self._not_before = time.monotonic() + REST_SECONDS
        told = self.run()
        self._not_before = 0.0
        return told

    def run(self) -> str | None:
        """Deliver what is due; None if nothing was."""
        with self.database.begin(write=False) as db:
            if db.scalar(select(Mail.id).where(Mail.due_at <= datetime.now(UTC)).limit(1)) is None:
                return None
        mails = self._take()
        ready, failed = self._made(mails)
        failed |= self._send(ready) if ready else {}
        for mail in mails:
            if mail.id in failed:
                self._again(mail, failed[mail.id])
        sent = [each.mail for each in ready if each.mail.id not in failed]
        for mail in sent:
            if not self._done(mail) and self.settings.smtp_url is None:
                # Its account was deleted meanwhile (pricepulse.accounts.deletion).
                _file(self.settings.data / OUTBOX, mail).unlink(missing_ok=True)
        return f"{len(sent)} mails delivered, {len(failed)} not yet"

    def _take(self) -> list[Mail]:
        now = datetime.now(UTC)
        with self.database.begin() as db:
            due = select(Mail).where(Mail.due_at <= now).order_by(Mail.due_at).limit(AT_ONCE)
            # Of several machines on one PostgreSQL each takes others.
            mails = list(db.scalars(due.with_for_update(skip_locked=True)))
            taken = update(Mail).where(Mail.id.in_([mail.id for mail in mails]))
            db.execute(taken.values(due_at=now + LEASE, attempts=Mail.attempts + 1))
        return mails

    def _made(self, mails: list[Mail]) -> tuple[list[Ready], dict[str, Exception]]:
        """What can be sent, and by id what could not be made."""
        ready, failed = [], {}
        for mail in mails:
            try:
                letter = opened(mail, self.sealer)
                made = message(mail, letter, self.settings)
                # Here once, where it costs one mail: a header may be set that cannot be written.
                made.as_bytes()
                ready.append(Ready(mail, letter.to, made))
            except Unsealable:
                log.error(  # noqa: TRY400 (a traceback says nothing more)
                    "mail %s was sealed with another PRICEPULSE_SECRET; it is given up", mail.id
                )
                self._done(mail)
            except Exception as error:  # whatever it is, the others must go out
                failed[mail.id] = error
        return ready, failed

    def _send(self, ready: list[Ready]) -> dict[str, Exception]:
        if self.settings.smtp_url is None:
            for each in ready:
                _write(self.settings.data / OUTBOX, each.mail, each.made)
            return {}
        url = urlsplit(self.settings.smtp_url.reveal())
        return asyncio.run(_send_all(url, ready))

    def _again(self, mail: Mail, error: Exception) -> None:
        refused = isinstance(error, SMTPRecipientsRefused) and all(
            each.code >= 500 for each in error.recipients
        )
        if refused or datetime.now(UTC) - mail.created_at > KEPT_TRYING:
            # The server's own words may repeat the address.
            log.error("mail %s is given up: %s", mail.id, type(error).__name__)
            self._done(mail)
            return
        pause = timedelta(seconds=min(3600, 5 * 4 ** (mail.attempts - 1)))
        log.warning("mail %s was not taken (%s); again in %s", mail.id, type(error).__name__, pause)
        with self.database.begin() as db:
            later = update(Mail).where(Mail.id == mail.id)
            db.execute(later.values(due_at=datetime.now(UTC) + pause))

    def _done(self, mail: Mail) -> bool:
        """Whether the row was still there."""
        with self.database.begin() as db:
            gone = delete(Mail).where(Mail.id == mail.id).returning(Mail.id)
            return db.scalar(gone) is not None


async def _send_all(url: SplitResult, ready: list[Ready]) -> dict[str, Exception]:
    """By id, what could not be delivered. One that is refused leaves the others their chance."""
    assert url.hostname
    failed: dict[str, Exception] = {}
    waiting = {each.mail.id for each in ready}
    client = aiosmtplib.SMTP(
        hostname=url.hostname,
        port=url.port or PORTS[url.scheme],
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        use_tls=url.scheme == "smtps",
        # True, not "if offered": whoever sits between could leave the offer out.
        start_tls=url.scheme == "smtp",
        tls_context=ssl.create_default_context(),
        timeout=TIMEOUT_SECONDS,
    )
    try:
        async with asyncio.timeout(BATCH_SECONDS), client:
            for mail, to, made in ready:
                try:
                    # `to`: else the envelope would be what a parser makes of the header.
                    await client.send_message(made, recipients=[to])
                    log.info("mail %s delivered", mail.id)
                except OSError:  # the connection: the others would wait for it, too
                    raise
                except Exception as error:  # this mail, whatever it is
                    failed[mail.id] = error
                waiting.discard(mail.id)
    except (aiosmtplib.SMTPException, OSError) as error:  # the connection, the login
        failed |= dict.fromkeys(waiting, error)
    return failed


def _write(outbox: Path, mail: Mail, made: EmailMessage) -> None:
    """One file, whole or not at all, for the owner's eyes: there may be a link in it."""
    outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _file(outbox, mail)
    new = path.with_suffix(".new")
    write_private(new, made.as_bytes())
    new.replace(path)
    log.info("mail %s written to %s", mail.id, path)


def _file(outbox: Path, mail: Mail) -> Path:
    return outbox / f"{mail.created_at:%Y%m%dT%H%M%S}-{mail.id}.eml"
