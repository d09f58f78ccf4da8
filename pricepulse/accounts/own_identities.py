"""GET, POST, PUT, DELETE /users/me/identities: with whom the own account can be signed in to."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post, put
from litestar.params import FromPath, JSONBody
from msgspec import Meta
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from pricepulse.access import Role, may
from pricepulse.accounts import oauth_state
from pricepulse.accounts.identities import has_one_at, known, link, provider_of, tell
from pricepulse.accounts.me import OWN, Confirmed, Own, PasswordIfAny, confirm
from pricepulse.accounts.oauth_state import Ticket
from pricepulse.accounts.signin import Opaque
from pricepulse.accounts.tables import Identity
from pricepulse.accounts.tokens import Claims
from pricepulse.errors import (
    ConflictError,
    FieldError,
    NotFoundError,
    UnprocessableError,
)
from pricepulse.settings import Settings
from pricepulse.store import Db


class LinkAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`challenge`: SHA-256 of a verifier of the front end's, base64url; password and `code` as for
    anything that concerns signing in."""

    challenge: Annotated[str, Meta(pattern=oauth_state.CHALLENGE)]
    password: PasswordIfAny = ""
    code: Annotated[str, Meta(max_length=64)] = ""


class LinkBegun(msgspec.Struct, frozen=True):
    """Where to send the browser, within ten minutes."""

    url: str


class LinkProven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code`: from behind the # of /signed-in; `verifier`: whose hash the POST was given."""

    code: Opaque
    verifier: Annotated[str, Meta(pattern=oauth_state.VERIFIER)]


class OwnIdentity(msgspec.Struct, frozen=True):
    """`email`: as the provider knew it when it was linked; empty if it did not say, or had not proven it."""

    provider: str
    email: str
    created_at: datetime
    last_used_at: datetime

    @classmethod
    def from_identity(cls, each: Identity) -> OwnIdentity:
        return cls(each.provider, each.email, each.created_at, each.last_used_at)


class OwnIdentities(msgspec.Struct, frozen=True):
    items: list[OwnIdentity]


@get("/users/me/identities", **may(Role.USER), **OWN)
async def list_identities(me: Own, db: Db) -> OwnIdentities:
    """With whom the account can be signed in to."""
    query = select(Identity).where(Identity.account_id == me.id).order_by(Identity.created_at)
    return OwnIdentities([OwnIdentity.from_identity(each) for each in await db.scalars(query)])


@post(
    "/users/me/identities/{provider:str}",
    **may(Role.USER, problems=(422,)),
    **OWN,
    status_code=200,
)
async def begin_link(
    request: Request[Claims, Any, Any],
    provider: FromPath[str],
    data: JSONBody[LinkAsked],
    me: Own,
    db: Db,
) -> LinkBegun:
    """Begin to link an identity at a provider.

    Send the browser to `url`; it comes back to `/signed-in` of the front end, with `#code=` for the PUT here
    and `linking=`."""
    settings: Settings = request.app.state["settings"]
    chosen = provider_of(request, provider)
    await confirm(db, request, me, data.password, data.code)
    expires_at = time.time() + oauth_state.STATE_SECONDS
    ticket = Ticket(provider, data.challenge, me.id, expires_at)
    sealed = oauth_state.sealed_text(request.app.state["sealer"], "link ticket", ticket)
    start = oauth_state.start_of(settings, chosen)
    return LinkBegun(f"{start}?challenge={data.challenge}&link_token={sealed}")


@put("/users/me/identities/{provider:str}", **may(Role.USER, problems=(409, 422)), **OWN)
async def prove_link(
    request: Request[Claims, Any, Any],
    provider: FromPath[str],
    data: JSONBody[LinkProven],
    me: Own,
    db: Db,
) -> OwnIdentity:
    """Link the identity that the browser came back with.

    Only to the account that the POST was for: whoever is led to somebody else's link gives nothing away."""
    chosen = provider_of(request, provider)
    taken = await oauth_state.take(db, request.app.state["sealer"], data.code, data.verifier)
    if taken is None or (taken[1].provider, taken[1].account_id) != (provider, me.id):
        told = "is not, or no longer, good: POST here again"
        raise UnprocessableError(f"the code {told}", errors=[FieldError("/body/code", told)])
    row, brought = taken
    oauth_state.used_up(row)
    identity = await known(db, brought.person)
    if identity is not None and identity.account_id != me.id:
        raise ConflictError("this identity signs in to another account")
    if identity is None:
        await db.refresh(me, with_for_update=True)
        if await has_one_at(db, me, chosen):
            raise ConflictError(
                f"the account has an identity at {chosen.title}; take it away first"
            )
        try:
            identity = await link(db, request, me, chosen, brought.person)
        except IntegrityError:
            raise ConflictError("somebody signs in with the same identity; try again") from None
    return OwnIdentity.from_identity(identity)


@delete("/users/me/identities/{provider:str}", **may(Role.USER, problems=(409, 422)), **OWN)
async def end_link(
    request: Request[Claims, Any, Any],
    provider: FromPath[str],
    data: JSONBody[Confirmed],
    me: Own,
    db: Db,
) -> None:
    """Take an identity away.

    Not the last way to sign in: set a password first, with POST /auth/forgot-password."""
    await confirm(db, request, me, data.password, data.code)
    mine = (Identity.account_id == me.id, Identity.provider == provider)
    if await db.scalar(select(Identity.subject).where(*mine)) is None:
        raise NotFoundError("you have no such identity; /api/v1/users/me/identities lists them")
    settings: Settings = request.app.state["settings"]
    # One whose provider is no longer in the settings leads nowhere.
    usable = Identity.issuer.in_([each.authority for each in settings.providers])
    others = (Identity.account_id == me.id, Identity.provider != provider, usable)
    rest = await db.scalar(select(func.count()).select_from(Identity).where(*others))
    if not me.password_hash and not rest:
        raise ConflictError("the account could not be signed in to any more; set a password first")
    await db.execute(sql_delete(Identity).where(*mine))
    tell(db, request, me, provider, _title(settings, provider), on=False)


def _title(settings: Settings, name: str) -> str:
    return next((each.title for each in settings.providers if each.name == name), name)


ROUTES = (list_identities, begin_link, prove_link, end_link)
