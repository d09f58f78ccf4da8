"""Who may call what. Every handler says so, and the server does not start with one that does not.

Handlers for signed-in people are declared with `**may(Role.USER)`, new public ones with
`**public()`; those that have always been public are listed in PUBLIC_ROUTES. `entries(app)` is the
whole table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from pricepulse.accounts.gate import Gate
from pricepulse.accounts.tokens import BadToken
from pricepulse.errors import ForbiddenError, UnauthorizedError
from pricepulse.settings import Settings

PUBLIC = "public"
INGEST_KEY = "ingest key"


class Role(StrEnum):
    """Each may what those before it may: analysts query, operators watch and run, admins decide."""

    USER = "user"
    ANALYST = "analyst"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        ladder = list(Role)
        return ladder.index(self) >= ladder.index(other)


PUBLIC_ROUTES = {
    # What things cost: anybody may ask, and answers are shared and cached.
    "list_products", "search_products", "suggest_completions", "lookup_product", "get_product",
    "get_history", "get_statistics", "get_chart_svg", "get_chart_png", "list_deals",
    "list_price_drops", "list_price_rises", "list_new_arrivals", "list_trending", "list_similar",
    "compare_products", "get_market", "get_category_index", "get_retailer", "list_retailers",
    "list_brands", "list_categories", "get_category", "list_anomalies",
    # The server itself
    "live", "ready", "problem_type", "openapi_document", "root", "docs", "docs_file",
}  # fmt: skip


def public(**opt: Any) -> dict[str, Any]:
    """Anybody may: `@post("/auth/login", **public())`."""
    return {"opt": {"who": PUBLIC} | opt}


def may(role: Role, **opt: Any) -> dict[str, Any]:
    """Whoever is signed in with at least this role: `@get("/users/me", **may(Role.USER))`."""
    return {
        "guards": [_role_required],
        "security": [{"access_token": []}],
        "opt": {"who": role} | opt,
    }


def with_ingest_key(**opt: Any) -> dict[str, Any]:
    """Whoever has the server's ingest key."""
    return {
        "guards": [_ingest_key_required],
        "security": [{"ingest_key": []}],
        "opt": {"who": INGEST_KEY} | opt,
    }


def entries(app: Litestar) -> dict[str, str]:
    """By operation (`GET /api/v1/users/me`), who may. Raises for a handler without an entry, and
    for one whose guard does not fit it."""
    found: dict[str, str] = {}
    guards = {PUBLIC: None, INGEST_KEY: _ingest_key_required}
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            if handler.http_methods == {"OPTIONS"}:
                continue
            who = handler.opt.get("who")
            if who is None and handler.handler_name in PUBLIC_ROUTES:
                who = PUBLIC
            guard = guards.get(who, _role_required) if who else None
            if who is None or handler.resolve_guards() != ([guard] if guard else []):
                raise ImproperlyConfiguredException(
                    f"{handler.handler_name} ({route.path}) does not say who may call it: declare it "
                    "with one of pricepulse.access.may, public, with_ingest_key"
                )
            found |= {f"{method} {route.path_format}": str(who) for method in handler.http_methods}
    return found


async def _role_required(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    gate: Gate = connection.app.state["gate"]
    try:
        claims = await gate.check(bearer(connection, "an access token", "token"))
    except BadToken as error:
        raise UnauthorizedError(f"the access token {error}", error="invalid_token") from None
    if not Role(claims.role).includes(handler.opt["who"]):
        raise ForbiddenError(f"this takes the role {handler.opt['who']}; yours is {claims.role}")
    connection.scope["user"] = claims


async def _ingest_key_required(
    connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
) -> None:
    settings: Settings = connection.app.state["settings"]
    if settings.ingest_key is None:
        raise ForbiddenError(
            "this server takes no data over HTTP until it is started with PRICEPULSE_INGEST_KEY "
            "set to a key of at least 16 characters, for example from: openssl rand -hex 24"
        )
    if not settings.ingest_key.matches(bearer(connection, "the ingest key", "key")):
        raise UnauthorizedError("this is not the ingest key that the server was started with")


def bearer(connection: ASGIConnection[Any, Any, Any, Any], what: str, word: str) -> str:
    """What stands after `Authorization: Bearer` (RFC 6750, 2.1), in no other place."""
    sent = connection.headers.get("authorization", "")
    scheme, given = [*sent.split(None, 1), "", ""][:2]
    if scheme.lower() != "bearer" or not given.strip():
        raise UnauthorizedError(f"send {what} as 'Authorization: Bearer <{word}>'")
    return given.strip()
