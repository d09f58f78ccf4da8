"""Products beside one another: like one, side by side, moving in an unusual way."""

from typing import Any

from warehouse.connection import Version
from warehouse.queries.products import LISTED, OF_CATEGORY

# Of a large category only what costs about as much is compared word by word.
MOST_COMPARED = 2000
# Words in common weigh most, then the maker, the leaf of the tree, and what it costs: half of it is
# as far as twice.
SIMILAR = rf"""
WITH wanted AS (
    SELECT p.*, words(p.title) AS w, regexp_extract(category_slug, '^(.*\.)[^.]*$', 1) AS branch
    FROM {LISTED} AS p WHERE p.product_id = $product_id
), near AS (
    SELECT p.*, words(p.title) AS w, wanted.w AS asked, wanted.brand_slug AS asked_brand,
        coalesce(p.category_slug = wanted.category_slug, false) AS same_leaf,
        p.best_price / wanted.best_price AS price_ratio
    FROM {LISTED} AS p, wanted
    WHERE p.product_id <> wanted.product_id AND p.currency = wanted.currency
        AND (p.category_slug = wanted.category_slug
            OR (branch <> '' AND starts_with(p.category_slug, branch))
            OR (wanted.category_slug IS NULL AND p.brand_slug = wanted.brand_slug))
    ORDER BY same_leaf DESC, abs(ln(price_ratio)) NULLS LAST, p.product_id LIMIT $compared
), judged AS (
    SELECT *, len(list_intersect(w, asked)) AS common, brand_slug IS NOT DISTINCT FROM asked_brand
        AND brand_slug IS NOT NULL AS same_brand,
        len(list_intersect(w, asked)) / greatest(1, len(list_distinct(list_concat(w, asked)))) AS alike,
        coalesce(exp(-abs(ln(price_ratio)) / ln(2)), 0) AS as_dear
    FROM near
)
SELECT * EXCLUDE (w, asked, asked_brand), len(asked) AS of_words,
    0.5 * alike + 0.2 * same_brand::INTEGER + 0.15 * same_leaf::INTEGER + 0.15 * as_dear AS similarity
FROM judged ORDER BY similarity DESC, product_id LIMIT $limit
"""
# How far the best price went in these days, and how rare the place is at which it arrived.
TRENDING = f"""
WITH moved AS (
    SELECT p.*, best.price AS price_before, p.best_price / best.price - 1 AS change_ratio,
        CASE WHEN p.best_price < best.price THEN 1 - p.no_dearer_ratio ELSE p.cheaper_ratio END AS rarity
    FROM best_price AS best JOIN {LISTED} AS p USING (product_id)
    WHERE best.start_at <= p.ends_at - to_days($days) AND best.until_at > p.ends_at - to_days($days)
        AND p.best_price <> best.price
        AND {OF_CATEGORY}
)
SELECT *, abs(ln(1 + change_ratio)) * rarity * year_confidence AS unusual FROM moved
WHERE rarity > 0 AND abs(change_ratio) >= 0.01
ORDER BY unusual DESC, product_id LIMIT $limit OFFSET $offset
"""
BY_IDS = f"FROM {LISTED} AS p WHERE product_id IN (SELECT unnest($ids))"


def similar_products(version: Version, product_id: int, limit: int) -> list[dict[str, Any]]:
    """Rows of LISTED in the branch of the product's category (without one: of its brand), with `similarity`,
    `common` of `of_words` words of the title, `same_brand`, `price_ratio`; the most alike first."""
    asked = {"product_id": product_id, "limit": limit, "compared": MOST_COMPARED}
    return version.query(SIMILAR, asked)


def trending_products(version: Version, **asked: Any) -> list[dict[str, Any]]:
    """Rows of LISTED with `price_before`, `change_ratio`, `rarity`, `unusual`. `asked`: days,
    category, limit, offset."""
    return version.query(TRENDING, asked)


def products_by_ids(version: Version, ids: list[int]) -> dict[int, dict[str, Any]]:
    """Rows of LISTED."""
    rows = version.query(BY_IDS, {"ids": ids})
    return {row["product_id"]: row for row in rows}
