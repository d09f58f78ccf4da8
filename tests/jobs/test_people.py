"""What has expired goes, what is good stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from jobs.people import sweep
from pricepulse.accounts.tables import (
    Account,
    EndedSession,
    Link,
    OAuthReturn,
    RefreshToken,
    Session,
    SigningKey,
)
from pricepulse.accounts.tokens import new_signing_key
from pricepulse.sealing import Sealer
from pricepulse.store import Database

SEALER = Sealer(b"a secret of the server")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_what_has_expired_is_removed(database: str) -> None:
    opened = Database(database)
    with opened.begin() as db:
        db.add(Account(id="ann", email="ann@example.org", email_key="ann@example.org"))
        db.flush()
        for name, used, expires in (
            ("good", NOW, NOW + DAY),
            ("idle", NOW - 31 * DAY, NOW + DAY),
            ("old", NOW, NOW - DAY),
        ):
            db.add(
                Session(
                    id=name, account_id="ann", last_used_at=used, expires_at=expires, address="",
                    agent="",
                )
            )  # fmt: skip
            db.flush()
            db.add(RefreshToken(hash=name.encode(), session_id=name, issued_at=used))
        db.add(RefreshToken(hash=b"long ago", session_id="good", issued_at=NOW - 31 * DAY))
        for name, expires in (("good", NOW + DAY), ("old", NOW - DAY)):
            at = {"email": "bob@example.org", "email_key": "bob@example.org"}
            db.add(Link(hash=name.encode(), kind="register", expires_at=expires, **at))
            db.add(OAuthReturn(state=name.encode(), expires_at=expires))
        db.add_all([EndedSession(id="a", at=NOW - DAY), EndedSession(id="b", at=NOW)])
    assert sweep(opened, SEALER, NOW) == "2 sessions and 1 links had expired"
    with opened.begin(write=False) as db:
        assert set(db.scalars(select(Session.id))) == {"good"}
        assert set(db.scalars(select(RefreshToken.hash))) == {b"good"}
        assert set(db.scalars(select(Link.hash))) == {b"good"}
        assert set(db.scalars(select(OAuthReturn.state))) == {b"good"}
        assert set(db.scalars(select(EndedSession.id))) == {"b"}
    opened.close()


def test_keys_take_turns(database: str) -> None:
    opened = Database(database)

    def keys() -> int:
        with opened.begin(write=False) as db:
            return db.scalar(select(func.count()).select_from(SigningKey)) or 0

    with opened.begin() as db:
        key = new_signing_key(SEALER)
        key.created_at = datetime.now(UTC)
        db.add(key)
    at = datetime.now(UTC) + 91 * DAY
    sweep(opened, SEALER, at - 2 * DAY)
    assert keys() == 1
    sweep(opened, SEALER, at)
    assert keys() == 2  # the new one is of the real now
    with opened.begin() as db:
        newest = db.scalars(select(SigningKey).order_by(SigningKey.created_at.desc())).first()
        assert newest
        newest.created_at = at
    sweep(opened, SEALER, at)
    assert keys() == 2  # tokens of the old one may still be around
    sweep(opened, SEALER, at + DAY)
    assert keys() == 1
    opened.close()
