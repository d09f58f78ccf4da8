"""Access tokens: what is refused; refresh tokens: one family, whoever asks how often."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import func, select, update

from pricepulse.accounts.gate import LOOK_SECONDS
from pricepulse.accounts.sessions import GRACE, SOON
from pricepulse.accounts.tables import Account, RefreshToken, Session, SigningKey, new_id, now
from pricepulse.accounts.tokens import hashed, new_signing_key, new_token
from pricepulse.store import Store
from tests.command import until
from tests.people import OTHER, PASSWORD, People, refused


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def part(value: dict[str, Any]) -> str:
    return b64(json.dumps(value, separators=(",", ":")).encode())


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, signature = token.split(".")
    pad = "=="
    return (
        json.loads(base64.urlsafe_b64decode(header + pad)),
        json.loads(base64.urlsafe_b64decode(claims + pad)),
        signature,
    )


def signed(header: dict[str, Any], claims: dict[str, Any], key: Any) -> str:
    return jwt.encode(header, claims, key, algorithms=[header["alg"]], default_type=None)


def our_key(site: People) -> OctKey:
    with site.database.begin(write=False) as db:
        row = db.scalars(select(SigningKey)).one()
    secret = site.app.state["sealer"].unseal("signing key", row.secret)
    return OctKey.import_key(secret, {"kid": row.kid})


def test_an_access_token_says_what_it_must(site: People) -> None:
    site.registered()
    header, claims, _ = parts(site.signed_in()["access_token"])
    assert header == {"typ": "at+jwt", "alg": "HS256", "kid": our_key(site).kid}
    assert set(claims) == {"iss", "aud", "sub", "sid", "role", "jti", "iat", "exp"}
    assert claims["exp"] - claims["iat"] == 900


def test_forged_tokens_are_refused(site: People) -> None:
    site.registered()
    good = site.signed_in()["access_token"]
    header, claims, signature = parts(good)
    ours = our_key(site)
    rsa = RSAKey.generate_key(2048)
    public = rsa.as_pem(private=False)
    swapped = f"{part(header)}.{part(claims)}"

    def without(name: str) -> str:
        return signed(header, {k: v for k, v in claims.items() if k != name}, ours)

    def other(**given: Any) -> str:
        return signed(header, claims | given, ours)

    forged = {
        "alg none": f"{part(header | {'alg': 'none'})}.{part(claims)}.",
        "alg none, signed": f"{part(header | {'alg': 'none'})}.{part(claims)}.{signature}",
        "no alg": f"{part({'typ': 'at+jwt', 'kid': ours.kid})}.{part(claims)}.{signature}",
        "RS256": signed(header | {"alg": "RS256"}, claims, rsa),
        "HS256 with a public RSA key": f"{swapped}.{b64(hmac.digest(public, swapped.encode(), 'sha256'))}",
        "HS512 with our key": signed(header | {"alg": "HS512"}, claims, ours),
        "foreign kid": signed(header | {"kid": "other"}, claims, ours),
        "no kid": signed({"alg": "HS256", "typ": "at+jwt"}, claims, ours),
        "jku": f"{part(header | {'jku': 'https://evil.example/keys'})}.{part(claims)}.{signature}",
        "jwk": f"{part(header | {'jwk': {'kty': 'oct', 'k': 'AA'}})}.{part(claims)}.{signature}",
        "crit": f"{part(header | {'crit': ['exp']})}.{part(claims)}.{signature}",
        "typ JWT": signed(header | {"typ": "JWT"}, claims, ours),
        "other key": signed(header, claims, OctKey.generate_key(256)),
        "aud": other(aud="another"),
        "aud as list": other(aud=["pricepulse", "another"]),
        "iss": other(iss="https://evil.example"),
        "exp in the past": other(exp=int(time.time()) - 1),
        "exp as text": other(exp=str(claims["exp"])),
        "iat in the future": other(iat=int(time.time()) + 60),
        "another field": other(admin=True),
        "changed claims": good.replace(good.split(".")[1], part(claims | {"role": "admin"})),
        "cut off": good[:-2],
        "two parts": good.rpartition(".")[0],
        "empty": "x",
        "long": good + "A" * 5000,
        **{f"no {name}": without(name) for name in claims},
    }
    for name, token in forged.items():
        told = refused(site.send("GET", "/users/me", token), 401)
        assert token not in json.dumps(told), name
    assert site.send("GET", "/users/me", good).status_code == 200
    refused(site.send("GET", "/users/me"), 401)


def test_tokens_serve_one_purpose(site: People) -> None:
    site.registered()
    tokens = site.signed_in()
    refused(site.send("GET", "/users/me", tokens["refresh_token"]), 401)
    told = refused(site.post("/auth/refresh", refresh_token=tokens["access_token"][:256]), 401)
    assert "error=" not in told["detail"]
    answer = site.client.get(f"/api/v1/users/me?access_token={tokens['access_token']}")
    assert answer.status_code in {400, 401}
    assert site.post("/auth/refresh", refresh_token=tokens["refresh_token"]).status_code == 200


def test_fifty_refreshes_at_once_are_one_family(site: People) -> None:
    site.registered()
    token = site.signed_in()["refresh_token"]

    async def at_once() -> list[httpx.Response]:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            address, body = "/api/v1/auth/refresh", {"refresh_token": token}
            return await asyncio.gather(*(client.post(address, json=body) for _ in range(50)))

    with site.client.portal() as portal:
        answers = portal.call(at_once)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    with site.database.begin(write=False) as db:
        assert db.scalar(select(func.count()).select_from(Session)) == 1
        unused = select(func.count()).where(RefreshToken.used_at.is_(None))
        assert db.scalar(unused) == 1
    following = answers[0].json()["refresh_token"]
    assert site.post("/auth/refresh", refresh_token=following).status_code == 200


def test_sign_out_and_refresh_at_once_do_not_block_each_other(site: People) -> None:
    """Both lock the session first; in two orders PostgreSQL ends one of them after a second."""
    site.registered()
    tokens = [new_token("ppr_") for _ in range(30)]
    with site.database.begin() as db:
        account_id = db.scalars(select(Account.id)).one()
        for token in tokens:
            session = Session(id=new_id(), account_id=account_id, address="", agent="",
                              expires_at=now() + timedelta(days=1))  # fmt: skip
            db.add(session)
            db.flush()
            db.add(RefreshToken(hash=hashed(token), session_id=session.id))

    async def at_once(token: str) -> list[int]:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [
                client.post(f"/api/v1/auth/{each}", json={"refresh_token": token})
                for each in ("refresh", "logout", "refresh")
            ]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    began = time.monotonic()
    with site.client.portal() as portal:
        for token in tokens:
            first, out, second = portal.call(at_once, token)
            assert out == 204
            assert {first, second} <= {200, 401}
    assert time.monotonic() - began < 15
    with site.database.begin(write=False) as db:
        assert db.scalar(select(func.count()).select_from(Session)) == 0


def test_a_lost_answer_locks_nobody_out(site: People) -> None:
    site.registered()
    token = site.signed_in()["refresh_token"]
    lost = site.post("/auth/refresh", refresh_token=token).json()["refresh_token"]
    again = site.post("/auth/refresh", refresh_token=token).json()["refresh_token"]
    assert again == lost
    newest = site.post("/auth/refresh", refresh_token=lost).json()["refresh_token"]
    # A slow tab that still has the first one is led to the newest.
    assert site.post("/auth/refresh", refresh_token=token).json()["refresh_token"] == newest


def test_a_stolen_token_ends_the_session_for_both(site: People) -> None:
    site.registered()
    first = site.signed_in()
    stolen = first["refresh_token"]
    mine = site.post("/auth/refresh", refresh_token=stolen).json()
    with site.database.begin() as db:
        used = RefreshToken.used_at.is_not(None)
        db.execute(update(RefreshToken).where(used).values(used_at=now() - GRACE * 1.1))
    refused(site.post("/auth/refresh", refresh_token=stolen), 401)
    refused(site.post("/auth/refresh", refresh_token=mine["refresh_token"]), 401)
    until(
        lambda: site.send("GET", "/users/me", mine["access_token"]).status_code == 401, "ended", 1
    )
    assert site.audit()[-1] == "session.token_reused"


@pytest.mark.parametrize("what", ["idle", "absolute"])
def test_a_session_ends_by_itself(site: People, what: str) -> None:
    site.registered()
    token = site.signed_in()["refresh_token"]
    with site.database.begin() as db:
        if what == "idle":
            db.execute(update(RefreshToken).values(issued_at=now() - timedelta(days=31)))
        else:
            db.execute(update(Session).values(expires_at=now() - timedelta(seconds=1)))
    refused(site.post("/auth/refresh", refresh_token=token), 401)


def test_sign_out_takes_effect_within_a_second(site: People) -> None:
    site.registered()
    gone, kept = site.signed_in(), site.signed_in()
    assert site.post("/auth/logout", refresh_token=gone["refresh_token"]).status_code == 204
    assert site.post("/auth/logout", refresh_token=gone["refresh_token"]).status_code == 204
    refused(site.post("/auth/refresh", refresh_token=gone["refresh_token"]), 401)
    access = gone["access_token"]
    until(
        lambda: site.send("GET", "/users/me", access).status_code == 401,
        "the access token is refused",
        LOOK_SECONDS + 0.5,
    )
    told = refused(site.send("GET", "/users/me", access), 401)
    assert "session that has ended" in told["detail"]
    assert site.send("GET", "/users/me", kept["access_token"]).status_code == 200


def test_a_change_of_password_ends_the_other_sessions(site: People) -> None:
    site.registered()
    other, mine = site.signed_in(), site.signed_in()
    body = {"current_password": PASSWORD, "password": OTHER}
    answer = site.send("PUT", "/users/me/password", mine["access_token"], **body)
    assert answer.status_code == 204, answer.text
    until(
        lambda: site.send("GET", "/users/me", other["access_token"]).status_code == 401, "ended", 1
    )
    assert site.send("GET", "/users/me", mine["access_token"]).status_code == 200
    refused(site.post("/auth/refresh", refresh_token=other["refresh_token"]), 401)
    assert [mail.template for mail in site.mails()] == ["password_changed"]
    refused(site.post("/auth/login", email="ann@example.org", password=PASSWORD), 401)
    site.signed_in(password=OTHER)


def test_a_new_key_signs_soon_and_the_old_one_still_counts(own_site: People) -> None:
    own_site.registered()
    old = own_site.signed_in()["access_token"]
    with own_site.database.begin() as db:
        key = new_signing_key(own_site.app.state["sealer"])
        key.created_at = now() - timedelta(seconds=11)
        db.add(key)
        db.flush()
        kid = key.kid

    def signs() -> str | None:
        token: str = own_site.signed_in()["access_token"]
        return token if parts(token)[0]["kid"] == kid else None

    new = until(signs, "the new key signs", 3)
    for token in (old, new):
        assert own_site.send("GET", "/users/me", token).status_code == 200


def test_who_cannot_be_checked_does_not_get_in(own_site: People) -> None:
    own_site.registered()
    access = own_site.signed_in()["access_token"]
    gate = own_site.app.state["gate"]
    there, gate.store = gate.store, Store("postgresql://nobody@127.0.0.1:9/nothing")

    def a_second_later() -> httpx.Response:
        gate._read_at = float("-inf")
        return own_site.send("GET", "/users/me", access)

    # A look that began before may still succeed.
    until(lambda: a_second_later().status_code == 503, "nobody gets in", 5)
    assert "cannot be reached" in refused(a_second_later(), 503)["detail"]
    gate.store = there
    assert own_site.send("GET", "/users/me", access).status_code == 200


def test_nor_does_who_is_waited_for_in_vain(
    own_site: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database behind a route that is gone says nothing at all."""
    own_site.registered()
    access = own_site.signed_in()["access_token"]
    gate = own_site.app.state["gate"]
    monkeypatch.setattr(gate.looking, "seconds", 0.2)

    @asynccontextmanager
    async def silent(*, write: bool) -> AsyncIterator[None]:
        await asyncio.sleep(3)
        yield

    there = gate.store.begin
    monkeypatch.setattr(gate.store, "begin", silent)

    def a_second_later() -> tuple[int, float]:
        gate._read_at = float("-inf")
        began = time.monotonic()
        answer = own_site.client.get(
            "/api/v1/users/me/api-keys", headers={"authorization": f"Bearer {access}"}
        )
        return answer.status_code, time.monotonic() - began

    until(lambda: a_second_later()[0] == 503, "nobody gets in", 5)
    # Nor does anybody wait for the same again.
    assert sum(a_second_later()[1] for _ in range(10)) < 2
    monkeypatch.setattr(gate.store, "begin", there)
    until(lambda: a_second_later()[0] == 200, "it is there again", 10)


def test_a_family_of_tokens_grows_slowly(site: People) -> None:
    """Else whoever shows the first is a walk along all of them, with the write lock held."""
    site.registered()
    first = token = site.signed_in()["refresh_token"]
    for _ in range(20):
        answer = site.post("/auth/refresh", refresh_token=token)
        assert answer.status_code == 200
        token = answer.json()["refresh_token"]
    with site.database.begin(write=False) as db:
        assert (db.scalar(select(func.count()).select_from(RefreshToken)) or 0) <= 6
    assert site.post("/auth/refresh", refresh_token=first).json()["refresh_token"] == token
    earlier = {"issued_at": now() - SOON}
    with site.database.begin() as db:
        db.execute(update(RefreshToken).where(RefreshToken.used_at.is_(None)).values(earlier))
    assert site.post("/auth/refresh", refresh_token=token).json()["refresh_token"] != token
