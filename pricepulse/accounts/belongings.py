"""What an account keeps here. Each table goes with the account, and is in its export by itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from pricepulse.accounts.tables import now
from pricepulse.store import Base


def _owner() -> Mapped[str]:
    reference = ForeignKey("account.id", ondelete="CASCADE")
    column: Mapped[str] = mapped_column(String(32), reference, primary_key=True)
    return column


class Preferences(Base):
    """How somebody wants to see things. No row is the defaults."""

    __tablename__ = "preferences"

    account_id: Mapped[str] = _owner()
    currency: Mapped[str | None] = mapped_column(String(3))
    locale: Mapped[str] = mapped_column(String(35), default="en")
    time_zone: Mapped[str] = mapped_column(String(64), default="UTC")
    theme: Mapped[str] = mapped_column(String(8), default="system")
    keep_activity: Mapped[bool] = mapped_column(default=False)


class Favorite(Base):
    """A product that somebody watches, and what it cost when that began."""

    __tablename__ = "favorite"

    account_id: Mapped[str] = _owner()
    product_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # One of its offers, the best one then: leads to the product when linking gives that another id.
    offer_id: Mapped[int] = mapped_column(BigInteger)
    added_at: Mapped[datetime] = mapped_column(default=now)
    # In units of 1/10,000: SQLite has no decimals. Null where nobody sold it.
    price: Mapped[int | None] = mapped_column(BigInteger, info={"money": True})
    currency: Mapped[str] = mapped_column(String(3))
    # What it was called, for when it is there no more.
    title: Mapped[str | None] = mapped_column(String(500))


class FollowedCategory(Base):
    """A category of whose deals somebody wants to hear."""

    __tablename__ = "followed_category"

    account_id: Mapped[str] = _owner()
    slug: Mapped[str] = mapped_column(String(500), primary_key=True)
    added_at: Mapped[datetime] = mapped_column(default=now)


class Avatar(Base):
    """Which file is the account's picture (pricepulse/pictures.py)."""

    __tablename__ = "avatar"

    account_id: Mapped[str] = _owner()
    hash: Mapped[str] = mapped_column(String(64))
    changed_at: Mapped[datetime] = mapped_column(default=now)
