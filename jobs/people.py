"""What has expired of accounts is removed, and keys of access tokens take turns."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select

from pricepulse.accounts.gate import REMEMBERED
from pricepulse.accounts.sessions import IDLE
from pricepulse.accounts.tables import (
    EndedSession,
    KnownAddress,
    Link,
    OAuthReturn,
    RefreshToken,
    Session,
    SigningKey,
)
from pricepulse.accounts.throttle import REMEMBERED as ADDRESS_REMEMBERED
from pricepulse.accounts.tokens import new_signing_key
from pricepulse.sealing import Sealer
from pricepulse.shared_counters import Counter
from pricepulse.store import Database

KEY_DAYS = 90
# The last token of the key before has expired long ago.
KEY_OVERLAP = timedelta(hours=1)


def sweep(database: Database, sealer: Sealer, now: datetime) -> str:
    """Remove sessions, links and tokens that are good for nothing; a new key every 90 days.

    Used refresh tokens stay for 30 days: whoever shows one until then is known for a thief."""
    with database.begin() as db:
        over = (Session.expires_at < now) | (Session.last_used_at < now - IDLE)
        sessions = len(db.scalars(delete(Session).where(over).returning(Session.id)).all())
        links = len(
            db.scalars(delete(Link).where(Link.expires_at < now).returning(Link.kind)).all()
        )
        db.execute(delete(RefreshToken).where(RefreshToken.issued_at < now - IDLE))
        db.execute(delete(OAuthReturn).where(OAuthReturn.expires_at < now))
        db.execute(delete(EndedSession).where(EndedSession.at < now - 2 * REMEMBERED))
        db.execute(delete(KnownAddress).where(KnownAddress.at < now - ADDRESS_REMEMBERED))
        db.execute(delete(Counter).where(Counter.full_at < now.timestamp()))
        keys = list(db.scalars(select(SigningKey).order_by(SigningKey.created_at.desc())))
        if keys and keys[0].created_at < now - timedelta(days=KEY_DAYS):
            db.add(new_signing_key(sealer))
        elif keys and keys[0].created_at < now - KEY_OVERLAP:
            for old in keys[1:]:
                db.delete(old)
    database.checkpoint()
    return f"{sessions} sessions and {links} links had expired"
