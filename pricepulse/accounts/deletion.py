"""DELETE /users/me: the account goes, and with it all that is held about it."""

from __future__ import annotations

from typing import Any

from litestar import Request, delete
from litestar.params import JSONBody
from sqlalchemy import delete as sql_delete

from pricepulse import audit
from pricepulse.access import Role, may
from pricepulse.accounts import avatar, sessions
from pricepulse.accounts.me import OWN, Confirmed, Own, confirm
from pricepulse.accounts.tables import Link, Session
from pricepulse.accounts.tokens import Claims
from pricepulse.store import Db


@delete("/users/me", **may(Role.USER, problems=(422,)), **OWN)
async def delete_me(
    request: Request[Claims, Any, Any], data: JSONBody[Confirmed], me: Own, db: Db
) -> None:
    """Delete the account, and all that is held about it, for good.

    Asks for the password again. What the audit keeps is an id that leads nowhere."""
    await confirm(db, request, me, data.password, data.code)
    await avatar.forget(db, request.app.state["settings"], me)
    await sessions.end(db, Session.account_id == me.id)
    await db.execute(sql_delete(Link).where(Link.email_key == me.email_key))
    # The rows of all other tables go with this one: their foreign keys say so.
    await db.delete(me)
    audit.record(db, "account.delete", f"account:{me.id}", request=request, actor=me.id)


ROUTES = (delete_me,)
