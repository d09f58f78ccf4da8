"""A front end and a browser that sign in through a provider, step by step."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx

from tests.people import People
from tests.providers import OwnProvider


def new_verifier() -> str:
    return secrets.token_urlsafe(32)


def challenge_of(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Visit:
    """One sign-in. `site.client` is the browser, with its cookies."""

    site: People
    provider: str
    verifier: str = field(default_factory=new_verifier)

    @property
    def challenge(self) -> str:
        return challenge_of(self.verifier)

    def begin(self, url: str = "") -> str:
        """The address at the provider that the browser is sent to; `url`: of a link."""
        path = url or f"/api/v1/auth/oauth/{self.provider}/start?challenge={self.challenge}"
        answer = self.open(path)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def open(self, url: str) -> httpx.Response:
        parts = urlsplit(url)
        return self.site.client.get(f"{parts.path}?{parts.query}", follow_redirects=False)

    def come_back(self, url: str) -> dict[str, str]:
        """What the front end is told behind the #."""
        answer = self.open(url)
        assert answer.status_code == 303, answer.text
        address = answer.headers["location"]
        assert address.startswith(f"{self.site.settings.public_url}/signed-in#")
        return dict(parse_qsl(urlsplit(address).fragment))

    def through(self, own: OwnProvider, url: str = "") -> dict[str, str]:
        return self.come_back(own.browse(self.begin(url)))

    def exchange(self, code: str, **more: str) -> httpx.Response:
        return self.site.post("/auth/oauth/exchange", code=code, verifier=self.verifier, **more)


def signs_in(site: People, provider: str, own: OwnProvider, **more: str) -> httpx.Response:
    """The whole way."""
    visit = Visit(site, provider)
    return visit.exchange(visit.through(own)["code"], **more)


def query_of(url: str) -> dict[str, Any]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def begins_link(visit: Visit, token: str, **confirmed: str) -> httpx.Response:
    return visit.site.post(
        f"/users/me/identities/{visit.provider}", token, challenge=visit.challenge, **confirmed
    )


def proves_link(visit: Visit, token: str, code: str) -> httpx.Response:
    return visit.site.send(
        "PUT", f"/users/me/identities/{visit.provider}", token, code=code, verifier=visit.verifier
    )
