"""Product search: one tantivy index for each warehouse version, in a folder of its own.

Hits are ordered by levels (GTIN, whole title, all words, …, some words: `SearchIndex._levels`) and
inside a level by offers, then product_id. Levels are queries of their own, not sums of BM25 scores:
those depend on how documents lie in segments, so an updated index would rank other than a fresh
one. Query text never meets a parser: queries are built from terms.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from tantivy import DocAddress, FieldType, Index, Occur, Query

from warehouse.search_index import (
    LETTERS_MOST,
    SEPARATOR,
    TEXT_MOST,
    SearchIndexError,
    Word,
    open_index,
    read_words,
    update_index,
    write_index,
)

__all__ = [
    "Facets",
    "Filters",
    "Hit",
    "PriceRange",
    "SearchIndex",
    "SearchIndexError",
    "SearchPage",
    "Suggestion",
    "update_index",
    "write_index",
]

_ENOUGH = 10  # hits from which on typos and partial matches are not looked for
_UNITS_MOST = 2**63 - 1
_KNOWN_MOST = 256  # texts whose levels are remembered
_EVERY = ("name", "category")
_PARTIAL = {"some", "some typos"}
_FACET_SLACK = 50
_ALL_TERMS = 1_000_000  # of a segment, so that merged counts are exact

# 1, 2, 5, 10, … in units of 1e-4: the aggregation takes floats, which hold these exactly.
_PRICE_STEPS = [step * 10**power for power in range(17) for step in (1, 2, 5)]


@dataclass(frozen=True)
class Filters:
    """What hits must have; `category` is a slug and includes what lies below it.

    Prices are of the product's best offer; give `currency` with them, or amounts in different
    currencies are compared.
    """

    category: str | None = None
    brand: str | None = None
    retailer: str | None = None
    availability: str | None = None
    currency: str | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    on_deal: bool | None = None


@dataclass(frozen=True)
class Hit:
    """`score` is the level's: equal for hits that match equally well, 0 to 100."""

    product_id: str
    score: float


@dataclass(frozen=True)
class SearchPage:
    """`total` counts all hits, exactly."""

    hits: list[Hit]
    total: int


@dataclass(frozen=True)
class PriceRange:
    """`count` hits cost `low` or more and less than `high`, in `currency`."""

    currency: str
    low: Decimal
    high: Decimal
    count: int


@dataclass(frozen=True)
class Facets:
    """(slug, hits), most hits first, then by slug; a product counts in all its categories."""

    categories: list[tuple[str, int]]
    brands: list[tuple[str, int]]
    retailers: list[tuple[str, int]]
    prices: list[PriceRange]


@dataclass(frozen=True)
class Suggestion:
    """`id` is a product_id, or the slug of a brand or category."""

    kind: Literal["product", "brand", "category"]
    text: str
    id: str


@dataclass(frozen=True)
class _Level:
    """One way to match. Levels of a `family` stand in order and each contains the one before."""

    score: float
    family: str
    query: Query


def _all(queries: Iterable[Query]) -> Query:
    return Query.boolean_query([(Occur.Must, query) for query in queries])


def _any(queries: Iterable[Query], least: int = 1) -> Query:
    return Query.boolean_query([(Occur.Should, query) for query in queries], least)


def _but(query: Query) -> Query:
    return Query.boolean_query([(Occur.Must, Query.all_query()), (Occur.MustNot, query)])


def _widest(levels: Iterable[_Level]) -> list[Query]:
    """Queries with the same union as all of `levels`, the fewest known."""
    return list({level.family: level.query for level in levels}.values())


class SearchIndex:
    """One version of the index, open for reading; threads may share it.

    `on_deal`: ids of the products that the filter of that name means. They come from beside the index,
    since they change with time alone, and the documents of such products do not."""

    def __init__(self, index: Index, on_deal: Sequence[int] = ()) -> None:
        self._schema = index.schema
        self._on_deal = (
            Query.term_set_query(self._schema, "pid", list(on_deal))
            if on_deal
            else Query.empty_query()
        )
        self._searcher = index.searcher()
        self._known: dict[str, list[_Level]] = {}

    @classmethod
    def open(cls, folder: Path, on_deal: Sequence[int] = ()) -> Self:
        index = open_index(folder)
        index.config_reader("manual")  # a version never changes
        return cls(index, on_deal)

    def search(self, text: str, filters: Filters, *, limit: int, offset: int) -> SearchPage:
        """Hits `offset` to `offset + limit`; text without a letter or digit has none."""
        levels = self._levels(text)
        narrow = self._narrow(filters)
        total = self._count(_all([_any(_widest(levels)), *narrow])) if levels else 0
        page = self._ranked(levels, narrow, min(limit, total - offset), offset)
        return SearchPage([Hit(pid, score) for pid, score, _ in page], total)

    def facets(self, text: str, filters: Filters, *, top: int = 20) -> Facets:
        """Counts over all hits of `search` with the same text and filters."""
        levels = self._levels(text)
        if not levels:
            return Facets([], [], [], [])
        hits = _all([_any(_widest(levels)), *self._narrow(filters)])
        fields = ("category_slug", "brand_slug", "retailer")
        categories, brands, retailers = (self._top_terms(hits, field, top) for field in fields)
        return Facets(categories, brands, retailers, self._price_ranges(hits))

    def suggest(self, prefix: str, limit: int) -> list[Suggestion]:
        """Completions: at most a third brands, a third categories, then products. Typos count
        only where nothing fits without."""
        words = read_words(prefix)
        if not words or limit <= 0:
            return []
        share = max(1, limit // 3)
        found: list[Suggestion] = []
        for forgiving in (False, True):
            if not found:
                found += self._entries("brand", words, forgiving)[:share]
                found += self._entries("category", words, forgiving)[:share]
        found = found[:limit]
        levels = [level for level in self._levels(prefix) if level.family not in _PARTIAL]
        for pid, _, address in self._ranked(levels, [], limit - len(found), 0):
            for title in self._searcher.doc(address).get_all("title"):
                found.append(Suggestion("product", title, pid))
        return found

    def _levels(self, text: str) -> list[_Level]:
        """Best first; the hits are their union.

        Which levels there are depends on the text alone and not on filters, so that a facet's
        count is what the filter on it finds. Remembered, because a page asks twice.
        """
        text = text[:TEXT_MOST]
        if (levels := self._known.get(text)) is None:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            levels = self._known[text] = self._make_levels(text)
        return levels

    def _make_levels(self, text: str) -> list[_Level]:
        """Typos and partial matches are looked for only while hits are few."""
        words = read_words(text)
        if not words:
            return []
        levels = self._whole_levels(text, words)
        named = _all(self._exact(["name"], word) for word in words)
        every = _all(self._exact(_EVERY, word) for word in words)
        levels += [_Level(60, "words", named), _Level(50, "words", every)]
        for score, family, fields in ((48, "begun", ["name"]), (45, "words", _EVERY)):
            begun = [*(self._exact(fields, word) for word in words[:-1])]
            begun.append(self._begins(fields, words[-1]))
            levels.append(_Level(score, family, _all(begun)))
        for enough, level in self._loose_levels(words):
            if self._count(_any(_widest(levels))) >= enough:
                break
            levels.append(level)
        return levels

    def _whole_levels(self, text: str, words: list[Word]) -> list[_Level]:
        levels = []
        digits = re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", text[:TEXT_MOST]))
        if re.fullmatch("[0-9]{8}|[0-9]{12,14}", digits):
            levels.append(_Level(100, "gtin", self._term("gtin", digits.zfill(14))))
        tokens = [token for word in words for token in word.tokens]
        levels.append(_Level(90, "words", self._phrase("name", ["^", *tokens, "$"])))
        levels.append(_Level(80, "words", self._phrase("name", ["^", *tokens])))
        if len(tokens) > 1:
            levels.append(_Level(70, "words", self._phrase("name", tokens)))
        return levels

    def _loose_levels(self, words: list[Word]) -> Iterator[tuple[int, _Level]]:
        """With the number of hits from which on a level is not needed."""
        for score, most in ((40, 1), (35, 2)):
            if most == 1 or any(word.typos == most for word in words):
                loose = [self._typos(words, at, most) for at in range(len(words))]
                yield _ENOUGH, _Level(score, "typos", _all(loose))
        telling = [at for at, word in enumerate(words) if word.tells]
        fewer = range(min(len(telling), len(words) - 1), 0, -1)
        # A word that nothing here has is misspelt: "kleenx tissue" finds what "kleenex tissue" does.
        exact = [self._known_or_alike(words, at) for at in telling]
        for least in fewer:
            yield _ENOUGH, _Level(30 * least / len(words), "some", _any(exact, least))
        loose = [self._typos(words, at, 2) for at in telling]
        for least in fewer:
            yield 1, _Level(2 * least / len(words), "some typos", _any(loose, least))

    def _known_or_alike(self, words: list[Word], at: int) -> Query:
        exact = self._exact(_EVERY, words[at])
        return exact if self._count(exact) else self._typos(words, at, 2)

    def _term(self, field: str, value: str | int) -> Query:
        return Query.term_query(self._schema, field, value)

    def _exact(self, fields: Sequence[str], word: Word) -> Query:
        if len(word.tokens) == 1:
            return _any(self._term(field, word.text) for field in fields)
        return _any(self._phrase(field, word.tokens) for field in fields)

    def _phrase(self, field: str, tokens: Sequence[str]) -> Query:
        return Query.phrase_query(self._schema, field, list[str | tuple[int, str]](tokens))

    def _begins(self, fields: Sequence[str], word: Word) -> Query:
        if len(word.tokens) > 1 or len(word.text) > LETTERS_MOST:
            return self._exact(fields, word)
        return _any(
            Query.fuzzy_term_query(self._schema, field, word.text, 0, prefix=True)
            for field in fields
        )

    def _typos(self, words: list[Word], at: int, most: int) -> Query:
        """The word with up to `most` edits, written together or apart, or the last one begun."""
        word, last = words[at], at == len(words) - 1
        ways = [self._begins(_EVERY, word) if last else self._exact(_EVERY, word)]
        if edits := min(word.typos, most):
            begun = last and len(word.text) > 4
            ways += [
                Query.fuzzy_term_query(self._schema, field, word.text, edits, prefix=begun)
                for field in _EVERY
            ]
        if len(word.tokens) > 1:
            ways.append(_all(self._term("name", token) for token in word.tokens))
        elif 4 <= len(word.text) <= LETTERS_MOST:
            halves = ((word.text[:cut], word.text[cut:]) for cut in range(2, len(word.text) - 1))
            ways += [self._phrase("name", pair) for pair in halves]
        for left, right in itertools.pairwise(words[max(0, at - 1) : at + 2]):
            ways.append(self._term("name", left.text + right.text))
        return _any(ways)

    def _narrow(self, filters: Filters) -> list[Query]:
        terms = {
            "category_slug": filters.category,
            "brand_slug": filters.brand,
            "retailer": filters.retailer,
            "availability": filters.availability,
            "currency": filters.currency,
        }
        narrow = [self._term(field, slug) for field, slug in terms.items() if slug is not None]
        if filters.on_deal is not None:
            narrow.append(self._on_deal if filters.on_deal else _but(self._on_deal))
        if filters.min_price is not None or filters.max_price is not None:
            low = _units(filters.min_price or Decimal(0), ROUND_CEILING)
            most = Decimal("Infinity") if filters.max_price is None else filters.max_price
            high = _units(most, ROUND_FLOOR)
            narrow.append(
                Query.range_query(self._schema, "price", FieldType.Integer, low, high)
                if low <= high
                else Query.empty_query()
            )
        return narrow

    def _count(self, query: Query) -> int:
        return int(self._searcher.search(query, limit=1).count)  # type: ignore[attr-defined]

    def _ranked(
        self, levels: Sequence[_Level], narrow: list[Query], limit: int, offset: int
    ) -> list[tuple[str, float, DocAddress]]:
        """(product_id, score, where): hits of each level that are in none before it, by `rank`."""
        hits: list[tuple[float, DocAddress]] = []
        for at, level in enumerate(levels):
            if len(hits) >= limit:
                break
            query = Query.boolean_query(
                [(Occur.Must, part) for part in (level.query, *narrow)]
                + [(Occur.MustNot, part) for part in _widest(levels[:at])]
            )
            found = self._searcher.search(
                query, limit=limit - len(hits), offset=offset, order_by_field="rank"
            )
            hits += [(level.score, address) for _, address in found.hits]
            offset = max(0, offset - found.count)  # type: ignore[attr-defined]
        pids = self._searcher.fast_field_values("pid", [address for _, address in hits])
        return [(f"{pid:016x}", *hit) for pid, hit in zip(pids, hits, strict=True)]

    def _terms(self, query: Query, field: str, size: int) -> list[tuple[str, int]]:
        terms = {"field": field, "size": size, "segment_size": _ALL_TERMS}
        answer = self._searcher.aggregate(query, {"found": {"terms": terms}})
        return [(bucket["key"], bucket["doc_count"]) for bucket in answer["found"]["buckets"]]

    def _top_terms(self, query: Query, field: str, top: int) -> list[tuple[str, int]]:
        """tantivy cuts anywhere among equal counts: ask until the cut is below the last shown."""
        size = top + _FACET_SLACK
        while True:
            found = self._terms(query, field, size)
            if len(found) < size or found[-1][1] < found[top - 1][1]:
                return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:top]
            size *= 4

    def _price_ranges(self, query: Query) -> list[PriceRange]:
        steps = [{"from": low, "to": high} for low, high in itertools.pairwise(_PRICE_STEPS)]
        prices = {"range": {"field": "price", "ranges": steps}}
        currencies = {"terms": {"field": "currency", "size": 1000}, "aggs": {"prices": prices}}
        answer = self._searcher.aggregate(query, {"currencies": currencies})
        ranges = []
        for currency in sorted(answer["currencies"]["buckets"], key=lambda found: found["key"]):
            for bucket in currency["prices"]["buckets"]:
                if bucket["doc_count"]:
                    low, high = (Decimal(int(bucket[end])).scaleb(-4) for end in ("from", "to"))
                    ranges.append(PriceRange(currency["key"], low, high, bucket["doc_count"]))
        return ranges

    def _entries(
        self, kind: Literal["brand", "category"], words: list[Word], forgiving: bool
    ) -> list[Suggestion]:
        """Brands or categories with all the words in their names, most products first."""
        *typed, last = words
        fits = [self._exact([kind], word) for word in typed] + [self._begins([kind], last)]
        if forgiving:
            fits = [
                Query.fuzzy_term_query(
                    self._schema, kind, word.text, word.typos, prefix=word is last
                )
                if len(word.text) > 4 and word.typos
                else fit
                for word, fit in zip(words, fits, strict=True)
            ]
        slugs: dict[str, str] = {}
        for entry, _ in self._top_terms(_all(fits), f"{kind}_entry", 100):
            slug, _, name = entry.partition(SEPARATOR)
            if slug not in slugs and _resembles(words, name, forgiving):
                slugs[slug] = name
        return [Suggestion(kind, name, slug) for slug, name in slugs.items()]


@lru_cache(maxsize=16_384)
def _last_name(path: str) -> tuple[Word, ...]:
    return tuple(read_words(path.rpartition(" > ")[2]))


def _resembles(words: list[Word], path: str, forgiving: bool) -> bool:
    """A product's categories come with those above, and not all of them have the words."""

    def like(word: str, other: str) -> bool:
        if word in (other if len(word) > 1 else other[:1]):
            return True
        likeness = SequenceMatcher(None, word, other[: len(word) + 1]).ratio()
        return forgiving and likeness > 0.7  # samsng : samsung 0.77

    names = _last_name(path)
    return all(any(like(word.text, other.text) for other in names) for word in words)


def _units(price: Decimal, rounding: str) -> int:
    units = price.scaleb(4).to_integral_value(rounding)
    return int(max(Decimal(-_UNITS_MOST), min(Decimal(_UNITS_MOST), units)))
