"""Neither words nor time tell whether an address has an account."""

from __future__ import annotations

import io
import json
import statistics
import time
import zipfile
from collections.abc import Callable
from functools import partial

import argon2
import httpx
import pytest
from sqlalchemy import update

from pricepulse.accounts.passwords import NOBODYS, Hasher
from pricepulse.accounts.tables import Account, now
from tests.people import OTHER, PASSWORD, People, refused

ROUNDS = 500  # 1,000 sign-ins


def differ(known: Callable[[], httpx.Response], unknown: Callable[[], httpx.Response]) -> float:
    """Seconds between the medians, asked in turns; the answers are the same but for the request's id."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        answers = []
        for times, ask in zip(took, (known, unknown), strict=True):
            started = time.perf_counter()
            answers.append(ask())
            times.append(time.perf_counter() - started)
        first, second = answers
        assert (first.status_code, first.content) == (second.status_code, second.content)
        ignored = {"x-request-id", "date"}
        assert {k: v for k, v in first.headers.items() if k not in ignored} == {
            k: v for k, v in second.headers.items() if k not in ignored
        }
    return abs(statistics.median(took[0]) - statistics.median(took[1]))


def test_where_there_is_no_account_a_hash_of_the_same_cost_is_verified() -> None:
    assert not Hasher().is_outdated(NOBODYS)


@pytest.mark.parametrize(
    "who", ["known", "unknown", "disabled", "without a password", "no address"]
)
def test_every_sign_in_verifies_one_hash(
    site: People, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    verified = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, stored: str, password: str) -> bool:
        verified.append(argon2.extract_parameters(stored))
        return verify(self, stored, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    if who not in {"unknown", "no address"}:
        site.registered()
    with site.database.begin() as db:
        if who == "disabled":
            db.execute(update(Account).values(disabled_at=now()))
        elif who == "without a password":
            db.execute(update(Account).values(password_hash=""))
    email = "ann" if who == "no address" else "ann@example.org"
    refused(site.post("/auth/login", email=email, password=OTHER), 401)
    assert verified == [argon2.extract_parameters(NOBODYS)]


def test_known_and_unknown_addresses_take_as_long(own_site: People) -> None:
    """With cheap hashes, so that what is left to differ would show; that each has one is the test above."""
    cheap = argon2.PasswordHasher(memory_cost=64, time_cost=1, parallelism=1)
    hasher = own_site.app.state["hasher"]
    hasher._argon2 = cheap
    hasher.nobodys = cheap.hash("nobody's")
    own_site.registered()
    with own_site.database.begin() as db:
        db.execute(update(Account).values(password_hash=cheap.hash(PASSWORD)))

    def sign_in(email: str) -> httpx.Response:
        return own_site.post("/auth/login", email=email, password=OTHER)

    def register(email: str) -> httpx.Response:
        return own_site.post("/auth/register", email=email, password=PASSWORD)

    def forgotten(email: str) -> httpx.Response:
        return own_site.post("/auth/forgot-password", email=email)

    for ask in (sign_in, register, forgotten):
        known, unknown = partial(ask, "ann@example.org"), partial(ask, "bob@example.org")
        assert differ(known, unknown) < 0.002, ask.__name__


def test_the_export_does_not_tell_whether_an_address_is_taken(site: People) -> None:
    site.registered()
    site.registered("bob@example.org")
    access = site.signed_in()["access_token"]

    def exported(email: str) -> list[dict[str, object]]:
        answer = site.send("PUT", "/users/me/email", access, email=email, password=PASSWORD)
        assert answer.status_code == 202
        archive = zipfile.ZipFile(io.BytesIO(site.send("GET", "/users/me/export", access).content))
        links: list[dict[str, object]] = json.loads(archive.read("link.json"))
        return [each for each in links if each["email"] == email]

    (taken,), (free,) = exported("bob@example.org"), exported("eve@example.org")
    told_apart = {name for name in taken | free if taken.get(name) != free.get(name)}
    assert told_apart <= {"email", "email_key", "expires_at"}
