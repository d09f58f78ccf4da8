"""What a password must be, and Argon2id.

NIST SP 800-63B-4, 3.1.1: 15 characters where it is the only factor, 8 beside a second one, at least
64 allowed, normalised, no rules of composition, no expiry, and none that is known to be common.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TypeVar

import argon2
from anyio import CapacityLimiter, to_thread

from pricepulse.errors import FieldError, UnavailableError, UnprocessableError

ALONE, WITH_SECOND_FACTOR = 15, 8
# Argon2 hashes the whole of it first; a limit keeps a megabyte from costing anything.
MOST = 128
# OWASP asks for 46 MiB with one pass or 19 MiB with two (Password Storage Cheat Sheet); RFC 9106's second
# choice is 64 MiB with three passes and four lanes. 46 MiB, two passes, one lane: 60 ms of one core.
MEMORY_KIB, PASSES, LANES = 47_104, 2, 1
# The hash of a password that nobody knows, with these parameters: what is verified where there is no account.
NOBODYS = (
    "$argon2id$v=19$m=47104,t=2,p=1$qocpxVGPAQZOkw5wF/+eBg$7JQm9BCUYgbBQ9QC"
    "zeYse7vrQwFrL4XsLnOaep549h0"
)
# Two hashes take 92 MiB and two cores; more at once would only make all of them slower.
AT_ONCE = 2
LONGEST_WAIT = 10.0  # seconds in line: about 300 sign-ins
T = TypeVar("T")


class Hasher:
    """Argon2id in threads. The others wait in line, and the event loop for none of them; who would wait too
    long is asked to come back, whatever the account."""

    def __init__(self) -> None:
        self._argon2 = argon2.PasswordHasher(
            memory_cost=MEMORY_KIB, time_cost=PASSES, parallelism=LANES
        )
        self.nobodys = NOBODYS
        self._limiter = CapacityLimiter(AT_ONCE)
        self._waiting = 0
        self._seconds = 0.06  # that one took of late

    async def hash(self, password: str) -> str:
        return await self._in_line(self._argon2.hash, normalised(password))

    async def verify(self, stored: str, password: str) -> bool:
        """Whether it is the password. Without a stored hash as slow as with one, and False."""
        return await self._in_line(self._verify, stored, password)

    def is_outdated(self, stored: str) -> bool:
        """Whether it was made with other parameters: to be made anew, now that the password is known."""
        return self._argon2.check_needs_rehash(stored)

    def check_line(self) -> None:
        """A 503 where the line is too long: asked before an attempt is counted, since nothing is tried then."""
        wait = self._waiting * self._seconds / AT_ONCE
        if wait > LONGEST_WAIT:
            told = "more people are signing in than can be checked; send it again in a while"
            raise UnavailableError(told, retry_after=math.ceil(wait))

    async def _in_line(self, work: Callable[..., T], *given: str) -> T:
        self.check_line()
        self._waiting += 1
        try:
            return await to_thread.run_sync(self._timed, work, given, limiter=self._limiter)
        finally:
            self._waiting -= 1

    def _timed(self, work: Callable[..., T], given: tuple[str, ...]) -> T:
        started = time.perf_counter()
        done = work(*given)
        self._seconds += (time.perf_counter() - started - self._seconds) / 8
        return done

    def _verify(self, stored: str, password: str) -> bool:
        try:
            self._argon2.verify(stored or self.nobodys, normalised(password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return bool(stored)


def normalised(password: str) -> str:
    """NFKC: the same keys pressed on two systems are the same password (SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password[: MOST * 4])


def check_password(password: str, pointer: str, *, least: int, about: str = "") -> None:
    """Raises a 422 with `pointer` unless it may be a password; `about`: words of its owner."""
    if told := _fault(normalised(password), least, about):
        raise UnprocessableError(
            f"this cannot be a password: it {told}", errors=[FieldError(pointer, told)]
        )


def _fault(password: str, least: int, about: str) -> str | None:
    if len(password) < least:
        return f"has {len(password)} characters; it takes {least}, of which kind you like"
    if len(password) > MOST:
        return f"has more than {MOST} characters"
    try:
        password.encode()
    except UnicodeEncodeError:
        return "has characters that are none (unpaired surrogates)"
    plain = password.casefold()
    if is_common(plain):
        return "is one of those that are tried first; a few words that have nothing to do with each other are better"
    if any(len(word) > 3 and plain.replace(word, "") in _LITTLE for word in _words(about)):
        return "is made of your name or address"
    return None


def is_common(plain: str) -> bool:
    """Listed, two listed ones in a row, a repetition, or a walk along a row of keys or letters."""
    known = common()
    if plain in known or any(
        plain[:n] in known and plain[n:] in known for n in range(8, len(plain) - 7)
    ):
        return True
    # A string that occurs in its own double before the end repeats itself.
    if (plain + plain).find(plain, 1) < len(plain):
        return True
    return any(plain in row * 3 or plain in row[::-1] * 3 for row in _ROWS)


@cache
def common() -> frozenset[str]:
    text = (files("pricepulse") / "accounts" / "common_passwords.txt").read_text("utf-8")
    return frozenset(text.split("\n"))


_ROWS = (
    "1234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
)
_LITTLE = {"", *(str(n) for n in range(10_000)), "!", ".", "@"}


def _words(about: str) -> list[str]:
    local, _, domain = about.casefold().partition("@")
    return [about.casefold(), local, domain, domain.partition(".")[0], "pricepulse"]
