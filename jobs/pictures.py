"""Pictures that nobody refers to any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from pricepulse.accounts.belongings import Avatar
from pricepulse.pictures import AVATAR, PRODUCT, Kind
from pricepulse.store import Database
from warehouse import images
from warehouse.lake import Lake
from warehouse.versions import current_snapshot

# A file is there before the row that names it is committed; whoever stores it again renews its time.
SPARED_SECONDS = 3600


def remove_unreferenced(data: Path, database: Database, lake: Lake) -> str:
    """Remove avatars and product images that were replaced, and what a crash left behind."""

    def avatars() -> set[str]:
        with database.begin(write=False) as db:
            return set(db.scalars(select(Avatar.hash)))

    def products() -> set[str]:
        return images.needed(lake, current_snapshot(data))

    removed = sum(_remove(data, *each) for each in ((AVATAR, avatars), (PRODUCT, products)))
    return f"{removed} pictures removed"


def _remove(data: Path, kind: Kind, named: Callable[[], set[str]]) -> int:
    before = time.time() - SPARED_SECONDS
    folder = data / "pictures" / kind.name
    old = [path for path in folder.glob("*/*/*") if _changed(path) < before]
    hashes = named() if old else set()
    unreferenced = [path for path in old if path.stem not in hashes or path.suffix != ".webp"]
    for path in unreferenced:
        if _changed(path) < before:  # not stored again meanwhile
            path.unlink(missing_ok=True)
    return len(unreferenced)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
