"""A load client: keep-alive connections, each sending its next request when its answer is complete.

A request costs it about a third of what it costs the server, so on 2 cores it is not what is
measured; `Round.busy` tells. It checks the status of every answer and counts the bytes.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import cast

import numpy as np
import uvloop

CONNECTIONS = 32
SILENCE = 30.0  # seconds that the last answers may take
OK = b"HTTP/1.1 200 "


@dataclass(frozen=True)
class Round:
    """What some seconds of load gave. `busy`: the share of the time that the client computed."""

    answers: int
    per_second: float
    p50: float  # seconds
    p99: float
    mean_bytes: float
    busy: float


class Connection(asyncio.Protocol):
    """One request at a time, until `stop`."""

    transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes], times: list[float], stop: float) -> None:
        self.requests = requests
        self.times = times
        self.stop = stop
        self.left = 0  # bytes of the body that have not come yet
        self.head = b""
        self.received = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        else:
            data = self.head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return
            self.head = b""
            if not data.startswith(OK):
                self._fail(f"not a 200: {data[:300]!r}")
                return
            at = data.find(b"content-length: ", 0, end)
            length = int(data[at + 16 : data.index(b"\r", at)])
            self.received += length
            self.left = length - (len(data) - end - 4)
        if self.left:
            return
        now = time.perf_counter()
        self.times.append(now - self.began)
        if now < self.stop:
            self._send()
        else:
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the server closed the connection: {error}")

    def _fail(self, why: str) -> None:
        self.done.set_exception(RuntimeError(why))
        self.transport.close()


async def _load(port: int, requests: Sequence[bytes], seconds: float, connections: int) -> Round:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    began, computed = time.perf_counter(), time.process_time()
    opened = []
    for number in range(connections):
        # Each connection walks the same addresses from another place.
        start = number * len(requests) // connections
        mine = cycle([*requests[start:], *requests[:start]])
        one = partial(Connection, mine, times, began + seconds)
        opened.append((await loop.create_connection(one, "127.0.0.1", port))[1])
    async with asyncio.timeout(seconds + SILENCE):
        await asyncio.gather(*(each.done for each in opened))
    elapsed = time.perf_counter() - began
    p50, p99 = np.percentile(times, [50, 99])
    return Round(
        answers=len(times),
        per_second=len(times) / elapsed,
        p50=float(p50),
        p99=float(p99),
        mean_bytes=sum(each.received for each in opened) / len(times),
        busy=(time.process_time() - computed) / elapsed,
    )


def load(port: int, paths: Sequence[str], seconds: float, connections: int = CONNECTIONS) -> Round:
    """Ask for `paths`, over and over, for some seconds. RuntimeError where an answer is no 200."""
    requests = [f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode() for path in paths]
    # The client's own collections would be measured as the server's slowest answers.
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_load(port, requests, seconds, connections))
    finally:
        gc.enable()
