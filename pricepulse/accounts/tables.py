"""Accounts and what belongs to them. Secrets are hashed or sealed; `hash` columns are SHA-256 of 256 random bits."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from pricepulse.store import Base


def new_id() -> str:
    return secrets.token_hex(12)


def now() -> datetime:
    return datetime.now(UTC)


class Account(Base):
    """A row exists from the moment on at which its address is proven: nobody registers for others."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    # As mails are sent to it, and, in lower case, what is unique.
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100), default="")
    role: Mapped[str] = mapped_column(String(16), default="user")
    # Empty: signs in by other means only.
    password_hash: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]
    # The second factor, sealed; set up but not proven yet; and the last 30 s step whose code was used.
    totp: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_pending: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_step: Mapped[int] = mapped_column(default=0)


def _owner(*, nullable: bool = False) -> Mapped[str]:
    reference = ForeignKey("account.id", ondelete="CASCADE")
    column: Mapped[str] = mapped_column(String(32), reference, index=True, nullable=nullable)
    return column


class Session(Base):
    """A sign-in on one device, and the family of the refresh tokens that prolong it."""

    __tablename__ = "session"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    account_id: Mapped[str] = _owner()
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str] = mapped_column(String(200))


class RefreshToken(Base):
    """Used ones stay for as long as they would have been good: whoever shows one again is told apart."""

    __tablename__ = "refresh_token"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(
        String(32), ForeignKey("session.id", ondelete="CASCADE"), index=True
    )
    issued_at: Mapped[datetime] = mapped_column(index=True, default=now)
    used_at: Mapped[datetime | None]


class EndedSession(Base):
    """Sessions whose access tokens may still be around: what every process reads twice a second.

    No foreign key: the session, or the whole account, is gone."""

    __tablename__ = "ended_session"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True, default=now)


class Link(Base):
    """A link in a mail that does one thing once: `register`, `email` (a new address) or `reset`.

    A registration is nothing but this row, with name and password: each link makes the account that
    was asked for with it, for who knows that password. So whoever registers somebody else's address
    gains nothing, whichever link its owner opens."""

    __tablename__ = "link"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    account_id: Mapped[str | None] = mapped_column(
        String(32), ForeignKey("account.id", ondelete="CASCADE"), index=True
    )
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(String(254), index=True)
    name: Mapped[str] = mapped_column(String(100), default="")
    password_hash: Mapped[str] = mapped_column(String(200), default="")
    expires_at: Mapped[datetime] = mapped_column(index=True)


class KnownAddress(Base):
    """HMAC of an account's address of mail and a network that it was used from: what is no stranger's
    attempt. Not which network."""

    __tablename__ = "known_address"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    account_id: Mapped[str] = _owner()
    at: Mapped[datetime] = mapped_column(index=True, default=now)


class RecoveryCode(Base):
    """HMAC of a code that stands in for the second factor once."""

    __tablename__ = "recovery_code"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    account_id: Mapped[str] = _owner()


class ApiKey(Base):
    """A program's key to its owner's account; of the key itself only its hash. Taken away, it is deleted."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    account_id: Mapped[str] = _owner()
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    # To the minute: a write for each request would cost more than the request.
    last_used_at: Mapped[datetime | None]


class SigningKey(Base):
    """Keys of access tokens, sealed. The newest signs, the others still verify."""

    __tablename__ = "signing_key"

    kid: Mapped[str] = mapped_column(String(32), primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Identity(Base):
    """Somebody at a provider who may sign in to the account.

    Known by issuer and subject, never by address: addresses change hands (OpenID Connect Core, 5.7)."""

    __tablename__ = "identity"
    __table_args__ = (UniqueConstraint("account_id", "provider"),)

    issuer: Mapped[str] = mapped_column(String(255), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), primary_key=True)
    account_id: Mapped[str] = _owner()
    # As it was called in the settings, and the address that it told, for the owner to know it by.
    provider: Mapped[str] = mapped_column(String(32))
    email: Mapped[str] = mapped_column(String(254))
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime] = mapped_column(default=now)


class OAuthReturn(Base):
    """A browser that came back from a provider. The row stays until its `state` has expired, and so
    makes it good for one time; what it brought is sealed, and gone once the front end has taken it."""

    __tablename__ = "oauth_return"

    state: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)  # hash
    code: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)  # hash
    brought: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(index=True)
