"""Sessions: begun by a sign-in, prolonged by refresh tokens, ended everywhere within a second.

A refresh token is good once. What follows it is an HMAC of it under the server's secret, so the same
token always leads to the same next one, and the database needs to keep neither. Whoever asks twice
within GRACE (50 tabs at once, an answer that was lost) gets the same answer twice: one family,
nobody locked out. Later, a used token means that two parties hold the session: it ends for both
(RFC 9700, 4.14.2).
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import msgspec
from litestar import Request
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.accounts import throttle
from pricepulse.accounts.tables import Account, EndedSession, RefreshToken, Session, now
from pricepulse.accounts.tokens import ACCESS_SECONDS, hashed, new_token
from pricepulse.sealing import Sealer

PREFIX = "ppr_"
GRACE = timedelta(seconds=10)
# A token that has followed another is not followed itself before: so in GRACE there are few of a family.
SOON = timedelta(seconds=1)
MOST_HOPS = 12
# Idle and absolute end. NIST SP 800-63B asks for 30 days at AAL1, and a price watcher is no bank.
IDLE = timedelta(days=30)
LONGEST = timedelta(days=90)
# Who has no password to confirm something with has signed in so lately.
FRESH = timedelta(minutes=10)


class Tokens(msgspec.Struct, frozen=True):
    """`expires_in`: seconds that the access token is good for."""

    access_token: str
    refresh_token: str
    expires_in: int = ACCESS_SECONDS
    token_type: str = "Bearer"  # noqa: S105


def issued(
    request: Request[Any, Any, Any], account: Account, session: Session, refresh: str
) -> Tokens:
    keys = request.app.state["gate"].keys
    return Tokens(keys.sign(account.id, session.id, account.role), refresh)


async def begin(db: AsyncSession, request: Request[Any, Any, Any], account: Account) -> Tokens:
    """A new session of this account on the device that asks."""
    session = Session(
        account_id=account.id,
        expires_at=now() + LONGEST,
        address=audit.client_address(request),
        agent=request.headers.get("user-agent", "")[:200],
    )
    db.add(session)
    await db.flush()
    await throttle.remember(db, request, account)
    refresh = new_token(PREFIX)
    db.add(RefreshToken(hash=hashed(refresh), session_id=session.id))
    return issued(request, account, session, refresh)


async def prolong(db: AsyncSession, request: Request[Any, Any, Any], given: str) -> Tokens | None:
    """New tokens for a refresh token; None if it is none, or no longer one.

    A reuse ends the session: that is committed here, since the request ends with an error."""
    sealer: Sealer = request.app.state["sealer"]
    session = await _session(db, given)
    row = await _token(db, given) if session else None
    if session is None or row is None or row.issued_at < now() - IDLE:
        return None
    account = await db.get_one(Account, session.account_id)
    if session.expires_at < now() or account.disabled_at:
        return None
    if row.used_at is None and row.issued_at > now() - SOON and await _has_followed(db, session):
        return issued(request, account, session, given)
    if row.used_at is None:
        follower = successor(sealer, given)
        row.used_at = session.last_used_at = now()
        session.address = audit.client_address(request)
        db.add(RefreshToken(hash=hashed(follower), session_id=session.id))
        return issued(request, account, session, follower)
    if row.used_at < now() - GRACE:
        target = f"session:{session.id}"
        audit.record(db, "session.token_reused", target, request=request, actor=account.id)
        await end(db, Session.id == session.id)
        await db.commit()
        return None
    # The newest of the family: its owner may have moved on already.
    token = given
    for _ in range(MOST_HOPS):
        token = successor(sealer, token)
        row = await _token(db, token)
        if row is None or row.used_at is None:
            return issued(request, account, session, token) if row is not None else None
    return None


async def is_fresh(db: AsyncSession, session_id: str) -> bool:
    """Whether it began with a sign-in just now; being prolonged does not count."""
    session = await db.get(Session, session_id)
    return session is not None and session.created_at > now() - FRESH


def successor(sealer: Sealer, token: str) -> str:
    digest = sealer.derive("refresh token", token.encode())
    return PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def end(db: AsyncSession, *which: ColumnElement[bool]) -> int:
    """End these sessions: refresh tokens go with them, access tokens are refused within a second."""
    ids = (await db.scalars(delete(Session).where(*which).returning(Session.id))).all()
    db.add_all([EndedSession(id=each) for each in ids])
    return len(ids)


async def _session(db: AsyncSession, token: str) -> Session | None:
    """Locked, before the token is read: of several who show it at once, one makes the next and the others
    find it made. `end` takes them in the same order, or PostgreSQL would have to end one of both."""
    query = select(Session).join(RefreshToken, RefreshToken.session_id == Session.id)
    mine = query.where(RefreshToken.hash == hashed(token))
    return await db.scalar(mine.with_for_update(of=Session))


async def _has_followed(db: AsyncSession, session: Session) -> bool:
    """Whether the session has been prolonged before."""
    used = select(RefreshToken.hash).where(
        RefreshToken.session_id == session.id, RefreshToken.used_at.is_not(None)
    )
    return await db.scalar(used.limit(1)) is not None


async def _token(db: AsyncSession, token: str) -> RefreshToken | None:
    return await db.get(RefreshToken, hashed(token))
