"""A build: from the lake's snapshot N to one read-only warehouse file, beside the old, then swapped.

    versions/000000123-1/warehouse.duckdb   the file, *.arrow the hot columns, search/ the index
    warehouse.duckdb                        a symbolic link to the newest of them

A full build folds every observation, as many offers at a time as fit in memory. An incremental
one copies the last file and folds what came since: rows in order extend the last spell of their
offer from the file alone; offers with late rows, or with a suspect still open, come anew from the lake.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import polars.selectors as cs

from warehouse import columns, search, spells, versions
from warehouse.columns import Frames
from warehouse.images import shown
from warehouse.lake import Lake
from warehouse.marts import Before, Marts, Task, insert
from warehouse.offers import extended_offers, newest_details, offers_of
from warehouse.rates import show_rates

SCHEMA = (Path(__file__).parent / "warehouse.sql").read_text()
CATALOG = (Path(__file__).parent / "catalog.sql").read_text()
# Whatever shapes a version: a file that other code made is not extended but built anew.
SHAPING = (
    "build.py", "catalog.sql", "columns.py", "images.py", "marts.py", "marts.sql", "offers.py",
    "rates.py", "search_index.py", "spells.py", "staged.py", "warehouse.sql",
)  # fmt: skip
SCHEMA_HASH = hashlib.sha256(
    b"".join((Path(__file__).parent / name).read_bytes() for name in SHAPING)
).hexdigest()
# About 0.4 GB of frame; more new rows than that are cheaper in a full build.
RANGE_ROWS = 4_000_000
# Of the observations of a full build only their runs are held, a fifth of them: 0.6 GB, and as much
# again while they are sorted and joined.
MOST_RUNS = 6_000_000
ID_BITS = 63
# A checkpoint that moves the rows that are left together takes 0.4 s longer than one that only notes
# which are gone. It does so in a build that finds the file this much fuller than it was after the last
# time: of 92 MB every eighth batch of 10,000 rows; the file, with the room left free, then has 150.
SLACK = 1.25
FOLDED = ("price_spell", "suspect", "superseded")  # The tables of `spells.Folded`.


# Products as `search.write_index` takes them.
DOCUMENTS = """
SELECT format('{{:016x}}', product_id) AS product_id, title, brand, gtin,
    coalesce(gtins, []) AS gtins, category,
    list_transform(range(1, 1 + len(string_split(category_slug, '.'))),
        lambda d: array_to_string(string_split(category_slug, '.')[:d], '.')) AS category_slugs,
    brand_slug, retailers, availability, currency, best_price AS price, offers,
    first_observed_at AS first_seen_at
FROM {}
"""


class BuildBroken(RuntimeError):
    """A finished file contradicts itself and was not put into service."""


@dataclass(frozen=True)
class Built:
    """`tag`: folder of the version in service. `kind`: full, incremental, or none (nothing new)."""

    tag: str
    version: int
    kind: str
    observations: int = 0


def build(
    data: Path,
    lake: Lake,
    marts: Marts,
    *,
    full: bool = False,
    wait: bool = False,
    vouch: timedelta = timedelta(days=10),
) -> Built:
    """Bring the warehouse file up to the lake's newest snapshot and put it into service.

    `marts`: what is derived from the spells. `vouch`: for how long an observation vouches for a price. Raises `BuildRunning`, `BuildBroken`
    and OSError (disk full); whatever happens, the last version stays in service and whole.
    """
    with versions.building(data, wait=wait):
        snapshot = lake.snapshot()
        previous = None if full else _usable(data, lake, marts, snapshot, vouch)
        since = _Since.read(lake, previous, snapshot) if previous else None
        if previous and since and since.nothing:
            return Built(previous.tag, previous.version, "none")
        base = data / "versions" / previous.tag if previous and since else None
        compact = previous.compact_blocks if previous and since else 0
        with (
            versions.new_version(data, snapshot) as (folder, tag),
            # Ends first: the file is closed before it goes into service.
            closing(_Work(folder, lake, marts, snapshot, vouch, base, compact)) as work,
        ):
            if since:
                work.increment(since)
            else:
                work.fold_everything()
            observations = work.finish()
        return Built(tag, snapshot, "incremental" if since else "full", observations)


@dataclass(frozen=True)
class _Previous:
    """`compact_blocks`: how many the file had when its rows were last moved together."""

    tag: str
    version: int
    compact_blocks: int


def _usable(
    data: Path, lake: Lake, marts: Marts, snapshot: int, vouch: timedelta
) -> _Previous | None:
    """The version in service, if this code and these settings made it from this lake."""
    tag = versions.current_tag(data)
    path = data / "warehouse.duckdb"
    if tag is None or not path.exists():
        return None
    # Not asked of the file itself: this process may have it open under other settings.
    made = json.loads((path.resolve().parent / "build.json").read_text())
    version, blocks = made.pop("version"), made.pop("compact_blocks", 0)
    # A version from the lake's future is one of a catalog that was restored since.
    if made != _made(lake, marts, vouch) or version > snapshot:
        return None
    return _Previous(tag, version, blocks)


def _made(lake: Lake, marts: Marts, vouch: timedelta) -> dict[str, Any]:
    """What must be the same for a version to be extended."""
    days = vouch / timedelta(days=1)
    shaped = f"{SCHEMA_HASH} {marts.fingerprint}"
    return {"lake": lake.identity(), "vouch_days": days, "schema_hash": shaped}


@dataclass(frozen=True)
class _Since:
    """What the lake took in after the previous version."""

    observations: pl.DataFrame
    details: pl.DataFrame
    links: pl.DataFrame
    images: pl.DataFrame
    rates: int

    @property
    def nothing(self) -> bool:
        said = (self.observations, self.links, self.images)
        return all(each.is_empty() for each in said) and not self.rates

    @classmethod
    def read(cls, lake: Lake, previous: _Previous, snapshot: int) -> _Since | None:
        """None where a full build is due: too much is new, or the snapshot has been expired."""
        try:
            if lake.count_inserted("observation", previous.version, snapshot) > RANGE_ROWS:
                return None
            tables = ("observation", "offer_detail", "offer_link", "offer_image")
            rates = lake.count_inserted("reference_rate", previous.version, snapshot)
            new = [lake.inserted(table, previous.version, snapshot) for table in tables]
            return cls(new[0], new[1], new[2], new[3], rates)
        except duckdb.InvalidInputException:
            return None


@dataclass
class _Work:
    """One build in its own folder."""

    folder: Path
    lake: Lake
    marts: Marts
    snapshot: int
    vouch: timedelta
    previous: Path | None
    compact_blocks: int

    def __post_init__(self) -> None:
        file = self.folder / "warehouse.duckdb"
        if self.previous:
            shutil.copyfile(self.previous / "warehouse.duckdb", file)
        self.db = duckdb.connect(str(file), config={"autoinstall_known_extensions": "false"})
        self.db.execute("SET TimeZone = 'UTC'")
        if not self.previous:
            self.db.execute(SCHEMA)
        elif self._used_blocks() <= SLACK * self.compact_blocks:
            self.db.execute("SET max_vacuum_tasks = 0")
        else:
            self.compact_blocks = 0
        # One transaction and one checkpoint: the file is written once.
        self.db.execute("BEGIN")
        for table in ("affected (product_id BIGINT)", "touched (offer_id BIGINT)"):
            self.db.execute(f"CREATE TEMP TABLE {table}")

    def fold_everything(self) -> None:
        show_rates(self.lake, self.snapshot, self.db)
        low, end = 0, 2**ID_BITS
        while low < end:
            low = self._fold_from(low, end)

    def _fold_from(self, low: int, end: int) -> int:
        """Fold the offers from `low` on, as many as fit in memory; where the next ones begin."""
        runs, high = self._runs(low, end)
        unclear = spells.unclear(runs)
        sizes = runs.group_by("offer_id").agg(pl.col("observations").sum())
        clear = runs.filter(~pl.col("offer_id").is_in(unclear.implode()))
        del runs
        folded = spells.joined(clear, self.vouch)
        self._insert("price_spell", folded)
        self._insert("offer", self._offers_between(low, high, folded))
        del clear, folded
        # What rows alone can tell: overlapping deliveries, jumps of a price.
        for piece in _pieces(sizes.join(unclear.to_frame(), on="offer_id", how="semi")):
            self._recompute(piece)
        return high

    def _runs(self, low: int, high: int) -> tuple[pl.DataFrame, int]:
        """Sorted runs of the offers from `low` to below `high`, or below a lower end that lets them
        fit in memory; and that end."""
        runs: list[pl.DataFrame] = []
        for rows in self.lake.stream("observation", spells.OBSERVED, self.snapshot, low):
            runs.append(spells.runs(rows.filter(pl.col("offer_id") < high), self.vouch))
            if sum(run.height for run in runs) > MOST_RUNS:
                whole = pl.concat(runs)
                middle = whole["offer_id"].sort()[whole.height // 2]
                high = max(middle, low + 1)
                runs = [whole.filter(pl.col("offer_id") < high)]
        return pl.concat(runs).sort("offer_id", "first_observed_at"), high

    def _offers_between(self, low: int, high: int, folded: pl.DataFrame) -> pl.DataFrame:
        """The offers of the spells, which all lie in this range of ids."""
        share = (high - low) / 2**ID_BITS  # ids are hashes: evenly spread
        rows = self.lake.count("offer_detail", self.snapshot) * share
        pieces = max(1, math.ceil(rows / RANGE_ROWS))
        edges = [low + (high - low) * edge // pieces for edge in range(pieces + 1)]
        details = [
            newest_details(self.lake.rows("offer_detail", self.snapshot, first, last - 1))
            for first, last in itertools.pairwise(edges)
        ]
        names = self.lake.rows("offer", self.snapshot, low, high - 1)
        # None of them has an observation that its spells do not contain.
        seen = folded.select("offer_id", pl.col("last_observed_at").alias("observed_at"))
        return offers_of(folded, seen, pl.concat(details), names)

    def increment(self, since: _Since) -> None:
        """Fold what is new into the copied file."""
        if since.rates:
            show_rates(self.lake, self.snapshot, self.db)
        new = since.observations
        touched = new.select("offer_id").unique()
        self._insert("touched", touched)
        images = since.images  # noqa: F841 (DuckDB reads it by name)
        self.db.execute(
            "INSERT INTO affected SELECT DISTINCT product_id FROM offer "
            "WHERE offer_id IN (FROM touched UNION SELECT offer_id FROM images)"
        )
        known = self.db.execute("FROM offer WHERE offer_id IN (SELECT offer_id FROM touched)").pl()
        late = self._late(new, known)
        in_order = new.join(late, on="offer_id", how="anti")
        self._extend(in_order, since.details.join(late, on="offer_id", how="anti"), known)
        for piece in _pieces(late.join(known, on="offer_id")):
            self._recompute(piece)

    def _late(self, new: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """Known offers whose new rows do not all come after what the file has, or that have a
        suspect which the new rows may confirm."""
        late = (
            new.group_by("offer_id")
            .agg(pl.col("observed_at").min())
            .join(known.select("offer_id", "last_seen_at"), on="offer_id")
            .filter(pl.col("observed_at") <= pl.col("last_seen_at"))
            .select("offer_id")
        )
        waiting = self.db.execute(
            "SELECT DISTINCT offer_id FROM suspect WHERE open AND offer_id IN (FROM touched)"
        ).pl()
        return pl.concat([late, waiting]).unique()

    def _extend(self, rows: pl.DataFrame, details: pl.DataFrame, known: pl.DataFrame) -> None:
        known = known.join(rows.select("offer_id").unique(), on="offer_id", how="semi")
        tails = self.db.execute(
            "SELECT s.* FROM price_spell AS s JOIN known AS k "
            "ON s.offer_id = k.offer_id AND s.first_observed_at = k.price_since"
        ).pl()
        folded = spells.fold(rows, self.vouch, tails)
        extended = folded.spells
        # A tail keeps its first observation: it is updated in place, all else is new.
        self.db.execute(
            "UPDATE price_spell SET last_observed_at = e.last_observed_at, "
            "observations = e.observations FROM extended AS e "
            "WHERE price_spell.offer_id = e.offer_id "
            "AND price_spell.first_observed_at = e.first_observed_at"
        )
        begun = extended.join(tails, on=["offer_id", "first_observed_at"], how="anti")
        self._insert("price_spell", begun)
        self._insert("suspect", folded.suspects)
        self._insert("superseded", folded.superseded)
        names = self._names(rows["offer_id"].unique())
        offers = extended_offers(
            offers_of(extended, rows, newest_details(details), names), known, tails
        )
        self._replace_offers(offers)

    def _recompute(self, late: pl.Series) -> None:
        rows, details = (
            self.lake.rows_of(table, self.snapshot, late)
            for table in ("observation", "offer_detail")
        )
        folded = spells.fold(rows, self.vouch)
        gone = late.to_frame()  # noqa: F841 (DuckDB reads it by name)
        for table, anew in zip(FOLDED, folded, strict=True):
            self.db.execute(f"DELETE FROM {table} WHERE offer_id IN (FROM gone)")
            self._insert(table, anew)
        newest = newest_details(details)
        self._replace_offers(offers_of(folded.spells, rows, newest, self._names(late)))

    def _names(self, offers: pl.Series) -> pl.DataFrame:
        return self.lake.rows_of("offer", self.snapshot, offers)

    def _replace_offers(self, offers: pl.DataFrame) -> None:
        self.db.execute("DELETE FROM offer WHERE offer_id IN (SELECT offer_id FROM offers)")
        self._insert("offer", offers)

    def _insert(self, table: str, rows: pl.DataFrame) -> None:
        if rows.height:
            self.db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows")

    def finish(self) -> int:
        """Products and the rest of the catalog, checks, marts, hot columns, search; observations
        shown."""
        link = self.lake.frame(  # noqa: F841 (DuckDB reads it by name)
            "SELECT offer_id, arg_max_null(product_id, linked_at) AS product_id "
            f"FROM lake.offer_link AT (VERSION => {self.snapshot}) GROUP BY offer_id"
        )
        image = shown(self.lake, self.snapshot)  # noqa: F841
        self._write_build_row()
        self.db.execute("CREATE TEMP TABLE link AS FROM link")
        self.db.execute("CREATE TEMP TABLE image AS FROM image")
        self.db.execute(CATALOG)
        self._check()
        self.db.execute(
            "CREATE TEMP TABLE changed AS FROM touched UNION SELECT offer_id FROM moved"
        )
        rows = columns.read(self.db, changes_only=self.previous is not None)
        frames = columns.compose(rows, self.previous)
        with ThreadPoolExecutor(2) as pool:
            written = [pool.submit(columns.write, self.folder, frames._asdict())]
            written += self._make_marts(frames, rows.affected, pool)
            self.db.execute("COMMIT")
            self.db.execute("CHECKPOINT")
            self._write_search()
            for each in written:
                each.result()
        self._write_build_file()
        return self._build_row("build")[0]

    def _build_row(self, table: str) -> tuple[int, int]:
        """Observations and as_of (seconds)."""
        sql = f"SELECT observations, coalesce(epoch_us(as_of) // 1000000, 0) FROM {table}"
        observations, as_of = self.db.execute(sql).fetchall()[0]
        return int(observations), int(as_of)

    def _make_marts(
        self, frames: Frames, affected: pl.DataFrame | None, pool: ThreadPoolExecutor
    ) -> list[Future[None]]:
        """Into the file; their hot columns are being written."""
        before = None
        if self.previous is not None and affected is not None:
            as_of = self._build_row("last_build")[1]
            before = Before(Frames.mapped(self.previous), as_of, affected["product_id"].unique())
        done, written = set(), []

        def emit(table: str, rows: pl.DataFrame, *, part: bool) -> None:
            done.add(table)
            # As answers give them; whole doubles take three times the space and time.
            rows = rows.with_columns(cs.float().round(4))
            if table in columns.MARTS:
                kept = (
                    (self.previous, before.affected) if self.previous and before and part else None
                )
                written.append(pool.submit(columns.write_mart, self.folder, table, rows, kept))
            insert(self.db, table, rows, extends=before is not None, part=part)

        vouch = round(self.vouch.total_seconds())
        self.marts.make(Task(frames, self._build_row("build")[1], vouch, before, pool, emit))
        if self.previous:
            columns.take_over(self.previous, self.folder, set(columns.MARTS) - done)
        return written

    def _write_build_file(self) -> None:
        """What the next build must know of this version."""
        blocks = self.compact_blocks or self._used_blocks()
        said = {"version": self.snapshot, "compact_blocks": blocks}
        said |= _made(self.lake, self.marts, self.vouch)
        (self.folder / "build.json").write_text(json.dumps(said))

    def _used_blocks(self) -> int:
        row = self.db.execute("SELECT used_blocks FROM pragma_database_size()").fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        self.db.close()

    def _write_build_row(self) -> None:
        """The build row; products of which any offer grew stale since the last version are affected:
        their end moves, see `models.timeline.current`."""
        days = self.vouch / timedelta(days=1)
        made = _made(self.lake, self.marts, self.vouch)
        self.db.execute("CREATE TEMP TABLE last_build AS FROM build")
        self.db.execute("DELETE FROM build")
        self.db.execute(
            "INSERT INTO build SELECT ?, max(last_seen_at), ?, coalesce(sum(observations), 0), ? "
            "FROM offer",
            [self.snapshot, days, made["schema_hash"]],
        )
        self.db.execute(
            "INSERT INTO affected SELECT DISTINCT o.product_id FROM offer AS o, build AS b, "
            "last_build AS l WHERE o.product_id IS NOT NULL "
            "AND o.last_observed_at >= date_trunc('second', l.as_of) - to_microseconds((? * 86400e6)::BIGINT) "
            "AND o.last_observed_at < date_trunc('second', b.as_of) - to_microseconds((? * 86400e6)::BIGINT)",
            [days, days],
        )

    def _check(self) -> None:
        """Refuse a file that contradicts itself; each check names what it counts."""
        wrong = self.db.execute(
            """
            SELECT 'offers without a product' AS what, count(*) AS n FROM offer AS o
                LEFT JOIN product AS p USING (product_id) WHERE p.product_id IS NULL
            UNION ALL SELECT 'offers twice', count(*) - count(DISTINCT offer_id) FROM offer
            UNION ALL SELECT 'products twice', count(*) - count(DISTINCT product_id) FROM product
            UNION ALL SELECT 'products whose offers are miscounted', count(*) FROM product AS p
                LEFT JOIN (SELECT product_id, count(*) AS n FROM offer GROUP BY ALL) AS o
                USING (product_id) WHERE o.n IS DISTINCT FROM p.offers
            UNION ALL SELECT 'offers that differ from their last spell', count(*) FROM offer AS o
                LEFT JOIN price_spell AS s
                ON s.offer_id = o.offer_id AND s.first_observed_at = o.price_since
                WHERE s.price IS DISTINCT FROM o.price
                OR s.last_observed_at IS DISTINCT FROM o.last_observed_at
            UNION ALL SELECT 'observations missing from the spells',
                abs((SELECT coalesce(sum(observations), 0) FROM price_spell)
                - (SELECT observations FROM build))
            """
        ).fetchall()
        found = [f"{count} {what}" for what, count in wrong if count]
        if found:
            raise BuildBroken(
                "the new warehouse file is wrong and was not used: " + ", ".join(found)
            )

    def _write_search(self) -> None:
        target = self.folder / "search"
        if self.previous:
            # Products whose searched columns changed; most rows of a batch change none of them.
            changed = self.db.execute(
                f"{DOCUMENTS.format('product')} WHERE product_id IN (FROM affected) "
                f"EXCEPT {DOCUMENTS.format('former')}"
            ).pl()
            removed = self.db.execute(
                "SELECT format('{:016x}', product_id) FROM former "
                "WHERE product_id NOT IN (SELECT product_id FROM product)"
            ).fetchall()
            try:
                gone = [row[0] for row in removed]
                search.update_index(self.previous / "search", target, changed, gone)
            except search.SearchIndexError:
                # The last version's index is damaged; that must not stop the builds for ever.
                shutil.rmtree(target, ignore_errors=True)
            else:
                return
        search.write_index(target, self.db.execute(DOCUMENTS.format("product")).pl())


def _pieces(offers: pl.DataFrame) -> list[pl.Series]:
    """Offers in groups of about RANGE_ROWS observations, so that memory stays bounded."""
    groups = offers.sort("offer_id").select(
        "offer_id", (pl.col("observations").cum_sum() // RANGE_ROWS).alias("group")
    )
    return [group["offer_id"] for group in groups.partition_by("group")]
