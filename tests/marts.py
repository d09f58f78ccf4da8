"""The marts of a warehouse file against tests/oracle_prices.py."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests import oracle, oracle_prices
from tests.pipeline import Pipeline

WINDOWS = {"30d": 30, "90d": 90, "365d": 365, "all": None}
SAYS = [field.name for field in dataclasses.fields(oracle_prices.Deal) if field.name != "points"]
FIGURES = [field.name for field in dataclasses.fields(oracle_prices.Statistics)]
Row = dict[str, Any]


def rows_by(found: Pipeline, table: str, *keys: str) -> dict[tuple[Any, ...], Row]:
    names = [name for name, *_ in found.query(f"DESCRIBE {table}")]
    rows = (dict(zip(names, row, strict=True)) for row in found.query(f"FROM {table}"))
    return {tuple(row[key] for key in keys): row for row in rows}


def assert_agrees(said: Row, expected: Row, about: Any) -> None:
    """Money, times and words exactly; ratios are doubles with four places."""
    for name, value in expected.items():
        if isinstance(value, Fraction):
            assert said[name] == pytest.approx(float(value), abs=0.000051), (about, name)
        else:
            assert said[name] == value, (about, name)


class Ids:
    """Numbers of the file for the oracle's names, and the other way."""

    def __init__(self, found: Pipeline) -> None:
        rows = found.query("SELECT retailer, sku, offer_id, product_id FROM offer")
        self.offer = {(retailer, sku): offer for retailer, sku, offer, _ in rows}
        self.product = {(retailer, sku): product for retailer, sku, _, product in rows}
        self.currency = dict(found.query("SELECT product_id, currency FROM product"))


def expected_statistics(
    timeline: list[oracle_prices.Stretch],
    market: oracle.Market,
    offers: set[oracle.Offer],
    ids: Ids,
) -> dict[str, Row]:
    end = oracle_prices.end_of(market, offers)
    found = {}
    for name, days in WINDOWS.items():
        if (made := oracle_prices.statistics(timeline, end, days)) is not None:
            said = {figure: getattr(made, figure) for figure in FIGURES}
            for extreme in ("min", "max"):
                said[f"{extreme}_offer_id"] = ids.offer[said.pop(f"{extreme}_offer")]
            found[name] = said
    return found


def assert_statistics(
    market: oracle.Market, found: Pipeline, ids: Ids, offers: Iterable[oracle.Offer]
) -> int:
    """How many rows of offer_stats were compared."""
    of_offer = rows_by(found, "offer_stats", "offer_id", "span")
    compared = 0
    for offer in offers:
        timeline = oracle_prices.offer_timeline(market, offer)
        expected = expected_statistics(timeline, market, {offer}, ids)
        number = ids.offer[offer]
        spans = {span for at, span in of_offer if at == number}
        assert spans == set(expected), offer
        for span, figures in expected.items():
            figures = {name: each for name, each in figures.items() if "offer_id" not in name}
            assert_agrees(of_offer[number, span], figures, (offer, span))
        compared += len(expected)
    return compared


def assert_product_statistics(
    market: oracle.Market, found: Pipeline, ids: Ids, products: Iterable[set[oracle.Offer]]
) -> None:
    of_product = rows_by(found, "product_stats", "product_id", "span")
    for offers in products:
        (number,) = {ids.product[offer] for offer in offers}
        timeline = product_timeline(market, offers, ids)
        expected = expected_statistics(timeline, market, offers, ids)
        assert {span for at, span in of_product if at == number} == set(expected), offers
        for span, figures in expected.items():
            assert_agrees(of_product[number, span], figures, (offers, span))


def product_timeline(
    market: oracle.Market, offers: set[oracle.Offer], ids: Ids
) -> list[oracle_prices.Stretch]:
    currency = ids.currency[ids.product[next(iter(offers))]]
    return oracle_prices.product_timeline(market, offers, currency, ids.offer.__getitem__)


def best_price(market: oracle.Market, offers: set[oracle.Offer], ids: Ids) -> Decimal | None:
    timeline = product_timeline(market, offers, ids)
    return timeline[-1].price if timeline and timeline[-1].now else None


def assert_deals(
    market: oracle.Market, found: Pipeline, ids: Ids, products: Iterable[set[oracle.Offer]]
) -> Counter[str]:
    """How many deals there were for each ground."""
    deals = rows_by(found, "deal", "offer_id")
    grounds: Counter[str] = Counter()
    for offers in products:
        best = best_price(market, offers, ids)
        for offer in offers:
            said = deals.get((ids.offer[offer],))
            same = market.offers[offer].spells[-1].currency == ids.currency[ids.product[offer]]
            expected = oracle_prices.deal(market, offer, best if same else None)
            assert (said is None) == (expected is None), (offer, said, expected)
            if said is not None and expected is not None:
                assert_deal(said, expected, offer)
                grounds[expected.ground] += 1
    return grounds


def assert_deal(said: Row, expected: oracle_prices.Deal, offer: oracle.Offer) -> None:
    figures = {name: getattr(expected, name) for name in SAYS}
    figures["began_at"] = figures.pop("began")
    exact_half = expected.points % 1
    if abs(exact_half - Fraction(1, 2)) < Fraction(1, 10**9):
        del figures["score"]  # doubles may round the other way
    assert_agrees(said, figures, offer)


def assert_best_prices(
    market: oracle.Market, found: Pipeline, ids: Ids, products: Iterable[set[oracle.Offer]]
) -> None:
    """The timeline itself, up to its end."""
    rows = found.query("SELECT product_id, start_at, until_at, price, offer_id FROM best_price")
    for offers in products:
        (number,) = {ids.product[offer] for offer in offers}
        end = oracle_prices.end_of(market, offers)
        said = sorted(
            (start, min(until, end), price, offer)
            for product, start, until, price, offer in rows
            if product == number and start < end
        )
        expected = [
            (each.start, each.until, each.price, ids.offer[each.offer])
            for each in product_timeline(market, offers, ids)
            if each.start < end
        ]
        assert said == expected, offers
        assert all(until - start > timedelta(0) for start, until, *_ in said)


def assert_marts(
    market: oracle.Market, found: Pipeline, products: list[set[oracle.Offer]] | None = None
) -> Counter[str]:
    """Everything that the marts say of these products (all unless given)."""
    ids = Ids(found)
    if products is None:
        products = list(market.products().values())
    offers = [offer for each in products for offer in each]
    assert assert_statistics(market, found, ids, offers) >= len(offers) / 2
    assert_product_statistics(market, found, ids, products)
    assert_best_prices(market, found, ids, products)
    return assert_deals(market, found, ids, products)
