"""What an account keeps here. Each table goes with the account, and is in its export by itself."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

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
