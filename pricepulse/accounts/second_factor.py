"""POST, PUT, DELETE /users/me/totp: the second factor is set up, proven, taken away."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, post, put
from litestar.params import JSONBody
from msgspec import Meta
from sqlalchemy import delete as sql_delete
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import Role, may
from pricepulse.accounts import passwords, sessions, throttle, totp
from pricepulse.accounts.me import OWN, Confirmed, Own, PasswordIfAny, confirm
from pricepulse.accounts.tables import Account, RecoveryCode, Session
from pricepulse.accounts.tokens import Claims
from pricepulse.errors import ConflictError, FieldError, UnprocessableError
from pricepulse.mail import post as post_mail
from pricepulse.sealing import Sealer
from pricepulse.store import Db


class PasswordOnly(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: PasswordIfAny = ""


class Secret(msgspec.Struct, frozen=True):
    """To be typed into an authenticator, or shown to it as a QR code of `uri`."""

    secret: str
    uri: str


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, Meta(min_length=6, max_length=64)]


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Each stands in for a code once. They are shown this one time."""

    recovery_codes: list[str]


@post("/users/me/totp", **may(Role.USER, problems=(409, 422)), **OWN)
async def begin_totp(
    request: Request[Claims, Any, Any], data: JSONBody[PasswordOnly], me: Own, db: Db
) -> Secret:
    """Begin to set up a second factor.

    It counts only when a first code has been sent, within 10 minutes: PUT /users/me/totp."""
    await confirm(db, request, me, data.password)
    if me.totp:
        raise ConflictError("the account has a second factor; take it away first")
    secret = totp.new_secret()
    sealer: Sealer = request.app.state["sealer"]
    me.totp_pending = totp.pending(sealer, secret)
    return Secret(totp.base32(secret), totp.address_of(secret, me.email))


@put("/users/me/totp", **may(Role.USER, problems=(409, 422)), **OWN)
async def prove_totp(
    request: Request[Claims, Any, Any], data: JSONBody[Code], me: Own, db: Db
) -> RecoveryCodes:
    """Switch the second factor on with a first code of it.

    Ends all other sessions, which were begun without it."""
    sealer: Sealer = request.app.state["sealer"]
    if totp.pending_secret(sealer, me) is None:
        raise _nothing_begun()
    await db.commit()
    guess = await throttle.guess(request, me.id)
    await db.refresh(me, with_for_update=True)
    secret = totp.pending_secret(sealer, me)
    if secret is None:
        raise _nothing_begun()
    step = totp.matching_step(secret, data.code.strip(), 0)
    if step is None:
        told = "is not the code of this moment; is the clock of the device right?"
        raise UnprocessableError(f"code {told}", errors=[FieldError("/body/code", told)])
    await guess.was_right(db)
    me.totp, me.totp_pending, me.totp_step = sealer.seal("totp", secret), None, step
    codes = await totp.new_recovery_codes(db, sealer, me)
    await sessions.end(db, Session.account_id == me.id, Session.id != request.user.sid)
    _tell(db, request, me, on=True)
    return RecoveryCodes(codes)


@delete("/users/me/totp", **may(Role.USER, problems=(409, 422)), **OWN)
async def end_totp(
    request: Request[Claims, Any, Any], data: JSONBody[Confirmed], me: Own, db: Db
) -> None:
    """Take the second factor away; asks for password and code.

    A password shorter than it must be alone has to be changed before."""
    await confirm(db, request, me, data.password, data.code)
    if not me.totp:
        raise ConflictError("the account has no second factor")
    if me.password_hash and len(passwords.normalised(data.password)) < passwords.ALONE:
        raise ConflictError(
            f"without a second factor the password needs {passwords.ALONE} characters; change it first"
        )
    me.totp, me.totp_step = None, 0
    await db.execute(sql_delete(RecoveryCode).where(RecoveryCode.account_id == me.id))
    _tell(db, request, me, on=False)


def _nothing_begun() -> ConflictError:
    return ConflictError(
        "no second factor is being set up; POST here first, and send a code within 10 minutes"
    )


def _tell(db: AsyncSession, request: Request[Any, Any, Any], me: Account, *, on: bool) -> None:
    sealer: Sealer = request.app.state["sealer"]
    post_mail(db, sealer, me.email, "second_factor_changed", on=on)
    action = "second_factor.on" if on else "second_factor.off"
    audit.record(db, action, f"account:{me.id}", request=request, actor=me.id)


ROUTES = (begin_totp, prove_totp, end_totp)
