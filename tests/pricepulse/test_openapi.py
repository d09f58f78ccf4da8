"""The OpenAPI document as it is served: valid, complete, and true of the running server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from pricepulse.accounts.tables import Account
from pricepulse.app import create_app
from pricepulse.errors import WORDS
from pricepulse.settings import Settings
from pricepulse.store import Database
from tests.people import PASSWORD, hash_of_password
from tests.served import KEY, KEY_HEADER, Served, shared_server

PICTURES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "GET /api/v1/users/me/avatar": "image/webp",
    "GET /api/v1/images/{image_id}": "image/webp",
    "GET /api/v1/users/me/export": "application/zip",
}
METHODS = {"get", "head", "post", "put", "patch", "delete", "options", "trace"}
# What schemathesis cannot know: which cursors, times, GTINs and files there are. Valid by their
# schema, they are still refused with a 400, so that its check `positive_data_acceptance` says nothing.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,"
    "missing_required_header,unsupported_method,allow_header_conformance,use_after_free,"
    "ensure_resource_availability,ignored_auth"
)


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    answer = served.client.get("/api/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS, f"{path} has {method}"
            yield f"{method.upper()} {path}", operation


def resolved(document: Any, node: Any) -> Any:
    while "$ref" in node:
        at = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        node = at
    return node


def test_the_document_is_valid(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    errors = [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()]
    assert errors == []


def test_operation_ids_are_unique_names(document: Any) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(name.isidentifier() for name in ids)


def test_every_route_is_documented(document: Any, tmp_path: Path) -> None:
    app = create_app(Settings.from_env({}, data=tmp_path))
    hidden = {"/", "/docs", "/docs/{name}", "/api/v1/openapi.json"}  # the documentation's own
    hidden |= {
        "/verify-email",
        "/reset-password",
        "/forgot-password",
        "/register",
        "/sign-in",
        "/signed-in",
    }  # pages
    routes = {
        f"{method} {route.path_format}"
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path_format not in hidden
        for method in route.methods - {"OPTIONS"}
    }
    assert {name for name, _ in operations(document)} == routes
    assert len(routes) > 15


def test_every_operation_says_what_it_does(document: Any) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document):
        assert operation["summary"].endswith("."), name
        assert set(operation["tags"]) <= tags, name
        assert len(operation["tags"]) == 1, name


def test_every_problem_has_its_schema(document: Any) -> None:
    for name, operation in operations(document):
        statuses = set(operation["responses"])
        assert {"400", "404", "405", "406", "429", "500"} <= statuses, name
        if operation.get("security"):
            assert {"401", "403"} <= statuses, name
        if "requestBody" in operation:
            assert {"413", "415"} <= statuses, name
        for status, given in operation["responses"].items():
            response = resolved(document, given)
            assert response["description"], (name, status)
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (name, status)
                schema = resolved(
                    document, response["content"]["application/problem+json"]["schema"]
                )
                assert schema["required"] == ["type", "title", "status", "detail", "instance"]
            elif status not in {"204", "303", "304"}:
                ((kind, content),) = response["content"].items()
                assert kind == PICTURES.get(name.rpartition(".")[2], "application/json")
                assert resolved(document, content["schema"])
            else:
                assert "content" not in response


def test_no_parameter_can_be_sent_as_null(document: Any) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert "null" not in json.dumps(parameter["schema"]), (name, parameter["name"])


def test_money_is_a_number_and_ids_are_text(document: Any) -> None:
    schemas = document["components"]["schemas"]
    offer = schemas["Offer"]["properties"]
    assert offer["price"] == {"type": "number"}
    assert {"type": "number"} in offer["list_price"]["oneOf"]
    assert offer["offer_id"] == {"type": "string"}
    assert offer["observed_at"] == {"type": "string", "format": "date-time"}
    assert all(name.isidentifier() for name in schemas)


def test_no_error_shows_a_pattern(document: Any) -> None:
    """Wherever the document has one, errors.py has words for it."""
    patterns = set(re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(document)))
    assert len(patterns) > 8
    for pattern in patterns:
        words = WORDS[f"Expected str matching regex {json.loads(pattern)!r}"]
        assert words.startswith("must be ")


@pytest.mark.parametrize(
    ("address", "query", "told"),
    [
        ("/products", {"currency": "euro"}, "must be the three letters of an ISO 4217 code"),
        ("/products", {"min_price": "1,50"}, "must be a price like 19.99"),
        ("/products", {"sort": "cheap"}, "must be one of title, price, -price, change_30d"),
        ("/products/compare", {"ids": "a,b"}, "must be product ids separated by commas"),
        ("/deals", {"verdict": "real"}, "must be one of genuine, inflated, unproven"),
    ],
)
def test_what_would_be_right_is_said(
    served: Served, address: str, query: dict[str, str], told: str
) -> None:
    refused = served.refused(address, 400, **query)
    assert refused["errors"][0]["detail"].startswith(told)
    assert "regex" not in refused["detail"]


def test_the_one_share_that_is_no_fraction_says_so(document: Any) -> None:
    for schema in ("Statistics", "Compared"):
        percentile = document["components"]["schemas"][schema]["properties"]["percentile"]
        assert percentile["description"].startswith("0 to 100, not a fraction")


def test_a_png_is_bytes_and_an_svg_is_text(document: Any) -> None:
    for kind, schema in (
        ("svg", {"type": "string"}),
        ("png", {"type": "string", "format": "binary"}),
    ):
        operation = document["paths"][f"/api/v1/products/{{product_id}}/chart.{kind}"]["get"]
        assert operation["responses"]["200"]["content"] == {PICTURES[kind]: {"schema": schema}}


def test_refs_lead_somewhere_and_nothing_is_left_over(document: Any) -> None:
    text = json.dumps(document)
    used = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert used == set(document["components"]["schemas"])
    responses = {part.split('"')[0] for part in text.split('"#/components/responses/')[1:]}
    assert responses == set(document["components"]["responses"])


def test_the_document_is_confirmed_by_its_tag(served: Served) -> None:
    first = served.client.get("/api/v1/openapi.json")
    again = served.client.get(
        "/api/v1/openapi.json", headers={"if-none-match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


CONFIG = """
headers = {{ Authorization = "Bearer {key}" }}

[phases.stateful]
enabled = false

# Its own list lacks 413: what is too long for a schema can be too large to be read.
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429]

[[operations]]
include-path-regex = "^/api/v1/users"
exclude-path-regex = "^/api/v1/users/me/sessions"
headers = {{ Authorization = "Bearer {ann}" }}

[[operations]]
include-path-regex = "^/api/v1/users/me/sessions"
headers = {{ Authorization = "Bearer {bob}" }}
"""
OF_PATH = """
[[operations]]
include-path = "{path}"
parameters = {{ {name} = "{value}" }}
"""


def ids_of(served: Served) -> dict[str, str]:
    batches = served.client.get("/api/v1/ingest/batches", headers=KEY_HEADER).json()
    product = served.get("/products/lookup", gtin="4006381333931")["product_id"]
    batch = batches["items"][0]["batch_id"]
    return {"product_id": product, "slug": "groceries.drinks", "batch_id": batch}


def with_ids(paths: Any, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(path, parameter) of what has one of these ids, and what is people's own not."""
    for path in paths:
        for name in known:
            if f"{{{name}}}" in path and "/users/" not in path:
                yield path, name


def signed_in(served: Served, data: Path, name: str) -> str:
    """The access token of a new operator."""
    assert served.client.get("/health/live").status_code == 200  # it has made its tables
    database = Database(f"sqlite:///{data / 'people.sqlite'}")
    email = f"{name}@example.org"
    with database.begin() as db:
        hashed = hash_of_password()
        db.add(Account(email=email, email_key=email, role="operator", password_hash=hashed))
    database.close()
    body = {"email": email, "password": PASSWORD}
    token: str = served.client.post("/api/v1/auth/login", json=body).json()["access_token"]
    return token


@pytest.mark.slow
@pytest.mark.parametrize("real_ids", [False, True], ids=["any ids", "real ids"])
def test_schemathesis_finds_nothing(tmp_path: Path, real_ids: bool) -> None:
    """Against a server of its own: it ingests, and people change what is theirs; whoever ends all sessions
    is somebody else. A fixed seed, so that a failure can be repeated."""
    with shared_server(tmp_path / "data") as served:
        ann, bob = (signed_in(served, tmp_path / "data", name) for name in ("ann", "bob"))
        said = CONFIG.format(key=KEY, ann=ann, bob=bob)
        paths = served.get("/openapi.json")["paths"]
        flags = ["--checks", CHECKS, "--seed", "1", "--continue-on-failure", "--max-examples", "10"]
        flags += ["--phases", "examples,coverage,fuzzing"]
        if real_ids:
            known = ids_of(served)
            paths = {path: paths[path] for path, _ in with_ids(paths, known)}
            for path, name in with_ids(paths, known):
                said += OF_PATH.format(path=path, name=name, value=known[name])
                flags += ["--include-path", path]
        config = tmp_path / "schemathesis.toml"
        config.write_text(said)
        command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config)]
        command += ["run", f"{served.client.base_url}/api/v1/openapi.json", *flags]
        environment = os.environ | {"NO_COLOR": "1"}
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        assert f"Tested: {sum(map(len, paths.values()))}\n" in run.stdout
        # After all of that it still answers as before, and knows who is signed in.
        mine = {"authorization": f"Bearer {ann}"}
        assert served.client.get("/api/v1/users/me", headers=mine).status_code == 200
        assert served.get("/search", q="zebra")["total"] == 2
