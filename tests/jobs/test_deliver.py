"""Mails out of the outbox, to a real server with STARTTLS and a login."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select, update

from jobs import deliver
from jobs.deliver import Delivery
from pricepulse.mail import Mail, post
from pricepulse.sealing import Sealer
from pricepulse.settings import Settings
from pricepulse.store import Database
from tests.smtp import PASSWORD, USER, MailServer, mail_server

SEALER = Sealer(b"a secret of the server")
TOKEN = "canary-token"
# What Python's parser of headers decodes; with the first three it raises.
ENCODED = (
    "=?utf-8?q??=@example.org",
    "=?utf-8?b?!!!?=@example.org",
    "=?utf-8?q?=0a?=@example.org",
    "=?utf-8?q?=ff?=@example.org",
    "=?utf-8?q?someone?=@example.org",
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with mail_server(tmp_path) as made:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
        yield made


Outbox = Callable[..., Delivery]


@pytest.fixture
def outbox(database: str, tmp_path: Path) -> Iterator[Outbox]:
    made: list[Delivery] = []

    def opened(smtp_url: str | None = None) -> Delivery:
        settings = Settings.from_env({}, data=tmp_path, database_url=database, smtp_url=smtp_url)
        made.append(Delivery(settings, SEALER))
        return made[-1]

    yield opened
    for each in made:
        each.database.close()


def url(server: MailServer, password: str = PASSWORD) -> str:
    return f"smtp://{USER}:{quote(password, safe='')}@127.0.0.1:{server.port}"


def put(delivery: Delivery, to: str = "someone@example.org", **values: Any) -> None:
    with delivery.database.begin() as db:
        post(db, SEALER, to, "verify_address", **{"token": TOKEN} | values)


def waiting(database: Database) -> list[Mail]:
    with database.begin(write=False) as db:
        return list(db.scalars(select(Mail).order_by(Mail.created_at)))


def make_due(delivery: Delivery, **values: Any) -> None:
    with delivery.database.begin() as db:
        db.execute(update(Mail).values(due_at=datetime.now(UTC), **values))


def test_a_mail_is_delivered_encrypted_and_then_forgotten(
    server: MailServer, outbox: Outbox
) -> None:
    delivery = outbox(url(server))
    assert delivery.run() is None
    put(delivery)
    put(delivery, "other@example.org")
    (first, _) = waiting(delivery.database)
    assert TOKEN.encode() not in first.letter
    assert delivery.run() == "2 mails delivered, 0 not yet"
    assert waiting(delivery.database) == []
    assert server.encrypted == [True, True]
    mail = server.received[0]
    assert mail["to"] == "someone@example.org"
    assert mail["subject"] == "Confirm your address for PricePulse"
    text, html = (part.get_content() for part in mail.iter_parts())
    link = f"http://127.0.0.1:8000/verify-email#token={TOKEN}&password"
    assert f"\n{link}\n" in text.replace("\r", "")
    assert f'<a href="{link.replace("&", "&amp;")}"' in html


def test_a_server_that_is_away_gets_it_later(server: MailServer, outbox: Outbox) -> None:
    server.refusals = ["451 try again later"]
    delivery = outbox(url(server))
    put(delivery)
    assert delivery.run() == "0 mails delivered, 1 not yet"
    (mail,) = waiting(delivery.database)
    assert timedelta(seconds=3) < mail.due_at - datetime.now(UTC) < timedelta(seconds=6)
    assert delivery.run() is None
    make_due(delivery)
    delivery.run()
    assert len(server.received) == 1
    assert waiting(delivery.database) == []


def test_a_wrong_password_or_no_server_loses_nothing(server: MailServer, outbox: Outbox) -> None:
    for wrong in (url(server, "wrong"), "smtp://127.0.0.1:9"):
        delivery = outbox(wrong)
        put(delivery)
        assert "0 mails delivered" in (delivery.run() or "")
        make_due(delivery)
    assert len(waiting(delivery.database)) == 2
    outbox(url(server)).run()
    assert len(server.received) == 2


def test_an_address_that_does_not_exist_is_given_up_and_holds_up_nobody(
    server: MailServer, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = outbox(url(server))
    put(delivery, "nobody@example.org")
    put(delivery)
    delivery.run()
    assert [mail["to"] for mail in server.received] == ["someone@example.org"]
    assert waiting(delivery.database) == []
    assert "is given up" in caplog.text
    assert "nobody@example.org" not in caplog.text
    assert TOKEN not in caplog.text


def test_a_mail_that_cannot_be_made_holds_up_nobody(
    server: MailServer, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = outbox(url(server))
    for address in (*ENCODED, "other@example.org"):
        put(delivery, address)
    assert delivery.run() == "3 mails delivered, 3 not yet"
    assert server.recipients[-1] == "other@example.org"
    assert len(waiting(delivery.database)) == 3
    assert delivery.run() is None
    make_due(delivery, created_at=datetime.now(UTC) - timedelta(hours=25))
    assert delivery.run() == "0 mails delivered, 3 not yet"
    assert waiting(delivery.database) == []
    assert "example.org" not in caplog.text


def test_neither_does_one_that_cannot_be_written(outbox: Outbox, tmp_path: Path) -> None:
    delivery = outbox()
    for address in (*ENCODED, "other@example.org"):
        put(delivery, address)
    assert delivery.run() == "3 mails delivered, 3 not yet"
    assert len(list((tmp_path / "outbox").glob("*.eml"))) == 3
    assert len(waiting(delivery.database)) == 3


def test_a_slow_server_is_left_before_the_lease_ends(
    server: MailServer, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine would send them, too."""
    assert deliver.LEASE.total_seconds() > deliver.BATCH_SECONDS + 2 * deliver.TIMEOUT_SECONDS
    delivery = outbox(url(server))
    for number in range(6):
        put(delivery, f"a{number}@example.org")
    server.seconds = 0.3
    with monkeypatch.context() as patch:
        patch.setattr(deliver, "BATCH_SECONDS", 0.7)
        delivery.run()
    assert len(waiting(delivery.database)) >= 3
    server.seconds = 0
    make_due(delivery)
    delivery.run()
    assert set(server.recipients) == {f"a{number}@example.org" for number in range(6)}
    assert waiting(delivery.database) == []


def test_a_mail_is_given_up_after_a_day(outbox: Outbox) -> None:
    delivery = outbox("smtp://127.0.0.1:9")
    put(delivery)
    make_due(delivery, created_at=datetime.now(UTC) - timedelta(hours=25))
    delivery.run()
    assert waiting(delivery.database) == []


def test_what_a_killed_process_had_in_hand_is_delivered(server: MailServer, outbox: Outbox) -> None:
    killed = outbox(url(server))
    put(killed)
    assert len(killed._take()) == 1
    heir = outbox(url(server))
    assert heir.run() is None  # it may still be at it
    make_due(heir)
    heir.run()
    assert len(server.received) == 1


def test_without_a_server_mails_are_files(outbox: Outbox, tmp_path: Path) -> None:
    delivery = outbox()
    put(delivery)
    delivery.run()
    assert waiting(delivery.database) == []
    (file,) = (tmp_path / "outbox").iterdir()
    assert file.suffix == ".eml"
    assert file.stat().st_mode & 0o077 == 0
    mail = message_from_bytes(file.read_bytes(), policy=policy.default)
    assert mail["to"] == "someone@example.org"


def test_what_people_wrote_is_escaped_in_html(server: MailServer, outbox: Outbox) -> None:
    delivery = outbox(url(server))
    with delivery.database.begin() as db:
        post(db, SEALER, "a@example.org", "address_changed", new="<b>x</b>@example.org")
    delivery.run()
    text, html = (part.get_content() for part in server.received[0].iter_parts())
    assert "<b>x</b>" in text
    assert " UTC " in text
    assert "&lt;b&gt;x" in html


def test_another_secret_opens_nothing(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    delivery = outbox()
    put(delivery)
    delivery.sealer = Sealer(b"another")
    assert delivery.run() == "0 mails delivered, 0 not yet"
    assert "another PRICEPULSE_SECRET" in caplog.text
