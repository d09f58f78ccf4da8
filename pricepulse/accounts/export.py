"""GET /users/me/export: everything that is held about an account, as a ZIP of JSON.

Each table with an `account_id` is in it by itself, a file of its name with all its columns; one that is to
be left out has to be named in LEFT_OUT with the reason, a column in WITHHELD. A test walks the tables.
"""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request, get
from litestar.response.base import Response
from sqlalchemy import LargeBinary, Table, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit, pictures
from pricepulse.access import Role, may
from pricepulse.accounts.belongings import Avatar
from pricepulse.accounts.me import OWN, Own
from pricepulse.accounts.tables import Account, Session, now
from pricepulse.accounts.tokens import Claims
from pricepulse.answer import ENCODER, Json
from pricepulse.audit import Audit
from pricepulse.settings import Settings
from pricepulse.store import Base, Db, Store
from warehouse.history import amount

ZIP = "application/zip"
LEFT_OUT = {
    "refresh_token": "hashes of tokens, and when each was used; the session is there",
    "recovery_code": "hashes of codes that are good for signing in",
}
# Beside what is binary: hashes, and secrets that are sealed.
WITHHELD = {
    "account.email_key": "the address once more, in lower case",
    "account.password_hash": "could be searched for the password",
    "account.totp_step": "a counter of the second factor",
    "link.email_key": "the address once more, in lower case",
    "link.password_hash": "could be searched for the password",
}
# The newest lines of the audit, which nobody can delete from: what is written into one ZIP has an end.
MOST_AUDIT = 10_000
Rows = Sequence[Mapping[Any, Any]]


@get("/users/me/export", **may(Role.USER, produces=(ZIP,)), **OWN, media_type=ZIP)
async def export_me(request: Request[Claims, Any, Any], me: Own, db: Db) -> Response[bytes]:
    """Everything held about the account: a ZIP of JSON, and the picture.

    Only secrets are not in it: hashes of passwords, tokens and codes."""
    parts = await held_about(db, me)
    await db.commit()  # gives the connection back, before another is asked for
    store: Store = request.app.state["store"]
    async with store.begin(write=True) as writing:  # a GET's own transaction only reads
        target = f"account:{me.id}"
        audit.record(writing, "account.export", target, request=request, actor=me.id)
    settings: Settings = request.app.state["settings"]
    content = await asyncio.to_thread(_packed, parts, settings)
    name = f"pricepulse-{now():%Y-%m-%d}.zip"
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "cache-control": "private, no-store",
    }
    return Json(content, media_type=ZIP, headers=headers)


async def held_about(db: AsyncSession, me: Account) -> dict[str, Rows]:
    """By table its rows about the account. The account's own, and all that refer to it."""
    account = Base.metadata.tables[Account.__tablename__]
    parts = {"account": await _rows(db, account, account.c.id == me.id)}
    for table in exported():
        parts[table.name] = await _rows(db, table, table.c.account_id == me.id)
    # What was done to it by others, an admin or nobody who is known, is about it, too.
    sessions = select("session:" + Session.id).where(Session.account_id == me.id)
    done = Audit.__table__
    about = or_(
        done.c.actor == me.id, done.c.target == f"account:{me.id}", done.c.target.in_(sessions)
    )
    parts[audit.Audit.__tablename__] = await _rows(db, done, about, newest=MOST_AUDIT)
    return parts


def exported() -> list[Table]:
    """Every table whose rows say whose they are, in the order of their names."""
    tables = sorted(Base.metadata.tables.values(), key=lambda table: table.name)
    return [each for each in tables if "account_id" in each.c and each.name not in LEFT_OUT]


async def _rows(db: AsyncSession, table: Any, condition: Any, newest: int | None = None) -> Rows:
    shown = [each for each in table.c if f"{table.name}.{each.name}" not in WITHHELD]
    text = [each for each in shown if not isinstance(each.type, LargeBinary)]
    # Of what is secret, whether there is any: a second factor, for example.
    secret = [each.is_not(None).label(each.name) for each in shown if each not in text and each.nullable]  # fmt: skip
    query = select(*text, *secret).where(condition)
    if newest:
        found = await db.execute(query.order_by(table.c.id.desc()).limit(newest))
        return found.mappings().all()[::-1]
    return (await db.execute(query.order_by(*table.primary_key))).mappings().all()


def _packed(parts: dict[str, Rows], settings: Settings) -> bytes:
    """Small: an account has a thousand favourites at most, and of its audit MOST_AUDIT lines are taken."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in parts.items():
            plain = [_plain(Base.metadata.tables[name], dict(row)) for row in rows]
            archive.writestr(f"{name}.json", msgspec.json.format(ENCODER.encode(plain)))
        for row in parts[Avatar.__tablename__]:
            path = pictures.path_of(settings, pictures.AVATAR, row["hash"])
            if path.exists():
                archive.write(path, "avatar.webp")
    return made.getvalue()


def _plain(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """As answers have it: ids are text, since JavaScript's numbers end at 53 bits, and money is money."""
    for name, value in row.items():
        if value is not None and name.endswith("_id"):
            row[name] = str(value)
        elif value is not None and "money" in table.c[name].info:
            row[name] = amount(value)
    return row


ROUTES = (export_me,)
