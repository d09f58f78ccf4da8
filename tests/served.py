"""A real server process over a data folder of its own, and what is in that folder, known by hand.

`ROWS` is a generated market (60 products, 45 days, all prices in EUR) and the hand-made `SHELF`, whose
answers tests spell out. Times are naive UTC, money is Decimal, as `tests.oracle` takes them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec

from pricepulse.demo import market
from tests.pipeline import NOW

Row = dict[str, Any]
KEY = "a key for tests, long enough"
KEY_HEADER = {"authorization": f"Bearer {KEY}"}
# The newest observation of all: what `as_of` says.
T = NOW.replace(tzinfo=None)

SERVE = """
import socket, sys
import uvicorn
from pathlib import Path
from pricepulse.app import UVICORN, create_app
from pricepulse.settings import Settings

listening = socket.socket(fileno=int(sys.argv[1]))
settings = Settings.from_env(dict(each.split("=", 1) for each in sys.argv[2:]))
uvicorn.Server(uvicorn.Config(create_app(settings), **UVICORN)).run(sockets=[listening])
"""


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a server process on `folder`; without `ingest_key` in `settings` it has KEY.

    The socket listens before the process exists, so that there is no port to guess and nothing to
    wait for: the first request is answered when the server is up.
    """
    env = {"data": folder, "rate_limit": 0, "ingest_key": KEY} | settings
    given = [f"PRICEPULSE_{n.upper()}={v}" for n, v in env.items() if v is not None]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor = listening.fileno()
        command = [sys.executable, "-c", SERVE, str(descriptor), *given]
        process = subprocess.Popen(
            command, pass_fds=[descriptor], cwd=Path(__file__).parents[1], env=dict(os.environ)
        )
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base, timeout=60) as client:
            client.headers.pop("accept-encoding")
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def exact(answer: httpx.Response) -> Any:
    """The JSON with money as Decimal; never through a double."""
    import json

    assert answer.headers["content-type"] == "application/json", answer.text[:500]
    return json.loads(answer.content, parse_float=Decimal)
