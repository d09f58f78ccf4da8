"""One test pins the shape of every error; the others, what is told."""

import errno
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import msgspec
import pytest
from litestar import Router, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.testing import TestClient

from pricepulse.access import Role, Scope, may, public
from pricepulse.app import create_app
from pricepulse.contract import Cursor, Limit
from pricepulse.errors import (
    OURS,
    TYPES,
    InvalidInputError,
    NotFoundError,
    PricePulseError,
    UnauthorizedError,
)
from pricepulse.settings import Settings

KEY = "a-key-of-24-characters-x"


class Row(msgspec.Struct):
    price: int


class Rows(msgspec.Struct):
    rows: list[Row]


class Deep(msgspec.Struct):
    inner: "Deep | None" = None


def raised(name: str) -> Exception:
    others: dict[str, Exception] = {
        "bug": ZeroDivisionError("the secret of the house"),
        "full": OSError(errno.ENOSPC, "No space left on device"),
        "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
        "duckdb-full": duckdb.IOException("IO Error: Could not write: No space left on device"),
        "sqlite-full": sqlite3.OperationalError("database or disk is full"),
        "locked": sqlite3.OperationalError("database is locked"),
        "memory": duckdb.OutOfMemoryException("failed to allocate"),
        "lost-file": OSError(errno.EIO, "Input/output error"),
    }
    if name in others:
        return others[name]
    if name == "401":
        return UnauthorizedError("who?")
    return OURS[int(name)]("what was wrong, where, and what would be right", retry_after=3)


@get("/raise/{name:str}")
async def raise_it(name: FromPath[str]) -> None:
    raise raised(name)


@get("/listed")
async def listed(
    limit: Limit = 50, cursor: Cursor = None, brand: FromQuery[list[str] | None] = None
) -> dict[str, int]:
    return {"limit": limit}


@post("/rows")
async def rows(data: JSONBody[Rows]) -> None:
    pass


@post("/deep")
async def deep(data: JSONBody[Deep]) -> None:
    pass


@post("/guarded", **may(Role.OPERATOR, Scope.INGEST))
async def guarded() -> None:
    pass


@get("/versioned", opt={"versioned": True})
async def versioned() -> dict[str, int]:
    return {"a": 1}


OPEN = [raise_it, listed, rows, deep, versioned]
ROUTES: list[Any] = [Router("/", route_handlers=OPEN, **public()), guarded]


def app_with(tmp_path: Path, **given: Any) -> Any:
    reader = cast(Any, SimpleNamespace(current=None))
    settings = Settings.from_env({}, data=tmp_path, **given)
    return create_app(settings, routes=ROUTES, warehouse=reader)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with TestClient(app_with(tmp_path), raise_server_exceptions=False) as client:
        yield client


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    """The shape that every error has, whoever raised it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json()
    assert list(body)[:5] == ["type", "title", "status", "detail", "instance"]
    assert set(body) <= {"type", "title", "status", "detail", "instance", "errors"}
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["title"] == TYPES[slug].title
    assert body["detail"]
    assert body["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    for each in body.get("errors", []):
        assert set(each) == {"pointer", "detail"}
        assert each["pointer"].startswith("/")
        assert each["detail"]
    return body


@pytest.mark.parametrize("status", sorted(OURS))
def test_each_of_ours_has_the_shape(client: TestClient[Any], status: int) -> None:
    answer = client.get(f"/api/v1/raise/{status}")
    problem(answer, status, OURS[status].type)
    if status != 401:
        assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("name", "status", "slug"),
    [
        ("full", 507, "storage-full"),
        ("quota", 507, "storage-full"),
        ("duckdb-full", 507, "storage-full"),
        ("sqlite-full", 507, "storage-full"),
        ("locked", 503, "unavailable"),
        ("memory", 503, "unavailable"),
        ("lost-file", 500, "internal-error"),
        ("bug", 500, "internal-error"),
    ],
)
def test_what_others_raise_has_it_too(
    client: TestClient[Any], name: str, status: int, slug: str
) -> None:
    answer = client.get(f"/api/v1/raise/{name}")
    problem(answer, status, slug)
    assert ("retry-after" in answer.headers) == (status != 500)


def test_a_500_is_logged_with_its_request_and_tells_nothing(
    client: TestClient[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = client.get("/api/v1/raise/bug", headers={"x-request-id": "find-me"})
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "find-me"
    assert "the secret of the house" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("query", "slug", "pointer", "told"),
    [
        ("limit=0", "invalid-input", "/query/limit", ">= 1"),
        ("limit=201", "invalid-input", "/query/limit", "<= 200"),
        ("limit=many", "invalid-input", "/query/limit", "int"),
        ("limit=", "invalid-input", "/query/limit", "int"),
        ("limit=1&limit=2", "invalid-input", "/query/limit", "twice"),
        ("cursor=" + "x" * 513, "invalid-input", "/query/cursor", "512"),
        ("limt=5", "unknown-parameter", "/query/limt", "did you mean limit?"),
        ("colour=red", "unknown-parameter", "/query/colour", "not known"),
        ("a%2Fb=1", "unknown-parameter", "/query/a~1b", "not known"),
        ("%00=1", "unknown-parameter", "/query/", "not known"),
        ("%FF%FE=1", "unknown-parameter", "/query/", "not known"),
    ],
)
def test_query_parameters(
    client: TestClient[Any], query: str, slug: str, pointer: str, told: str
) -> None:
    body = problem(client.get(f"/api/v1/listed?{query}"), 400, slug)
    assert len(body["errors"]) == 1
    assert body["errors"][0]["pointer"].startswith(pointer)
    assert told in body["errors"][0]["detail"]
    if slug == "unknown-parameter":
        assert "there are brand, cursor, limit" in body["detail"]


def test_a_parameter_with_many_values_may_be_repeated(client: TestClient[Any]) -> None:
    assert client.get("/api/v1/listed?brand=a&brand=b&limit=200").json() == {"limit": 200}


@pytest.mark.parametrize(
    ("content", "slug", "pointer"),
    [
        (b'{"rows": [{"price": "x"}]}', "invalid-input", "/body/rows/0/price"),
        (b'{"rows": [{}]}', "invalid-input", "/body/rows/0"),
        (b"[]", "invalid-input", "/body"),
        (b'{"rows": [', "bad-request", None),
        (b"\xff\xfe", "bad-request", None),
        (b'{"rows": "\x00"}', "bad-request", None),
    ],
)
def test_bodies(client: TestClient[Any], content: bytes, slug: str, pointer: str | None) -> None:
    sent = client.post(
        "/api/v1/rows", content=content, headers={"content-type": "application/json"}
    )
    body = problem(sent, 400, slug)
    assert [each["pointer"] for each in body.get("errors", [])] == ([pointer] if pointer else [])


def test_a_hundred_thousand_levels_of_json(client: TestClient[Any]) -> None:
    content = b'{"inner":' * 100_000 + b"null" + b"}" * 100_000
    for address in ("/api/v1/rows", "/api/v1/deep"):
        headers = {"content-type": "application/json"}
        answer = client.post(address, content=content, headers=headers)
        problem(answer, 400, answer.json()["type"].rpartition("/")[2])
    assert "nested too deeply" in answer.json()["detail"]


def test_media_types(client: TestClient[Any]) -> None:
    told = problem(client.post("/api/v1/rows", content=b"{}"), 415, "unsupported-media-type")
    assert "application/json" in told["detail"]
    plain = {"content-type": "text/plain"}
    problem(
        client.post("/api/v1/rows", content=b"{}", headers=plain), 415, "unsupported-media-type"
    )
    for accept in ("text/html", "application/json;q=0, */*", "image/*", "text/csv, */*;q=0"):
        answer = client.get("/api/v1/listed", headers={"accept": accept})
        assert "application/json" in problem(answer, 406, "not-acceptable")["detail"]
    for accept in ("text/html, */*;q=0.1", "application/*", "application/json;charset=utf-8"):
        assert client.get("/api/v1/listed", headers={"accept": accept}).status_code == 200


def test_too_large(client: TestClient[Any]) -> None:
    large = client.post(
        "/api/v1/rows",
        content=b" " * (1 << 20) + b"{}",
        headers={"content-type": "application/json"},
    )
    problem(large, 413, "content-too-large")


def test_addresses_and_methods(client: TestClient[Any]) -> None:
    problem(client.get("/nowhere"), 404, "not-found")
    problem(client.get("/api/v1/f%C3%BCr%20alle?token=secret"), 404, "not-found")
    wrong = client.delete("/api/v1/listed")
    assert wrong.headers["allow"] == "GET, HEAD, OPTIONS"
    assert "GET, HEAD, OPTIONS" in problem(wrong, 405, "method-not-allowed")["detail"]
    assert client.get("/api/v1/rows").headers["allow"] == "OPTIONS, POST"


def test_no_build_yet(client: TestClient[Any]) -> None:
    answer = client.get("/api/v1/versioned")
    problem(answer, 503, "no-data-yet")
    assert answer.headers["retry-after"] == "5"


def test_nobody_writes_lines_into_the_log(
    client: TestClient[Any], caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/api/v1/raise/bug%0A2026-11-23 INFO pricepulse.audit: forged")
    assert caplog.messages
    assert not any("\n2026" in each for each in caplog.messages)


def test_the_ingest_key(tmp_path: Path) -> None:
    with TestClient(app_with(tmp_path)) as client:
        told = problem(client.post("/api/v1/guarded"), 401, "unauthorized")
        assert "send an access token or an API key" in told["detail"]
    with TestClient(app_with(tmp_path, ingest_key=KEY)) as client:
        for given in ("", "Bearer", "Basic " + KEY, "Bearer wrong", f"Bearer {KEY}ä"):
            headers = [(b"authorization", given.encode("latin-1"))]
            answer = client.post("/api/v1/guarded", headers=cast(Any, headers))
            assert KEY not in problem(answer, 401, "unauthorized")["detail"]
            assert answer.headers["www-authenticate"].startswith("Bearer")
        headers_ok = {"authorization": f"bearer {KEY}"}
        assert client.post("/api/v1/guarded", headers=headers_ok).status_code == 201


def test_every_type_can_be_looked_up(client: TestClient[Any]) -> None:
    for slug, kind in TYPES.items():
        assert client.get(f"/problems/{slug}").json()["status"] == kind.status
    problem(client.get("/problems/none"), 404, "not-found")


def test_pointers_are_built_by_the_exception() -> None:
    error = InvalidInputError.at("/query/cursor", "is not one of ours")
    assert error.detail == "cursor is not one of ours"
    assert isinstance(NotFoundError("x"), PricePulseError)


def test_every_type_of_problem_says_what_to_do() -> None:
    for kind in TYPES.values():
        assert kind.__doc__, kind
        assert kind.title not in kind.__doc__
        assert "__doc__" in vars(kind), "inherited from another type"
