"""Who somebody is, by the word of a provider of plain OAuth 2 (GitHub); and what OpenID Connect shares with it."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote_plus

import httpx
import msgspec
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from pricepulse.accounts.outward import ProviderError, get, post
from pricepulse.providers import Provider


class Person(msgspec.Struct, frozen=True):
    """`email`: empty unless the provider says that it is theirs, proven."""

    issuer: str
    subject: str
    email: str = ""
    name: str = ""


class Asked(msgspec.Struct, frozen=True):
    """What the answer to a request for a sign-in must fit to."""

    redirect_uri: str
    state: str
    nonce: str
    verifier: str  # RFC 7636


class OAuth2:
    """A provider without ID tokens (GitHub): whoever the access token speaks for.

    Without an audience such a token proves nothing by itself; it does here because it comes straight from
    the provider, for a code that was asked for with our verifier."""

    def __init__(self, provider: Provider, client: httpx.AsyncClient) -> None:
        self.provider = provider
        self.client = client

    async def address(self, asked: Asked) -> str:
        return address_of(self.provider.authorize_url, self.provider, asked)

    async def check_issuer(self, given: str | None) -> None:
        """There is no issuer; what keeps providers apart is that each has its own callback (RFC 9700,
        4.4.2.2)."""

    async def person(self, code: str, asked: Asked) -> Person:
        provider = self.provider
        tokens = await redeemed(self.client, provider.token_url, provider, code, asked, basic=False)
        access = tokens.get("access_token")
        if not isinstance(access, str):
            raise ProviderError("there is no access token")
        told = json_object(await get(self.client, provider.userinfo_url, access))
        number = told.get("id")
        subject = subject_of(str(number) if type(number) is int else number)
        name = text_of(told.get("name")) or text_of(told.get("login"))
        email = ""
        if provider.emails_url:
            email = _proven(await get(self.client, provider.emails_url, access))
        return Person(provider.authority, subject, email, name)


def address_of(endpoint: str, provider: Provider, asked: Asked, **more: str) -> str:
    found: str = prepare_grant_uri(
        endpoint, provider.client_id, "code", asked.redirect_uri, provider.scopes, asked.state,
        code_challenge=create_s256_code_challenge(asked.verifier), code_challenge_method="S256",
        **more,
    )  # fmt: skip
    return found


async def redeemed(
    client: httpx.AsyncClient,
    endpoint: str,
    provider: Provider,
    code: str,
    asked: Asked,
    *,
    basic: bool,
) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": asked.redirect_uri,
        "code_verifier": asked.verifier,
    }
    headers = {}
    secret = provider.client_secret.reveal() if provider.client_secret else ""
    if secret and basic:  # RFC 6749, 2.3.1: both form-encoded first
        pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form |= {"client_id": provider.client_id} | ({"client_secret": secret} if secret else {})
    return json_object(await post(client, endpoint, form, headers))


def _proven(told: Any) -> str:
    """The address that GitHub writes to, if it is verified."""
    for each in told if isinstance(told, list) else []:
        if isinstance(each, dict) and each.get("primary") is True and each.get("verified") is True:
            return text_of(each.get("email"))
    return ""


def json_object(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ProviderError("an answer is not a JSON object")
    return told


def subject_of(told: Any) -> str:
    """Core, 2: at most 255 ASCII characters."""
    if not isinstance(told, str) or not 0 < len(told) <= 255 or not told.isascii():
        raise ProviderError("it does not say who it is")
    if not told.isprintable():
        raise ProviderError("it does not say who it is")
    return told


def text_of(told: Any) -> str:
    return told.strip() if isinstance(told, str) and told.isprintable() else ""
