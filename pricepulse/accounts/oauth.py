"""Sign in through a provider: GET /auth/oauth, …/start, …/callback, POST /auth/oauth/exchange.

The browser goes from `start` to the provider and comes back to `callback`, which sends it on to
`/signed-in` of the front end with a code behind the #. For that the front end gets tokens, which
are never in an address. There is no other address to be sent to, so none can be smuggled in.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Redirect
from msgspec import Meta

from pricepulse import audit
from pricepulse.access import public
from pricepulse.accounts import identities, oauth_state, oidc, throttle
from pricepulse.accounts.oauth_state import Attempt, Brought, Ticket
from pricepulse.accounts.outward import ProviderError
from pricepulse.accounts.sessions import Tokens
from pricepulse.accounts.signin import FORM, Opaque
from pricepulse.accounts.tables import OAuthReturn
from pricepulse.contract import END
from pricepulse.errors import NotFoundError, SignInError, told_as
from pricepulse.settings import Settings
from pricepulse.store import Db

log = logging.getLogger("pricepulse.accounts")

HTML = ("text/html", "application/json")
Challenge = Annotated[
    str,
    QueryParameter(
        pattern=oauth_state.CHALLENGE, description="SHA-256 of the verifier, base64url."
    ),
]
# RFC 6749, appendix A. All four of them at their longest, encoded, are still a request line that is read.
VISIBLE = told_as(f"^[ -~]*{END}", "must be visible ASCII characters, up to 4096")
Answered = Annotated[str | None, QueryParameter(max_length=4096, pattern=VISIBLE)]


class Choice(msgspec.Struct, frozen=True):
    """`start`: where a browser begins, with `?challenge=`."""

    provider: str
    title: str
    start: str


class Choices(msgspec.Struct, frozen=True):
    items: list[Choice]


class Exchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code`: from behind the # of /signed-in; `verifier`: whose hash the start was given;
    `second_factor`: a code of it, where the account has one."""

    code: Opaque
    verifier: Annotated[str, Meta(pattern=oauth_state.VERIFIER)]
    second_factor: Annotated[str, Meta(max_length=64)] = ""


@get("/auth/oauth", **public(), tags=["accounts"])
async def list_providers(request: Request[Any, Any, Any]) -> Choices:
    """Whom people may sign in with here."""
    settings: Settings = request.app.state["settings"]
    return Choices(
        [
            Choice(each.name, each.title, oauth_state.start_of(settings, each))
            for each in settings.providers
        ]
    )


@get(
    "/auth/oauth/{provider:str}/start", **public(produces=HTML), tags=["accounts"], status_code=303
)
async def start(
    request: Request[Any, Any, Any],
    provider: FromPath[str],
    challenge: Challenge,
    link_token: Answered = None,
) -> Redirect:
    """Send the browser to a provider.

    It comes back to `/signed-in` of the front end, with `#code=` for POST /auth/oauth/exchange, or
    `#error=` and one of `denied`, `state`, `refused`, `unavailable`."""
    client = connection_to(request, provider)
    settings: Settings = request.app.state["settings"]
    sealer = request.app.state["sealer"]
    account_id = ""
    if link_token is not None:
        ticket = oauth_state.unsealed(sealer, "link ticket", link_token, Ticket)
        if ticket is None or (ticket.provider, ticket.challenge) != (provider, challenge):
            return _back(settings, error="state")
        account_id = ticket.account_id
    attempt = Attempt.begun(provider, challenge, account_id)
    try:
        address = await client.address(attempt.asked(settings))
    except ProviderError as failed:
        return await _failed(request, provider, failed)
    value = oauth_state.sealed_text(sealer, "oauth state", attempt)
    return Redirect(address, status_code=303, cookies=[oauth_state.cookie(settings, value)])


@get(
    "/auth/oauth/{provider:str}/callback",
    # RFC 6749, 4.1.2: what a provider adds to its answer is ignored.
    **public(produces=HTML, foreign_query=True),
    tags=["accounts"],
    status_code=303,
)
async def callback(
    request: Request[Any, Any, Any],
    provider: FromPath[str],
    code: Answered = None,
    oauth_state_: Annotated[
        str | None, QueryParameter(name="state", max_length=4096, pattern=VISIBLE)
    ] = None,
    iss: Answered = None,
    error: Answered = None,
) -> Redirect:
    """Where a provider sends the browser back to."""
    client = connection_to(request, provider)
    settings: Settings = request.app.state["settings"]
    store = request.app.state["store"]
    attempt = oauth_state.attempt_of(request, provider, oauth_state_ or "")
    if attempt is None:
        return _back(settings, error="state")
    # Anybody has a cookie of his own; a code of nonsense costs the provider a request and us its patience.
    guess = await throttle.guess(request)
    if not await oauth_state.claim(store, attempt):
        return _back(settings, error="state")
    try:
        await client.check_issuer(iss)
        if error == "access_denied":
            return _back(settings, error="denied")
        if error or not code:
            # Nobody was asked, so this is not for the audit: whoever likes could fill it.
            log.warning("sign-in with %s failed: the answer has no code", provider)
            return _back(settings, error="refused")
        person = await client.person(code, attempt.asked(settings))
    except ProviderError as failed:
        return await _failed(request, provider, failed)
    kept = await oauth_state.keep(store, request.app.state["sealer"], attempt, person)
    async with store.begin(write=True) as db:
        await guess.was_right(db)
    linking = {"linking": provider} if attempt.account_id else {}
    return _back(settings, code=kept, **linking)


@post("/auth/oauth/exchange", **public(problems=(401, 403, 409, 503)), **FORM, status_code=200)
async def exchange(request: Request[Any, Any, Any], data: JSONBody[Exchange], db: Db) -> Tokens:
    """Tokens for the code that a sign-in through a provider ended with.

    An identity that is not known yet makes an account, or is linked to the one with its address, if the
    provider is trusted to have proven that; else it is a 409 of the type `identity-not-linked`. The
    second factor of an account is asked for here, too; the code stays good until it is right."""
    row, brought = await _taken(db, request, data)
    guess = None
    if data.second_factor:
        guess = await identities.guess(db, request, brought)
        row, brought = await _taken(db, request, data)
    tokens = await identities.sign_in(db, request, row, brought, data.second_factor)
    if guess is not None:
        await guess.was_right(db)
    return tokens


async def _taken(
    db: Db, request: Request[Any, Any, Any], data: Exchange
) -> tuple[OAuthReturn, Brought]:
    taken = await oauth_state.take(db, request.app.state["sealer"], data.code, data.verifier)
    if taken is None or taken[1].account_id:
        raise SignInError("the code is not, or no longer, good; sign in again")
    return taken


def connection_to(request: Request[Any, Any, Any], provider: str) -> oidc.Connection:
    connections: dict[str, oidc.Connection] = request.app.state["providers"]
    if provider not in connections:
        raise NotFoundError("there is no such provider; /api/v1/auth/oauth lists them")
    return connections[provider]


def _back(settings: Settings, **told: str) -> Redirect:
    """Behind the #: no server's log has it, and no referrer. The cookie has done its service; after an
    answer that is none to it, it stays: somebody else may have sent that."""
    cookies = [] if told.get("error") == "state" else [oauth_state.cookie(settings, "", 0)]
    address = f"{settings.public_url}/signed-in#{urlencode(told)}"
    return Redirect(address, status_code=303, cookies=cookies)


async def _failed(
    request: Request[Any, Any, Any], provider: str, failed: ProviderError
) -> Redirect:
    log.warning("sign-in with %s failed: %s", provider, failed)
    async with request.app.state["store"].begin(write=True) as db:
        audit.record(db, "oauth.failed", f"provider:{provider}", request=request)
    error = "unavailable" if failed.passing else "refused"
    return _back(request.app.state["settings"], error=error)


ROUTES = (list_providers, start, callback, exchange)
