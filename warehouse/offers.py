"""Offers as a warehouse file has them, from their spells and from what deliveries said of them."""

from __future__ import annotations

import polars as pl

from warehouse.staged import DETAILS

# What describes an offer now, even where the newest row leaves it empty; of all else the newest
# non-empty value counts.
OF_NEWEST_ROW = ("condition", "shipping", "promotion")
CURRENT = ("price", "list_price", "currency", "availability")


def offers_of(
    folded: pl.DataFrame, seen: pl.DataFrame, details: pl.DataFrame, names: pl.DataFrame
) -> pl.DataFrame:
    """One row an offer from its spells (sorted), what was seen (offer_id, observed_at), its newest
    details and its names."""
    state = folded.group_by("offer_id", maintain_order=True).agg(
        *(pl.col(name).last() for name in CURRENT),
        pl.col("first_observed_at").last().alias("price_since"),
        pl.col("first_observed_at").first(),
        pl.col("last_observed_at").last(),
        pl.col("observations").sum(),
    )
    last_seen = seen.group_by("offer_id").agg(pl.col("observed_at").max().alias("last_seen_at"))
    return (
        state.join(last_seen, on="offer_id")
        .join(details, on="offer_id")
        .join(names.select("offer_id", "retailer", "sku").unique("offer_id"), on="offer_id")
    )


def newest_details(details: pl.DataFrame) -> pl.DataFrame:
    """Per offer the newest non-empty value of each column (OF_NEWEST_ROW: of the newest row)."""
    details = details.sort("offer_id", "last_seen_at", "batch_id", "line")
    newest = [pl.col(name).last() for name in OF_NEWEST_ROW]
    for name in DETAILS:
        if name not in OF_NEWEST_ROW:
            column = pl.col(name)
            holes = details[name].null_count() not in (0, details.height)
            newest.append((column.drop_nulls() if holes else column).last())
    return details.group_by("offer_id").agg(newest)


def extended_offers(offers: pl.DataFrame, known: pl.DataFrame, tails: pl.DataFrame) -> pl.DataFrame:
    """Offers computed from their tail and new rows, completed by what the file knew of them."""
    kept = [name for name in DETAILS if name not in OF_NEWEST_ROW]
    before = known.join(tails.select("offer_id", tail="observations"), on="offer_id").select(
        "offer_id", "product_id", "first_observed_at", "observations", "last_seen_at", "tail", *kept
    )
    joined = offers.join(before, on="offer_id", how="left", suffix="_before")
    return joined.with_columns(
        *(pl.coalesce(name, f"{name}_before").alias(name) for name in kept),
        pl.coalesce("first_observed_at_before", "first_observed_at").alias("first_observed_at"),
        (
            pl.col("observations") + (pl.col("observations_before") - pl.col("tail")).fill_null(0)
        ).alias("observations"),
    ).select(*offers.columns, "product_id")
