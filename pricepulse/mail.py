"""Mails: put into the outbox in the transaction of what they tell of, delivered after it by a job.

So a mail goes out if and only if the transaction was committed, and a process that is killed loses
none: at least once, with the same Message-ID, by which mailboxes know a repetition. Templates are
text, in `mail_templates/`: the first line is the subject, paragraphs are parted by empty lines; the
HTML part is made of the same paragraphs.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from sqlalchemy import LargeBinary, String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from pricepulse.sealing import Sealer
from pricepulse.settings import Settings
from pricepulse.store import Base

TEMPLATES = Environment(
    loader=PackageLoader("pricepulse", "mail_templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,  # a misspelt name is a failing test and not an empty link
    trim_blocks=True,
)
OUTBOX = "outbox"  # in the data folder: mails as files, where there is no mail server
# After a day the links in it have expired, too.
KEPT_TRYING = timedelta(hours=24)


class Letter(msgspec.Struct, frozen=True):
    """What a mail will say. `values` hold links that sign people in: kept sealed, shown nowhere."""

    to: str
    template: str
    values: dict[str, str | bool]


class Mail(Base):
    """A mail that waits. Delivered, or given up, its row is gone, and with it what it said."""

    __tablename__ = "mail"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created_at: Mapped[datetime]
    # When it is tried next; whoever takes it moves this on first, so that no other takes it.
    due_at: Mapped[datetime] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    letter: Mapped[bytes] = mapped_column(LargeBinary)


def post(
    db: AsyncSession | Session, sealer: Sealer, to: str, template: str, **values: str | bool
) -> None:
    """Put a mail into the outbox: it goes out soon after the transaction is committed."""
    now = datetime.now(UTC)
    letter = msgspec.json.encode(Letter(to, template, values))
    sealed = sealer.seal("mail", letter)
    db.add(Mail(id=secrets.token_hex(16), created_at=now, due_at=now, attempts=0, letter=sealed))


def set_text(made: EmailMessage, said: str) -> None:
    """As it is where it can be: in quoted-printable a link is cut, and nobody can copy it from a file."""
    made.set_content(said, cte="7bit" if said.isascii() else "quoted-printable")


def opened(mail: Mail, sealer: Sealer) -> Letter:
    return msgspec.json.decode(sealer.unseal("mail", mail.letter), type=Letter)


def message(mail: Mail, letter: Letter, settings: Settings) -> EmailMessage:
    """The mail as it is sent: text, and the same as HTML."""
    at = f"{mail.created_at:%Y-%m-%d %H:%M} UTC"
    values: dict[str, Any] = {"public_url": settings.public_url, "at": at, **letter.values}
    text = TEMPLATES.get_template(f"{letter.template}.txt").render(values)
    subject, _, body = text.partition("\n")
    paragraphs = [" ".join(each.split()) for each in re.split(r"\n\s*\n", body) if each.strip()]
    made = EmailMessage(policy=SMTP)
    made["From"] = settings.mail_from
    made["To"] = letter.to
    made["Subject"] = subject
    made["Date"] = format_datetime(mail.created_at)
    domain = parseaddr(settings.mail_from)[1].partition("@")[2] or None
    made["Message-ID"] = f"<{mail.id}@{domain}>" if domain else make_msgid()
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
    set_text(made, "\n\n".join(paragraphs) + "\n")
    html = TEMPLATES.get_template("layout.html").render(subject=subject, paragraphs=paragraphs)
    made.add_alternative(html, subtype="html")
    return made
