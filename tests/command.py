"""The `pricepulse` command as its users have it: processes of its own, on a data folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

T = TypeVar("T")
KEY = "a-key-for-tests-long-enough"
COMMAND = [sys.executable, "-m", "pricepulse"]
ROOT = Path(__file__).resolve().parents[1]


def environment(data: Path, **settings: object) -> dict[str, str]:
    """This environment with the settings and no other ones."""
    ours = {"data": data, "ingest_key": KEY, "rate_limit": 0} | settings
    rest = {name: value for name, value in os.environ.items() if not name.startswith("PRICEPULSE_")}
    rest["PYTHONPATH"] = str(ROOT)
    return rest | {f"PRICEPULSE_{name.upper()}": str(value) for name, value in ours.items()}


def run(
    data: Path, *words: object, stdin: bytes = b"", **settings: object
) -> subprocess.CompletedProcess[str]:
    """`pricepulse` with these words, to its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        input=stdin,
        capture_output=True,
        env=environment(data, **settings),
        timeout=120,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path


@contextmanager
def serving(data: Path, *flags: object, log: Path, **settings: object) -> Iterator[Server]:
    """`pricepulse serve`, answering; ended with SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*COMMAND, "serve", "--port", str(port), *map(str, flags)]
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stderr=errors, env=environment(data, **settings))
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=30, headers=headers
        ) as client:
            server = Server(process, client, log)
            until(lambda: answers(server), f"the server answers; its log:\n{log.read_text()}")
            yield server
    finally:
        process.terminate()
        process.wait(20)


def answers(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        return server.client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def ready(server: Server) -> bool:
    """Whether a build is in service and the lake opens."""
    return answers(server) and server.client.get("/health/ready").status_code == 200


def until(condition: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """What `condition` gives as soon as it is true; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def csv(rows: Sequence[str], columns: str = "retailer,sku,observed_at,price,currency") -> bytes:
    return "\n".join([columns, *rows, ""]).encode()
