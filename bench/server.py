"""The real server, `pricepulse serve`, as a process of its own on a free port."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEY = "a key that only this benchmark knows"
DEADLINE = 60.0  # seconds


class Server:
    def __init__(
        self, data: Path, *, keeping: bool = True, more: Mapping[str, str] | None = None
    ) -> None:
        """`keeping`: answers are kept as in the server as shipped; else each is computed anew. `more`:
        settings, by variable."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        settings = {
            "PRICEPULSE_DATA": str(data),
            "PRICEPULSE_PORT": str(self.port),
            "PRICEPULSE_INGEST_KEY": KEY,
            "PRICEPULSE_RATE_LIMIT": "0",
            "PRICEPULSE_LOG_LEVEL": "warning",
        }
        if not keeping:
            settings["PRICEPULSE_ANSWER_CACHE_MB"] = "0"
        settings |= more or {}
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pricepulse", "serve"],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
        )

    def ask(
        self, path: str, body: bytes | None = None, kind: str = "application/octet-stream"
    ) -> tuple[int, Any]:
        """Status and JSON; with a body a POST with the key. OSError while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": kind} if body else {}
        try:
            connection.request("POST" if body else "GET", path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def wait_for(self, path: str) -> float:
        """Seconds from the start of the process to the first 200."""
        while time.perf_counter() - self.began < DEADLINE:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}")
            try:
                if self.ask(path)[0] == 200:
                    return time.perf_counter() - self.began
            except OSError:
                pass
            time.sleep(0.005)
        raise RuntimeError(f"{path} gave no 200 within {DEADLINE:.0f} s")

    def computed(self) -> float:
        """Seconds of processor time so far; what else the machine does is not in them."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


@contextmanager
def serving(
    data: Path, *, keeping: bool = True, more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server that has a build in service."""
    server = Server(data, keeping=keeping, more=more)
    try:
        server.wait_for("/health/ready")
        yield server
    finally:
        server.stop()
