"""Identities are linked from the own account, and taken away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from pricepulse.accounts.tables import Identity, Session, now
from tests.people import OTHER, PASSWORD, People, refused
from tests.providers import OwnProvider
from tests.sign_in import Visit, begins_link, proves_link, signs_in


def linked(site: People, token: str) -> list[str]:
    items: list[dict[str, Any]] = site.send("GET", "/users/me/identities", token).json()["items"]
    return [each["provider"] for each in items]


def link(site: People, own: OwnProvider, token: str, **confirmed: str) -> None:
    visit = Visit(site, "wary")
    begun = begins_link(visit, token, **confirmed)
    assert begun.status_code == 200, begun.text
    told = visit.through(own, begun.json()["url"])
    assert told.pop("linking") == "wary"
    answer = proves_link(visit, token, told["code"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["provider"] == "wary"


def test_an_identity_is_linked_and_then_signs_in(door: People, wary: OwnProvider) -> None:
    door.registered()
    token = door.signed_in()["access_token"]
    wary.claims = {"email": "other@elsewhere.example", "email_verified": False}
    link(door, wary, token, password=PASSWORD)
    assert linked(door, token) == ["wary"]
    (mail,) = door.mails()
    assert (mail.to, mail.template, mail.values["on"]) == (
        "ann@example.org",
        "identity_changed",
        True,
    )
    found = signs_in(door, "wary", wary).json()
    assert door.send("GET", "/users/me", found["access_token"]).json()["email"] == "ann@example.org"
    link(door, wary, token, password=PASSWORD)  # again: nothing happens
    assert door.mails() == []

    answer = door.send("DELETE", "/users/me/identities/wary", token, password=PASSWORD)
    assert answer.status_code == 204
    assert linked(door, token) == []
    assert [mail.values["on"] for mail in door.mails()] == [False]
    refused(signs_in(door, "wary", wary), 409)
    assert "identity.link" in door.audit()
    assert door.audit()[-1] == "identity.unlink"


def test_linking_takes_the_password_again(door: People, wary: OwnProvider) -> None:
    door.registered()
    token = door.signed_in()["access_token"]
    refused(begins_link(Visit(door, "wary"), token, password=OTHER), 422, "/body/password")
    refused(begins_link(Visit(door, "wary"), token), 422, "/body/password")
    refused(begins_link(Visit(door, "nobody"), token, password=PASSWORD), 404)


def test_who_is_led_to_somebody_elses_link_gives_nothing_away(
    door: People, wary: OwnProvider
) -> None:
    """Mallory begins a link and has Ann's browser end it: Ann's identity must not become a way into
    Mallory's account, nor Mallory's one into Ann's."""
    door.registered("mallory@example.org")
    door.registered()
    mallory = door.signed_in("mallory@example.org")["access_token"]
    ann = door.signed_in()["access_token"]
    visit = Visit(door, "wary")
    url = begins_link(visit, mallory, password=PASSWORD).json()["url"]
    code = visit.through(wary, url)["code"]
    refused(proves_link(visit, ann, code), 422, "/body/code")
    refused(visit.exchange(code), 401)
    refused(proves_link(Visit(door, "wary"), mallory, code), 422, "/body/code")  # no verifier
    assert linked(door, ann) == linked(door, mallory) == []
    # A code of a sign-in links nothing either, and a ticket is good for its own challenge only.
    visit = Visit(door, "wary")
    refused(proves_link(visit, ann, visit.through(wary)["code"]), 422, "/body/code")
    other = Visit(door, "wary")
    changed = url.partition("?")[0] + f"?challenge={other.challenge}&" + url.partition("&")[2]
    assert other.open(changed).headers["location"].endswith("#error=state")


def test_an_identity_signs_in_to_one_account(door: People, wary: OwnProvider) -> None:
    door.registered()
    link(door, wary, door.signed_in()["access_token"], password=PASSWORD)
    door.registered("bob@example.org")
    bob = door.signed_in("bob@example.org")["access_token"]
    visit = Visit(door, "wary")
    told = visit.through(wary, begins_link(visit, bob, password=PASSWORD).json()["url"])
    assert "another account" in refused(proves_link(visit, bob, told["code"]), 409)["detail"]
    wary.claims = {"sub": "subject-2"}
    ann = door.signed_in()["access_token"]
    visit = Visit(door, "wary")
    told = visit.through(wary, begins_link(visit, ann, password=PASSWORD).json()["url"])
    assert "take it away first" in refused(proves_link(visit, ann, told["code"]), 409)["detail"]


def test_the_last_way_to_sign_in_stays(door: People, own: OwnProvider, wary: OwnProvider) -> None:
    token = signs_in(door, "own", own).json()["access_token"]
    refused(door.send("DELETE", "/users/me/identities/wary", token, password=""), 404)
    refused(door.send("DELETE", "/users/me/identities/own", token, password=""), 409)
    link(door, wary, token)
    assert door.send("DELETE", "/users/me/identities/own", token, password="").status_code == 204
    refused(door.send("DELETE", "/users/me/identities/wary", token, password=""), 409)
    assert linked(door, token) == ["wary"]


def test_without_a_password_a_fresh_sign_in_confirms(door: People, own: OwnProvider) -> None:
    token = signs_in(door, "own", own).json()["access_token"]
    with door.database.begin() as db:
        db.execute(update(Session).values(created_at=now() - timedelta(minutes=11)))
    told = refused(door.send("DELETE", "/users/me", token, password="guess"), 422, "/body/password")
    assert "sign in anew" in told["detail"]
    refused(begins_link(Visit(door, "wary"), token), 422, "/body/password")
    token = signs_in(door, "own", own).json()["access_token"]
    assert door.send("DELETE", "/users/me", token, password="").status_code == 204
    with door.database.begin(write=False) as db:
        assert list(db.scalars(select(Identity.subject))) == []


def test_a_new_password_by_mail_takes_identities_away(door: People, wary: OwnProvider) -> None:
    """Whoever was in the account and linked an identity of theirs does not stay in it by that."""
    door.registered()
    link(door, wary, door.signed_in()["access_token"], password=PASSWORD)
    door.mails()
    door.post("/auth/forgot-password", email="ann@example.org")
    token = door.token("reset_password")
    assert door.post("/auth/reset-password", token=token, password=OTHER).status_code == 204
    refused(signs_in(door, "wary", wary), 409)
