"""Guesses are slowed down for accounts and addresses; owners get in; nothing tells who has an account."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from pricepulse.accounts.passwords import NOBODYS, Hasher
from pricepulse.accounts.throttle import MAILBOX, PER_ADDRESS
from pricepulse.errors import UnavailableError
from tests.databases import Databases
from tests.people import OTHER, PASSWORD, People, people, refused
from tests.pricepulse.accounts.test_me import with_second_factor

LIMIT = 3
ANN, BOB = "ann@example.org", "bob@example.org"
HOME, AWAY = "192.0.2.1", "198.51.100.1"


class Throttled(People):
    def ask(self, place: str, address: str, times: int = 1, **body: Any) -> list[httpx.Response]:
        """So many requests at once from one place."""

        async def at_once() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app, client=(place, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                asked = (client.post(f"/api/v1{address}", json=body) for _ in range(times))
                return await asyncio.gather(*asked)

        with self.client.portal() as portal:
            return portal.call(at_once)

    def sign_in(self, place: str, email: str = ANN, password: str = PASSWORD, **of: Any) -> int:
        (answer,) = self.ask(place, "/auth/login", email=email, password=password, **of)
        return answer.status_code


@pytest.fixture(scope="module")
def sites(
    all_databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Throttled]]:
    """By database and by where limits are counted."""
    with ExitStack() as stack:

        def made(kind: str, store: str) -> Throttled:
            folder, url = tmp_path_factory.mktemp(kind), all_databases.migrated(kind)
            given = {"sign_in_limit": LIMIT, "rate_limit_store": store, "rate_limit": 1000}
            site = stack.enter_context(people(url, folder, **given))
            return Throttled(site.client, site.database, site.settings, site.app)

        kinds = (("sqlite", "memory"), ("sqlite", "database"), ("postgresql", "database"))
        yield {" ".join(each): made(*each) for each in kinds}


@pytest.fixture(params=["sqlite memory", "sqlite database", "postgresql database"])
def site(request: pytest.FixtureRequest, sites: dict[str, Throttled]) -> Throttled:
    found = sites[request.param]
    found.forget_everybody()
    counters = found.app.state["counters"]
    (counters.full_at if "memory" in request.param else counters.held).clear()
    return found


def told(answer: httpx.Response) -> str:
    return re.sub(r"\d+ s\b", "N s", answer.json()["detail"])


def test_strangers_wait_and_the_owner_does_not(site: Throttled) -> None:
    site.registered()
    assert site.sign_in(HOME) == 200
    words = []
    for email in (ANN, BOB):  # who has an account, and who has none
        tried = [f"203.0.113.{number}" for number in range(LIMIT + 2)]
        answers = [
            site.ask(place, "/auth/login", email=email, password=OTHER)[0] for place in tried
        ]
        assert [each.status_code for each in answers] == [401] * LIMIT + [429] * 2
        assert 800 < int(answers[-1].headers["retry-after"]) <= 900
        assert "ratelimit" in answers[-1].headers
        words.append([told(each) for each in answers])
        # Nothing of it is checked any more, not even what would be right.
        assert site.sign_in(AWAY, email) == 429
    assert words[0] == words[1]
    assert [site.sign_in(HOME) for _ in range(LIMIT + 2)] == [200] * (LIMIT + 2)


def test_an_owner_at_a_new_place_takes_the_way_through_the_mail(site: Throttled) -> None:
    site.registered()
    for number in range(LIMIT):
        site.sign_in(f"203.0.113.{number}", password=OTHER)
    assert site.sign_in(AWAY) == 429
    site.ask(AWAY, "/auth/forgot-password", email=ANN)
    token = site.token("reset_password")
    (answer,) = site.ask(AWAY, "/auth/reset-password", token=token, password=OTHER)
    assert answer.status_code == 204
    assert site.sign_in(AWAY, password=OTHER) == 200
    assert site.sign_in(f"{AWAY}9", password=OTHER) == 429


def test_who_forgot_at_home_can_begin_anew(site: Throttled) -> None:
    site.registered()
    assert site.sign_in(HOME) == 200
    assert [site.sign_in(HOME, password=OTHER) for _ in range(LIMIT + 1)] == [401] * LIMIT + [429]
    site.ask(HOME, "/auth/forgot-password", email=ANN)
    token = site.token("reset_password")
    site.ask(HOME, "/auth/reset-password", token=token, password=OTHER)
    assert site.sign_in(HOME, password=OTHER) == 200


def test_one_place_cannot_try_everybody(site: Throttled) -> None:
    most = LIMIT * PER_ADDRESS
    found = [site.sign_in(AWAY, f"user{number}@example.org") for number in range(most + 1)]
    assert found == [401] * most + [429]
    (answer,) = site.ask(AWAY, "/auth/verify-email", token="x")
    refused(answer, 429)
    # Nor does an IPv6 network have more tries than an address.
    for number in range(most):
        site.ask(f"2001:db8::{number + 1:x}", "/auth/verify-email", token="x")
    assert site.sign_in("2001:db8::ffff", BOB) == 429


def test_of_twenty_at_once_three_are_looked_at(site: Throttled) -> None:
    site.registered()
    answers = site.ask(AWAY, "/auth/login", 15, email=ANN, password=OTHER)
    assert sorted(each.status_code for each in answers) == [401] * LIMIT + [429] * (15 - LIMIT)


def test_codes_are_guessed_as_slowly(site: Throttled) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    with_second_factor(site, access)
    # Without a code nothing was guessed.
    assert [site.sign_in(AWAY) for _ in range(LIMIT + 1)] == [401] * (LIMIT + 1)
    wrong = [site.sign_in(AWAY, code="000000") for _ in range(LIMIT + 1)]
    assert wrong == [401] * LIMIT + [429]
    assert site.sign_in(AWAY) == 429


def test_a_stolen_session_does_not_guess_the_password(site: Throttled) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    tries = [site.send("DELETE", "/users/me", access, password=OTHER) for _ in range(LIMIT + 1)]
    assert [each.status_code for each in tries] == [422] * LIMIT + [429]
    assert site.sign_in(HOME) == 200


def test_a_password_of_a_registration_is_guessed_as_slowly(site: Throttled) -> None:
    site.ask(AWAY, "/auth/register", email=ANN, password=PASSWORD)
    token = site.token("verify_address")

    def tried(number: int, password: str) -> int:
        place, address = f"203.0.113.{number}", "/auth/verify-email"
        return site.ask(place, address, token=token, password=password)[0].status_code

    assert [tried(number, OTHER) for number in range(LIMIT)] == [422] * LIMIT
    assert tried(LIMIT, PASSWORD) == 429


def test_a_changed_password_is_counted_before_it_costs_a_hash(
    site: Throttled, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    hashes = []
    hash_of = Hasher.hash

    async def counted(self: Hasher, password: str) -> str:
        hashes.append(password)
        return await hash_of(self, password)

    monkeypatch.setattr(Hasher, "hash", counted)
    body = {"current_password": OTHER, "password": "new words that are quiet"}
    tries = [site.send("PUT", "/users/me/password", access, **body) for _ in range(LIMIT + 1)]
    assert [each.status_code for each in tries] == [422] * LIMIT + [429]
    assert hashes == []


def test_a_code_that_switches_the_second_factor_on_is_guessed_as_slowly(site: Throttled) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    site.post("/users/me/totp", access, password=PASSWORD)
    tries = [site.send("PUT", "/users/me/totp", access, code="000000") for _ in range(LIMIT + 1)]
    assert [each.status_code for each in tries] == [422] * LIMIT + [429]


def test_a_mailbox_is_not_filled(site: Throttled) -> None:
    site.registered()
    for email in (ANN, BOB):
        found = [
            site.ask(f"203.0.113.{number}", "/auth/forgot-password", email=email)[0].status_code
            for number in range(MAILBOX)
        ]
        (last,) = site.ask(AWAY, "/auth/forgot-password", email=email.upper())
        assert [*found, last.status_code] == [202] * MAILBOX + [429]
        assert len(site.mails()) == MAILBOX


def test_nobody_spends_the_mails_that_are_the_way_back_in(site: Throttled) -> None:
    """What uses up an owner's mails with a link to a new password has put such links into the mailbox."""
    site.registered()
    site.registered(BOB)
    bob = site.signed_in(BOB)["access_token"]
    asked = [
        site.ask(f"203.0.113.{number}", "/auth/register", email=ANN, password=OTHER)[0].status_code
        for number in range(MAILBOX + 1)
    ]
    assert asked == [202] * MAILBOX + [429]
    body = {"email": ANN, "password": PASSWORD}
    tries = [site.send("PUT", "/users/me/email", bob, **body) for _ in range(MAILBOX + 1)]
    assert [each.status_code for each in tries] == [202] * MAILBOX + [429]
    for number in range(LIMIT):
        site.sign_in(f"203.0.113.{number}", password=OTHER)
    site.mails()
    assert site.sign_in(AWAY) == 429
    site.ask(AWAY, "/auth/forgot-password", email=ANN)
    token = site.token("reset_password")
    assert site.ask(AWAY, "/auth/reset-password", token=token, password=OTHER)[0].is_success
    assert site.sign_in(AWAY, password=OTHER) == 200


def test_accounts_and_keys_have_quotas_of_their_own(site: Throttled) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    body = {"name": "x", "scopes": ["read"], "password": PASSWORD}
    key = site.post("/users/me/api-keys", access, **body).json()["key"]
    for given, name in ((access, "account"), (key, "key")):
        for left in (999, 998):
            headers = site.send("GET", "/users/me", given).headers
            policies = headers["ratelimit-policy"].split(", ")
            assert policies == ['"client";q=1000;w=60', f'"{name}";q=1000;w=60']
            told_left = [int(each) for each in re.findall(r";r=(\d+)", headers["ratelimit"])]
            # One comes back in 60 ms; to make the key took a hash, so the quota may be whole again.
            assert left - 4 <= told_left[1] <= 1000, name


def test_an_account_over_its_quota_waits_wherever_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'people.sqlite'}"
    with people(url, tmp_path, rate_limit=4) as site:
        site.registered()
        access = site.signed_in()["access_token"]

        async def from_everywhere() -> list[httpx.Response]:
            answers = []
            for number in range(5):
                transport = httpx.ASGITransport(site.app, client=(f"192.0.2.{number}", 1))
                async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                    head = {"authorization": f"Bearer {access}"}
                    answers.append(await client.get("/api/v1/users/me", headers=head))
            return answers

        with site.client.portal() as portal:
            answers = portal.call(from_everywhere)
        assert [each.status_code for each in answers] == [200] * 4 + [429]
        assert "limit of this account is 4 requests" in answers[-1].json()["detail"]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 15


def test_an_attempt_that_was_not_checked_is_not_counted(site: Throttled) -> None:
    site.registered()
    hasher: Hasher = site.app.state["hasher"]
    hasher._waiting = 1_000_000
    assert [site.sign_in(AWAY, password=OTHER) for _ in range(LIMIT + 1)] == [503] * (LIMIT + 1)
    hasher._waiting = 0
    assert site.sign_in(AWAY) == 200


def test_a_line_that_is_too_long_is_not_joined() -> None:
    hasher = Hasher()
    hasher._seconds = 30.0

    async def two() -> list[Any]:
        checks = (hasher.verify(NOBODYS, OTHER) for _ in range(2))
        return await asyncio.gather(*checks, return_exceptions=True)

    first, second = asyncio.run(two())
    assert first is False
    assert isinstance(second, UnavailableError)
    assert second.headers["Retry-After"] == "15"
    assert asyncio.run(hasher.verify(NOBODYS, OTHER)) is False
