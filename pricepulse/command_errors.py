"""What the command says when something fails: one sentence on stderr, and the exit code.

What is heavy is imported when something has failed, so that `--help` is immediate.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

import click

from pricepulse.settings import PREFIX, SettingsError


class Command(click.Group):
    """Errors that say what to do are one line on stderr; only a bug shows a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            told = explained(error)
            if told is None:
                raise
            code, sentence = told
            for line in sentence.splitlines():
                click.echo(f"pricepulse: {line}", err=True)
            ctx.exit(code)


def explained(error: Exception) -> tuple[int, str] | None:
    """Exit code and sentence of an error that the user can mend; None for a bug."""
    if isinstance(error, SettingsError):
        return 2, str(error)
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg":
        return 2, "PostgreSQL needs a driver: pip install 'pricepulse[cluster]'"
    from sqlalchemy.exc import OperationalError

    from pricepulse.store import SchemaError
    from warehouse.build import BuildBroken
    from warehouse.feed import FeedError
    from warehouse.lake import TRANSIENT, LakeError
    from warehouse.links import UnknownLink
    from warehouse.rates_file import RatesError
    from warehouse.versions import BuildRunning

    mendable = FeedError | LakeError | BuildRunning | UnknownLink | RatesError | SchemaError
    if isinstance(error, mendable):
        return 2, str(error)
    if isinstance(error, OperationalError):
        return 1, f"the database of accounts cannot be used: {error.orig}"
    if isinstance(error, BuildBroken):
        return 1, str(error)
    if is_full(error):
        return 1, (
            "no space is left on the disk; all that was there is whole, and of what is not "
            "reported as done nothing was kept. Make space and run the same command again"
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return 2, f"{error.filename}: {error.strerror}"
    if any(text in str(error) for text in TRANSIENT):
        return 1, f"the lake's catalog is busy with another process; try again ({error})"
    return None


def is_full(error: Exception) -> bool:
    from pricepulse.errors import NO_SPACE

    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return True
    told = str(error)
    if "disk I/O error" in told:  # what SQLite says when it cannot even make its -shm file
        return shutil.disk_usage(os.environ[PREFIX + "DATA"]).free < 1 << 20
    return NO_SPACE.search(told) is not None or "File too large" in told
