"""Categories, brands and retailers."""

from typing import Any

from warehouse.connection import Version

CATEGORIES = "FROM category ORDER BY path, slug LIMIT ? OFFSET ?"
CATEGORY = """
FROM category WHERE slug = ?1 OR parent_slug = ?1 OR starts_with(?1, slug || '.') ORDER BY depth, path
"""
BY_SLUGS = "FROM category WHERE slug IN (SELECT unnest($slugs))"
BRANDS = "FROM brand ORDER BY name, slug LIMIT ? OFFSET ?"
RETAILERS = "FROM retailer ORDER BY retailer LIMIT ? OFFSET ?"
RETAILER = "FROM retailer WHERE retailer = ?"


def categories(version: Version, limit: int, offset: int) -> list[dict[str, Any]]:
    """The tree, every branch before its twigs."""
    return version.query(CATEGORIES, [limit, offset])


def category_and_kin(version: Version, slug: str) -> list[dict[str, Any]]:
    """The category with its ancestors and its children; nothing if there is no such slug."""
    return version.query(CATEGORY, [slug])


def categories_by_slug(version: Version, slugs: list[str]) -> dict[str, dict[str, Any]]:
    """Those of them that there are."""
    rows = version.query(BY_SLUGS, {"slugs": slugs}) if slugs else []
    return {row["slug"]: row for row in rows}


def brands(version: Version, limit: int, offset: int) -> list[dict[str, Any]]:
    return version.query(BRANDS, [limit, offset])


def retailers(version: Version, limit: int, offset: int) -> list[dict[str, Any]]:
    return version.query(RETAILERS, [limit, offset])


def retailer(version: Version, slug: str) -> dict[str, Any] | None:
    found = version.query(RETAILER, [slug])
    return found[0] if found else None
