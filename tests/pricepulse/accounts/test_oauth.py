"""Signing in through a provider: the whole way, and who gets to which account."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from pricepulse.accounts import oauth_state, oidc, totp
from pricepulse.accounts.tables import Account, Identity, OAuthReturn, Session, now
from tests.people import OTHER, PASSWORD, People, people, refused
from tests.providers import CLIENT, PLAIN_SECRET, SECRET, OwnProvider, signed_in_at_nanoidp
from tests.sign_in import Visit, query_of, signs_in


def count(site: People, table: type[Any]) -> int:
    with site.database.begin(write=False) as db:
        return db.scalar(select(func.count()).select_from(table)) or 0


def me(site: People, tokens: httpx.Response) -> dict[str, Any]:
    assert tokens.status_code == 200, tokens.text
    found: dict[str, Any] = site.send("GET", "/users/me", tokens.json()["access_token"]).json()
    return found


def test_the_whole_way_with_a_real_provider(
    real_provider: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "oidc_nano_issuer": real_provider,
        "oidc_nano_client_id": CLIENT,
        "oidc_nano_client_secret": PLAIN_SECRET,
        "oidc_nano_trust_email": "yes",
    }
    with people(database, tmp_path, **given) as site:
        (choice,) = site.send("GET", "/auth/oauth").json()["items"]
        assert (choice["provider"], choice["title"]) == ("nano", "Nano")
        first = Visit(site, "nano")
        address = first.begin(f"{choice['start']}?challenge={first.challenge}")
        asked = query_of(address)
        assert asked["code_challenge_method"] == "S256"
        assert asked["scope"] == "openid email profile"
        assert {len(asked[name]) for name in ("state", "nonce", "code_challenge")} == {43}
        back = signed_in_at_nanoidp(address)
        first_code = query_of(back)["code"]
        told = first.come_back(back)
        assert set(told) == {"code"}
        found = me(site, first.exchange(told["code"]))
        assert (found["email"], found["role"]) == ("ann@example.org", "user")
        assert not found["has_password"]
        (mail,) = site.mails()
        assert (mail.to, mail.template) == ("ann@example.org", "identity_changed")

        # A code once used, and one that was given to another sign-in (PKCE, nonce), sign nobody in.
        other, another = Visit(site, "nano"), Visit(site, "nano")
        fresh = query_of(signed_in_at_nanoidp(other.begin()))["code"]
        back = signed_in_at_nanoidp(another.begin())
        assert another.come_back(back.replace(query_of(back)["code"], fresh)) == {
            "error": "refused"
        }
        back = signed_in_at_nanoidp(another.begin())
        used = back.replace(query_of(back)["code"], first_code)
        assert another.come_back(used) == {"error": "refused"}
        assert another.come_back(back) == {"error": "state"}

        # The provider changes its key: the new one is looked for, and it is the same account.
        httpx.post(f"{real_provider}/api/keys/rotate").raise_for_status()
        monkeypatch.setattr(oidc, "LEAST_SECONDS_BETWEEN_KEYS", 0)
        again = Visit(site, "nano")
        told = again.come_back(signed_in_at_nanoidp(again.begin()))
        assert me(site, again.exchange(told["code"]))["id"] == found["id"]
        assert site.mails() == []
        assert site.audit() == [
            "account.create", "identity.link", "session.begin", "oauth.failed", "oauth.failed",
            "session.begin",
        ]  # fmt: skip


def test_a_code_is_good_once_and_for_the_page_that_began(door: People, own: OwnProvider) -> None:
    visit = Visit(door, "own")
    code = visit.through(own)["code"]
    refused(Visit(door, "own").exchange(code), 401)
    assert visit.exchange(code).status_code == 200
    refused(visit.exchange(code), 401)
    assert count(door, Account) == count(door, Identity) == 1


def test_of_exchanges_at_once_one_gets_a_session(door: People, own: OwnProvider) -> None:
    visit = Visit(door, "own")
    body = {"code": visit.through(own)["code"], "verifier": visit.verifier}

    async def at_once() -> list[int]:
        transport = httpx.ASGITransport(door.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            address = "/api/v1/auth/oauth/exchange"
            answers = await asyncio.gather(*(client.post(address, json=body) for _ in range(8)))
        return sorted(answer.status_code for answer in answers)

    with door.client.portal() as portal:
        assert portal.call(at_once) == [200] + [401] * 7
    assert count(door, Session) == 1


def test_a_code_expires(door: People, own: OwnProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth_state, "CODE_SECONDS", -1)
    visit = Visit(door, "own")
    refused(visit.exchange(visit.through(own)["code"]), 401)


def test_what_was_brought_is_sealed_and_goes(door: People, own: OwnProvider) -> None:
    visit = Visit(door, "own")
    code = visit.through(own)["code"]
    with door.database.begin(write=False) as db:
        assert b"ann@" not in (db.scalars(select(OAuthReturn.brought)).one() or b"")
    visit.exchange(code)
    with door.database.begin(write=False) as db:
        assert db.scalars(select(OAuthReturn.brought)).one() is None


def test_a_trusted_provider_leads_to_the_account_with_its_address(
    door: People, own: OwnProvider
) -> None:
    door.registered()
    before = me(door, door.post("/auth/login", email="ann@example.org", password=PASSWORD))
    own.claims = {"email": "ANN@example.org"}
    assert me(door, signs_in(door, "own", own)) == before
    (mail,) = door.mails()
    assert (mail.to, mail.template) == ("ann@example.org", "identity_changed")
    assert mail.values == {"provider": "Own & Co", "on": True}
    assert door.audit() == ["session.begin", "identity.link", "session.begin"]
    # From now on by the subject, whatever the address is.
    own.claims = {"email": "ann@elsewhere.example"}
    assert me(door, signs_in(door, "own", own)) == before
    assert door.mails() == []
    door.signed_in()


UNPROVEN: list[dict[str, Any]] = [
    {"email_verified": False},
    {"email_verified": None},
    {"email_verified": "false"},
    {"email_verified": 1},
    {"email": None},
    {"email": "Ann <ann@example.org>"},
    {"email": ["ann@example.org"]},
]


def test_an_address_that_is_not_proven_leads_nowhere(door: People, own: OwnProvider) -> None:
    door.registered()
    for claims in UNPROVEN:
        own.claims = claims
        told = refused(signs_in(door, "own", own), 409)
        assert told["type"] == "/problems/identity-not-linked", claims
        assert "link it" in told["detail"]
    assert (count(door, Account), count(door, Identity)) == (1, 0)


def test_of_an_untrusted_provider_no_address_counts_and_none_is_told_of(
    door: People, wary: OwnProvider
) -> None:
    """Nobody lays an account out for somebody else's address, and nobody learns who has one."""
    unknown = refused(signs_in(door, "wary", wary), 409)
    door.registered()
    assert refused(signs_in(door, "wary", wary), 409) == unknown
    assert (count(door, Account), count(door, Identity), door.mails()) == (1, 0, [])


def test_an_address_that_changed_hands_is_somebody_else(door: People, own: OwnProvider) -> None:
    signs_in(door, "own", own)
    own.claims = {"sub": "subject-2"}
    told = refused(signs_in(door, "own", own), 409)
    assert "another identity" in told["detail"]
    assert count(door, Identity) == 1


def test_who_registered_somebody_elses_address_before_gains_nothing(
    door: People, own: OwnProvider
) -> None:
    door.post("/auth/register", email="ann@example.org", password=OTHER)
    of_attacker = door.token("verify_address")
    assert me(door, signs_in(door, "own", own))["email"] == "ann@example.org"
    refused(door.verified(of_attacker, OTHER), 422, "/body/token")
    refused(door.post("/auth/login", email="ann@example.org", password=OTHER), 401)


def test_an_issuer_of_the_same_name_knows_other_people(door: People, own: OwnProvider) -> None:
    """The operator points the name at another issuer: its `subject-1` is not ours."""
    signs_in(door, "own", own)
    with door.database.begin() as db:
        db.execute(update(Identity).values(issuer="https://former.example"))
    refused(signs_in(door, "own", own), 409)


def test_a_provider_without_id_tokens(door: People, own: OwnProvider) -> None:
    own.user = {"id": 583231, "login": "ann", "name": None, "email": "shown@example.org"}
    own.emails = [
        {"email": "old@example.org", "primary": False, "verified": True},
        {"email": "ann@example.org", "primary": True, "verified": True},
    ]
    visit = Visit(door, "hub")
    asked = query_of(visit.begin())
    assert (asked["scope"], asked["code_challenge_method"]) == ("read:user user:email", "S256")
    assert "nonce" not in asked
    found = me(door, signs_in(door, "hub", own))
    assert (found["email"], found["name"]) == ("ann@example.org", "ann")
    own.emails = []
    assert me(door, signs_in(door, "hub", own))["id"] == found["id"]
    own.user = {"id": 583232, "login": "bob", "email": "ann@example.org"}
    own.emails = [{"email": "ann@example.org", "primary": True, "verified": False}]
    assert refused(signs_in(door, "hub", own), 409)["type"] == "/problems/identity-not-linked"
    for user in ({}, {"id": True}, {"id": ""}, {"id": "x" * 256}, {"id": 1.5}):
        own.user = user
        assert Visit(door, "hub").through(own) == {"error": "refused"}


def test_user_info_completes_an_id_token(door: People, own: OwnProvider) -> None:
    own.configuration = {"userinfo_endpoint": f"{own.issuer}/user"}
    own.claims = {"email": None, "email_verified": True}
    own.user = {"sub": "subject-1", "email": "ann@example.org"}
    refused(signs_in(door, "own", own), 409)  # what the token says is not said of this address
    own.user["email_verified"] = True
    assert me(door, signs_in(door, "own", own))["email"] == "ann@example.org"
    own.user["sub"] = "subject-2"
    assert Visit(door, "own").through(own) == {"error": "refused"}


def test_the_second_factor_is_asked_for_all_the_same(door: People, own: OwnProvider) -> None:
    door.registered()
    secret = totp.new_secret()
    with door.database.begin() as db:
        db.execute(update(Account).values(totp=door.app.state["sealer"].seal("totp", secret)))
    visit = Visit(door, "own")
    code = visit.through(own)["code"]
    told = refused(visit.exchange(code), 401)
    assert told["type"] == "/problems/second-factor-required"
    assert count(door, Identity) == 0
    right = totp.code_at(secret, int(time.time()) // 30)
    assert visit.exchange(code, second_factor=right).status_code == 200
    visit = Visit(door, "own")
    code = visit.through(own)["code"]
    assert (
        "second factor is wrong"
        in refused(visit.exchange(code, second_factor="000000"), 401)["detail"]
    )
    refused(visit.exchange(code), 401)
    assert door.audit()[-1] == "session.refused"


@pytest.mark.parametrize("linked", [True, False])
def test_its_codes_are_guessed_no_faster_than_at_sign_in(
    database: str, tmp_path: Path, own: OwnProvider, linked: bool
) -> None:
    given = {f"oidc_own_{name}": value for name, value in (
        ("issuer", own.issuer), ("client_id", CLIENT), ("client_secret", SECRET),
        ("trust_email", "true"),
    )}  # fmt: skip
    with people(database, tmp_path, sign_in_limit=3, **given) as site:
        site.registered()
        if linked:
            assert signs_in(site, "own", own).status_code == 200
        with site.database.begin() as db:
            sealed = site.app.state["sealer"].seal("totp", totp.new_secret())
            db.execute(update(Account).values(totp=sealed))
        # Without a code nothing is guessed.
        assert [signs_in(site, "own", own).status_code for _ in range(4)] == [401] * 4
        tried = [signs_in(site, "own", own, second_factor="000000") for _ in range(4)]
        assert [each.status_code for each in tried] == [401] * 3 + [429]
        body = {"email": "ann@example.org", "password": PASSWORD}
        refused(site.post("/auth/login", **body), 429)


def test_a_disabled_account_stays_out(door: People, own: OwnProvider) -> None:
    signs_in(door, "own", own)
    with door.database.begin() as db:
        db.execute(update(Account).values(disabled_at=now()))
    refused(signs_in(door, "own", own), 403)
    assert door.audit()[-1] == "session.refused"
    assert count(door, Session) == 1


def test_the_plain_page_is_there_and_may_run_its_script(door: People) -> None:
    for path in ("/sign-in", "/signed-in"):
        answer = door.client.get(path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert '"/api/v1/auth/oauth"' in answer.text
