"""Accounts are made by links in mails, and nobody learns whether one exists."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from pricepulse.accounts.passwords import Hasher, is_common
from pricepulse.accounts.tables import Account, Link, now
from pricepulse.mail import Mail
from tests.people import OTHER, PASSWORD, People, refused


def accounts(site: People) -> int:
    with site.database.begin(write=False) as db:
        return db.scalar(select(func.count()).select_from(Account)) or 0


def test_an_account_begins_with_the_link(site: People) -> None:
    answer = site.post("/auth/register", email="Ann@Example.org", password=PASSWORD, name="Ann")
    assert answer.status_code == 202
    assert accounts(site) == 0
    refused(site.post("/auth/login", email="ann@example.org", password=PASSWORD), 401)
    token = site.token("verify_address")
    assert site.verified(token).json() == {"email": "Ann@example.org"}
    refused(site.verified(token), 422, "/body/token")
    tokens = site.signed_in("aNN@EXAMPLE.ORG")
    me = site.send("GET", "/users/me", tokens["access_token"]).json()
    assert (me["email"], me["name"], me["role"]) == ("Ann@example.org", "Ann", "user")
    assert site.audit() == ["account.ask", "session.refused", "account.create", "session.begin"]


def test_a_second_registration_looks_the_same_and_tells_only_the_owner(site: People) -> None:
    first = site.post("/auth/register", email="ann@example.org", password=PASSWORD)
    site.verified()
    again = site.post("/auth/register", email="ANN@example.org", password=OTHER)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    (mail,) = site.mails()
    assert (mail.to, mail.template, mail.values) == ("ANN@example.org", "already_registered", {})
    refused(site.post("/auth/login", email="ann@example.org", password=OTHER), 401)


def test_of_two_registrations_of_one_address_one_account_comes(site: People) -> None:
    for password in (OTHER, PASSWORD):
        assert (
            site.post("/auth/register", email="ann@example.org", password=password).status_code
            == 202
        )
    of_thief, of_owner = (str(mail.values["token"]) for mail in site.mails())
    assert site.verified(of_owner).status_code == 200
    refused(site.verified(of_thief, OTHER), 422, "/body/token")
    assert accounts(site) == 1
    site.signed_in()
    refused(site.post("/auth/login", email="ann@example.org", password=OTHER), 401)


def test_who_registers_somebody_elses_address_gains_nothing(site: People) -> None:
    """The owner opens the stranger's link, which looks like the one that she waits for."""
    site.post("/auth/register", email="ann@example.org", password=OTHER)
    of_thief = site.token("verify_address")
    site.post("/auth/register", email="ann@example.org", password=PASSWORD)
    of_owner = site.token("verify_address")
    for password in (PASSWORD, ""):
        told = refused(site.verified(of_thief, password), 422, "/body/password")
        assert "the password that was given when the account was asked for" in told["detail"]
    refused(site.post("/auth/verify-email", token=of_thief), 422, "/body/password")
    assert accounts(site) == 0
    # A slip of the hand uses nothing up.
    refused(site.verified(of_owner, PASSWORD + "x"), 422, "/body/password")
    assert site.verified(of_owner).status_code == 200
    refused(site.post("/auth/login", email="ann@example.org", password=OTHER), 401)
    site.signed_in()


def test_registrations_at_once_are_one_account(site: People) -> None:
    async def at_once(bodies: list[dict[str, str]], address: str) -> list[int]:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = await asyncio.gather(*(client.post(address, json=each) for each in bodies))
        return sorted(answer.status_code for answer in answers)

    def call(*given: Any) -> list[int]:
        with site.client.portal() as portal:
            found: list[int] = portal.call(at_once, *given)
            return found

    body = {"email": "ann@example.org", "password": PASSWORD}
    assert call([body] * 4, "/api/v1/auth/register") == [202] * 4
    given = {"password": PASSWORD}
    tokens = [given | {"token": str(mail.values["token"])} for mail in site.mails()]
    assert call(tokens, "/api/v1/auth/verify-email") == [200, 422, 422, 422]
    assert accounts(site) == 1


def test_a_link_expires(site: People) -> None:
    site.post("/auth/register", email="ann@example.org", password=PASSWORD)
    with site.database.begin() as db:
        db.execute(update(Link).values(expires_at=now() - timedelta(seconds=1)))
    refused(site.verified(), 422, "/body/token")


BAD_PASSWORDS = {
    "short": "has 5 characters; it takes 15",
    "ﬀﬀﬀﬀﬀﬀﬀ": "has 14 characters",  # seven ligatures; NFKC makes them letters
    "p" * 129: "has more than 128 characters",
    "passwordpassword": "tried first",
    "qwertyuiopasdfgh": "tried first",
    "password12345678": "tried first",
    "PASSWORDpassword": "tried first",
    "abcdefghabcdefgh": "tried first",
    "ann.smith@example.org1": "your name or address",
}


def test_bad_passwords_are_refused_with_the_reason(site: People) -> None:
    for password, told in BAD_PASSWORDS.items():
        answer = site.post("/auth/register", email="ann.smith@example.org", password=password)
        assert told in refused(answer, 422, "/body/password")["detail"]
        assert password not in answer.text
    assert site.mails() == []


def test_what_is_no_common_password() -> None:
    assert not is_common("four unrelated quiet words")
    assert not is_common("ein ganz normaler satz ohne zahlen")
    assert not is_common("zq8#kd0!vbn2lxpw")


def test_a_megabyte_of_password_costs_nothing(
    site: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> str:
        raise AssertionError("hashed")

    monkeypatch.setattr(Hasher, "hash", never)
    monkeypatch.setattr(Hasher, "verify", never)
    for address in ("/auth/register", "/auth/login"):
        refused(site.post(address, email="ann@example.org", password="x" * 1_000_000), 413)
        refused(site.post(address, email="ann@example.org", password="x" * 10_000), 400)


def test_what_is_no_address_is_refused(site: People) -> None:
    for email in (
        "", "ann", "ann@", "@example.org", "аnn@example.org", "a@b.org\nBcc: c@d.org", "a b@c.org",
        "Ann <ann@example.org>", "ann@[127.0.0.1]", "a" * 65 + "@example.org",
    ):  # fmt: skip
        answer = site.post("/auth/register", email=email, password=PASSWORD)
        assert answer.status_code in {400, 422}, email
        assert answer.json()["errors"][0]["pointer"] == "/body/email"
    assert site.mails() == []


def test_a_domain_that_looks_like_another_is_another(site: People) -> None:
    site.registered()
    site.post("/auth/register", email="ann@exаmple.org", password=PASSWORD)  # a Cyrillic а
    site.verified()
    with site.database.begin(write=False) as db:
        emails = set(db.scalars(select(Account.email)))
    assert emails == {"ann@example.org", "ann@xn--exmple-4nf.org"}


def test_unknown_fields_are_refused(site: People) -> None:
    for field in ("role", "owner_id", "id", "disabled_at", "password_hash"):
        body = {"email": "ann@example.org", "password": PASSWORD, field: "admin"}
        refused(site.post("/auth/register", **body), 400, "/body")
    assert site.mails() == []


def test_a_forgotten_password_is_replaced(site: People) -> None:
    site.registered()
    before = site.signed_in()
    answer = site.post("/auth/forgot-password", email="ann@example.org")
    token = site.token("reset_password")
    unknown = site.post("/auth/forgot-password", email="nobody@example.org")
    assert (answer.status_code, answer.json()) == (unknown.status_code, unknown.json())
    assert [mail.template for mail in site.mails()] == ["no_account"]
    refused(site.post("/auth/reset-password", token=token, password="short"), 422, "/body/password")
    assert site.post("/auth/reset-password", token=token, password=OTHER).status_code == 204
    assert [mail.template for mail in site.mails()] == ["password_changed"]
    refused(site.post("/auth/reset-password", token=token, password=PASSWORD), 422, "/body/token")
    refused(site.post("/auth/login", email="ann@example.org", password=PASSWORD), 401)
    refused(site.post("/auth/refresh", refresh_token=before["refresh_token"]), 401)
    site.signed_in(password=OTHER)


def test_a_token_of_one_kind_does_nothing_else(site: People) -> None:
    site.registered()
    site.post("/auth/forgot-password", email="ann@example.org")
    token = site.token("reset_password")
    refused(site.post("/auth/verify-email", token=token), 422, "/body/token")
    site.post("/auth/register", email="bob@example.org", password=PASSWORD)
    token = site.token("verify_address")
    refused(site.post("/auth/reset-password", token=token, password=OTHER), 422, "/body/token")


def test_a_mail_is_sealed_while_it_waits(site: People) -> None:
    site.post("/auth/register", email="ann@example.org", password=PASSWORD)
    with site.database.begin(write=False) as db:
        (letter,) = db.scalars(select(Mail.letter))
    assert b"ann@" not in letter
