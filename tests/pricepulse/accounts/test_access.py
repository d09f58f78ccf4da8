"""Who may call what: every operation has an entry, and the entry is kept."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from litestar import get
from litestar.exceptions import ImproperlyConfiguredException
from litestar.testing import TestClient
from sqlalchemy import update

from pricepulse.access import PUBLIC, Role, Scope, entries, may
from pricepulse.accounts.tables import Account
from pricepulse.app import ROUTES, create_app
from pricepulse.openapi import document
from pricepulse.settings import Settings
from pricepulse.store import Database
from tests.people import People, refused


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return create_app(Settings.from_env({}, data=tmp_path))


def test_every_operation_of_the_document_has_an_entry_that_says_the_same(app: Any) -> None:
    table = entries(app)
    spec = document(app)
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            who, scope = table[f"{method.upper()} {path}"]
            keys: list[Any] = [{"api_key": [scope]}] if scope else []
            tokens: list[Any] = [{"access_token": []}] if who != PUBLIC else []
            assert operation.get("security", []) == tokens + keys, path
            if who != PUBLIC:
                assert who in set(Role)
                assert {"401", "403"} <= set(operation["responses"])
    assert spec["components"]["securitySchemes"]["access_token"] == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of POST /api/v1/auth/login, good for 15 minutes.",
    }


def test_a_key_to_read_opens_what_the_documents_say(app: Any) -> None:
    opened = {operation for operation, entry in entries(app).items() if entry.scope == Scope.READ}
    mine = "GET /api/v1/users/me"
    assert opened == {
        mine, f"{mine}/settings", f"{mine}/favorites", f"{mine}/favorites/{{product_id}}",
        f"{mine}/categories", f"{mine}/dashboard",
    }  # fmt: skip


@get("/unsaid")
async def unsaid() -> None: ...


@get("/half", opt={"who": Role.ADMIN})
async def half() -> None:
    """Says who, and has no guard."""


@pytest.mark.parametrize("handler", [unsaid, half])
def test_a_server_with_a_route_that_nobody_thought_of_does_not_start(
    tmp_path: Path, handler: Any
) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="does not say who may call it"):
        create_app(Settings.from_env({}, data=tmp_path), routes=[handler])


@get("/for/operators", **may(Role.OPERATOR))
async def for_operators() -> str:
    return "yes"


def test_roles_are_a_ladder() -> None:
    assert [role for role in Role if role.includes(Role.OPERATOR)] == [Role.OPERATOR, Role.ADMIN]
    assert all(role.includes(Role.USER) for role in Role)


def test_each_role_may_what_its_entry_says(database: str, tmp_path: Path) -> None:
    settings = Settings.from_env({}, data=tmp_path, database_url=database)
    app = create_app(settings, routes=[*ROUTES, for_operators])
    with TestClient(app) as client:
        site = People(client, Database(database), settings, app)
        site.registered()
        refused(site.send("GET", "/for/operators"), 401)
        for role in Role:
            with site.database.begin() as db:
                db.execute(update(Account).values(role=role))
            answer = site.send("GET", "/for/operators", site.signed_in()["access_token"])
            if role in {Role.OPERATOR, Role.ADMIN}:
                assert answer.status_code == 200
            else:
                told = refused(answer, 403)
                assert told["detail"] == f"this takes the role operator; yours is {role}"
        site.database.close()


def test_signed_in_routes_refuse_nobody_and_say_so(site: People) -> None:
    site.registered()
    signed = [op for op, (who, _) in entries(site.app).items() if who in set(Role)]
    assert len(signed) > 8
    for operation in signed:
        method, path = operation.split()
        address = path.removeprefix("/api/v1").format_map(defaultdict(lambda: "x"))
        refused(site.send(method, address), 401)
        refused(site.send(method, address, "wrong"), 401)


def test_a_check_costs_less_than_three_tenths_of_a_millisecond(site: People) -> None:
    site.registered()
    token = site.signed_in()["access_token"]
    keys, rounds = site.app.state["gate"].keys, []
    for _ in range(200):
        started = time.perf_counter()
        keys.verify(token)
        rounds.append(time.perf_counter() - started)
    assert statistics.median(rounds) < 0.0003
