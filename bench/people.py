"""Accounts: what it costs to check who asks, and what 200 sign-ins at once cost everybody else.

python -m bench.people PORT    so many sign-ins at once, in a process of their own; prints JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import httpx

from bench.datasets import Dataset
from bench.load import load
from bench.report import Figure
from bench.server import Server, serving
from bench.serving import KINDS, products

SIGN_INS = 200
SECONDS = 4.0  # of other requests meanwhile: 200 hashes take longer
OTHERS = 8  # connections
CHECKS = 2000
EMAIL, PASSWORD = "bench@example.org", "only the benchmark knows this"


def people(dataset: Dataset, rounds: int) -> list[Figure]:
    dataset.prepare()
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "PRICEPULSE_DATABASE_URL": f"sqlite:///{folder}/people.sqlite",
            "PRICEPULSE_SECRET": "a secret that only this benchmark has",
            "PRICEPULSE_SIGN_IN_LIMIT": "0",
        }
        env = {**os.environ, **own, "PRICEPULSE_DATA": str(dataset.data)}
        _user(env, "create", EMAIL, typed=PASSWORD)
        key = _user(env, "key", EMAIL, "--scope", "read")
        figures = [*asyncio.run(_checks(own, key, rounds))]
        with serving(dataset.data, more=own) as server:
            paths = [KINDS["/products/{id}"](each) for each in products(dataset.data)]
            quiet = load(server.port, paths, SECONDS, OTHERS)
            found = [_sign_ins(server, paths) for _ in range(min(rounds, 3))]
    told = f"p50 {quiet.p50 * 1000:.2f} ms, p99 {quiet.p99 * 1000:.2f} ms"
    figures.append(Figure("people", f"GET /products/{{id}}, {OTHERS} connections, alone", told))
    p99 = median([each[0] for each in found])
    slowest = max(each[0] for each in found)
    what = f"the same during {SIGN_INS} sign-ins at once"
    told = f"p99 {p99 * 1000:.1f} ms (slowest of {len(found)}: {slowest * 1000:.1f})"
    figures.append(Figure("people", what, told, "p99 < 250 ms", p99 < 0.25))
    taken, statuses = median([each[1] for each in found]), found[-1][2]
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    told = f"{taken:.1f} s until the last is answered ({answers})"
    return [*figures, Figure("people", f"{SIGN_INS} sign-ins at once", told)]


def _user(env: dict[str, str], *words: str, typed: str = "") -> str:
    command = [sys.executable, "-m", "pricepulse", "user", *words]
    done = subprocess.run(command, env=env, input=typed, capture_output=True, text=True, check=True)
    return done.stdout.strip()


async def _checks(own: dict[str, str], key: str, rounds: int) -> list[Figure]:
    """In this process: over HTTP it would drown in what the request itself costs."""
    from pricepulse.accounts.gate import Gate
    from pricepulse.sealing import Sealer
    from pricepulse.store import Store

    store = Store(own["PRICEPULSE_DATABASE_URL"])
    gate = Gate(store, Sealer(own["PRICEPULSE_SECRET"].encode()), "https://prices.example")
    await gate.open()
    token = gate.keys.sign("account", "session", "user")
    following = asyncio.create_task(gate.follow())
    figures = []
    checks: dict[str, Callable[[], Awaitable[Any]]] = {
        "an access token": lambda: gate.check(token),
        "an API key": lambda: gate.check_key(key),
    }
    for name, check in checks.items():
        cost = median([await _cost(check) for _ in range(rounds)])
        told = f"{cost * 1e6:.0f} µs"
        figures.append(Figure("people", f"checking {name}", told, "< 300 µs", cost < 3e-4))
    following.cancel()
    await asyncio.wait([following])
    await store.close()
    return figures


async def _cost(check: Callable[[], Awaitable[Any]]) -> float:
    """Seconds of processor time; the gate's own looks are in it."""
    began = time.process_time()
    for number in range(CHECKS):
        await check()
        if not number % 100:
            await asyncio.sleep(0)
    return (time.process_time() - began) / CHECKS


def _sign_ins(server: Server, paths: list[str]) -> tuple[float, float, Counter[str]]:
    """p99 of the others, seconds until the last sign-in was answered, statuses of the sign-ins."""
    command = [sys.executable, "-m", "bench.people", str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()  # they are on their way
        others = load(server.port, paths, SECONDS, OTHERS)
        found = json.loads(child.stdout.readline())
    return others.p99, found["seconds"], Counter(found["statuses"])


async def _at_once(port: int) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=SIGN_INS)
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        body = {"email": EMAIL, "password": PASSWORD}
        print("began", flush=True)
        began = time.perf_counter()
        asked = (client.post("/api/v1/auth/login", json=body) for _ in range(SIGN_INS))
        answers = await asyncio.gather(*asked)
    statuses = Counter(str(each.status_code) for each in answers)
    return {"seconds": time.perf_counter() - began, "statuses": statuses}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_at_once(int(sys.argv[1])))))
