"""Reading: the version in service, opened read-only and sealed, and the move to a newer one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from warehouse.columns import Columns
from warehouse.conversion import Rates
from warehouse.lists import Lists
from warehouse.search import SearchIndex, SearchIndexError
from warehouse.versions import current_tag

# Nothing outside the file can be reached, and no statement can undo that.
SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
    "memory_limit": "1GB",
    "threads": "2",
}


@dataclass(frozen=True)
class Version:
    """One open version. `tag` names its folder and makes the ETag, `number` is the lake snapshot."""

    tag: str
    number: int
    as_of: datetime | None
    vouch_seconds: int
    vouched_since: datetime | None  # a price observed before is no longer vouched for
    columns: Columns
    lists: Lists
    rates: Rates
    index: SearchIndex
    file: duckdb.DuckDBPyConnection

    @classmethod
    def open(cls, folder: Path) -> Version:
        file = duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True, config=SEALED)
        row = file.execute("SELECT version, as_of, vouch_days FROM build").fetchone()
        assert row is not None, "every build writes its build row"
        columns = Columns(folder)
        return cls(
            tag=folder.name,
            number=row[0],
            as_of=row[1].replace(tzinfo=UTC) if row[1] else None,
            vouch_seconds=int(row[2] * 86400),
            vouched_since=row[1].replace(tzinfo=UTC, microsecond=0) - timedelta(days=row[2])
            if row[1]
            else None,
            columns=columns,
            lists=Lists(columns),
            rates=Rates.read(file),
            index=SearchIndex.open(folder / "search", columns.on_deal()),
            file=file,
        )

    def since(self, days: int) -> int:
        """The first whole second of the last `days` before `as_of`; without data any."""
        return math.ceil(self.as_of.timestamp()) - days * 86400 if self.as_of else 0

    def query(
        self, sql: str, parameters: list[Any] | dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of one statement, on a cursor of its own (threads may call this side by side).
        `parameters` by place or, for `$name`, by name."""
        with self.file.cursor() as cursor:
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class Reader:
    """Follows the version in service. A request takes `current` once and keeps it to its end:
    the version it holds stays open, also when a newer one has taken its place."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._outdated: str | None = None
        self.current: Version | None = None

    def refresh(self) -> bool:
        """Open the newest version if it is not the current one; True if it changed. Blocks.

        One that lacks a file was made by an older release: the first build of this one follows."""
        tag = current_tag(self._data)
        if tag in (None, self._outdated) or (self.current and self.current.tag == tag):
            return False
        try:
            self.current = Version.open(self._data / "versions" / tag)
        except (OSError, duckdb.Error, SearchIndexError) as error:
            if current_tag(self._data) == tag:
                if not isinstance(error, FileNotFoundError):
                    raise
                self._outdated = tag
            return False  # It was replaced and removed meanwhile: the next look finds its heir.
        return True

    def close(self) -> None:
        self.current = None
