"""Who did what to what, from where: written in the transaction of the deed, never changed.

The database refuses UPDATE and DELETE on the table (triggers of the first migration). No secrets and
no addresses of mail: ids, and in `detail` words and numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request
from sqlalchemy import JSON, BigInteger, Integer, String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from pricepulse.log import request_id
from pricepulse.store import Base


class Audit(Base):
    __tablename__ = "audit"

    # SQLite counts by itself only in a column that is exactly INTEGER.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True
    )
    at: Mapped[datetime] = mapped_column(index=True)
    # A user's id, `command` or `job`; empty: nobody who is known. No foreign key: what somebody did
    # stays when the account goes.
    actor: Mapped[str] = mapped_column(String(64), index=True)
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(96))
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(128))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


def record(
    db: AsyncSession | Session,
    action: str,
    target: str,
    *,
    request: Request[Any, Any, Any] | None = None,
    actor: str = "",
    **detail: str | int | bool | None,
) -> None:
    """`record(db, "session.end", f"session:{id}", request=request, actor=user.id)`.

    Kept if and only if the transaction is."""
    db.add(
        Audit(
            at=datetime.now(UTC),
            actor=actor,
            action=action,
            target=target,
            address=client_address(request) if request else "",
            request_id=request_id.get(),
            detail=detail,
        )
    )


def client_address(request: Request[Any, Any, Any]) -> str:
    """The client's address as the edge takes it: behind a trusted proxy the one before it."""
    scope: Any = request.scope
    return str(scope["edge"].client)[:64]
