"""The exception tree, and its one mapping to RFC 9457 `application/problem+json`.

Handlers raise a `PricePulseError` with a sentence that says what was wrong, where, and what would
be right. Litestar's own exceptions, broken JSON, a full disk and a warehouse that is not there
are given the same shape by `as_error`; whatever else happens is a 500 that tells the client its
request id and nothing more.
"""

import errno
import logging
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import duckdb
import msgspec
from litestar import Request
from litestar.exceptions import (
    HTTPException,
    LitestarException,
    SerializationException,
    ValidationException,
)
from litestar.response.base import ASGIResponse, Response
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

MEDIA_TYPE = "application/problem+json"
# "disk I/O error" is SQLite's word when a full disk has no room for the WAL's index.
NO_SPACE = re.compile(
    r"no space left|disk (quota|is full|i/o error)|file system is full", re.IGNORECASE
)
# What msgspec says of a value that a pattern refuses, with the pattern → what would be right.
WORDS: dict[str, str] = {}
log = logging.getLogger("pricepulse.errors")


def told_as(pattern: str, words: str) -> str:
    """The pattern of a parameter or field; who sends what it refuses is told `words` instead of it."""
    WORDS[f"Expected str matching regex {pattern!r}"] = words
    return pattern


class FieldError(msgspec.Struct, frozen=True):
    """`pointer`: JSON pointer into the request, `/query/limit`, `/path/id`, `/body/rows/3`."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: Sequence[FieldError] = ()


class PricePulseError(Exception):
    """A fault of ours: it is logged with the request's id (`X-Request-Id`), which tells the operator where to
    look. Trying again is safe."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong here"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def problem(self, instance: str) -> Problem:
        uri = f"/problems/{self.type}"
        return Problem(uri, self.title, self.status, self.detail, instance, self.errors)


class BadRequestError(PricePulseError):
    """The path, the query or the body cannot be read; `detail` says what and where."""

    status, type, title = 400, "bad-request", "The request cannot be understood"


class InvalidInputError(BadRequestError):
    """`errors` has a JSON pointer to each wrong value and says what would be right."""

    type, title = "invalid-input", "A value in the request is not valid"

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidInputError":
        """One bad value, `InvalidInputError.at("/query/cursor", "is not one of ours: …")`."""
        where = pointer.rpartition("/")[2]
        return cls(f"{where} {detail}", errors=[FieldError(pointer, detail)])


class UnknownParameterError(BadRequestError):
    """Unknown parameters are refused and not ignored, so that a misspelt filter is no unfiltered list."""

    type, title = "unknown-parameter", "There is no such query parameter here"


class UnauthorizedError(PricePulseError):
    """Send an access token, or where keys are taken an API key, as `Authorization: Bearer …`."""

    status, type, title = 401, "unauthorized", "A valid token or key is needed"

    def __init__(self, detail: str, *, error: str = "") -> None:
        """`error`: the word of RFC 6750, 3.1, where a token was sent."""
        told = f', error="{error}"' if error else ""
        super().__init__(detail, headers={"WWW-Authenticate": f'Bearer realm="pricepulse"{told}'})


class SignInError(UnauthorizedError):
    """What was sent to sign in is wrong: the address, the password or the code, and which is not said."""

    type, title = "sign-in-refused", "The sign-in was refused"


class SecondFactorError(UnauthorizedError):
    """The password is right, and the account has a second factor: send a `code` with it, from the authenticator
    or one of the recovery codes."""

    type, title = "second-factor-required", "A code of the second factor is needed"


class ForbiddenError(PricePulseError):
    """Who asks is known, and may not do this."""

    status, type, title = 403, "forbidden", "This is not allowed"


class NotFoundError(PricePulseError):
    """No such address, or nothing there that you may see; /docs has the addresses."""

    status, type, title = 404, "not-found", "There is nothing here"


class MethodNotAllowedError(PricePulseError):
    """`Allow` names the methods that the address takes."""

    status, type, title = 405, "method-not-allowed", "The method does not fit this address"


class NotAcceptableError(PricePulseError):
    """`Accept` names none of the types that the address gives; `*/*` takes any."""

    status, type, title = 406, "not-acceptable", "There is no answer in an accepted media type"


class ConflictError(PricePulseError):
    """What is there already says otherwise: the same Idempotency-Key with other content, for example."""

    status, type, title = 409, "conflict", "The request contradicts what is there"


class NotLinkedError(ConflictError):
    """Nobody here is known by this identity. Sign in to your account, or make one with a mail, then link the
    identity to it: POST /api/v1/users/me/identities/{provider}."""

    type, title = "identity-not-linked", "This identity belongs to no account yet"


class PreconditionFailedError(PricePulseError):
    """The thing has changed since `If-Match` was taken; read it again."""

    status, type, title = 412, "precondition-failed", "The stated condition does not hold"


class TooLargeError(PricePulseError):
    """More bytes than the address takes, as sent or once unpacked; send smaller batches."""

    status, type, title = 413, "content-too-large", "The content is too large"


class UnsupportedMediaTypeError(PricePulseError):
    """`detail` names the values of Content-Type and Content-Encoding that are read here."""

    status, type, title = 415, "unsupported-media-type", "The content is of a type not read here"


class UnprocessableError(PricePulseError):
    """The form is right and the content is not: a feed without a required column, cut off, or broken. Nothing of
    it was kept."""

    status, type, title = 422, "unprocessable", "The content is readable but cannot be used"


class RateLimitedError(PricePulseError):
    """`Retry-After` says in how many seconds to come back, `RateLimit` what is left."""

    status, type, title = 429, "too-many-requests", "Too many requests"


class UnavailableError(PricePulseError):
    """It passes by itself; `Retry-After` says when to try again."""

    status, type, title = 503, "unavailable", "Not available at the moment"


class NoDataYetError(UnavailableError):
    """Nothing has been built so far: ingest a feed, its build follows by itself."""

    type, title = "no-data-yet", "There is no data yet"

    def __init__(self) -> None:
        detail = "no build is in service yet; ingest a feed first, its build follows by itself"
        super().__init__(detail, retry_after=5)


class StorageFullError(PricePulseError):
    """The disk is full. What was there stays readable; make space and send again."""

    status, type, title = 507, "storage-full", "No space is left"


OURS: dict[int, type[PricePulseError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    406: NotAcceptableError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: TooLargeError,
    415: UnsupportedMediaTypeError,
    422: UnprocessableError,
    429: RateLimitedError,
    503: UnavailableError,
    507: StorageFullError,
}
KINDS: tuple[type[PricePulseError], ...] = (
    PricePulseError,
    InvalidInputError,
    UnknownParameterError,
    NoDataYetError,
    SecondFactorError,
    SignInError,
    NotLinkedError,
    *OURS.values(),
)
TYPES = {kind.type: kind for kind in KINDS}


def problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's handler for every exception."""
    ours = as_error(error)
    if ours.status >= 500:
        # A request that found no data or no space is the operator's news, not a bug's traceback.
        bug = ours.status == 500
        # As it was sent: decoded, a line's end in it would begin a line of somebody else's words.
        where = f"{request.scope['method']} {instance(request.scope)}"
        log.error("%s: %s", where, error if bug else ours.detail, exc_info=error if bug else None)
    scope: Any = request.scope
    return Response(
        msgspec.json.encode(ours.problem(instance(scope))),
        status_code=ours.status,
        headers=ours.headers,
        media_type=MEDIA_TYPE,
    )


def asgi_problem(error: PricePulseError, scope: Any) -> ASGIResponse:
    """The same answer for what is refused before Litestar sees it."""
    body = msgspec.json.encode(error.problem(instance(scope)))
    status, headers = error.status, error.headers
    return ASGIResponse(body=body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def instance(scope: Mapping[str, Any]) -> str:
    """The path as it was sent, percent-encoded, without the query: that may hold a token."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("ascii", "backslashreplace")


def as_error(error: BaseException) -> PricePulseError:
    """What any exception means to a client."""
    # A stream's errors come in a task group's wrapping, and that in Litestar's.
    if type(error) is LitestarException and error.__cause__ is not None:
        error = error.__cause__
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, PricePulseError):
        return error
    if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
        error = error.orig
    if isinstance(error, HTTPException):
        return _from_litestar(error)
    if isinstance(error, DataError):  # PostgreSQL keeps no NUL in a text
        return BadRequestError("a value in the request has characters that no text here can have")
    if isinstance(error, (msgspec.DecodeError, SerializationException)):
        return _from_msgspec(error)
    if isinstance(error, RecursionError) and "deserializ" in str(error):
        return BadRequestError("the JSON is nested too deeply; 100 levels are plenty")
    if _is_full(error):
        return StorageFullError(
            "the server's disk is full; nothing of this request was kept, and what was there "
            "before still is",
            retry_after=60,
        )
    return _from_engine(error) or PricePulseError(
        "it is not your fault; the log has more under this X-Request-Id"
    )


def _from_engine(error: BaseException) -> UnavailableError | None:
    """What passes by itself."""
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return UnavailableError("the database is busy; send it again", retry_after=1)
    if isinstance(error, (OperationalError, PoolTimeout)):
        told = "the database of accounts is busy or cannot be reached; send it again"
        return UnavailableError(told, retry_after=2)
    if isinstance(error, duckdb.CatalogException):
        # After an upgrade, until the first build of the new release.
        told = "the build in service is an older release's; a new one follows in a moment"
        return UnavailableError(told, retry_after=5)
    if isinstance(error, (duckdb.OutOfMemoryException, MemoryError)):
        return UnavailableError("the server has too little memory for this now", retry_after=10)
    return None


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    engines = (duckdb.Error, sqlite3.Error)
    return isinstance(error, engines) and NO_SPACE.search(str(error)) is not None


def _from_litestar(error: HTTPException) -> PricePulseError:
    if isinstance(error, ValidationException):
        return _from_validation(error)
    cause = error.__cause__
    if isinstance(cause, SerializationException):
        return _from_msgspec(cause)
    if "client disconnected" in error.detail:
        return BadRequestError("the client went away before the whole content had come")
    kind = OURS.get(error.status_code)
    if kind is None:
        return as_error(RuntimeError(error.detail))
    details = {
        404: "there is no such address; the API is described at /docs",
        413: "the content is larger than this address takes",
    }
    headers = dict(error.headers or {})
    if kind is MethodNotAllowedError:
        headers = {"Allow": _allowed(headers.get("allow", ""))}
        details[405] = f"this address takes {headers['Allow']}"
    ours = kind(details.get(kind.status) or error.detail)
    ours.headers |= headers
    return ours


def _allowed(methods: str) -> str:
    names = {name.strip() for name in methods.split(",")} - {""}
    return ", ".join(sorted(names | ({"HEAD"} if "GET" in names else set())))


def _from_validation(error: ValidationException) -> PricePulseError:
    """`extra` is [{"message", "key", "source"}]: source is query, path, header, cookie or body."""
    found: list[FieldError] = []
    for each in error.extra if isinstance(error.extra, list) else []:
        source = str(getattr(each.get("source"), "value", each.get("source") or "body"))
        key = _steps(str(each.get("key", ""))).rstrip("_")  # `from_` is `from` outside Python
        if source == "header":
            key = key.replace("_", "-")
        if source == "body":
            key = "" if key == "data" else key  # Litestar's word for the whole of it
        found.append(FieldError(f"/{source}/{key}".rstrip("/"), _sentence(each["message"])))
    missing = re.match(
        r"Missing required (query|header|cookie|path) parameter '([^']+)'", error.detail
    )
    if missing and not found:
        return InvalidInputError.at("/" + "/".join(missing.groups()), "is required")
    if not found:
        return InvalidInputError(_sentence(error.detail))
    told = "; ".join(f"{each.pointer.rpartition('/')[2]}: {each.detail}" for each in found)
    return InvalidInputError(told, errors=found)


def _from_msgspec(error: BaseException) -> PricePulseError:
    origin = error.__cause__ if isinstance(error, SerializationException) else error
    if isinstance(origin, RecursionError):
        return as_error(origin)
    text = str(origin or error)
    if not isinstance(origin, msgspec.ValidationError):
        return BadRequestError(f"the content is not valid JSON: {text}")
    told, _, path = text.partition(" - at `$")
    pointer = ("/body/" + _steps(path.rstrip("`").lstrip("."))).rstrip("/")
    return InvalidInputError(
        f"{pointer.removeprefix('/body/')}: {_sentence(told)}",
        errors=[FieldError(pointer, _sentence(told))],
    )


def _steps(path: str) -> str:
    """`rows[0].price` as the steps of a JSON pointer, `rows/0/price`."""
    return re.sub(r"[.\[]", "/", path).replace("]", "").lstrip("/")


def _sentence(text: str) -> str:
    """msgspec's "Expected `int` <= 200" without the backticks, which say nothing to a client; for a
    pattern its words."""
    told = text.partition(" - at `$")[0].replace("`", "")
    return WORDS.get(told, told)
