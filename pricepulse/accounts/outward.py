"""Requests of this server to a provider: few seconds, few bytes, JSON, and never elsewhere.

A provider is somebody else's machine. It may be slow, send without end, or lead us to an address
that only we can reach; none of that may be more than a sign-in that fails.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

T = TypeVar("T")
# From the first byte of the request to the last of the answer; a trickle of bytes ends, too.
LONGEST_SECONDS = 8.0
# Google's keys have 2 kB, the OpenID configuration of a Keycloak 6 kB.
MOST_BYTES = 256 << 10
HEADERS = {
    "accept": "application/json",
    # What is not packed cannot unpack to more.
    "accept-encoding": "identity",
    "user-agent": "PricePulse",  # GitHub answers nobody who does not say who it is
}
KEPT_SECONDS = 3600.0
FAILED_SECONDS = 5.0
ERROR_WORD = re.compile(r"[a-z_]{1,40}")


class ProviderError(Exception):
    """A sign-in that fails through the provider; words for the log, without anything secret.

    `passing`: trying again may help."""

    def __init__(self, told: str, *, passing: bool = False) -> None:
        super().__init__(told)
        self.passing = passing


class Kept(Generic[T]):
    """What a provider publishes and seldom changes: asked for once an hour, by one for all who wait.

    A provider that does not answer is let alone for a while: else everybody who waits for the lock would
    wait out its silence one after another."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._found: tuple[float, T] | None = None
        self._failed: tuple[float, ProviderError] | None = None

    async def value(self, newer_than: float = float("-inf")) -> T:
        """What is kept, or asked for anew if that is an hour old, or of before `newer_than`."""
        async with self._asking:
            at = time.monotonic()
            if self._found and self._found[0] > max(newer_than, at - KEPT_SECONDS):
                return self._found[1]
            if self._failed and self._failed[0] > at - FAILED_SECONDS:
                raise ProviderError(str(self._failed[1]), passing=self._failed[1].passing)
            try:
                found = await self._ask()
            except ProviderError as error:
                self._failed = time.monotonic(), error
                raise
            self._found = time.monotonic(), found
            return found


def new_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=httpx.Timeout(5, connect=3),
        limits=httpx.Limits(max_connections=20),
        headers=HEADERS,
    )


async def get(client: httpx.AsyncClient, url: str, token: str = "") -> Any:
    """The JSON at this address; with an access token of the provider."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return await _answer(client, "GET", url, headers)


async def post(
    client: httpx.AsyncClient, url: str, form: dict[str, str], headers: dict[str, str]
) -> Any:
    return await _answer(client, "POST", url, headers, form)


async def _answer(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    headers: dict[str, str],
    form: dict[str, str] | None = None,
) -> Any:
    host = urlsplit(url).hostname or ""
    try:
        async with (
            asyncio.timeout(LONGEST_SECONDS),
            client.stream(method, url, headers=headers, data=form) as response,
        ):
            body = await _body(response)
    except TimeoutError:
        raise ProviderError(f"{host} takes too long", passing=True) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ProviderError(f"{host}: {type(error).__name__}", passing=True) from None
    return _read(response.status_code, body, host)


async def _body(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ProviderError("an answer is packed, though it was asked for plain")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MOST_BYTES:
            raise ProviderError(f"an answer is larger than {MOST_BYTES} bytes")
    return bytes(body)


def _read(status: int, body: bytes, host: str) -> Any:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = None
    # RFC 6749, 5.2: one word says what was wrong. GitHub sends it with status 200.
    word = found.get("error") if isinstance(found, dict) else None
    said = f" ({word})" if isinstance(word, str) and ERROR_WORD.fullmatch(word) else ""
    if status != 200 or word:
        passing = status >= 500 or status == 429
        raise ProviderError(f"{host} answers {status}{said}", passing=passing)
    if found is None:
        raise ProviderError(f"{host} does not answer with JSON")
    return found
