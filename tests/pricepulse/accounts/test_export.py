"""What is held about an account: all of it is in the export, and none of it is left after deletion.

Both tests walk the tables of the code, so that a table that is added is covered or fails them.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import JSON, DateTime, LargeBinary, String, Table, insert, select
from sqlalchemy.orm import Session as Transaction

from jobs.deliver import Delivery
from jobs.people import sweep
from pricepulse.accounts.export import LEFT_OUT, WITHHELD, exported
from pricepulse.accounts.tables import Account, Session
from pricepulse.mail import post
from pricepulse.store import Base
from tests.drawings import PNG
from tests.people import PASSWORD, People
from tests.shops import Shops, seen

TABLES = Base.metadata.tables
NOT_ABOUT_ONE = {
    "account": "the account itself",
    "counter": "an HMAC and a time",
    "oauth_return": "a sign-in that is under way, sealed, for minutes",
    "audit": "can only grow; has ids, which lead nowhere afterwards, and is exported by them",
    "ended_session": "ids of sessions, for 32 minutes",
    "mail": "sealed; goes out in seconds, and is forgotten with the account",
    "signing_key": "the server's own",
}


def belonging() -> set[str]:
    """Tables whose rows belong to an account: by a reference, or by one to such a table."""
    found: set[str] = set()
    while True:
        more = {
            table.name
            for table in TABLES.values()
            if any(key.column.table.name in found | {"account"} for key in table.foreign_keys)
        }
        if more == found:
            return found
        found = more


def value(column: Any, unique: str) -> Any:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return unique.encode()
    if isinstance(kind, String):
        return unique[: kind.length]
    if isinstance(getattr(kind, "impl", kind), DateTime):
        return datetime(2026, 1, 1, tzinfo=UTC)
    return ["read"] if isinstance(kind, JSON) else kind.python_type(1)


def fill(db: Transaction, table: Table, account_id: str, session_id: str) -> None:
    """A row of the account's, if it has none."""
    own = {"account_id": account_id, "session_id": session_id}
    row = {
        column.name: own.get(column.name) or value(column, secrets.token_hex())
        for column in table.columns
    }
    name = next(each for each in own if each in row)
    if db.execute(select(table).where(table.c[name] == own[name])).first() is None:
        db.execute(insert(table).values(row))


def filled(market: Shops, email: str = "ann@example.org") -> tuple[str, str]:
    """(access token, account's id) of somebody who has used everything."""
    site, access = market.site, market.signed_in(email)
    account_id = str(site.send("GET", "/users/me", access).json()["id"])
    site.send("PATCH", "/users/me/settings", access, theme="dark", currency="CHF")
    site.send("PUT", f"/users/me/favorites/{market.product('kettle')}", access)
    site.send("PUT", "/users/me/categories/kitchen", access)
    headers = {"authorization": f"Bearer {access}", "content-type": "image/png"}
    site.client.put("/api/v1/users/me/avatar", content=PNG, headers=headers)
    site.post("/auth/forgot-password", email=email)
    site.send("PUT", "/users/me/email", access, email=f"new.{email}", password=PASSWORD)
    with site.database.begin() as db:
        session_id = db.scalars(select(Session.id).where(Session.account_id == account_id)).one()
        for name in sorted(belonging()):
            fill(db, TABLES[name], account_id, session_id)
    return access, account_id


@pytest.fixture
def sold(market: Shops) -> Shops:
    market.deliver(seen("kettle", 1, "30", category="Kitchen"))
    return market


def test_every_table_is_in_the_export_or_has_a_reason() -> None:
    of_somebody = belonging()
    assert of_somebody >= {"session", "refresh_token", "favorite", "preferences", "avatar"}
    assert of_somebody == {table.name for table in exported()} | LEFT_OUT.keys()
    assert set(TABLES) == of_somebody | NOT_ABOUT_ONE.keys()
    for name in WITHHELD:
        table, _, column = name.partition(".")
        assert column in TABLES[table].c, name
    assert all(len(why) > 10 for why in (LEFT_OUT | WITHHELD).values())


def test_whatever_refers_to_an_account_goes_with_it() -> None:
    for table in TABLES.values():
        for key in table.foreign_keys:
            assert key.ondelete == "CASCADE", f"{table.name}.{key.parent.name}"
        if "account_id" in table.c:
            assert table.c.account_id.foreign_keys, f"{table.name}.account_id refers to nothing"


def test_the_export_is_everything_but_secrets(sold: Shops) -> None:
    access, account_id = filled(sold)
    other = filled(sold, "bob@example.org")[1]
    answer = sold.site.send("GET", "/users/me/export", access)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["content-disposition"].startswith('attachment; filename="pricepulse-')
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    files = {name: archive.read(name) for name in archive.namelist()}
    expected = {f"{table.name}.json" for table in exported()} | {"account.json", "audit.json"}
    assert files.keys() == expected | {"avatar.webp"}
    parts = {name: json.loads(files[name]) for name in expected}
    assert all(parts.values()), {name for name, rows in parts.items() if not rows}
    (account,) = parts["account.json"]
    assert account["email"] == "ann@example.org"
    assert account["totp"] is False
    (favorite,) = parts["favorite.json"]
    assert (favorite["price"], favorite["currency"], favorite["title"]) == (30, "EUR", "Kettle")
    assert favorite["product_id"] == sold.product("kettle")
    assert parts["preferences.json"][0]["theme"] == "dark"
    assert {"session.begin", "account.settings"} <= {e["action"] for e in parts["audit.json"]}
    text = b"".join(each for name, each in files.items() if name != "avatar.webp").decode()
    assert account_id in text
    for never in (other, "bob@", "argon2", "password_hash", PASSWORD, "ppl_", "ppr_"):
        assert never not in text, never
    # Who asks for all of it is written down, and in the next one.
    again = sold.site.send("GET", "/users/me/export", access)
    entries = json.loads(zipfile.ZipFile(io.BytesIO(again.content)).read("audit.json"))
    assert "account.export" in {each["action"] for each in entries}


def test_many_exports_at_once_are_answered(own_site: People) -> None:
    """Each must give its connection back before it asks for another: there are few."""
    own_site.registered()
    headers = {"authorization": f"Bearer {own_site.signed_in()['access_token']}"}

    async def run() -> list[int]:
        transport = httpx.ASGITransport(own_site.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://a", timeout=60
        ) as client:
            address = "/api/v1/users/me/export"
            answers = (client.get(address, headers=headers) for _ in range(20))
            return [each.status_code for each in await asyncio.gather(*answers)]

    with own_site.client.portal() as portal:
        assert portal.call(run) == [200] * 20
    assert own_site.audit().count("account.export") == 20


def test_the_audit_in_it_has_an_end_and_what_changed_nothing_is_not_in_it(
    own_site: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_site.registered()
    access = own_site.signed_in()["access_token"]
    for number in range(12):
        own_site.send("PATCH", "/users/me", access, name=f"Ann {number // 2}")
        own_site.send("PATCH", "/users/me/settings", access, theme="dark")
    assert own_site.audit().count("account.profile") == 6
    assert own_site.audit().count("account.settings") == 1
    monkeypatch.setattr("pricepulse.accounts.export.MOST_AUDIT", 4)
    answer = own_site.send("GET", "/users/me/export", access)
    entries = json.loads(zipfile.ZipFile(io.BytesIO(answer.content)).read("audit.json"))
    assert [each["action"] for each in entries] == own_site.audit()[-5:-1]


def everything(db: Transaction) -> dict[str, list[str]]:
    return {
        name: [str(tuple(row)) for row in db.execute(select(each))] for name, each in TABLES.items()
    }


def test_nothing_is_left_after_deletion(sold: Shops) -> None:
    site = sold.site
    access, account_id = filled(sold)
    _, other = filled(sold, "joann@example.org")
    delivery = Delivery(site.settings, site.app.state["sealer"])
    assert delivery.run() is not None
    with (
        site.database.begin() as db
    ):  # one more that still waits, and one about her to somebody else
        sealer = site.app.state["sealer"]
        post(db, sealer, "Ann@example.org", "password_changed")
        post(db, sealer, "old@example.org", "address_changed", new="ann@example.org")
    assert site.send("DELETE", "/users/me", access, password=PASSWORD).status_code == 204
    delivery.run()
    with site.database.begin(write=False) as db:
        held = everything(db)
    mine = [(name, row) for name, rows in held.items() for row in rows if account_id in row]
    assert {name for name, _ in mine} == {"audit"}
    named = [(n, r) for n, rows in held.items() for r in rows if "ann@example.org" in r.lower()]
    assert not [each for each in named if "joann@" not in each[1]]
    assert any(other in row for row in held["favorite"])
    letters = [path.read_text() for path in (site.settings.data / "outbox").glob("*.eml")]
    assert len(letters) == 3
    assert all("joann@example.org" in each for each in letters)
    pictures = [each for each in (site.settings.data / "pictures").rglob("*") if each.is_file()]
    assert len(pictures) == 1


def test_sqlite_keeps_no_trace_of_it_in_its_file(sold: Shops) -> None:
    url = sold.site.settings.database
    if not url.startswith("sqlite"):
        pytest.skip("PostgreSQL's files are its own affair")
    file = url.removeprefix("sqlite:///")
    access, account_id = filled(sold)
    with sold.site.database.begin(write=False) as db:
        assert db.get(Account, account_id)
    assert sold.site.send("DELETE", "/users/me", access, password=PASSWORD).status_code == 204
    sweep(sold.site.database, sold.site.app.state["sealer"], datetime.now(UTC))
    for each in (file, f"{file}-wal"):
        assert b"ann@example.org" not in Path(each).read_bytes()
