"""Who somebody is, by the ID token of a provider (OpenID Connect Core 1.0).

What an ID token says counts only after all of Core, 3.1.3.7: issuer, audience, signature by a key that
the issuer publishes, with an algorithm of ours, expiry, nonce.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import msgspec
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from pricepulse.accounts.oauth2 import (
    Asked,
    OAuth2,
    Person,
    address_of,
    json_object,
    redeemed,
    subject_of,
    text_of,
)
from pricepulse.accounts.outward import Kept, ProviderError, get
from pricepulse.providers import Provider, is_loopback, is_safe

# Asymmetric only: with HS256 the key would be the client secret, or what an attacker makes us take
# for one, the public key (RFC 8725, 2.1). RS256 is what every provider has.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
# A header parameter that nobody here understands is ignored (RFC 7515, 4); `crit` is not.
SIGNATURES = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
KEY_TYPES = {"RSA", "EC"}
SKEW_SECONDS = 60  # of a provider's clock
# A key that is not known yet is looked for at once, but not by every sign-in.
LEAST_SECONDS_BETWEEN_KEYS = 30.0


class Configuration(msgspec.Struct, frozen=True):
    """Of the document at `/.well-known/openid-configuration`, what is needed here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class OpenID:
    """A provider with an issuer. Configuration and keys are kept for an hour."""

    def __init__(self, provider: Provider, client: httpx.AsyncClient) -> None:
        self.provider = provider
        self.client = client
        self.configuration = Kept(self._configured)
        self.keys = Kept(self._published_keys)

    async def address(self, asked: Asked) -> str:
        """Where the browser is sent to sign in."""
        found = await self.configuration.value()
        return address_of(found.authorization_endpoint, self.provider, asked, nonce=asked.nonce)

    async def check_issuer(self, given: str | None) -> None:
        """The `iss` beside the code (RFC 9207, 2.4): a code of another provider is not sent on."""
        found = await self.configuration.value()
        required = found.authorization_response_iss_parameter_supported
        if given != found.issuer and (given is not None or required):
            raise ProviderError("the answer is not of this issuer (RFC 9207)")

    async def person(self, code: str, asked: Asked) -> Person:
        found = await self.configuration.value()
        # What clients are registered with unless they ask for another (OpenID Registration, 2).
        basic = "client_secret_basic" in found.token_endpoint_auth_methods_supported
        tokens = await redeemed(
            self.client, found.token_endpoint, self.provider, code, asked, basic=basic
        )
        claims = await self.claims(tokens, asked.nonce)
        subject, access = subject_of(claims.get("sub")), tokens.get("access_token")
        if not claims.get("email") and found.userinfo_endpoint and isinstance(access, str):
            told = json_object(await get(self.client, found.userinfo_endpoint, access))
            if told.get("sub") != subject:  # Core, 5.3.2
                raise ProviderError("the user info is somebody else's")
            claims = told
        proven = claims.get("email_verified")
        email = text_of(claims.get("email")) if proven is True or proven == "true" else ""  # Apple
        return Person(found.issuer, subject, email, text_of(claims.get("name")))

    async def claims(self, tokens: dict[str, Any], nonce: str) -> dict[str, Any]:
        """What the ID token says, once all of Core, 3.1.3.7 is fulfilled."""
        raw = tokens.get("id_token")
        if not isinstance(raw, str):
            raise ProviderError("there is no ID token")
        try:
            token = await self._verified(raw)
            must = {
                "iss": {"essential": True, "value": self.provider.issuer},
                "aud": {"essential": True, "value": self.provider.client_id},
            }
            params = {
                "nonce": nonce,
                "client_id": self.provider.client_id,
                "access_token": tokens.get("access_token"),
            }
            CodeIDToken(token.claims, token.header, must, params).validate(leeway=SKEW_SECONDS)
        except (JoseError, ValueError, TypeError) as error:
            reason = error.error if isinstance(error, JoseError) else type(error).__name__
            claim = getattr(error, "claim", None) or ""
            raise ProviderError(f"the ID token is not good: {reason} {claim}".strip()) from None
        return token.claims

    async def _verified(self, raw: str) -> jwt.Token:
        keys = await self.keys.value()
        try:
            return jwt.decode(raw, keys, registry=SIGNATURES, algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            # The provider has begun to sign with a new key (Core, 10.1.1).
            keys = await self.keys.value(time.monotonic() - LEAST_SECONDS_BETWEEN_KEYS)
            return jwt.decode(raw, keys, registry=SIGNATURES, algorithms=ALGORITHMS)

    async def _configured(self) -> Configuration:
        issuer = self.provider.issuer
        address = issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            found = msgspec.convert(await get(self.client, address), Configuration)
        except msgspec.ValidationError as error:
            raise ProviderError(f"its OpenID configuration: {error}") from None
        if found.issuer != issuer:  # Discovery, 4.3
            raise ProviderError("its OpenID configuration is another issuer's")
        # Of a provider on this machine all may be; another does not send us to what only we reach.
        loopback = is_loopback(httpx.URL(issuer).host)
        for each in (
            found.authorization_endpoint, found.token_endpoint, found.jwks_uri,
            found.userinfo_endpoint,
        ):  # fmt: skip
            if each and not is_safe(each, loopback=loopback):
                raise ProviderError("an address in its OpenID configuration is not https://")
        return found

    async def _published_keys(self) -> KeySet:
        found = await self.configuration.value()
        told = json_object(await get(self.client, found.jwks_uri))
        return _key_set(told.get("keys"))


def _key_set(told: Any) -> KeySet:
    """The keys that may have signed an ID token; those that are not understood are passed over
    (RFC 7517, 5)."""
    keys: list[Key] = []
    for each in told if isinstance(told, list) else []:
        if not isinstance(each, dict) or each.get("kty") not in KEY_TYPES:
            continue
        if each.get("use", "sig") != "sig":
            continue
        try:
            keys.append(JWKRegistry.import_key(each))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    if not keys:
        raise ProviderError("it publishes no key that could have signed")
    return KeySet(keys)


Connection = OpenID | OAuth2


def connect(provider: Provider, client: httpx.AsyncClient) -> Connection:
    return OpenID(provider, client) if provider.issuer else OAuth2(provider, client)
