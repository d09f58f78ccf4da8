"""Who may call what. Every handler says so, and the server does not start with one that does not.

Handlers for signed-in people are declared with `**may(Role.USER)`, those that a program may call with an
API key, too, with `**may(Role.OPERATOR, Scope.INGEST)`, new public ones with `**public()`; those that
have always been public are listed in PUBLIC_ROUTES. `entries(app)` is the whole table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from pricepulse.accounts import keys
from pricepulse.accounts.gate import Gate
from pricepulse.accounts.keys import KnownKey
from pricepulse.accounts.tokens import BadToken, Claims
from pricepulse.errors import ForbiddenError, UnauthorizedError
from pricepulse.settings import Settings

PUBLIC = "public"


class Role(StrEnum):
    """Each may what those before it may: analysts query, operators watch and run, admins decide."""

    USER = "user"
    ANALYST = "analyst"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        ladder = list(Role)
        return ladder.index(self) >= ladder.index(other)


class Scope(StrEnum):
    """What an API key is good for; a key is good for nothing that its owner may not do now."""

    READ = "read"
    SQL = "sql"
    INGEST = "ingest"
    ADMIN = "admin"

    @property
    def least(self) -> Role:
        """The role that the owner must have."""
        return LEAST[self]


LEAST = {
    Scope.READ: Role.USER,
    Scope.SQL: Role.ANALYST,
    Scope.INGEST: Role.OPERATOR,
    Scope.ADMIN: Role.ADMIN,
}


class Entry(NamedTuple):
    """`who`: PUBLIC or the least role. `scope`: of the API keys that open it as well."""

    who: str
    scope: Scope | None


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


def may(role: Role, scope: Scope | None = None, /, **opt: Any) -> dict[str, Any]:
    """Whoever is signed in with at least this role, and programs with an API key of this scope:
    `@get("/users/me", **may(Role.USER, Scope.READ))`. Without a scope no key opens it."""
    security: list[dict[str, list[str]]] = [{"access_token": []}]
    if scope is not None:
        # OpenAPI 3.1, 4.8.30: for a scheme that is not OAuth the list names what is required.
        security.append({"api_key": [scope.value]})
    return {
        "guards": [_role_required],
        "security": security,
        "opt": {"who": role, "scope": scope} | opt,
    }


def entries(app: Litestar) -> dict[str, Entry]:
    """By operation (`GET /api/v1/users/me`), who may. Raises for a handler without an entry, and
    for one whose guard does not fit it."""
    found: dict[str, Entry] = {}
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            if handler.http_methods == {"OPTIONS"}:
                continue
            who = handler.opt.get("who")
            if who is None and handler.handler_name in PUBLIC_ROUTES:
                who = PUBLIC
            guards = [] if who == PUBLIC else [_role_required]
            if who is None or handler.resolve_guards() != guards:
                raise ImproperlyConfiguredException(
                    f"{handler.handler_name} ({route.path}) does not say who may call it: declare it "
                    "with one of pricepulse.access.may, public"
                )
            entry = Entry(str(who), handler.opt.get("scope"))
            found |= {f"{method} {route.path_format}": entry for method in handler.http_methods}
    return found


async def _role_required(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    needed: Role = handler.opt["who"]
    scope: Scope | None = handler.opt.get("scope")
    gate: Gate = connection.app.state["gate"]
    given = bearer(connection, "an access token or an API key" if scope else "an access token")
    caller: Claims | KnownKey | None
    if scope is Scope.INGEST and _is_servers_key(connection, given):
        caller = None  # of nobody: of whoever set up the server
    elif given.startswith(keys.PREFIX):
        caller = await _key_holder(gate, given, scope)
    else:
        try:
            caller = await gate.check(given)
        except BadToken as error:
            raise UnauthorizedError(f"the access token {error}", error="invalid_token") from None
    if caller is not None and not Role(caller.role).includes(needed):
        raise ForbiddenError(f"this takes the role {needed}; yours is {caller.role}")
    connection.scope["user"] = caller
    if caller is not None:
        scope_of: Any = connection.scope
        of = ("key", caller.id) if isinstance(caller, KnownKey) else ("account", caller.sub)
        await scope_of["edge"].count(*of)


async def _key_holder(gate: Gate, given: str, scope: Scope | None) -> KnownKey:
    try:
        key = await gate.check_key(given)
    except BadToken as error:
        raise UnauthorizedError(f"the API key {error}", error="invalid_token") from None
    if scope is None:
        raise ForbiddenError("this takes somebody who is signed in; no API key opens it")
    if scope not in key.scopes:
        has = ", ".join(sorted(key.scopes))
        raise ForbiddenError(f"this takes an API key with the scope {scope}; yours has {has}")
    if not Role(key.role).includes(scope.least):
        raise ForbiddenError(
            f"the scope {scope} takes an owner with the role {scope.least}; yours is {key.role}"
        )
    return key


def _is_servers_key(connection: ASGIConnection[Any, Any, Any, Any], given: str) -> bool:
    settings: Settings = connection.app.state["settings"]
    return settings.ingest_key is not None and settings.ingest_key.matches(given)


def bearer(connection: ASGIConnection[Any, Any, Any, Any], what: str) -> str:
    """What stands after `Authorization: Bearer` (RFC 6750, 2.1), in no other place."""
    sent = connection.headers.get("authorization", "")
    scheme, given = [*sent.split(None, 1), "", ""][:2]
    if scheme.lower() != "bearer" or not given.strip():
        raise UnauthorizedError(f"send {what} as 'Authorization: Bearer …'")
    return given.strip()
