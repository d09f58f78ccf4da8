"""Which products a category is made of, and which categories it belongs to.

PRODUCTS is a frame of `product_id` Int64, `currency` and `category_slug` (dotted, may be null). A
*leaf* is what a product says of itself; a *class* is a leaf or what stands above it, '' all of them.
Figures that can be added are summed by leaf first and then by class, so that each product is read
once however deep the tree.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from models.timeline import Ints

CLASS = ("category_slug", "currency")


class Leaves(NamedTuple):
    """`names`: CLASS of each leaf; `of_series`: the leaf of each series, -1 where none is known."""

    names: pl.DataFrame
    of_series: Ints


def leaves(ids: Ints, products: pl.DataFrame) -> Leaves:
    """The leaves of the products with these ids."""
    placed = products.select("product_id", pl.struct(*CLASS).alias("name")).unique("product_id")
    names = placed.select(pl.col("name").unique(maintain_order=True)).with_row_index("leaf")
    of_series = (
        pl.DataFrame({"product_id": pl.Series(ids, dtype=pl.Int64)})
        .join(placed, on="product_id", how="left", maintain_order="left")
        .join(names, on="name", how="left", nulls_equal=True, maintain_order="left")
        .select(pl.col("leaf").cast(pl.Int64).fill_null(-1))
    )
    return Leaves(names.unnest("name").select(CLASS), of_series["leaf"].to_numpy())


def by_class(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a frame with category_slug once for each class above it, in its place."""
    tree = ancestors(frame["category_slug"])
    return (
        frame.join(tree, on="category_slug", nulls_equal=True)
        .drop("category_slug")
        .rename({"class": "category_slug"})
    )


def ancestors(slugs: pl.Series) -> pl.DataFrame:
    """`category_slug`, `class`: 'food.drinks.tea' belongs to '', 'food', 'food.drinks' and itself;
    null only to ''."""
    rows = [
        (slug, ".".join(parts[:depth]))
        for slug in slugs.unique()
        for parts in [slug.split(".") if slug else []]
        for depth in range(len(parts) + 1)
    ]
    schema = {"category_slug": pl.String, "class": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")
