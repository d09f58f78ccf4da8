"""GET /docs: the API shown by Swagger UI, from files that the package ships."""

import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from litestar import Request, get
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.response.base import Response

from pricepulse.errors import NotFoundError

FOLDER = Path(__file__).parent / "docs_assets"
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".txt": "text/plain",
    ".md": "text/plain",
}
# Swagger UI sets styles on elements it makes and holds its icons as data: images.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
PAGE: dict[str, Any] = {"produces": tuple(KINDS.values())}


@lru_cache
def _asset(name: str) -> tuple[bytes, str, str]:
    """(content, media type, ETag) of a name in the folder; nothing is joined to a path."""
    for file in FOLDER.iterdir():
        if file.name == name and file.suffix in KINDS:
            content = file.read_bytes()
            return content, KINDS[file.suffix], f'W/"{zlib.crc32(content):08x}"'
    raise NotFoundError(f"the documentation has no file {name[:64]!r}; it begins at /docs")


def confirmed(request: Request[Any, Any, Any], etag: str) -> bool:
    return etag in request.headers.get("if-none-match", "")


def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    content, kind, etag = _asset(name)
    headers = {
        "content-security-policy": CSP,
        "cache-control": "public, max-age=3600, must-revalidate",
        "etag": etag,
    }
    if confirmed(request, etag):
        return Response(b"", status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


@get("/", include_in_schema=False, sync_to_thread=False, opt=PAGE)
def root() -> Redirect:
    return Redirect("/docs", headers={"cache-control": "public, max-age=3600"})


@get("/docs", include_in_schema=False, sync_to_thread=False, opt=PAGE)
def docs(request: Request[Any, Any, Any]) -> Response[bytes]:
    return _answer(request, "index.html")


@get("/docs/{name:str}", include_in_schema=False, sync_to_thread=False, opt=PAGE)
def docs_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    return _answer(request, name)
