"""API keys: how one looks, and those in use as this process knows them.

`ppk_<id>_<secret><checksum>`: the id finds the row, the secret is 256 random bits, and by prefix and
checksum (CRC-32, as in GitHub's tokens) a scanner knows a leaked one and a slip of the hand is told
apart, both without a look at the database. Only letters, digits and _: a double click takes all of it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse.accounts.tables import Account, ApiKey, new_id, now
from pricepulse.accounts.tokens import BadToken, hashed
from pricepulse.store import Store

PREFIX = "ppk_"
FORM = re.compile(r"ppk_([0-9a-f]{24})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})")
DIGITS = string.digits + string.ascii_letters
# How long a key stays in memory after its last use, and how exact `last_used_at` is.
REMEMBERED = timedelta(minutes=1)


def new_key() -> tuple[str, str]:
    """(id, the whole key)"""
    key_id = new_id()
    text = f"{PREFIX}{key_id}_{_base62(secrets.randbits(256), 43)}"
    return key_id, text + _checksum(text)


def id_of(text: str) -> str:
    """The id in a key; BadToken if it cannot be one."""
    found = FORM.fullmatch(text)
    if found is None or _checksum(text[:-6]) != found[2]:
        raise BadToken("is mistyped or cut off")
    return found[1]


@dataclass(slots=True)
class KnownKey:
    """A key and what its owner may now. `sub`: the owner's account, as in an access token."""

    id: str
    sub: str
    role: str
    scopes: frozenset[str]
    hash: bytes
    expires_at: datetime | None
    disabled: bool
    last_used_at: datetime | None  # as the database has it
    used_at: datetime


class KeysInUse:
    """Read with their first use, and again with every look of the gate while they are in use: a key that is
    taken away, or whose owner is demoted or disabled, is refused as soon as the gate has looked."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.known: dict[str, KnownKey] = {}

    async def check(self, text: str) -> KnownKey:
        """The key of this text, if it is good now. BadToken says why it is not."""
        key_id = id_of(text)
        key = self.known.get(key_id) or await self._read(key_id)
        # Kept only once the secret was right: guesses must not fill the memory.
        if key is None or not hmac.compare_digest(key.hash, hashed(text)):
            raise BadToken("is not, or no longer, one of this server")
        at = now()
        if key.disabled:
            raise BadToken("is of an account that is disabled")
        if key.expires_at and key.expires_at <= at:
            raise BadToken("has expired")
        key.used_at = at
        self.known[key_id] = key
        return key

    async def renew(self, db: AsyncSession) -> None:
        before, since = set(self.known), now() - REMEMBERED
        asked = [key.id for key in self.known.values() if key.used_at > since]
        found = await _rows(db, asked) if asked else {}
        for key_id, key in found.items():
            key.used_at = self.known[key_id].used_at
        # What was used for the first time meanwhile is as new.
        self.known = found | {i: key for i, key in self.known.items() if i not in before}

    async def note_uses(self) -> None:
        """Write down what was used, each key at most once a minute, however many processes saw it."""
        due = [
            key
            for key in self.known.values()
            if key.last_used_at is None or key.used_at - key.last_used_at > REMEMBERED
        ]
        if not due:
            return
        async with self.store.begin(write=True) as db:
            for key in due:
                mine = update(ApiKey).where(ApiKey.id == key.id)
                await db.execute(mine.values(last_used_at=key.used_at))
        for key in due:
            key.last_used_at = key.used_at

    async def _read(self, key_id: str) -> KnownKey | None:
        async with self.store.begin(write=False) as db:
            return (await _rows(db, [key_id])).get(key_id)


async def _rows(db: AsyncSession, ids: list[str]) -> dict[str, KnownKey]:
    query = (
        select(ApiKey, Account.role, Account.disabled_at).join(Account).where(ApiKey.id.in_(ids))
    )
    return {
        key.id: KnownKey(
            key.id, key.account_id, role, frozenset(key.scopes), key.hash, key.expires_at,
            disabled_at is not None, key.last_used_at, now(),
        )
        for key, role, disabled_at in await db.execute(query)
    }  # fmt: skip


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return digits.rjust(width, "0")
