"""Fresh databases of both kinds for every test that asks: migrated once, then copied."""

from __future__ import annotations

import getpass
import itertools
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.peer import Postgres, cluster, installed
from pricepulse import migrations

# Nothing of it must outlive the run, so nothing waits for a disk.
CARELESS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c listen_addresses="


class Databases:
    """One PostgreSQL for the whole run, started when the first test needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        self._postgres: Postgres | None = None
        self._starting = self._started()

    def blank(self, kind: str) -> str:
        """URL of an empty database; for SQLite of a file that is not there yet."""
        return self._new(kind, template=None)

    def migrated(self, kind: str) -> str:
        """URL of a database with the newest schema."""
        return self._new(kind, template="migrated")

    def close(self) -> None:
        self._starting.close()

    def _new(self, kind: str, template: str | None) -> str:
        name = f"n{next(self._numbers)}"
        if kind == "sqlite":
            file = self.folder / f"{name}.sqlite"
            if template:
                original = self.folder / "migrated.sqlite"
                if not original.exists():
                    migrations.upgrade(f"sqlite:///{original}")
                shutil.copyfile(original, file)
            return f"sqlite:///{file}"
        if self._postgres is None:
            self._postgres = next(self._starting)
            self._create("migrated", None)
            migrations.upgrade(self._url("migrated"))
        self._create(name, template)
        return self._url(name)

    def _create(self, name: str, template: str | None) -> None:
        assert self._postgres
        of = f" TEMPLATE {template}" if template else ""
        self._postgres.sql(f"CREATE DATABASE {name}{of}")

    def _url(self, name: str) -> str:
        assert self._postgres
        user = "postgres" if not os.getuid() else getpass.getuser()
        return f"postgresql://{user}@/{name}?host={self._postgres.folder}"

    def _started(self) -> Generator[Postgres, None, None]:
        programs = installed()
        if programs is None:
            # CI has it; somebody who tries the project out may not.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(
                "no PostgreSQL is installed (Debian: apt-get install postgresql)"
            )
        with cluster(programs, CARELESS) as postgres:
            yield postgres


@contextmanager
def databases() -> Iterator[Databases]:
    with tempfile.TemporaryDirectory() as folder:
        made = Databases(Path(folder))
        try:
            yield made
        finally:
            made.close()
