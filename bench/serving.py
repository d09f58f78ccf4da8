"""Measures what goes out: product pages and histories over HTTP, their growth, the start."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import duckdb

from bench.datasets import Dataset, child
from bench.load import CONNECTIONS, Round, load
from bench.report import Figure
from bench.server import Server, serving

SECONDS = 3.0  # of load in a round
PATHS = 5000  # different products


class Measured(NamedTuple):
    """A round of load and the seconds of processor time that an answer cost the server."""

    round: Round
    cost: float


Rounds = dict[str, list[Measured]]
Kinds = dict[str, Callable[[int], str]]
KINDS: Kinds = {
    "/health/live": lambda _: "/health/live",
    "/products/{id}": lambda key: f"/api/v1/products/{key}",
    "/products/{id}/history": lambda key: f"/api/v1/products/{key}/history",
}
CONSTANT = "/health/live"


def products(data: Path) -> list[int]:
    """Random product ids of a data folder, always the same."""
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as db:
        ids = [row[0] for row in db.execute("FROM product SELECT product_id ORDER BY 1").fetchall()]
    return random.Random(7).choices(ids, k=PATHS)


def measure(
    servers: dict[str, tuple[Server, Path]], rounds: int, kinds: Kinds = KINDS
) -> dict[str, Rounds]:
    """By server and kind of request. Every round visits all kinds on all servers, so that what else
    the machine does falls on all of them alike."""
    found: dict[str, Rounds] = {name: defaultdict(list) for name in servers}
    paths = {
        name: {kind: [path(key) for key in products(data)] for kind, path in kinds.items()}
        for name, (_, data) in servers.items()
    }
    for number in range(rounds + 1):
        for name, (server, _) in servers.items():
            for kind, wanted in paths[name].items():
                computed = server.computed()
                one = load(server.port, wanted, SECONDS if number else 1.0)
                cost = (server.computed() - computed) / one.answers
                if number:  # the first is there to warm up
                    found[name][kind].append(Measured(one, cost))
    return found


def api(dataset: Dataset, rounds: int) -> list[Figure]:
    """Requests a second and delays at 32 connections, against the constant answer."""
    dataset.prepare()
    data = dataset.data
    with serving(data) as shipped, serving(data, keeping=False) as computing:
        servers = {"as shipped": (shipped, data), "each computed": (computing, data)}
        found = measure(servers, rounds)
    figures = [figure for name, each in found.items() for figure in of_kinds(name, each)]
    return [*figures, *of_floor(child("bench.floor", data), found["each computed"])]


def of_kinds(name: str, found: Rounds, part: str = "api", least: float = 0.4) -> list[Figure]:
    figures = []
    constant = found[CONSTANT]
    for kind, measured in found.items():
        rounds = [each.round for each in measured]
        per_second = median([each.per_second for each in rounds])
        p50, p99 = median([each.p50 for each in rounds]), median([each.p99 for each in rounds])
        cost, busy = median([each.cost for each in measured]), median([r.busy for r in rounds])
        told = (
            f"{per_second:,.0f}/s of {rounds[0].mean_bytes:,.0f} bytes, p50 {p50 * 1000:.2f} ms, "
            f"p99 {p99 * 1000:.2f} ms, {cost * 1e6:.0f} µs of processor (client {busy:.0%} busy)"
        )
        figures.append(Figure(part, f"{name}: GET {kind}, {CONNECTIONS} connections", told))
        if kind == CONSTANT:
            continue
        pairs = list(zip(measured, constant, strict=True))
        ratio = median([each.round.per_second / base.round.per_second for each, base in pairs])
        by_cost = median([base.cost / each.cost for each, base in pairs])
        spread = median([each.p99 / each.p50 for each in rounds])
        told = f"{ratio:.2f} ({by_cost:.2f} in processor time)"
        against = f"{name}: {kind} against the constant answer"
        figures.append(Figure(part, against, told, f"≥ {least:.2f}", ratio >= least))
        if part == "api":
            told = f"{spread:.1f}"
            figures.append(Figure(part, f"{name}: {kind}: p99 / p50", told, "< 4", spread < 4))
    return figures


def of_floor(floor: dict[str, float], found: Rounds) -> list[Figure]:
    pairs = zip(found["/products/{id}/history"], found[CONSTANT], strict=True)
    cost = median([(each.cost - base.cost) * 1e6 for each, base in pairs])
    query = f"{floor['duckdb']:,.0f} µs, {floor['duckdb'] / floor['columns']:.0f} × as long"
    return [
        Figure("api", "what a history costs above the constant answer", f"{cost:,.0f} µs"),
        Figure("api", "of that: its values from the hot columns", f"{floor['columns']:,.0f} µs"),
        Figure("api", "the same values by a DuckDB query", query),
    ]


def growth(small: Dataset, large: Dataset, rounds: int) -> list[Figure]:
    """The same load on a tenth of the products, both servers up and asked in turns; each answer is
    computed, else the smaller one would have more of them kept."""
    for dataset in (small, large):
        dataset.prepare()
    with (
        serving(small.data, keeping=False) as one,
        serving(large.data, keeping=False) as other,
    ):
        servers = {"small": (one, small.data), "large": (other, large.data)}
        found = measure(servers, rounds)
    figures = []
    for kind in KINDS:
        pairs = list(zip(found["small"][kind], found["large"][kind], strict=True))
        speed = median([a.round.per_second / b.round.per_second for a, b in pairs])
        delay = median([b.round.p99 / a.round.p99 for a, b in pairs])
        cost = median([b.cost / a.cost for a, b in pairs])
        target, met = ("< 1.3", max(speed, delay) < 1.3) if kind != CONSTANT else ("", None)
        told = f"requests/s ÷ {speed:.2f}, p99 × {delay:.2f}, processor time × {cost:.2f}"
        what = f"{kind}: {small.rows:,} to {large.rows:,} observations"
        figures.append(Figure("growth", what, told, target, met))
    return figures


def start(dataset: Dataset, rounds: int) -> list[Figure]:
    """From the start of the process to the first 200 of a product page."""
    dataset.prepare()
    path = KINDS["/products/{id}"](products(dataset.data)[0])
    times, computed = [], []
    for _ in range(rounds):
        server = Server(dataset.data)
        try:
            times.append(server.wait_for(path))
            computed.append(server.computed())
        finally:
            server.stop()
    taken, cost = median(times), median(computed)
    told = f"{taken:.2f} s (slowest of {rounds}: {max(times):.2f}; {cost:.2f} s of processor)"
    return [Figure("start", "pricepulse serve to its first product page", told, "< 3 s", taken < 3)]
