"""The last change of each price."""

from __future__ import annotations

import numpy as np
import polars as pl


def last_moves(stretches: pl.DataFrame, as_of: int) -> pl.DataFrame:
    """Of each offer that can be bought at `as_of` the last change of the price that could be paid.

    `stretches`: `models.timeline.payable` of the offers in their own currencies. Gives offer_id, product_id, price and price_before (units of
    1/10,000), currency, changed_at (seconds), before_seen_at (when the price before was last seen),
    change_ratio (-0.25: a quarter came off), in the order of the offers.
    """
    offer, price = (stretches[name].to_numpy() for name in ("offer", "price"))
    same = np.append(False, offer[1:] == offer[:-1])
    changed = same[: len(offer)] & (np.append(0, price[:-1])[: len(offer)] != price)
    first = np.flatnonzero(np.diff(offer, prepend=-1))
    row = np.where(changed, np.arange(len(offer)), -1)
    moved = np.maximum.reduceat(row, first) if len(first) else row
    newest = np.append(first[1:], len(offer))[: len(first)] - 1
    now = stretches[newest].select(
        pl.col("newest") & (pl.col("until") >= as_of) & pl.Series(moved >= 0)
    )
    at = moved[now.to_series().to_numpy()]
    ratio = price[at] / np.maximum(price[at - 1], 1) - 1
    moves: pl.DataFrame = stretches[at].select(
        "offer_id",
        "product_id",
        "price",
        pl.Series("price_before", price[at - 1]),
        pl.col("currency").cast(pl.String),
        pl.col("start").alias("changed_at"),
        pl.Series("before_seen_at", stretches["last"].to_numpy()[at - 1]),
        pl.Series("change_ratio", ratio),
    )
    return moves
