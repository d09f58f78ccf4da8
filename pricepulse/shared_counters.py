"""Token buckets in the database, shared by all processes and machines on it.

A process takes a fiftieth of a quota at a time and spends it by itself, so that of 50 requests one
asks the database; a quota below 100 is taken one by one, exactly. The rows tell of nobody: an HMAC and
a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from sqlalchemy import Double, LargeBinary, case, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from pricepulse.ratelimit import InMemory, Limit, Taken
from pricepulse.sealing import Sealer
from pricepulse.store import Base, Patience, Store, insert

PARTS = 50
# What was taken and not spent until then is lost; a refusal is not asked about again before.
HELD_SECONDS, REFUSED_SECONDS = 5.0, 1.0
MOST_HELD = 100_000
# A price waits no longer for being counted together.
PATIENCE_SECONDS = 0.5
log = logging.getLogger("pricepulse.limits")


class Counter(Base):
    __tablename__ = "counter"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    # Unix seconds when the whole quota is back; then the row may go.
    full_at: Mapped[float] = mapped_column(Double, index=True)


@dataclass(slots=True)
class Held:
    """Taken from the database and not spent yet; or, with none left, refused until `until`."""

    left: int
    until: float
    full_at: float


class InDatabase:
    def __init__(self, store: Store, sealer: Sealer) -> None:
        self.store = store
        self.sealer = sealer
        self.held: dict[bytes, Held] = {}
        self.alone = InMemory()
        self._asking = asyncio.Lock()
        self._patience = Patience(PATIENCE_SECONDS)
        self._failed_at = float("-inf")

    async def take(self, limit: Limit, who: str) -> Taken:
        row = self._row(limit, who)
        if (taken := self._from_held(limit, row)) is not None:
            return taken
        try:
            # One at a time: of many requests at once, each would take a part, and most be lost.
            async with self._asking:
                if (taken := self._from_held(limit, row)) is not None:
                    return taken
                # Known only here: it may have failed while this one waited.
                if time.monotonic() - self._failed_at > REFUSED_SECONDS:
                    return await self._patience.wait(lambda: self._taken(limit, row, time.time()))
            return await self.alone.take(limit, who)
        except (SQLAlchemyError, OSError) as error:
            # Prices must not depend on the database of accounts: each process counts for itself.
            log.error("limits cannot be counted together: %s", type(error).__name__)  # noqa: TRY400
            self._failed_at = time.monotonic()
            return await self.alone.take(limit, who)

    def _from_held(self, limit: Limit, row: bytes) -> Taken | None:
        held, now = self.held.get(row), time.time()
        if held is None or held.until <= now:
            return None
        if not held.left:
            return limit.refused(held.full_at, now)
        held.left -= 1
        if not held.left:
            del self.held[row]
        return limit.spent(held.full_at - held.left * limit.interval, now)

    async def give_back(self, limit: Limit, who: str, db: AsyncSession, tokens: int = 1) -> None:
        row = self._row(limit, who)
        mine = update(Counter).where(Counter.hash == row)
        await db.execute(mine.values(full_at=Counter.full_at - tokens * limit.interval))
        self.held.pop(row, None)

    async def _taken(self, limit: Limit, row: bytes, now: float) -> Taken:
        tokens = max(1, limit.quota // PARTS)
        full_at = await self._add(limit, row, now, tokens)
        if full_at is None and tokens > 1:  # the last few
            tokens, full_at = 1, await self._add(limit, row, now, 1)
        if full_at is not None:
            if tokens > 1:
                self._hold(row, Held(tokens - 1, now + HELD_SECONDS, full_at), now)
            return limit.spent(full_at - (tokens - 1) * limit.interval, now)
        async with self.store.begin(write=False) as db:
            query = select(Counter.full_at).where(Counter.hash == row)
            full_at = (await db.scalar(query)) or now
        refused = limit.refused(full_at, now)
        until = now + min(REFUSED_SECONDS, refused.wait)
        self._hold(row, Held(0, until, full_at), now)
        return refused

    async def _add(self, limit: Limit, row: bytes, now: float, tokens: int) -> float | None:
        """The new `full_at`; None where the quota has not so many. One statement: of several processes
        that take at once, none takes what another has."""
        cost = tokens * limit.interval
        after = case((Counter.full_at > now, Counter.full_at), else_=now) + cost
        async with self.store.begin(write=True) as db:
            statement = insert(db, Counter).values(hash=row, full_at=now + cost)
            statement = statement.on_conflict_do_update(
                index_elements=[Counter.hash],
                set_={"full_at": after},
                where=after <= now + limit.window + 1e-3,
            )
            return await db.scalar(statement.returning(Counter.full_at))

    def _hold(self, row: bytes, held: Held, now: float) -> None:
        if len(self.held) >= MOST_HELD:
            self.held = {i: each for i, each in self.held.items() if each.until > now}
        if len(self.held) < MOST_HELD:
            self.held[row] = held

    def _row(self, limit: Limit, who: str) -> bytes:
        return self.sealer.derive("counter", f"{limit.name} {who}".encode())
