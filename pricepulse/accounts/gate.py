"""What every request with an access token or an API key is checked against: a view of the database in memory.

A look at the database for each request would cost 0.5 ms and more. So each process reads, every 0.4 s
and with small indexed queries, which sessions have ended, which signing keys there are and what became of the API
keys in use; a check is then a signature or a hash, and a look into a dictionary. A view that could not be renewed for 0.9 s is renewed by the
next request, which is refused (503) if that fails: an ended session is over within a second
or nobody gets in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta

from sqlalchemy import select

from pricepulse.accounts.keys import KeysInUse, KnownKey
from pricepulse.accounts.tables import EndedSession, SigningKey, now
from pricepulse.accounts.tokens import ACCESS_SECONDS, BadToken, Claims, Keyring, new_signing_key
from pricepulse.errors import UnavailableError
from pricepulse.sealing import Sealer, Unsealable
from pricepulse.store import Patience, Store

LOOK_SECONDS = 0.4
STALE_SECONDS = 0.9
PATIENCE_SECONDS = 3.0
# Tokens of sessions that ended earlier have expired.
REMEMBERED = timedelta(seconds=ACCESS_SECONDS + 60)
# A row may become visible so long after its time: transactions last, and clocks differ.
OVERLAP = timedelta(seconds=30)
log = logging.getLogger("pricepulse.accounts")


class Gate:
    keys: Keyring

    def __init__(self, store: Store, sealer: Sealer, issuer: str) -> None:
        self.store = store
        self.sealer = sealer
        self.issuer = issuer
        self.ended: dict[str, datetime] = {}
        self.api_keys = KeysInUse(store)
        self._read_until: datetime | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self.looking = Patience(PATIENCE_SECONDS)

    async def check(self, token: str) -> Claims:
        """The claims of an access token that is good now. BadToken says why it is not."""
        await self._seen()
        claims = self.keys.verify(token)
        if claims.sid in self.ended:
            raise BadToken("belongs to a session that has ended; sign in again")
        return claims

    async def check_key(self, text: str) -> KnownKey:
        """The API key of this text that is good now. BadToken says why it is not."""
        await self._seen()
        return await self.api_keys.check(text)

    async def _seen(self) -> None:
        if time.monotonic() - self._read_at > STALE_SECONDS:
            await self.renew()

    async def renew(self) -> None:
        async with self._reading:
            if time.monotonic() - self._read_at < LOOK_SECONDS / 2:
                return  # somebody else has just done it
            try:
                await self.looking.wait(self._read)
            except TimeoutError as error:
                told = "the database of accounts cannot be reached; send it again"
                raise UnavailableError(told, retry_after=2) from error

    async def _read(self) -> None:
        started, at = time.monotonic(), now()
        since = (self._read_until - OVERLAP) if self._read_until else at - REMEMBERED
        async with self.store.begin(write=False) as db:
            query = select(EndedSession.id, EndedSession.at).where(EndedSession.at > since)
            ended = (await db.execute(query)).all()
            keys = [key for key in await db.scalars(select(SigningKey)) if self._opens(key)]
            await self.api_keys.renew(db)
        self.ended |= {row.id: row.at for row in ended}
        if len(self.ended) > len(ended):
            self.ended = {i: when for i, when in self.ended.items() if when > at - REMEMBERED}
        self._take(keys, at)
        self._read_until, self._read_at = at, started

    async def follow(self) -> None:
        """Renews the view while the server runs."""
        failing = False
        while True:
            try:
                await self.renew()
                await self.api_keys.note_uses()
                failing = False
            except Exception as error:  # whatever the database says, the next look may succeed
                if not failing:
                    log.error("sessions and keys cannot be read: %s", type(error).__name__)  # noqa: TRY400
                failing = True
            await asyncio.sleep(LOOK_SECONDS)

    async def open(self) -> None:
        """The first view; makes the first key. After the loss of the server's secret, a new one."""
        async with self.store.begin(write=True) as db:
            keys = list(await db.scalars(select(SigningKey)))
            if foreign := [key.kid for key in keys if not self._opens(key)]:
                log.warning("signing keys of another PRICEPULSE_SECRET: %s", ", ".join(foreign))
            if len(foreign) == len(keys):
                db.add(new_signing_key(self.sealer))
        await self.renew()

    def _opens(self, key: SigningKey) -> bool:
        try:
            self.sealer.unseal("signing key", key.secret)
        except Unsealable:
            return False
        return True

    def _take(self, rows: list[SigningKey], at: datetime) -> None:
        kids = frozenset(row.kid for row in rows)
        newest = max(row.created_at for row in rows)
        settled = at - newest > timedelta(minutes=1)
        if not hasattr(self, "keys") or kids != self.keys.kids or not settled:
            self.keys = Keyring(rows, self.sealer, self.issuer, at)
