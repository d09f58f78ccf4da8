"""API keys: shown once, good for what they say and as long as their owner is."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from pricepulse.access import Role
from pricepulse.accounts import keys
from pricepulse.accounts.api_keys import MOST
from pricepulse.accounts.tables import Account, ApiKey, now
from pricepulse.accounts.tokens import BadToken
from pricepulse.audit import Audit
from pricepulse.store import Database
from tests.command import run, serving, until
from tests.intake import BATCHES, CSV, OBSERVATIONS, csv, row
from tests.people import OTHER, PASSWORD, People, refused
from tests.pricepulse.accounts.test_me import code, with_second_factor

KEYS = "/users/me/api-keys"
INGESTED = BATCHES.removeprefix("/api/v1")


def become(site: People, role: str, **changes: Any) -> None:
    with site.database.begin() as db:
        db.execute(update(Account).values(role=role, **changes))


def signed_in_as(site: People, role: str) -> str:
    site.registered()
    become(site, role)
    access: str = site.signed_in()["access_token"]
    return access


def made(site: People, access: str, *scopes: str, **given: Any) -> dict[str, Any]:
    body = {"name": "crawler", "scopes": scopes, "password": PASSWORD}
    answer = site.post(KEYS, access, **body | given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_key_is_shown_once_and_told_of(site: People) -> None:
    access = signed_in_as(site, "operator")
    key = made(site, access, "ingest", "read", "ingest")
    assert re.fullmatch(r"ppk_[0-9a-f]{24}_[0-9A-Za-z]{49}", key["key"])
    assert (key["scopes"], key["expires_at"], key["last_used_at"]) == (
        ["ingest", "read"],
        None,
        None,
    )
    listed = site.send("GET", KEYS, access)
    secret = key.pop("key")
    assert listed.json() == {"items": [key]}
    (letter,) = site.mails()
    assert letter.template == "key_created"
    assert letter.values == {"name": "crawler", "scopes": "ingest, read"}
    with site.database.begin(write=False) as db:
        stored = db.scalars(select(ApiKey)).one()
        told = db.scalars(select(Audit).order_by(Audit.id.desc())).first()
    assert secret.encode() not in stored.hash
    assert told
    assert (told.action, told.target) == ("api_key.create", f"api_key:{key['id']}")
    assert secret not in str(told.detail)
    assert site.send("DELETE", f"{KEYS}/{key['id']}", access).status_code == 204
    refused(site.send("DELETE", f"{KEYS}/{key['id']}", access), 404)
    assert site.audit()[-1] == "api_key.delete"


def test_a_key_takes_the_password_again(site: People) -> None:
    """A stolen access token, good for a quarter of an hour, must not become a key without an end."""
    access = signed_in_as(site, "user")
    body: dict[str, Any] = {"name": "x", "scopes": ["read"]}
    for password in ("", OTHER):
        refused(site.post(KEYS, access, **body, password=password), 422, "/body/password")
    refused(site.post(KEYS, access, **body), 422, "/body/password")
    secret, _ = with_second_factor(site, access)
    refused(site.post(KEYS, access, **body, password=PASSWORD), 422, "/body/code")
    made(site, access, "read", code=code(secret))
    site.mails()
    assert len(site.send("GET", KEYS, access).json()["items"]) == 1


def test_a_new_password_by_mail_takes_keys_away(site: People) -> None:
    """Whoever was in the account does not stay in it by a key; one's own change of password leaves them."""
    access = signed_in_as(site, "user")
    key = made(site, access, "read")["key"]
    body = {"current_password": PASSWORD, "password": OTHER}
    assert site.send("PUT", "/users/me/password", access, **body).status_code == 204
    assert site.send("GET", "/users/me", key).status_code == 200
    site.mails()
    site.post("/auth/forgot-password", email="ann@example.org")
    token = site.token("reset_password")
    assert site.post("/auth/reset-password", token=token, password=PASSWORD).status_code == 204
    (mail,) = site.mails()
    assert (mail.template, mail.values) == ("password_changed", {"by_mail": True})
    until(lambda: site.send("GET", "/users/me", key).status_code == 401, "refused", 1)
    assert site.send("GET", KEYS, site.signed_in()["access_token"]).json() == {"items": []}


def test_keys_open_what_their_scope_says_and_nothing_else(site: People) -> None:
    access = signed_in_as(site, "operator")
    reading, taking = (made(site, access, scope)["key"] for scope in ("read", "ingest"))
    me = site.send("GET", "/users/me", reading)
    assert me.json()["email"] == "ann@example.org"
    settings = site.send("GET", "/users/me/settings", reading)
    assert settings.json() == site.send("GET", "/users/me/settings", access).json()
    assert site.send("GET", INGESTED, taking).status_code == 200
    assert site.send("GET", INGESTED, access).status_code == 200
    told = refused(site.send("GET", INGESTED, reading), 403)
    assert told["detail"] == "this takes an API key with the scope ingest; yours has read"
    refused(site.send("GET", "/users/me", taking), 403)
    # A key makes no keys, ends no sessions, changes no password, though its owner may.
    for method, address in (("GET", KEYS), ("POST", KEYS), ("DELETE", "/users/me/sessions")):
        told = refused(site.send(method, address, reading), 403)
        assert "no API key opens it" in told["detail"]


def test_a_key_never_exceeds_its_owner(site: People) -> None:
    access = signed_in_as(site, "user")
    # How far along the scopes each role comes.
    order = ["read", "sql", "ingest", "admin"]
    for reach, role in enumerate(Role, 1):
        become(site, role)
        for place, scope in enumerate(order):
            body = {"name": "x", "scopes": ["read", scope], "password": PASSWORD}
            answer = site.post(KEYS, access, **body)
            assert answer.status_code == (201 if place < reach else 403), (role, scope)


def test_what_cannot_be_a_key_is_refused(site: People) -> None:
    access = signed_in_as(site, "admin")
    past = (now() - timedelta(seconds=1)).isoformat()
    for wrong, status, pointer in (
        ({"scopes": []}, 400, "/body/scopes"),
        ({"scopes": ["all"]}, 400, "/body/scopes/0"),
        ({"name": ""}, 400, "/body/name"),
        ({"name": "a\nb"}, 400, "/body/name"),
        ({"expires_at": past}, 422, "/body/expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, 400, "/body/expires_at"),
        ({"owner_id": "x"}, 400, "/body"),
        ({"hash": "x"}, 400, "/body"),
    ):
        body: dict[str, Any] = {"name": "x", "scopes": ["read"], "password": PASSWORD} | wrong
        refused(site.post(KEYS, access, **body), status, pointer)
    assert site.send("GET", KEYS, access).json() == {"items": []}
    for _ in range(MOST):
        made(site, access, "read")
    refused(site.post(KEYS, access, name="x", scopes=["read"], password=PASSWORD), 409)


def test_nobody_sees_or_ends_anothers_keys(site: People) -> None:
    site.registered()
    site.registered("bob@example.org")
    key = made(site, site.signed_in()["access_token"], "read")
    bob = site.signed_in("bob@example.org")["access_token"]
    assert site.send("GET", KEYS, bob).json() == {"items": []}
    absent, others = (site.send("DELETE", f"{KEYS}/{i}", bob) for i in ("f" * 24, key["id"]))
    refused(others, 404)
    assert others.text.replace(key["id"], "f" * 24) == absent.text
    assert site.send("GET", "/users/me", key["key"]).status_code == 200


@pytest.mark.parametrize("how", ["deleted", "disabled", "demoted", "account deleted"])
def test_a_key_ends_within_a_second(site: People, how: str) -> None:
    access = signed_in_as(site, "operator")
    key = made(site, access, "ingest")

    def status() -> int:
        return site.send("GET", INGESTED, key["key"]).status_code

    assert status() == 200
    if how == "deleted":
        site.send("DELETE", f"{KEYS}/{key['id']}", access)
    elif how == "account deleted":
        answer = site.send("DELETE", "/users/me", access, password=PASSWORD)
        assert answer.status_code == 204
    else:
        changes = {"disabled_at": now()} if how == "disabled" else {}
        become(site, "operator" if changes else "analyst", **changes)
    until(lambda: status() == (403 if how == "demoted" else 401), how, 1)
    if how == "disabled":
        become(site, "operator", disabled_at=None)
        until(lambda: status() == 200, "enabled again", 1)


def test_a_key_expires(site: People) -> None:
    access = signed_in_as(site, "user")
    key = made(site, access, "read", expires_at=(now() + timedelta(days=1)).isoformat())
    assert site.send("GET", "/users/me", key["key"]).status_code == 200
    with site.database.begin() as db:
        db.execute(update(ApiKey).values(expires_at=now()))
    until(lambda: site.send("GET", "/users/me", key["key"]).status_code == 401, "expired", 1)
    assert "has expired" in site.send("GET", "/users/me", key["key"]).json()["detail"]


def test_wrong_keys_are_refused(site: People) -> None:
    key = made(site, signed_in_as(site, "user"), "read")["key"]
    other = keys.new_key()[1]
    # The id of one key and the secret of another, with a checksum that is right.
    mixed = key[:29] + other[29:-6]
    mixed += keys._checksum(mixed)
    for wrong, told in (
        (key[:-1], "is mistyped or cut off"),
        (key + "A", "is mistyped or cut off"),
        (key.replace("_", "-"), "is not an access token"),
        (key.swapcase(), "is not an access token"),
        (key[:40] + ("A" if key[40] != "A" else "B") + key[41:], "is mistyped or cut off"),
        ("ppk_", "is mistyped or cut off"),
        (other, "is not, or no longer, one of this server"),
        (mixed, "is not, or no longer, one of this server"),
    ):
        problem = refused(site.send("GET", "/users/me", wrong), 401)
        assert told in problem["detail"], wrong
    assert mixed[4:28] not in site.app.state["gate"].api_keys.known


@given(st.text(max_size=90))
def test_no_text_breaks_the_reading_of_a_key(text: str) -> None:
    for each in (text, keys.PREFIX + text):
        with pytest.raises(BadToken):
            keys.id_of(each)


@given(st.integers(0, 85), st.sampled_from(keys.DIGITS))
def test_every_slip_of_one_character_is_found(at: int, digit: str) -> None:
    key_id, text = keys.new_key()
    assert keys.id_of(text) == key_id
    slipped = text[: at % len(text)] + digit + text[at % len(text) + 1 :]
    if slipped != text:
        with pytest.raises(BadToken):
            keys.id_of(slipped)


def test_the_last_use_is_written_once_a_minute(site: People) -> None:
    access = signed_in_as(site, "user")
    key = made(site, access, "read")["key"]

    def last_used() -> str | None:
        found: str | None = site.send("GET", KEYS, access).json()["items"][0]["last_used_at"]
        return found

    site.send("GET", "/users/me", key)
    first = until(last_used, "the first use is written", 2)
    look = site.app.state["gate"].api_keys
    with site.client.portal() as portal:
        for _ in range(3):
            site.send("GET", "/users/me", key)
            portal.call(look.note_uses)
    assert last_used() == first
    with site.database.begin() as db:
        db.execute(update(ApiKey).values(last_used_at=now() - timedelta(minutes=2)))
    site.send("GET", "/users/me", key)
    until(lambda: (last_used() or "") > first, "a later use is written", 2)


def test_a_check_costs_less_than_three_tenths_of_a_millisecond(site: People) -> None:
    key = made(site, signed_in_as(site, "user"), "read")["key"]
    gate = site.app.state["gate"]

    async def timed() -> float:
        rounds = []
        for _ in range(200):
            started = time.perf_counter()
            await gate.check_key(key)
            rounds.append(time.perf_counter() - started)
        return statistics.median(rounds)

    with site.client.portal() as portal:
        assert portal.call(timed) < 0.0003


def test_of_many_at_once_no_more_than_allowed_are_made(site: People) -> None:
    access = signed_in_as(site, "user")
    for _ in range(MOST - 1):
        made(site, access, "read")

    async def at_once() -> list[int]:
        transport = httpx.ASGITransport(site.app)
        head = {"authorization": f"Bearer {access}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"name": "x", "scopes": ["read"], "password": PASSWORD}
            asked = (client.post(f"/api/v1{KEYS}", json=body, headers=head) for _ in range(8))
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    with site.client.portal() as portal:
        assert sorted(portal.call(at_once)) == [201] + [409] * 7


def test_a_key_from_the_command_takes_in_data_in_every_worker(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    crawler = "crawler@example.org"
    with serving(data, "--workers", 2, log=log) as server:
        run(data, "user", "create", crawler, "--role", "operator", stdin=PASSWORD.encode())
        asked = ("user", "key", crawler, "--scope", "ingest")
        made = run(data, *asked, "--scope", "read", "--days", 7)
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()
        too_much = run(data, "user", "key", crawler, "--scope", "admin")
        assert (too_much.returncode, "the role admin" in too_much.stderr) == (2, True)
        head = {"authorization": f"Bearer {key}"}
        body = csv(row("A"))
        base = str(server.client.base_url)
        answer = httpx.post(
            base + OBSERVATIONS, content=body, headers=head | {"content-type": CSV}, trust_env=False
        )
        assert answer.status_code == 201, answer.text
        # Whose it was, if a price turns out to be wrong.
        with Database(f"sqlite:///{data / 'people.sqlite'}").begin(write=False) as db:
            assert answer.json()["source"] == f"http key:{db.scalar(select(ApiKey.id))}"

        def statuses() -> set[int]:
            # Connections of their own, so that either worker may take them.
            return {
                httpx.get(base + BATCHES, headers=head, trust_env=False).status_code
                for _ in range(8)
            }

        assert statuses() == {200}
        run(data, "user", "disable", crawler)
        until(lambda: statuses() == {401}, "refused by every worker", 1.5)
    assert key not in log.read_text()
    assert key.encode() not in (data / "people.sqlite").read_bytes()
