"""A server's accounts as a front end has them: through HTTP, with the mails that it would get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from litestar.testing import TestClient
from sqlalchemy import delete, func, select

from pricepulse.accounts.addresses import Address
from pricepulse.accounts.passwords import Hasher
from pricepulse.accounts.tables import Account, EndedSession, Link, OAuthReturn
from pricepulse.app import create_app
from pricepulse.audit import Audit
from pricepulse.mail import Letter, Mail, opened
from pricepulse.settings import Settings
from pricepulse.shared_counters import Counter
from pricepulse.store import Database

PASSWORD = "four unrelated quiet words"
OTHER = "another set of quiet words"


@cache
def hash_of_password() -> str:
    return asyncio.run(Hasher().hash(PASSWORD))


@dataclass
class People:
    client: TestClient[Any]
    database: Database
    settings: Settings
    app: Any = field(repr=False)
    audited: int = 0  # what the audit held before

    def send(self, method: str, address: str, token: str = "", /, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        content = body if body or method in {"POST", "PUT", "PATCH"} else None
        return self.client.request(method, f"/api/v1{address}", headers=headers, json=content)

    def post(self, address: str, token: str = "", /, **body: Any) -> httpx.Response:
        return self.send("POST", address, token, **body)

    def mails(self) -> list[Letter]:
        """What waits in the outbox, oldest first, and takes it out."""
        with self.database.begin() as db:
            rows = list(db.scalars(select(Mail).order_by(Mail.created_at)))
            letters = [opened(row, self.app.state["sealer"]) for row in rows]
            db.execute(delete(Mail))
        return letters

    def token(self, template: str) -> str:
        """Of the link in the one mail that waits."""
        (letter,) = self.mails()
        assert letter.template == template
        return str(letter.values["token"])

    def verified(self, token: str = "", password: str = PASSWORD) -> httpx.Response:
        """A registration is completed; `token`: of the one mail that waits, unless it is given."""
        token = token or self.token("verify_address")
        return self.post("/auth/verify-email", token=token, password=password)

    def registered(self, email: str = "ann@example.org") -> None:
        """An account with PASSWORD, as a link in a mail would have made it."""
        address = Address.from_text(email)
        with self.database.begin() as db:
            known = {"email": address.email, "email_key": address.key, "name": "Ann"}
            db.add(Account(**known, password_hash=hash_of_password()))

    def signed_in(self, email: str = "ann@example.org", **given: str) -> dict[str, Any]:
        answer = self.post("/auth/login", **{"email": email, "password": PASSWORD} | given)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        tokens: dict[str, Any] = answer.json()
        return tokens

    def audit(self) -> list[str]:
        with self.database.begin(write=False) as db:
            rows = select(Audit.action).where(Audit.id > self.audited).order_by(Audit.id)
            return list(db.scalars(rows))

    def forget_everybody(self) -> None:
        with self.database.begin() as db:
            for table in (Account, Counter, EndedSession, Link, Mail, OAuthReturn):
                db.execute(delete(table))
            self.audited = db.scalar(select(func.max(Audit.id))) or 0
        self.client.cookies.clear()


@contextmanager
def people(database: str, folder: Path, **given: Any) -> Iterator[People]:
    env = {"data": folder, "database_url": database, "rate_limit": 0, "sign_in_limit": 0} | given
    settings = Settings.from_env({}, **env)
    app = create_app(settings)
    opened_database = Database(database)
    with TestClient(app) as client:
        yield People(client, opened_database, settings, app)
    opened_database.close()


def refused(answer: httpx.Response, status: int, pointer: str = "") -> Any:
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    if status == 401:
        assert answer.headers["www-authenticate"].startswith('Bearer realm="pricepulse"')
    if pointer:
        assert [each["pointer"] for each in told["errors"]] == [pointer]
    return told
