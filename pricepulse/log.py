"""Log lines: text for people or JSON for a collector, each with the request's id."""

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

from pricepulse.settings import Settings

# Set by the edge for each request; threads started with asyncio.to_thread inherit it.
request_id: ContextVar[str] = ContextVar("request_id", default="")

SECRET = re.compile(
    r"(?i)((?:^|&)[^=&]*?(?:token|secret|passw|code|state|nonce|sig|auth|api_?key|credential)[^=&]*=)[^&]*"
)


def without_secrets(query: str) -> str:
    """A query string with the values of what may be a secret replaced by ***."""
    return SECRET.sub(r"\1***", query) if query else ""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if rid := request_id.get():
            line["request_id"] = rid
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        rid = request_id.get()
        if not rid:
            return line
        head, newline, rest = line.partition("\n")
        return f"{head} [{rid}]{newline}{rest}"


def quieten() -> None:
    """Libraries that say too much: Alembic of its own parts, the driver of SQLite, at DEBUG, the values of
    every statement, the HTTP client the address and, at DEBUG, the headers of every request."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def configure(settings: Settings) -> None:
    """All logging of this process to stderr. uvicorn keeps its error log and loses its own
    access log: the edge writes one that has the request id and no secrets."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    quieten()
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(max(root.level, logging.INFO))
