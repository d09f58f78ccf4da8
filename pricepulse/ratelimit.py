"""Requests a minute per client: GCRA, one float per client, in this process's memory."""

import math
import time
from ipaddress import ip_address


class RateLimit:
    """`per_minute` requests may come at once; then they come back evenly over the minute.

    Each process counts for itself: a client's connections stay with one worker, and a shared
    counter would cost every request more than the answer does. The table is bounded, since an
    attacker with an IPv6 network has more addresses than there is memory; a /64 is one client.
    """

    def __init__(self, per_minute: int, clients: int = 100_000) -> None:
        self.per_minute = per_minute
        self.interval = 60 / per_minute
        self.clients = clients
        self.policy = f'"client";q={per_minute};w=60'.encode()
        self.full_at: dict[str, float] = {}  # when the client's whole quota is back

    def take(self, client: str, now: float | None = None) -> tuple[int, int, int]:
        """(remaining, seconds until the whole quota is back, seconds to wait: 0 is allowed)."""
        now = time.monotonic() if now is None else now
        full_at = self.full_at.get(client, now)
        if full_at < now:
            full_at = now
        after = full_at + self.interval
        if after - now > 60.000001:
            wait = after - now - 60
            return 0, math.ceil(full_at - now - 1e-6), max(1, math.ceil(wait))
        if client not in self.full_at and len(self.full_at) >= self.clients:
            self._forget(now)
        self.full_at[client] = after
        return int((60 - (after - now)) / self.interval + 1e-6), math.ceil(after - now - 1e-6), 0

    def _forget(self, now: float) -> None:
        """Clients whose quota is whole, else the older half: once per 50,000 new ones at worst."""
        kept = [(client, at) for client, at in self.full_at.items() if at > now]
        self.full_at = dict(kept[-self.clients // 2 :])


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
