"""Who may write: one key from the settings, until there are accounts."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from pricepulse.errors import ForbiddenError, UnauthorizedError
from pricepulse.settings import Settings

INGEST_SECURITY: list[dict[str, list[str]]] = [{"ingest_key": []}]


def ingest_key_required(
    connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
) -> None:
    """A Litestar guard: `@post(..., guards=[ingest_key_required], security=INGEST_SECURITY)`."""
    settings: Settings = connection.app.state["settings"]
    if settings.ingest_key is None:
        raise ForbiddenError(
            "this server takes no data over HTTP until it is started with PRICEPULSE_INGEST_KEY "
            "set to a key of at least 16 characters, for example from: openssl rand -hex 24"
        )
    sent = connection.headers.get("authorization", "")
    scheme, given = [*sent.split(None, 1), "", ""][:2]
    if scheme.lower() != "bearer" or not given.strip():
        raise UnauthorizedError("send the ingest key as 'Authorization: Bearer <key>'")
    if not settings.ingest_key.matches(given.strip()):
        raise UnauthorizedError("this is not the ingest key that the server was started with")
