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

from pricepulse.app import create_app
from pricepulse.errors import WORDS
from pricepulse.settings import Settings
from tests.served import KEY, KEY_HEADER, Served, shared_server

PICTURES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "GET /api/v1/users/me/avatar": "image/webp",
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
[phases.stateful]
enabled = false

[[operations]]
include-path = "/api/v1/products/{{product_id}}"
parameters = {{ product_id = "{product}" }}

[[operations]]
include-path = "/api/v1/products/{{product_id}}/history"
parameters = {{ product_id = "{product}" }}

[[operations]]
include-path = "/api/v1/products/{{product_id}}/chart.svg"
parameters = {{ product_id = "{product}" }}

[[operations]]
include-path = "/api/v1/products/{{product_id}}/chart.png"
parameters = {{ product_id = "{product}" }}

[[operations]]
include-path = "/api/v1/categories/{{slug}}"
parameters = {{ slug = "groceries.drinks" }}

[[operations]]
include-path = "/api/v1/ingest/batches/{{batch_id}}"
parameters = {{ batch_id = "{batch}" }}

[[operations]]
include-path = "/api/v1/ingest/batches/{{batch_id}}/rejected"
parameters = {{ batch_id = "{batch}" }}
"""


@pytest.mark.slow
@pytest.mark.parametrize("real_ids", [False, True], ids=["any ids", "real ids"])
def test_schemathesis_finds_nothing(tmp_path: Path, real_ids: bool) -> None:
    """Against a server of its own: it ingests. A fixed seed, so that a failure can be repeated."""
    with shared_server(tmp_path / "data") as served:
        base = str(served.client.base_url)
        command = [str(Path(sys.executable).parent / "schemathesis")]
        if real_ids:
            product = served.get("/products/lookup", gtin="4006381333931")["product_id"]
            batches = served.client.get("/api/v1/ingest/batches", headers=KEY_HEADER).json()
            batch = batches["items"][0]["batch_id"]
            config = tmp_path / "schemathesis.toml"
            config.write_text(CONFIG.format(product=product, batch=batch))
            command += ["--config-file", str(config)]
        command += ["run", f"{base}/api/v1/openapi.json", "--checks", CHECKS, "--seed", "1"]
        command += ["--header", f"Authorization: Bearer {KEY}", "--continue-on-failure"]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "20"]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        there = len(list(operations(served.get("/openapi.json"))))
        assert f"Tested: {there}\n" in run.stdout
        # After all of that it still answers as before.
        assert served.get("/search", q="zebra")["total"] == 2
