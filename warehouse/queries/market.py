"""The market: price indices, figures by category and retailer, trends, seasons."""

from typing import Any

from warehouse.connection import Version

INDEX = """
FROM category_index WHERE category_slug = $category AND ($currency IS NULL OR currency = $currency)
ORDER BY currency, week
"""
TRENDS = """
FROM category_trend WHERE category_slug = $category AND ($currency IS NULL OR currency = $currency)
ORDER BY currency, days
"""
SEASONS = """
FROM seasonality WHERE category_slug = $category AND ($currency IS NULL OR currency = $currency)
ORDER BY currency, cycle DESC, place
"""
# Of the category itself by retailer, and of all retailers in what is right below it.
FIGURES = """
WITH newest AS (
    SELECT category_slug, currency, arg_max(index, week) AS index,
        arg_max(index, week) / nullif(arg_max(index, week) FILTER (week <= b.as_of - INTERVAL 1 YEAR), 0) - 1
            AS index_year_ratio
    FROM category_index, build AS b GROUP BY ALL
)
SELECT m.*, n.index, n.index_year_ratio FROM market AS m
LEFT JOIN newest AS n ON n.category_slug = m.category_slug AND n.currency = m.currency AND m.retailer = ''
WHERE ($currency IS NULL OR m.currency = $currency) AND (
    m.category_slug = $category
    OR (m.retailer = '' AND m.category_slug <> '' AND CASE WHEN $category = ''
        THEN NOT contains(m.category_slug, '.')
        ELSE starts_with(m.category_slug, $category || '.')
            AND NOT contains(m.category_slug[len($category) + 2:], '.') END)
)
ORDER BY m.category_slug, m.retailer, m.currency
"""
OF_RETAILER = """
SELECT m.* FROM market AS m WHERE retailer = $retailer AND NOT contains(category_slug, '.')
ORDER BY category_slug, currency
"""
FRESHNESS = """
SELECT count(*) FILTER (o.last_observed_at >= date_trunc('second', b.as_of) - to_microseconds((b.vouch_days * 86400e6)::BIGINT)) AS fresh,
    median(epoch(b.as_of - o.last_observed_at)) / 3600 AS median_hours_since_seen
FROM offer AS o, build AS b WHERE o.retailer = ?
"""
CLAIMS = """
SELECT verdict, count(*) AS deals FROM deal WHERE retailer = ? GROUP BY ALL
"""
LEADS = """
FROM lead_follow WHERE leader = $retailer OR follower = $retailer ORDER BY lead_ratio DESC, leader, follower
"""
Rows = list[dict[str, Any]]


def price_index(version: Version, category: str, currency: str | None) -> tuple[Rows, Rows, Rows]:
    """Weeks of the index, its trends, seasons; `category` '' is all."""
    asked = {"category": category, "currency": currency}
    index, trends, seasons = (version.query(sql, asked) for sql in (INDEX, TRENDS, SEASONS))
    return index, trends, seasons


def market_figures(version: Version, category: str, currency: str | None) -> Rows:
    """Rows of `market`, with `index` and `index_year_ratio` where all retailers are meant."""
    return version.query(FIGURES, {"category": category, "currency": currency})


def retailer_figures(version: Version, retailer: str) -> tuple[Rows, dict[str, Any], Rows, Rows]:
    """Its rows of `market` for all and the top categories; `fresh` offers and
    `median_hours_since_seen`; its deals by verdict; whom it leads or follows."""
    (freshness,) = version.query(FRESHNESS, [retailer])
    return (
        version.query(OF_RETAILER, {"retailer": retailer}),
        freshness,
        version.query(CLAIMS, [retailer]),
        version.query(LEADS, {"retailer": retailer}),
    )
