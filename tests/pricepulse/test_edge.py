"""What every answer carries, whatever the handler: seen through the whole application."""

import gzip
import json
import logging
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import brotli  # type: ignore[import-untyped]
import httpx
import msgspec
import pytest
import uvicorn
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request, Router, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream
from litestar.testing import TestClient
from openapi_spec_validator import validate

from pricepulse.access import Role, Scope, may, public
from pricepulse.app import UVICORN, create_app
from pricepulse.compress import choose
from pricepulse.contract import Cursor, Limit, Price, accepts, version_of
from pricepulse.log import without_secrets
from pricepulse.ratelimit import client_key
from pricepulse.settings import Settings

LONG = {"items": [f"item {i}" for i in range(2000)]}
calls: list[str] = []


class Offer(msgspec.Struct):
    offer_id: str
    price: Decimal
    list_price: Decimal | None
    observed_at: datetime


class Page(msgspec.Struct):
    items: list[Offer]
    next_cursor: str | None


@get("/offers/{offer_id:str}", tags=["catalog"], opt={"versioned": True})
async def get_offer(
    request: Request[Any, Any, Any],
    offer_id: FromPath[str],
    limit: Limit = 50,
    cursor: Cursor = None,
    min_price: Price = None,
    brand: FromQuery[list[str] | None] = None,
) -> Page:
    """One offer.

    With its price."""
    calls.append(version_of(request).tag)
    moved = request.app.state["warehouse"]
    moved.current = moved.after or moved.current  # a new build comes while this one is read
    day = datetime(2026, 11, 22, 17, tzinfo=UTC)
    return Page([Offer(offer_id, Decimal("19.90"), None, day)], None)


@get("/long")
async def long() -> dict[str, list[str]]:
    return LONG


@get("/huge")
async def huge() -> dict[str, list[str]]:
    return {"items": LONG["items"] * 20}


@get("/png", media_type="image/png", opt={"produces": ("image/png",)})
async def png() -> bytes:
    return b"\x89PNG" * 1000


async def _pieces(fail: bool) -> AsyncIterator[bytes]:
    if fail:
        raise OSError(28, "No space left on device")
    for i in range(3):
        yield (f"row {i}," * 200).encode()


@get("/stream", media_type="text/csv", opt={"produces": ("text/csv",)})
async def stream(fail: FromQuery[bool] = False) -> Stream:
    return Stream(_pieces(fail))


@post("/offers", **may(Role.OPERATOR, Scope.INGEST))
async def post_offer(data: JSONBody[Offer]) -> Offer:
    return data


OPEN = Router("/", route_handlers=[get_offer, long, huge, png, stream], **public())
ROUTES: list[Any] = [OPEN, post_offer]


def build(number: int) -> Any:
    as_of = datetime(2026, 11, 22, tzinfo=UTC)
    return SimpleNamespace(tag=f"{number:09}-1", number=number, as_of=as_of)


def app_with(tmp_path: Path, **given: Any) -> Any:
    reader = cast(Any, SimpleNamespace(current=build(7), after=None))
    settings = Settings.from_env({}, data=tmp_path, **given)
    return create_app(settings, routes=ROUTES, warehouse=reader)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient[Any]]:
    with TestClient(app_with(tmp_path), raise_server_exceptions=False) as client:
        client.headers.pop("accept-encoding", None)
        yield client


def raw(client: Any, address: str, encoding: str) -> tuple[httpx.Headers, bytes]:
    with client.stream("GET", address, headers={"accept-encoding": encoding}) as answer:
        return answer.headers, b"".join(answer.iter_raw())


def test_security_headers_are_on_everything(client: TestClient[Any]) -> None:
    for address in ("/api/v1/long", "/nowhere", "/docs", "/docs/docs.js", "/health/live"):
        headers = client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert ("script-src 'self'" in headers["content-security-policy"]) == ("docs" in address)
        assert headers["cache-control"]
        assert "strict-transport-security" not in headers
        assert len(headers.get_list("content-security-policy")) == 1
        assert len(headers.get_list("cache-control")) == 1


def test_request_ids(client: TestClient[Any]) -> None:
    answer = client.get("/nowhere", headers={"x-request-id": "a.B_c-9"})
    assert answer.headers["x-request-id"] == "a.B_c-9"
    made = set()
    for bad in ("", "x" * 129, "a b", "a\tb", "ä", '"'):
        sent = cast(Any, [(b"x-request-id", bad.encode("latin-1"))])
        made.add(client.get("/health/live", headers=sent).headers["x-request-id"])
    assert len(made) == 6
    assert all(len(each) == 24 for each in made)


def test_money_is_an_exact_number_and_time_ends_in_z(client: TestClient[Any]) -> None:
    text = client.get("/api/v1/offers/1").text
    assert '"price":19.90,' in text
    assert '"observed_at":"2026-11-22T17:00:00Z"' in text


def test_an_answer_is_confirmed_before_its_handler_runs(client: TestClient[Any]) -> None:
    first = client.get("/api/v1/offers/1?limit=5")
    tag = first.headers["etag"]
    assert tag.startswith('W/"000000007-1.')
    assert first.headers["cache-control"] == "public, max-age=2, must-revalidate"
    assert first.headers["vary"] == "accept-encoding"
    calls.clear()
    for sent in (tag, tag.removeprefix("W/"), f'"other", {tag}', f'W/"x",{tag} , "y"'):
        again = client.get("/api/v1/offers/1?limit=5", headers={"if-none-match": sent})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert "content-length" not in again.headers
    assert calls == []
    for address in ("/api/v1/offers/1", "/api/v1/offers/2?limit=5"):
        other = client.get(address, headers={"if-none-match": tag})
        assert other.status_code == 200
        assert other.headers["etag"] != tag
    star = client.get("/api/v1/offers/1", headers={"if-none-match": "*"})
    assert (star.status_code, star.content) == (304, b"")
    wrong = client.get("/api/v1/offers/1?limit=0", headers={"if-none-match": "*"})
    assert wrong.status_code == 400
    assert "etag" not in wrong.headers


def test_the_etag_is_of_the_build_that_was_read(client: TestClient[Any]) -> None:
    reader = client.app.state["warehouse"]
    reader.after = build(8)
    calls.clear()
    tag = client.get("/api/v1/offers/1").headers["etag"]
    assert calls == ["000000007-1"]
    assert "000000007-1" in tag
    after = client.get("/api/v1/offers/1", headers={"if-none-match": tag})
    assert after.status_code == 200
    assert "000000008-1" in after.headers["etag"]


@pytest.mark.parametrize(
    ("encoding", "unpack"),
    [
        ("gzip", gzip.decompress),
        ("br", brotli.decompress),
        ("zstd", lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)),
    ],
)
@pytest.mark.parametrize("address", ["/api/v1/long", "/api/v1/huge", "/api/v1/stream"])
def test_bodies_are_packed(
    client: TestClient[Any], encoding: str, unpack: Any, address: str
) -> None:
    headers, body = raw(client, address, encoding)
    assert headers["content-encoding"] == encoding
    assert headers["vary"] == "accept-encoding"
    plain_headers, plain = raw(client, address, "identity")
    assert "content-encoding" not in plain_headers
    assert unpack(body) == plain
    assert len(body) < len(plain) / 2
    if address != "/api/v1/stream":
        assert int(headers["content-length"]) == len(body)
    else:
        assert "content-length" not in headers


def test_what_is_not_worth_packing_is_not(client: TestClient[Any]) -> None:
    for address in ("/health/live", "/api/v1/png", "/nowhere"):
        headers, _ = raw(client, address, "gzip, br, zstd")
        assert "content-encoding" not in headers


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip;q=1.0, br;q=0.9", "gzip"),
        ("zstd;q=0, *;q=0.5", "br"),
        ("*", "zstd"),
        ("identity", None),
        ("br;q=0.5, identity", None),
        ("br;q=0", None),
        ("deflate", None),
        ("", None),
        ("br;q=x", None),
        ("GZIP ; Q=0.5", "gzip"),
    ],
)
def test_encodings_are_chosen_by_weight(accept: str, chosen: str | None) -> None:
    assert choose(accept.encode()) == chosen


@given(st.binary(max_size=60))
def test_no_header_breaks_the_choices(value: bytes) -> None:
    choose(value)
    accepts(value, ("application/json",))
    without_secrets(value.decode("latin-1"))
    client_key(value.decode("latin-1"))


def test_a_stream_that_fails_at_once_is_still_a_problem(client: TestClient[Any]) -> None:
    answer = client.get("/api/v1/stream?fail=true", headers={"accept-encoding": "gzip"})
    assert answer.status_code == 507
    assert answer.json()["type"] == "/problems/storage-full"


def test_head_is_get_without_the_body(client: TestClient[Any]) -> None:
    for address in ("/api/v1/offers/1", "/api/v1/long", "/docs", "/health/live", "/nowhere"):
        head, whole = client.head(address), client.get(address)
        assert head.status_code == whole.status_code
        assert head.content == b""
        for name in ("content-type", "content-length", "etag", "cache-control"):
            assert head.headers.get(name) == whole.headers.get(name)
    tag = client.head("/api/v1/offers/1").headers["etag"]
    assert client.head("/api/v1/offers/1", headers={"if-none-match": tag}).status_code == 304


def test_options_tells_the_methods(client: TestClient[Any]) -> None:
    answer = client.options("/api/v1/long")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


def test_cors_by_allow_list(tmp_path: Path) -> None:
    ours, other = {"origin": "https://ours.example"}, {"origin": "https://other.example"}
    asked = {"access-control-request-method": "POST"}
    with TestClient(app_with(tmp_path, cors_origins="https://ours.example")) as client:
        headers = client.get("/api/v1/long", headers=ours).headers
        assert headers["access-control-allow-origin"] == "https://ours.example"
        assert "x-request-id" in headers["access-control-expose-headers"]
        assert client.get("/nowhere", headers=ours).headers["access-control-allow-origin"]
        assert client.get("/api/v1/long").headers["vary"] == "accept-encoding, origin"
        assert "access-control-allow-origin" not in client.get("/docs", headers=other).headers
        granted = client.options("/api/v1/offers", headers=ours | asked)
        assert granted.status_code == 204
        assert "POST" in granted.headers["access-control-allow-methods"]
        assert "authorization" in granted.headers["access-control-allow-headers"]
        refused = client.options("/api/v1/offers", headers=other | asked)
        assert not [name for name in refused.headers if name.startswith("access-control")]


def test_nobody_elses_page_by_default_and_everybodys_with_a_star(tmp_path: Path) -> None:
    other = {"origin": "https://other.example"}
    with TestClient(app_with(tmp_path)) as client:
        assert "access-control-allow-origin" not in client.get("/docs", headers=other).headers
    with TestClient(app_with(tmp_path, cors_origins="*")) as client:
        headers = client.get("/docs", headers=other).headers
        assert (headers["access-control-allow-origin"], headers["vary"]) == ("*", "accept-encoding")


def test_the_limit_is_told_and_kept(tmp_path: Path) -> None:
    with TestClient(app_with(tmp_path, rate_limit=3)) as client:
        answers = [client.get("/api/v1/long") for _ in range(4)]
        assert [each.status_code for each in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"client";q=3;w=60'
        assert answers[0].headers["ratelimit"] == '"client";r=2;t=20'
        assert answers[3].headers["ratelimit"].startswith('"client";r=0;t=')
        assert 1 <= int(answers[3].headers["retry-after"]) <= 20
        assert answers[3].json()["type"] == "/problems/too-many-requests"
        assert answers[3].headers["x-content-type-options"] == "nosniff"
        assert client.get("/health/live").status_code == 200
    with TestClient(app_with(tmp_path, rate_limit=0)) as client:
        assert "ratelimit" not in client.get("/api/v1/long").headers


@pytest.mark.parametrize(
    ("forwarded", "host"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("1.1.1.1, 198.51.100.9", "198.51.100.9"),
        ("1.1.1.1, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("", "10.0.0.1"),
        ("1.1.1.1, 198.51.100.9:50001", "198.51.100.9"),
        ("[2001:db8::1]:50001", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("unknown", "10.0.0.1"),
        ("1.1.1.1, _hidden, 10.0.0.2", "10.0.0.2"),
    ],
)
def test_forwarded_addresses_of_trusted_proxies(tmp_path: Path, forwarded: str, host: str) -> None:
    edge = app_with(tmp_path, trusted_proxies="10.0.0.0/8").edge
    headers = {b"x-forwarded-for": forwarded.encode(), b"x-forwarded-proto": b"https"}
    scope = {"client": ("10.0.0.1", 1), "scheme": "http", "headers": list(headers.items())}
    assert edge.who(scope, headers) == (host, "https")
    scope["client"] = ("203.0.113.5", 1)
    assert edge.who(scope, headers) == ("203.0.113.5", "http")
    assert app_with(tmp_path).edge.who(scope, headers) == ("203.0.113.5", "http")


@pytest.mark.parametrize(("kept", "logged"), [("errors", 1), ("all", 2), ("off", 0)])
def test_the_access_log(
    tmp_path: Path, kept: str, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pricepulse.access")
    with TestClient(app_with(tmp_path, access_log=kept)) as client:
        client.get("/health/live")
        key = {"authorization": "Bearer very-private"}
        client.get("/nowhere?q=tea&access_token=very-private&a=b%0Ac", headers=key)
    records = [each for each in caplog.records if each.name == "pricepulse.access"]
    assert len(records) == logged
    assert "very-private" not in str([vars(each) for each in records])
    if logged:
        fields = cast(Any, records[-1]).fields
        assert fields["query"] == "q=tea&access_token=***&a=b%0Ac"
        assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/nowhere", 404)


def test_the_document(client: TestClient[Any]) -> None:
    answer = client.get("/api/v1/openapi.json")
    document = answer.json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    operations = [each for item in document["paths"].values() for each in item.values()]
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)
    assert {"get_offer", "post_offer", "live", "ready"} <= set(ids)
    problem = {"$ref": "#/components/schemas/Problem"}
    for name, response in document["components"]["responses"].items():
        assert response["content"]["application/problem+json"]["schema"] == problem, name
    for operation in operations:
        assert {"400", "404", "405", "406", "429", "500"} <= set(operation["responses"])
    offer = document["paths"]["/api/v1/offers/{offer_id}"]["get"]
    assert (offer["summary"], offer["description"]) == ("One offer.", "With its price.")
    assert {"200", "304", "503"} <= set(offer["responses"])
    schemas = {each["name"]: each["schema"] for each in offer["parameters"]}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    assert schemas["min_price"]["type"] == "string"
    assert schemas["min_price"]["pattern"]
    assert schemas["brand"] == {"type": "array", "items": {"type": "string"}}
    assert schemas["cursor"] == {"type": "string", "maxLength": 512}
    prices = document["components"]["schemas"]["Offer"]["properties"]
    assert prices["price"] == {"type": "number"}
    guarded = document["paths"]["/api/v1/offers"]["post"]
    assert guarded["security"] == [{"access_token": []}, {"api_key": ["ingest"]}]
    assert {"401", "403", "413", "415", "503", "507"} <= set(guarded["responses"])
    tag = {"if-none-match": answer.headers["etag"]}
    assert client.get("/api/v1/openapi.json", headers=tag).status_code == 304


def test_the_docs_come_from_this_server(client: TestClient[Any]) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "://" not in page.text.replace("http://www.w3.org/2000/svg", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js", "docs.css"):
        asset = client.get(f"/docs/{name}")
        assert asset.status_code == 200
        assert f"/docs/{name}" in page.text
        tag = {"if-none-match": asset.headers["etag"]}
        assert client.get(f"/docs/{name}", headers=tag).status_code == 304
    assert "Apache License" in client.get("/docs/swagger-ui.LICENSE.txt").text
    for bad in ("..%2Fsettings.py", "%2e%2e", "nothing.js"):
        assert client.get(f"/docs/{bad}").status_code == 404
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"


def test_readiness_is_truthful(tmp_path: Path) -> None:
    with TestClient(app_with(tmp_path / "gone")) as client:
        shutil.rmtree(tmp_path / "gone")
        told = client.get("/health/ready").json()
        assert (told["status"], told["errors"][0]["pointer"]) == (503, "/data")
    (tmp_path / "data").mkdir()
    with TestClient(app := app_with(tmp_path / "data")) as client:
        ready = client.get("/health/ready").json()
        assert (ready["status"], ready["version"]) == ("ready", "000000007-1")
        assert (tmp_path / "data" / "catalog.sqlite").exists()
        app.state["warehouse"].current = None
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert [each["pointer"] for each in answer.json()["errors"]] == ["/warehouse"]
        assert client.get("/health/live").json() == {"status": "live"}


class serving:  # noqa: N801
    """The app in a real uvicorn, with the options that it is meant to be run with."""

    def __init__(self, app: Any) -> None:
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, **UVICORN))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> str:
        self.thread.start()
        deadline = time.monotonic() + 20
        while not (self.server.started and self.server.servers):
            assert time.monotonic() < deadline, "the server did not start in 20 s"
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def test_on_a_real_server(tmp_path: Path) -> None:
    """What a test client forgives: framing of HEAD, 304, streams and packed bodies."""
    app = app_with(tmp_path, trusted_proxies="127.0.0.1")
    with serving(app) as base, httpx.Client(base_url=base) as client:
        https = client.get("/health/live", headers={"x-forwarded-proto": "https"}).headers
        assert https["strict-transport-security"]
        assert "strict-transport-security" not in client.get("/health/live").headers
        plain = client.get("/api/v1/long", headers={"accept-encoding": "identity"})
        assert json.loads(plain.content) == LONG
        assert client.get("/api/v1/huge", headers={"accept-encoding": "gzip"}).json()["items"]
        assert client.get("/api/v1/stream", headers={"accept-encoding": "br"}).text[:3] == "row"
        assert client.head("/api/v1/huge").content == b""
        assert client.head("/api/v1/stream").content == b""
        star = client.get("/api/v1/offers/1", headers={"if-none-match": "*"})
        assert (star.status_code, star.content) == (304, b"")
        assert client.options("/api/v1/long").status_code == 204
        assert client.get("/api/v1/f%C3%BCr%00").json()["instance"] == "/api/v1/f%C3%BCr%00"
        assert client.get("/api/v1/long").json() == LONG  # the same connection is still in step


def test_a_server_without_a_build_starts_and_says_so(tmp_path: Path) -> None:
    app = create_app(Settings.from_env({}, data=tmp_path), routes=ROUTES)
    with TestClient(app) as client:
        assert client.get("/api/v1/offers/1").json()["type"] == "/problems/no-data-yet"
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
