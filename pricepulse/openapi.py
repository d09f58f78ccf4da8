"""The OpenAPI 3.1 document: what Litestar reads from the handlers, and what it cannot know.

Litestar does not know our error shape, the statuses that the edge gives, or that money is a JSON
number; `document` puts that in, for every operation alike.
"""

import re
import zlib
from decimal import Decimal
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar, Request, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, OpenAPIType, Schema, SecurityScheme, Server, Tag
from litestar.plugins import OpenAPISchemaPlugin
from litestar.response.base import Response
from litestar.routes import HTTPRoute
from litestar.types import Method

from pricepulse.docs import confirmed
from pricepulse.errors import MEDIA_TYPE, FieldError, Problem

DESCRIPTION = """\
What did this cost, when and where; is it a good price, and is the discount real.

Money is an exact JSON number with its `currency` beside it; times are UTC, RFC 3339 (in
histories Unix seconds, ready to plot); ids are opaque
strings. An `image_url` is a shop's, or, of a picture that an operator gave a product, a path on
this server. Answers from the warehouse carry `as_of` and `version`, and an `ETag` that costs a `304`
until the next build. Errors are `application/problem+json` (RFC 9457). Unknown query parameters are
refused. To see a product: take a `product_id` from **GET /api/v1/products**, then open its history.
"""
ANYWHERE = (400, 404, 405, 406, 429, 500)
SCHEMAS = "#/components/schemas/{name}"
RESPONSES = "#/components/responses/Problem{status}"
TAGS = {
    "catalog": "Products, offers, categories, brands, retailers, search.",
    "prices": "Price histories, statistics, charts.",
    "insights": "Deals, what moved, anomalies, the market.",
    "ingest": "Observations in, batches and rejections out.",
    "accounts": "Sign up, sign in, the own account.",
    "operation": "Health, the API's own description.",
}


class MoneyIsANumber(OpenAPISchemaPlugin):
    """Litestar describes a Decimal as a string; our encoder prints a number."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is Decimal

    def to_openapi_schema(self, field_definition: Any, schema_creator: Any) -> Schema:
        return Schema(type=OpenAPIType.NUMBER)


class _NoRoutes(Router):
    """Litestar would serve the document and an HTML 404 page itself; we serve our own."""

    def register(self, value: Any) -> list[Any]:
        return []


def operation_id(handler: HTTPRouteHandler, method: Method, _: list[Any]) -> str:
    """The handler's name: `get_product`; HEAD and a second path would otherwise repeat it."""
    name: str = handler.handler_name
    return (
        name if len(handler.paths) * len(handler.http_methods) == 1 else f"{name}_{method.lower()}"
    )


def config(release: str) -> OpenAPIConfig:
    # By hand: Litestar's own JWTAuth writes a scheme that OpenAPI 3.1 does not allow.
    schemes = {
        "access_token": SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="JWT",
            description="The access token of POST /api/v1/auth/login, good for 15 minutes.",
        ),
        "api_key": SecurityScheme(
            type="http",
            scheme="bearer",
            description="A key of POST /api/v1/users/me/api-keys with the scope that is named; "
            "where data is taken in also the server's PRICEPULSE_INGEST_KEY.",
        ),
    }
    return OpenAPIConfig(
        title="PricePulse",
        version=release,
        description=DESCRIPTION,
        servers=[Server(url="/", description="this server")],
        components=Components(security_schemes=dict(schemes)),
        tags=[Tag(name=name, description=told) for name, told in TAGS.items()],
        operation_id_creator=operation_id,
        use_handler_docstrings=True,
        openapi_router=_NoRoutes("/", route_handlers=[], include_in_schema=False),
    )


def document(app: Litestar) -> dict[str, Any]:
    spec: dict[str, Any] = app.openapi_schema.to_schema()
    _, schemas = msgspec.json.schema_components([Problem, FieldError], ref_template=SCHEMAS)
    components = spec["components"]
    components.setdefault("schemas", {}).update(schemas)
    used: set[int] = set()
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            operations = spec["paths"].get(route.path_format, {})
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    if operation := operations.get(method.lower()):
                        used |= _complete(operation, handler)
    components["responses"] = {f"Problem{status}": _problem(status) for status in sorted(used)}
    names = {
        name: re.sub(r"\W", "", each.get("title", name)) for name, each in _generic(components)
    }
    components["schemas"] = {names.get(k, k): v for k, v in components["schemas"].items()}
    _correct(
        spec, {SCHEMAS.format(name=old): SCHEMAS.format(name=new) for old, new in names.items()}
    )
    return spec


def _generic(components: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """`Page[Product]` comes as `Page_pricepulse.catalog.Product_`; `PageProduct` reads better."""
    return [each for each in components["schemas"].items() if not each[0].isidentifier()]


def _complete(operation: dict[str, Any], handler: HTTPRouteHandler) -> set[int]:
    """Puts in what the edge does; returns the statuses that are problems."""
    statuses = {*ANYWHERE}
    if "requestBody" in operation:
        statuses |= {413, 415}
    if operation.get("security"):
        statuses |= {401, 403, 503, 507}
    responses = operation["responses"]
    for status, response in responses.items():
        response["description"] = HTTPStatus(int(status)).phrase
        for kind in {"image/png", "image/webp", "application/zip"} & response.get(
            "content", {}
        ).keys():
            response["content"][kind]["schema"]["format"] = "binary"
    if handler.opt.get("versioned"):
        statuses.add(503)
        responses["304"] = {"description": "Unchanged since the build named in If-None-Match"}
    statuses |= {int(status) for status in responses if status >= "400"}
    statuses |= set(handler.opt.get("problems", ()))
    responses |= {str(status): {"$ref": RESPONSES.format(status=status)} for status in statuses}
    operation["responses"] = dict(sorted(responses.items()))
    summary, _, rest = operation.get("description", "").partition("\n\n")
    operation["summary"] = " ".join(summary.split()) or operation["summary"]
    operation["description"] = rest.strip()
    if not operation["description"] or not operation["deprecated"]:
        _drop_empty(operation)
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _given(parameter["schema"])
    return statuses


def _drop_empty(operation: dict[str, Any]) -> None:
    for name in ("description", "deprecated"):
        if not operation.get(name):
            operation.pop(name, None)


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is not one that can be sent as null."""
    kinds = [each for each in schema.pop("oneOf", []) if each != {"type": "null"}]
    rest = {name: each for name, each in schema.items() if name != "description"}
    if rest.get("default", 0) is None:
        del rest["default"]
    return (
        {**kinds[0], **rest} if len(kinds) == 1 else {**({"oneOf": kinds} if kinds else {}), **rest}
    )


def _problem(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMAS.format(name="Problem")}}},
    }
    if status in {429, 503, 507}:
        after = {"description": "Seconds to wait", "schema": {"type": "integer"}}
        response["headers"] = {"Retry-After": after}
    return response


def _correct(node: Any, refs: dict[str, str]) -> None:
    """Generic names everywhere; bounds of whole numbers as whole numbers, not 200.0; and no choice
    between equals: exact money is `float | Decimal`, of which a number would match both."""
    if isinstance(node, dict):
        if node.get("$ref") in refs:
            node["$ref"] = refs[node["$ref"]]
        for name, each in node.items():
            if isinstance(each, float) and each.is_integer():
                node[name] = int(each)
            _correct(each, refs)
        if kinds := node.get("oneOf"):
            node["oneOf"] = [each for at, each in enumerate(kinds) if each not in kinds[:at]]
            if len(node["oneOf"]) == 1:
                node |= node.pop("oneOf")[0]
    elif isinstance(node, list):
        for each in node:
            _correct(each, refs)


def route(release: str) -> HTTPRouteHandler:
    """GET /api/v1/openapi.json, made once: it does not change while the server runs."""

    @lru_cache(1)
    def made(app: Litestar) -> tuple[bytes, str]:
        body = msgspec.json.encode(document(app))
        return body, f'W/"{release}.{zlib.crc32(body):08x}"'

    @get("/api/v1/openapi.json", include_in_schema=False, sync_to_thread=True)
    def openapi_document(request: Request[Any, Any, Any]) -> Response[bytes]:
        body, etag = made(request.app)
        headers = {"etag": etag, "cache-control": "public, max-age=60, must-revalidate"}
        if confirmed(request, etag):
            return Response(b"", status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    return openapi_document
