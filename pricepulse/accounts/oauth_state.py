"""What ties a sign-in through a provider together: the browser that began it, the front end that asked.

Two ties. Between start and callback the browser holds a cookie with what was asked for, sealed; an answer
to anything else is refused, so nobody can end a sign-in in somebody else's browser (RFC 9700, 4.7).
From there to the tokens the front end holds a verifier, of which the start was told the hash (as in
RFC 7636): the code in the address is good for the page that began, wherever else it leaks to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import Cookie
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse.accounts.oauth2 import Asked, Person
from pricepulse.accounts.tables import OAuthReturn
from pricepulse.accounts.tokens import hashed, new_token
from pricepulse.contract import END
from pricepulse.errors import told_as
from pricepulse.providers import Provider
from pricepulse.sealing import Sealer, Unsealable
from pricepulse.settings import Settings
from pricepulse.store import Store

# At the provider: somebody may have to look for a password, and for a telephone.
STATE_SECONDS = 600
# At the front end: a code of the second factor may have to be typed.
CODE_SECONDS = 300
COOKIE = "pricepulse_oauth"
CHALLENGE = told_as(
    f"^[A-Za-z0-9_-]{{43}}{END}", "must be the SHA-256 of a verifier, in base64url without ="
)
VERIFIER = told_as(
    f"^[A-Za-z0-9._~-]{{43,128}}{END}", "must be 43 to 128 letters, digits or -._~ (RFC 7636, 4.1)"
)


class Attempt(msgspec.Struct, frozen=True):
    """A sign-in under way. `challenge`: of the front end. `account_id`: which account the identity is to
    be linked to; empty for a sign-in."""

    provider: str
    state: str
    nonce: str
    verifier: str
    challenge: str
    account_id: str
    expires_at: float

    @classmethod
    def begun(cls, provider: str, challenge: str, account_id: str) -> Attempt:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        expires_at = time.time() + STATE_SECONDS
        return cls(provider, state, nonce, verifier, challenge, account_id, expires_at)

    def asked(self, settings: Settings) -> Asked:
        # Of the settings, never of the Host header: it decides where the code goes.
        callback = f"{settings.api_url}/api/v1/auth/oauth/{self.provider}/callback"
        return Asked(callback, self.state, self.nonce, self.verifier)


class Brought(msgspec.Struct, frozen=True):
    """What a browser brought back: who it is, for whom that was asked."""

    provider: str
    person: Person
    challenge: str
    account_id: str
    expires_at: float


class Ticket(msgspec.Struct, frozen=True):
    """Says at the start of whose account it is that an identity is to be linked to."""

    provider: str
    challenge: str
    account_id: str
    expires_at: float


def sealed_text(sealer: Sealer, kind: str, what: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(sealer.seal(kind, msgspec.json.encode(what))).decode()


def unsealed(sealer: Sealer, kind: str, text: str, form: type[Attempt] | type[Ticket]) -> Any:
    """None unless it is ours, of this kind, and has not expired."""
    try:
        plain = sealer.unseal(kind, base64.urlsafe_b64decode(text.encode()))
    except (Unsealable, ValueError):
        return None
    found = msgspec.json.decode(plain, type=form)
    return found if found.expires_at > time.time() else None


def start_of(settings: Settings, provider: Provider) -> str:
    return f"{settings.api_url}/api/v1/auth/oauth/{provider.name}/start"


def cookie_name(settings: Settings) -> str:
    # `__Host-`: no other host of the domain can have set it (RFC 6265bis, 4.1.3.2). It takes TLS.
    return f"__Host-{COOKIE}" if settings.api_url.startswith("https://") else COOKIE


def cookie(settings: Settings, value: str, seconds: int = STATE_SECONDS) -> Cookie:
    """SameSite=Lax: it comes along when the provider sends the browser back, and with no other request
    of another site."""
    name = cookie_name(settings)
    secure = name.startswith("__Host-")
    return Cookie(name, "/", value, seconds, secure=secure, httponly=True, samesite="lax")


def attempt_of(request: Request[Any, Any, Any], provider: str, state: str) -> Attempt | None:
    """What this browser asked for, if `state` is an answer to it."""
    settings: Settings = request.app.state["settings"]
    text = request.cookies.get(cookie_name(settings), "")
    found: Attempt | None = unsealed(request.app.state["sealer"], "oauth state", text, Attempt)
    if found is None or found.provider != provider:
        return None
    right = hmac.compare_digest(found.state.encode(), state.encode("utf-8", "surrogatepass"))
    return found if right else None


async def claim(store: Store, attempt: Attempt) -> bool:
    """Whether this is the first answer to it."""
    expires_at = datetime.fromtimestamp(attempt.expires_at, UTC)
    try:
        async with store.begin(write=True) as db:
            db.add(OAuthReturn(state=hashed(attempt.state), expires_at=expires_at))
            await db.flush()
    except IntegrityError:
        return False
    return True


async def keep(store: Store, sealer: Sealer, attempt: Attempt, person: Person) -> str:
    """A code that the front end can take what was brought with."""
    code = new_token("ppo_")
    expires_at = time.time() + CODE_SECONDS
    brought = Brought(attempt.provider, person, attempt.challenge, attempt.account_id, expires_at)
    async with store.begin(write=True) as db:
        row = await db.get_one(OAuthReturn, hashed(attempt.state))
        row.code = hashed(code)
        row.brought = sealer.seal("oauth return", msgspec.json.encode(brought))
        # Never earlier than the state, whose second use is known by this row.
        row.expires_at = max(row.expires_at, datetime.fromtimestamp(expires_at, UTC))
    return code


async def take(
    db: AsyncSession, sealer: Sealer, code: str, verifier: str
) -> tuple[OAuthReturn, Brought] | None:
    """What was brought for this code, if the verifier is the front end's; `used_up` ends it."""
    query = select(OAuthReturn).where(OAuthReturn.code == hashed(code)).with_for_update()
    row = await db.scalar(query.execution_options(populate_existing=True))
    if row is None or row.brought is None:
        return None
    try:
        plain = sealer.unseal("oauth return", row.brought)
    except Unsealable:
        return None
    brought = msgspec.json.decode(plain, type=Brought)
    if brought.expires_at < time.time():
        return None
    given = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return (row, brought) if hmac.compare_digest(given, brought.challenge.encode()) else None


def used_up(row: OAuthReturn) -> None:
    row.code = row.brought = None
