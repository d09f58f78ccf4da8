"""Marts that are made once a day: what the market, its trends and its anomalies were at 00:00 UTC.

They cost as much as all others together and do not change by the minute. They follow from what was
known at the last midnight before `as_of` alone, `past_of` and `said_of`: whatever was observed since,
they come out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from models.anomalies import anomalies
from models.lead_follow import lead_follow
from models.market import market_figures
from models.price_index import category_index
from models.seasonality import seasonality
from models.timeline import CAN_BE_BOUGHT, joined
from models.trends import category_trends, trends
from warehouse.columns import Frames

SAID_OF_OFFERS = ("offer_id", "product_id", "retailer", "currency", "condition")
SAID_OF_PRODUCTS = ("product_id", "category_slug", "brand_slug", "currency")


def placed(frames: Frames) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Adds to rows about offers what lists of them are filtered by."""
    offers = frames.offers.select("offer_id", "retailer")
    products = frames.products.select("product_id", "category_slug", "brand_slug")

    def add(rows: pl.DataFrame) -> pl.DataFrame:
        with_shop = rows.join(offers, on="offer_id", how="left", maintain_order="left")
        return with_shop.join(products, on="product_id", how="left", maintain_order="left")

    return add


def past_of(held: pl.DataFrame, spells: pl.DataFrame, midnight: int) -> pl.DataFrame:
    """The stretches that had begun at midnight, as one could see them then, of these spells.

    Of one that still held it is not known how often it was seen until then: it counts as seen again
    just at midnight.
    """
    runs = pl.col("until") >= midnight
    return (
        held.with_columns(spells["observations"])
        .filter(pl.col("start") < midnight)
        .with_columns(
            until=pl.col("until").clip(upper_bound=midnight),
            last=pl.when(runs).then(midnight).otherwise("last"),
            observations=pl.when(runs).then(2).otherwise("observations"),
        )
    )


def said_of(past: pl.DataFrame, frames: Frames) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the daily marts read of the offers of that past, and of their products."""
    offers = frames.offers.select(SAID_OF_OFFERS).join(
        past, on="offer_id", how="semi", maintain_order="left"
    )
    products = frames.products.select(SAID_OF_PRODUCTS).join(
        offers, on="product_id", how="semi", maintain_order="left"
    )
    return offers, products


def daily_marts(
    past: pl.DataFrame,
    mine: pl.DataFrame,
    best: pl.DataFrame,
    frames: Frames,
    midnight: int,
    vouch: int,
) -> dict[str, pl.DataFrame]:
    """Rows of the tables. `mine`: the timelines of offers, `best` of products (TIMELINE)."""
    offers, products = said_of(past, frames)
    timeline = _until(joined(mine), midnight)
    of_products = _until(best, midnight)
    offers = offers.join(_at(mine, midnight), on="offer_id", how="left").with_columns(
        pl.col("price", "list_price").fill_null(0), fresh=pl.col("price").is_not_null()
    )
    # A used thing is no lower price of the new one.
    new = offers.filter(pl.col("condition") == "new")
    with ThreadPoolExecutor(1) as pool:
        odd = pool.submit(_anomalies, past, frames.offers, midnight, vouch)
        index = category_index(of_products, products, midnight)
        found = {
            "category_index": index.rename({"period_start": "week", "left": "left_out"}),
            "market": market_figures(timeline, new, products, midnight),
            "trend": _by_product(trends(of_products, midnight).rename({"series": "product_id"})),
            "category_trend": category_trends(index, midnight),
            "seasonality": seasonality(of_products, products, midnight),
            "lead_follow": lead_follow(timeline, new, midnight),
        }
        odd_ones = odd.result().rename({"at": "began_at", "until": "until_at"})
        return found | {"anomaly": _by_product(placed(frames)(odd_ones))}


def _by_product(frame: pl.DataFrame) -> pl.DataFrame:
    """As the hot columns want it."""
    return frame.sort("product_id", maintain_order=True)


def _until(timeline: pl.DataFrame, midnight: int) -> pl.DataFrame:
    return timeline.filter(
        (pl.col("start") < midnight) & (pl.col("until") > pl.col("start"))
    ).with_columns(pl.col("until").clip(upper_bound=midnight))


def _at(mine: pl.DataFrame, midnight: int) -> pl.DataFrame:
    """offer_id, price and list_price of what could be paid at midnight."""
    now = mine.filter((pl.col("start") < midnight) & (pl.col("until") >= midnight))
    return now.select("offer_id", "price", "list_price").unique("offer_id", keep="last")


def _anomalies(past: pl.DataFrame, offers: pl.DataFrame, midnight: int, vouch: int) -> pl.DataFrame:
    retailers = offers["retailer"].cast(pl.Categorical)
    rows = past.with_columns(
        retailer=retailers.gather(past["offer"]),
        buyable=pl.col("availability").cast(pl.String).is_in(CAN_BE_BOUGHT),
    )
    return anomalies(rows.sort("product_id", "offer_id", maintain_order=True), midnight, vouch)
