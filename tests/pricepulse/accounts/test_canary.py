"""What is secret is put into every field and error path, and then found nowhere but where it is due."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import Table, inspect, select, update

from pricepulse import audit, log
from pricepulse.accounts import keys
from pricepulse.accounts.tables import Account, RecoveryCode
from pricepulse.store import Base
from tests.people import People, people
from tests.pricepulse.accounts.test_me import code

ANN = "canary-ann@example.org"
FIRST, SECOND = "canary first four quiet words", "canary second four quiet words"
CLIENT = ("httpx", "httpcore", "asyncio", "hypothesis")  # loggers of the test and not of the server


class Canaries:
    """`secrets`: by what they are. `seen`: of every answer its text and the secrets that were due in it."""

    def __init__(self, site: People) -> None:
        self.site = site
        self.secrets: dict[str, str] = {"address": ANN, "first": FIRST, "second": SECOND}
        self.seen: list[tuple[str, set[str]]] = []
        self.asked: set[str] = set()

    def ask(
        self,
        method: str,
        address: str,
        token: str = "",
        /,
        *,
        due: tuple[str, ...] = (),
        **body: Any,
    ) -> httpx.Response:
        self.asked.add(f"{method} {address}")
        answer = self.site.send(method, address, token, **body)
        return self.keep(answer, *due)

    def keep(self, answer: httpx.Response, *due: str) -> httpx.Response:
        self.seen.append((f"{answer.headers} {answer.text}", set(due)))
        return answer

    def secret(self, name: str) -> str:
        """A value that nobody else says, to be sent where it is wrong."""
        return self.secrets.setdefault(name, f"canary-{name.replace(' ', '-')}")

    def learn(self, answer: httpx.Response, *names: str) -> dict[str, Any]:
        """What of an answer is a secret from now on, and was due in it."""
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        _, due = self.seen[-1]
        for name in names:
            values = found[name] if isinstance(found[name], list) else [found[name]]
            for value in values:
                label = f"{name} {len(self.secrets)}"
                self.secrets[label] = value
                due.add(label)
        return found


@pytest.fixture
def canaries(database: str, tmp_path: Path) -> Iterator[Canaries]:
    with people(database, tmp_path, access_log="all", log_level="debug") as site:
        yield Canaries(site)


def tokens_of(found: Canaries, **given: str) -> str:
    body: dict[str, Any] = {"email": ANN, "password": FIRST} | given
    answer = found.ask("POST", "/auth/login", **body)
    access: str = found.learn(answer, "access_token", "refresh_token")["access_token"]
    return access


def malformed(found: Canaries, access: str) -> None:
    """What cannot be read, or is of the wrong kind, whatever the address."""
    secret = found.secret
    for address in ("/auth/login", "/auth/register", "/auth/reset-password", "/users/me/api-keys"):
        for body in (
            {"email": ANN, "password": [secret("in a list")]},
            {"email": [secret("address in a list")], "password": secret("beside it")},
            {"email": ANN, "password": secret("long") * 200},
            {"token": {"of": secret("in an object")}},
            {"name": secret("in a key's name") + "\n", "scopes": [secret("as a scope")]},
        ):
            found.ask("POST", address, access, **body)
        for raw in (f'{{"password": "{secret("cut off")}', f'"{secret("alone")}"', "\udcff"):
            content = raw.encode("utf-8", "surrogateescape")
            found.keep(found.site.client.post(f"/api/v1{address}", content=content))
    for query in ("token", "api_key", "access_token", "password"):
        sent = f"/api/v1/users/me?{query}={secret(f'{query} in a query')}"
        found.keep(found.site.client.get(sent))
    for scheme in ("Bearer", "Basic", "ppk_"):
        head = {
            "authorization": f"{scheme} {secret(f'{scheme} header')}",
            "cookie": secret("cookie"),
        }
        for address in ("users/me", "ingest/batches", "ingest/observations"):
            found.keep(found.site.client.get(f"/api/v1/{address}", headers=head))


def wrong(found: Canaries, access: str) -> None:
    """What can be read and is not right."""
    secret, ask = found.secret, found.ask
    ask("POST", "/auth/login", email=ANN, password=secret("wrong password"))
    ask("POST", "/auth/login", email=secret("no address"), password=secret("beside no address"))
    ask("POST", "/auth/login", email=ANN, password=FIRST, code=secret("wrong code"))
    ask("POST", "/auth/register", email=ANN, password=secret("short"))
    ask(
        "POST", "/auth/register", email=secret("none") + "@@x", password=secret("for nobody at all")
    )
    for address in ("/auth/refresh", "/auth/logout"):
        ask("POST", address, refresh_token=secret("refresh"))
    ask("POST", "/auth/verify-email", token=secret("link"))
    ask("POST", "/auth/reset-password", token=secret("link"), password=secret("reset to this one"))
    ask("PUT", "/users/me/password", access, current_password=secret("old"), password=SECOND)
    ask("PUT", "/users/me/password", access, current_password=FIRST, password=secret("new"))
    ask("PUT", "/users/me/email", access, email=secret("x") + "@@", password=FIRST)
    ask("DELETE", "/users/me", access, password=secret("not mine"), code=secret("code"))
    ask("POST", "/users/me/totp", access, password=secret("totp password"))
    ask("PUT", "/users/me/totp", access, code=secret("totp code"))
    ask("DELETE", "/users/me/totp", access, password=secret("to end totp"), code=secret("to end"))
    ask("POST", "/auth/oauth/exchange", code=secret("exchange"), code_verifier=secret("verifier"))
    mine = "/users/me/identities/dev"
    ask("POST", mine, access, password=secret("to link"), code=secret("code to link"))
    ask("PUT", mine, access, code=secret("linked"), linking=secret("linking"))
    ask("DELETE", mine, access, password=secret("to unlink"), code=secret("code to unlink"))
    ask("GET", "/users/me", keys.PREFIX + secret("key"))
    found.secrets["never"] = never = keys.new_key()[1]
    ask("GET", "/users/me", never)


def walk(found: Canaries) -> str:
    """Through everything that works; an access token."""
    ask, site, secret = found.ask, found.site, found.secret
    ask("POST", "/auth/register", email=ANN, password=FIRST)
    found.secrets["link to verify"] = token = site.token("verify_address")
    ask("POST", "/auth/verify-email", token=token, password=secret("wrong for the link"))
    ask("POST", "/auth/verify-email", token=token, password=FIRST, due=("address",))
    access = tokens_of(found)
    body: dict[str, Any] = {"name": "x", "scopes": ["read"]}
    ask("POST", "/users/me/api-keys", access, **body, password=secret("wrong for a key"))
    found.learn(ask("POST", "/users/me/api-keys", access, **body, password=FIRST), "key")
    (key,) = (value for name, value in found.secrets.items() if name.startswith("key "))
    ask("GET", "/users/me", key, due=("address",))
    ask("POST", "/auth/forgot-password", email=ANN)
    letters = site.mails()
    found.secrets["link to reset"] = token = str(letters[-1].values["token"])
    ask("POST", "/auth/reset-password", token=token, password=SECOND)
    access = tokens_of(found, password=SECOND)
    body = {"current_password": SECOND, "password": FIRST}
    ask("PUT", "/users/me/password", access, **body)
    begun = ask("POST", "/users/me/totp", access, password=FIRST)
    of_totp = found.learn(begun, "secret", "uri")["secret"]
    found.seen[-1][1].add("address")
    found.learn(ask("PUT", "/users/me/totp", access, code=code(of_totp, -1)), "recovery_codes")
    return tokens_of(found, code=next(v for n, v in found.secrets.items() if "recovery" in n))


def broken(found: Canaries) -> None:
    """A fault of the server while secrets are about."""
    site = found.site
    with site.database.engine.begin() as connection:
        cast(Table, RecoveryCode.__table__).drop(connection)
    answer = found.ask(
        "POST",
        "/auth/login",
        email=ANN,
        password=found.secret("new"),
        code=found.secret("code into the void"),
    )
    assert answer.status_code in {500, 503}


def taking_secrets(document: Any) -> set[str]:
    """`METHOD address` of all operations whose body has a field for a secret, by the OpenAPI document."""
    schemas = document["components"]["schemas"]
    found = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
            fields = " ".join(schemas.get(name, {}).get("properties", ()))
            if re.search("password|code|token|secret|verifier|linking", fields):
                found.add(f"{method.upper()} {path.removeprefix('/api/v1')}")
    return found


def stored(site: People) -> Iterator[tuple[str, str]]:
    """(table, row) of everything that the database holds."""
    there = inspect(site.database.engine).get_table_names()
    with site.database.begin(write=False) as db:
        for table in Base.metadata.sorted_tables:
            for row in db.execute(select(table)) if table.name in there else ():
                told = [v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in row]
                yield table.name, " ".join(told)


def test_no_secret_is_anywhere_but_where_it_is_due(
    canaries: Canaries, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    log.quieten()
    caplog.set_level(logging.DEBUG)
    access = walk(canaries)
    malformed(canaries, access)
    wrong(canaries, access)
    broken(canaries)
    secrets = canaries.secrets
    assert len(secrets) > 60
    document = canaries.site.client.get("/api/v1/openapi.json").json()
    asked = {each.replace("/dev", "/{provider}") for each in canaries.asked}
    assert taking_secrets(document) - asked == set()
    for text, due in canaries.seen:
        assert [n for n, value in secrets.items() if value in text and n not in due] == [], text
    lines = log.JsonLines(), log.Text()
    records = [each for each in caplog.records if not each.name.startswith(CLIENT)]
    assert len(records) > 60
    for record in records:
        said = " ".join(form.format(record) for form in lines) + str(vars(record))
        assert [name for name, value in secrets.items() if value in said] == [], said[:2000]
    for table, row in stored(canaries.site):
        found = {name for name, value in secrets.items() if value in row}
        assert found <= ({"address"} if table == "account" else set()), (table, row)
    for file in tmp_path.glob("people.sqlite*"):
        held = file.read_bytes()
        told = [n for n, value in secrets.items() if value.encode() in held and n != "address"]
        assert told == [], file


def test_the_canary_would_be_heard(canaries: Canaries) -> None:
    """The search itself finds what is there."""
    canaries.site.registered(ANN)
    with canaries.site.database.begin() as db:
        db.execute(update(Account).values(name=canaries.secret("spoken")))
        audit.record(db, "test", "x", detail=canaries.secret("in the audit"))
    rows = dict(stored(canaries.site))
    assert canaries.secrets["spoken"] in rows["account"]
    assert canaries.secrets["in the audit"] in rows["audit"]
    canaries.ask("GET", "/users/me", tokens_of(canaries, password="four unrelated quiet words"))
    assert ANN in canaries.seen[-1][0]
