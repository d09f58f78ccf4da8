"""Pictures that nobody refers to any more."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import select

from pricepulse.accounts.belongings import Avatar
from pricepulse.pictures import AVATAR
from pricepulse.store import Database

# A file is there before the row that names it is committed; whoever stores it again renews its time.
SPARED_SECONDS = 3600


def remove_unreferenced(data: Path, database: Database) -> str:
    """Remove replaced avatars, and what a crash left behind."""
    before = time.time() - SPARED_SECONDS
    folder = data / "pictures" / AVATAR.name
    old = [path for path in folder.glob("*/*/*") if _changed(path) < before]
    with database.begin(write=False) as db:
        named = set(db.scalars(select(Avatar.hash))) if old else set()
    unreferenced = [path for path in old if path.stem not in named or path.suffix != ".webp"]
    for path in unreferenced:
        if _changed(path) < before:  # not stored again meanwhile
            path.unlink(missing_ok=True)
    return f"{len(unreferenced)} pictures removed"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
