"""Every operation of the document × everybody who may come along, generated from the table in `access`.

An unknown query parameter is refused after the guard and before the handler. So whoever may call an operation is told of the
parameter (400), whoever may not is told that (401, 403), and nothing is done in 1,000 requests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from pricepulse.access import PUBLIC, Entry, Role, Scope, entries
from pricepulse.accounts import keys
from pricepulse.accounts.tables import Account
from pricepulse.openapi import document
from tests.command import until
from tests.databases import Databases
from tests.people import PASSWORD, People, people
from tests.pricepulse.accounts.test_tokens import our_key, parts, signed

ANN, BOB = "ann@example.org", "bob@example.org"
# Whose they are: by the name in the path, an absent id. A new name of a thing that belongs to an account needs a thing
# of Ann's in `ids_of_ann`; one that belongs to nobody, a place in NOBODYS.
ABSENT = {"session_id": "f" * 24, "key_id": "f" * 24}
# Products, their pictures, categories and providers are everybody's: that nobody sees which of them Ann keeps is
# asked where they are tested.
NOBODYS = {"batch_id", "product_id", "image_id", "slug", "provider"}


@dataclass(frozen=True)
class Caller:
    """`role` None: nobody who is known. `scopes` None: a token and no key."""

    token: str
    role: Role | None = None
    scopes: frozenset[Scope] | None = None

    def expected(self, entry: Entry) -> int:
        if entry.who == PUBLIC:
            return 400
        if self.role is None:
            return 401
        if self.scopes is not None and entry.scope not in self.scopes:
            return 403
        return 400 if self.role.includes(Role(entry.who)) else 403


@dataclass(frozen=True)
class Matrix:
    site: People
    table: dict[str, Entry]
    operations: list[str]
    callers: dict[str, Caller]
    ids_of_ann: dict[str, str]

    def send(self, operation: str, caller: Caller, query: str = "", **ids: str) -> httpx.Response:
        method, path = operation.split()
        address = re.sub(r"{(\w+)}", lambda name: ids.get(name[1], "1"), path) + query
        head = {"authorization": f"Bearer {caller.token}"} if caller.token else {}
        body: dict[str, Any] | None = {} if method in {"POST", "PUT", "PATCH"} else None
        return self.site.client.request(method, address, headers=head, json=body)


def made_key(site: People, access: str, *scopes: Scope) -> dict[str, Any]:
    body = {"name": "x", "scopes": scopes, "password": PASSWORD}
    found: dict[str, Any] = site.post("/users/me/api-keys", access, **body).json()
    return found


def everybody(site: People) -> Iterator[tuple[str, Caller]]:
    yield "nobody", Caller("")
    yield "rubbish", Caller("rubbish")
    yield "a key that never was", Caller(keys.new_key()[1])
    tokens = {}
    for role in Role:
        email = ANN if role is Role.USER else f"{role}@example.org"
        site.registered(email)
        with site.database.begin() as db:
            db.execute(update(Account).where(Account.email == email).values(role=role))
        tokens[role] = site.signed_in(email)["access_token"]
        yield role, Caller(tokens[role], role)
    header, claims, _ = parts(tokens[Role.ADMIN])
    past = claims | {"iat": int(time.time()) - 1000, "exp": int(time.time()) - 1}
    yield "expired token", Caller(signed(header, past, our_key(site)))
    for scope in Scope:
        key = made_key(site, tokens[Role.ADMIN], scope)["key"]
        yield f"admin's key to {scope}", Caller(key, Role.ADMIN, frozenset({scope}))
    reading = made_key(site, tokens[Role.USER], Scope.READ)["key"]
    yield "user's key", Caller(reading, Role.USER, frozenset({Scope.READ}))
    revoked = made_key(site, tokens[Role.ADMIN], *Scope)
    mine = f"/users/me/api-keys/{revoked['id']}"
    assert site.send("DELETE", mine, tokens[Role.ADMIN]).status_code == 204
    yield "revoked key", Caller(revoked["key"])
    # An operator when the key was made, an analyst now.
    site.registered("demoted@example.org")
    demoted = Account.email == "demoted@example.org"
    with site.database.begin() as db:
        db.execute(update(Account).where(demoted).values(role="operator"))
    access = site.signed_in("demoted@example.org")["access_token"]
    key = made_key(site, access, Scope.INGEST)["key"]
    with site.database.begin() as db:
        db.execute(update(Account).where(demoted).values(role="analyst"))
    yield "demoted owner's key", Caller(key, Role.ANALYST, frozenset({Scope.INGEST}))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def matrix(
    request: pytest.FixtureRequest, all_databases: Databases, tmp_path_factory: Any
) -> Iterator[Matrix]:
    folder = tmp_path_factory.mktemp("matrix")
    with people(all_databases.migrated(request.param), folder) as site:
        callers = dict(everybody(site))
        site.registered(BOB)
        callers["bob"] = Caller(site.signed_in(BOB)["access_token"], Role.USER)
        ann = callers["user"].token
        ids = {
            "session_id": site.send("GET", "/users/me/sessions", ann).json()["items"][0]["id"],
            "key_id": site.send("GET", "/users/me/api-keys", ann).json()["items"][0]["id"],
        }
        operations = [
            f"{method.upper()} {path}"
            for path, item in document(site.app)["paths"].items()
            for method in item
        ]
        yield Matrix(site, entries(site.app), operations, callers, ids)


def test_each_may_what_the_table_says_and_nothing_else(matrix: Matrix) -> None:
    wrong = []
    for operation in matrix.operations:
        for name, caller in matrix.callers.items():
            expected = caller.expected(matrix.table[operation])
            found = matrix.send(operation, caller, "?no_such_parameter=1").status_code
            # A provider may add what it likes to its callback (RFC 6749, 4.1.2).
            if operation.startswith("GET /health/") or operation.endswith("/callback"):
                expected = found if found not in {401, 403} else 200
            if found != expected:
                wrong.append(f"{operation} by {name}: {found}, not {expected}")
    assert not wrong, "\n".join(wrong)
    assert len(matrix.operations) > 50
    assert len(matrix.callers) > 14


def test_refusals_tell_nothing_but_what_would_be_needed(matrix: Matrix) -> None:
    revoked, never = matrix.callers["revoked key"], matrix.callers["a key that never was"]
    for operation in matrix.operations:
        if matrix.table[operation].who != PUBLIC:
            answers = [matrix.send(operation, each) for each in (revoked, never)]
            assert answers[0].content == answers[1].content, operation
            # An id that is there and one that is not are refused alike.
            ids = [matrix.send(operation, revoked, **each) for each in (matrix.ids_of_ann, ABSENT)]
            assert {each.status_code for each in ids} == {401}


def test_anothers_things_are_as_if_absent(matrix: Matrix) -> None:
    bob = matrix.callers["bob"]
    for operation in matrix.operations:
        names = set(re.findall(r"{(\w+)}", operation))
        if matrix.table[operation].who == PUBLIC or not names - NOBODYS:
            continue
        assert names <= ABSENT.keys(), f"{operation}: a thing of Ann's is needed, see ABSENT"
        theirs, absent = (
            matrix.send(operation, bob, **each) for each in (matrix.ids_of_ann, ABSENT)
        )
        assert theirs.status_code == absent.status_code == 404, operation
        for name in names:
            told = theirs.text.replace(matrix.ids_of_ann[name], ABSENT[name])
            assert told == absent.text, operation
    # Nothing of it happened, and nothing that Bob may list tells of Ann.
    ann = matrix.callers["user"]
    for operation in matrix.operations:
        who, _ = matrix.table[operation]
        if who == Role.USER and operation.startswith("GET") and "{" not in operation:
            hers, his = (matrix.send(operation, each) for each in (ann, bob))
            assert his.status_code == hers.status_code
            assert ANN not in his.text
            assert all(each not in his.text for each in matrix.ids_of_ann.values()), operation
    for address, name in (("sessions", "session_id"), ("api-keys", "key_id")):
        listed = matrix.site.send("GET", f"/users/me/{address}", ann.token)
        assert matrix.ids_of_ann[name] in listed.text


def test_a_session_that_has_ended_opens_nothing(matrix: Matrix) -> None:
    site = matrix.site
    tokens = site.signed_in("admin@example.org")
    ended = Caller(tokens["access_token"])
    site.post("/auth/logout", refresh_token=tokens["refresh_token"])
    until(lambda: site.send("GET", "/users/me", ended.token).status_code == 401, "ended", 1)
    for operation in matrix.operations:
        found = matrix.send(operation, ended, "?no_such_parameter=1").status_code
        assert (found == 401) == (matrix.table[operation].who != PUBLIC), operation
