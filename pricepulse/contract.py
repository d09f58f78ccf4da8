"""What every handler's signature promises, checked before the handler runs, in one place.

Unknown and repeated query parameters, `Accept`, `Content-Type`, and for answers from the
warehouse (`opt={"versioned": True}`) the build that the answer comes from and its ETag.
"""

import difflib
import zlib
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import unquote_plus

import msgspec
from litestar import Litestar, Request
from litestar.params import QueryParameter
from litestar.response.base import Response
from litestar.routes import HTTPRoute

from pricepulse.answer import Answers, Kept
from pricepulse.errors import (
    FieldError,
    InvalidInputError,
    NoDataYetError,
    NotAcceptableError,
    UnknownParameterError,
    UnsupportedMediaTypeError,
    told_as,
)
from warehouse.connection import Version

JSON = ("application/json",)
Limit = Annotated[int, QueryParameter(ge=1, le=200, description="Items per page.")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        max_length=512,
        description="`next_cursor` of the page before; from the first page if not given.",
    ),
]

# The end of a pattern, the same in Python and in browsers: `$` would let a line break follow.
END = r"(?![\s\S])"
CURRENCY = told_as(
    f"^[A-Za-z]{{3}}{END}", "must be the three letters of an ISO 4217 code, like EUR"
)
# As text: msgspec has no bounds for decimals (`ge` on one is a 500), and Decimal reads NaN.
Price = Annotated[
    str | None,
    QueryParameter(
        pattern=told_as(
            rf"^[0-9]{{1,12}}(\.[0-9]{{1,4}})?{END}",
            "must be a price like 19.99: up to 12 digits, and up to 4 after a point",
        ),
        description="A price, `19.99`.",
    ),
]


def one_of(*words: str, description: str | None = None, name: str | None = None) -> QueryParameter:
    """A parameter of a few words. Not a Literal: its error would not name them, and with `| None`
    one would read ?availability=null as not given."""
    pattern = told_as(f"^({'|'.join(words)}){END}", f"must be one of {', '.join(words)}")
    return QueryParameter(
        name=name, pattern=pattern, description=description, schema_extra={"enum": list(words)}
    )


class Contract(msgspec.Struct, frozen=True):
    single: frozenset[str]
    many: frozenset[str]
    produces: tuple[str, ...]
    consumes: tuple[str, ...]
    foreign: bool  # somebody else writes the query, and may add to it
    versioned: bool
    headers: dict[str, str]  # a 304 renews those that a cache has kept, so it carries them too


Contracts = dict[int, Contract]  # by id() of the route handler


def read_contracts(app: Litestar, into: Contracts) -> None:
    """Every handler's contract, from the parameters that Litestar has found in its signature."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler, model in route.route_handler_map.values():
            if "OPTIONS" in handler.http_methods:
                continue
            names = {each.field_alias for each in model.expected_query_params}
            many = frozenset(model.sequence_query_parameter_names)
            opt = handler.opt
            reads = "data" in handler.parsed_fn_signature.parameters
            into[id(handler)] = Contract(
                single=frozenset(names - many),
                many=many,
                produces=opt.get("produces", JSON),
                consumes=opt.get("consumes", JSON if reads else ()),
                foreign=bool(opt.get("foreign_query")),
                versioned=bool(opt.get("versioned")),
                headers=opt.get("headers", {}),
            )


def checker(contracts: Contracts, release: str) -> Callable[[Any], Awaitable[Any]]:
    """Litestar's `before_request` of the whole app; a response from it ends the request.

    The ETag holds the build, the release (which may answer otherwise from the same build) and
    the address, so that a tag of one address never confirms another. It is weak: the same answer
    may leave as gzip, br, zstd or plain.
    """

    async def check(request: Request[Any, Any, Any]) -> Response[Any] | None:
        scope: Any = request.scope
        contract = contracts.get(id(scope["route_handler"]))
        if contract is None:
            return None
        query: bytes = scope["query_string"]
        if query:
            _check_query(query, contract)
        headers = scope["edge"].headers
        accept = headers.get(b"accept", b"*/*")
        if accept != b"*/*" and not accepts(accept, contract.produces):
            raise NotAcceptableError(f"the answer can be {' or '.join(contract.produces)}")
        if contract.consumes and scope["method"] != "GET":
            _check_content_type(headers.get(b"content-type", b""), contract.consumes)
        if not contract.versioned:
            return None
        version = request.app.state["warehouse"].current
        if version is None:
            raise NoDataYetError
        scope["version"] = version
        address = scope["address"] = (scope["path"], query)
        mark = zlib.crc32(repr(address).encode())
        opaque = f'"{version.tag}.{release}.{mark:08x}"'.encode()
        scope["edge"].etag = b"W/" + opaque
        if opaque in headers.get(b"if-none-match", b""):
            return Response(b"", status_code=304, headers=contract.headers)
        answers: Answers = request.app.state["answers"]
        kept = answers.find(version.tag, address)
        return Kept(kept) if kept else None

    return check


def version_of(request: Request[Any, Any, Any]) -> Version:
    """The build that this answer comes from: one for the whole request, the one in its ETag.

    Never ask the reader for `.current` again in a versioned handler: it may have moved on.
    """
    scope: Any = request.scope
    version: Version = scope["version"]
    return version


def build_of(request: Request[Any, Any, Any]) -> Version:
    """The build in service. Not by `opt={"versioned": True}`: what is somebody's own, and what changes
    something, has no part in the answers and tags that everybody shares."""
    version: Version | None = request.app.state["warehouse"].current
    if version is None:
        raise NoDataYetError
    return version


def _check_query(query: bytes, contract: Contract) -> None:
    seen: set[str] = set()
    for part in query.split(b"&"):
        raw = part.partition(b"=")[0]
        if not part:
            continue
        name = raw.decode("latin-1")
        if b"%" in raw or b"+" in raw:
            name = unquote_plus(name)
        if name in contract.many:
            continue
        if name not in contract.single:
            if contract.foreign:
                continue
            raise _unknown(name, sorted(contract.single | contract.many))
        if name in seen:
            raise InvalidInputError.at(f"/query/{name}", "is given twice; one value is taken")
        seen.add(name)


def _unknown(name: str, known: list[str]) -> UnknownParameterError:
    shown = name[:64].encode("ascii", "backslashreplace").decode()
    close = difflib.get_close_matches(shown, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "it is not known here"
    there = "there are " + ", ".join(known) if known else "this address takes none"
    pointer = "/query/" + shown.replace("~", "~0").replace("/", "~1")
    return UnknownParameterError(
        f"the query parameter {shown!r} is not known: {there}", errors=[FieldError(pointer, hint)]
    )


def _check_content_type(given: bytes, consumes: tuple[str, ...]) -> None:
    kind = given.decode("latin-1").partition(";")[0].strip().lower()
    if kind not in consumes:
        told = f"{kind[:64]!r} is not" if kind else "the Content-Type header is missing, and it is"
        raise UnsupportedMediaTypeError(f"{told} one of {', '.join(consumes)}")


@lru_cache(512)
def accepts(accept: bytes, produces: tuple[str, ...]) -> bool:
    """Whether one of `produces` may be sent (RFC 9110, 12.5.1: the most specific range counts)."""
    ranges: dict[str, float] = {}
    for item in accept.decode("latin-1").lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        ranges[kind] = max(quality, ranges.get(kind, 0.0))
    for kind in produces:
        for match in (kind, kind.partition("/")[0] + "/*", "*/*"):
            if match in ranges:
                if ranges[match] > 0:
                    return True
                break
    return False
