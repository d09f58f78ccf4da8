"""Token buckets: a quota may be used at once, then it comes back evenly. GCRA: one number for each bucket.

Where they are counted is exchangeable: in this process's memory, here, or in the database
(`pricepulse.shared_counters`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True)
class Limit:
    """`quota` at once; what is used comes back evenly over `window` seconds."""

    name: str
    quota: int
    window: int

    @cached_property
    def interval(self) -> float:
        """Seconds in which one comes back."""
        return self.window / self.quota

    @cached_property
    def policy(self) -> bytes:
        """As a RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.quota};w={self.window}'.encode()

    def spent(self, full_at: float, now: float) -> Taken:
        """What is left of a bucket that will be full at `full_at`."""
        used = max(0.0, full_at - now)
        return Taken(int((self.window - used) / self.interval + 1e-6), math.ceil(used - 1e-6), 0)

    def refused(self, full_at: float, now: float) -> Taken:
        wait = full_at + self.interval - now - self.window
        return Taken(0, math.ceil(full_at - now - 1e-6), max(1, math.ceil(wait)))


class Taken(NamedTuple):
    """`reset`: seconds until the whole quota is back. `wait`: seconds to wait; 0 is allowed."""

    remaining: int
    reset: int
    wait: int


class Counters(Protocol):
    async def take(self, limit: Limit, who: str) -> Taken:
        """One of the quota of `who`, if there is one."""

    async def give_back(self, limit: Limit, who: str, db: AsyncSession, tokens: int = 1) -> None:
        """As if so many had not been taken. In the transaction of `db`, where there is one to write in."""


class InMemory:
    """Each process counts for itself: a client's connections stay with one worker, and a shared
    counter would cost every request more than the answer does. The tables are bounded, since an
    attacker with an IPv6 network has more addresses than there is memory; a /64 is one client.
    """

    def __init__(self, most: int = 100_000) -> None:
        self.most = most
        # By limit and by who: when the whole quota is back.
        self.full_at: dict[str, dict[str, float]] = {}

    async def take(self, limit: Limit, who: str) -> Taken:
        return self.take_at(limit, who, time.monotonic())

    def take_at(self, limit: Limit, who: str, now: float) -> Taken:
        table = self.full_at.setdefault(limit.name, {})
        full_at = max(table.get(who, now), now)
        after = full_at + limit.interval
        if after - now > limit.window + 1e-6:
            return limit.refused(full_at, now)
        if who not in table and len(table) >= self.most:
            table = self._forget(limit.name, now)
        table[who] = after
        return limit.spent(after, now)

    async def give_back(self, limit: Limit, who: str, db: AsyncSession, tokens: int = 1) -> None:
        table = self.full_at.get(limit.name, {})
        if who in table:
            table[who] -= tokens * limit.interval

    def _forget(self, name: str, now: float) -> dict[str, float]:
        """Those whose quota is whole, else the older half: once per 50,000 new ones at worst."""
        kept = [(who, at) for who, at in self.full_at[name].items() if at > now]
        self.full_at[name] = dict(kept[-self.most // 2 :])
        return self.full_at[name]


def client_key(host: str) -> str:
    """The address, or of an IPv6 address the network of one customer."""
    if ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped else address.exploded[:19]
