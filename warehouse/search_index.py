"""What the search index holds, how text becomes its words, and how its folder is written."""

import itertools
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import polars as pl
from tantivy import (
    Filter,
    Index,
    Query,
    Schema,
    SchemaBuilder,
    TextAnalyzer,
    TextAnalyzerBuilder,
    Tokenizer,
)

# Scripts written without spaces: one token a character, and a run of them is searched as a phrase,
# so that 牛奶 is found inside 維他低脂牛奶. Hangul too, for compounds (서울우유).
_UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
)
# Letters and digits part ways, so that 500ml, 500 mL and S26, S-26 are the same words.
_TOKEN = rf"[{_UNSPACED}]|\p{{N}}+(?:\.\p{{N}}+)?|[\p{{L}}\p{{M}}--[{_UNSPACED}]]+"
_MARKS = "[\u0300-\u036f]"  # what is left of é after NFKD; other scripts' vowel signs stay
_APOSTROPHES = "['’‘`´]"  # Arnott's = Arnotts

TEXT_MOST = 300  # characters of a query that are read
LETTERS_MOST = 40  # of a word that may have typos; longer ones are only matched exactly
_WORDS_MOST = 12
SEPARATOR = "\x1f"  # between slug and name in brand_entry and category_entry


class SearchIndexError(Exception):
    """No readable search index in the folder, or a frame that none can be made of."""


@dataclass(frozen=True)
class Word:
    """Letters, a number, or a run of characters of an unspaced script (then several `tokens`)."""

    tokens: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def tells(self) -> bool:
        """Whether finding this word alone says anything: 500, ml and x do not."""
        return not self.text.isascii() or (len(self.text) > 2 and self.text.isalpha())

    @property
    def typos(self) -> int:
        """Edits allowed: numbers and short words none, 500 is not 600."""
        length = len(self.text)
        if len(self.tokens) > 1 or not 4 <= length <= LETTERS_MOST or not self.text.isalpha():
            return 0
        return 1 if length < 8 else 2


@cache
def _query_analyzer() -> TextAnalyzer:
    tokens = TextAnalyzerBuilder(Tokenizer.regex(_TOKEN))
    return tokens.filter(Filter.lowercase()).filter(Filter.ascii_fold()).build()


def _register_analyzers(index: Index) -> Index:
    """Documents come with blanks between their tokens: Polars splits text on all cores, the
    writer has one thread."""
    words = TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.lowercase())
    index.register_tokenizer("words", words.filter(Filter.ascii_fold()).build())
    nothing = TextAnalyzerBuilder(Tokenizer.raw()).filter(Filter.remove_long(1))
    index.register_tokenizer("nothing", nothing.build())
    return index


def _schema() -> Schema:
    """`rank` orders the hits of a level (offers, then the id's first 13 digits), `pid` is the
    product_id as a number: both are columns, so that a page fetches no documents. `title` is
    only stored."""
    schema = SchemaBuilder()
    schema.add_unsigned_field("pid", indexed=True, fast=True)
    schema.add_unsigned_field("rank", fast=True)
    schema.add_integer_field("price", fast=True)
    for field in ("name", "brand", "category"):
        schema.add_text_field(field, tokenizer_name="words")
    for field in ("gtin", "availability"):
        schema.add_text_field(field, tokenizer_name="raw", index_option="basic")
    counted = ("category_slug", "brand_slug", "retailer", "currency")
    for field in (*counted, "brand_entry", "category_entry"):
        schema.add_text_field(field, tokenizer_name="raw", index_option="basic", fast=True)
    schema.add_text_field("title", tokenizer_name="nothing", index_option="basic", stored=True)
    return schema.build()


def _fresh(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        raise SearchIndexError(f"{folder} is not empty: an index is written into a fresh folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_index(folder: Path) -> Index:
    if not (folder / "meta.json").is_file():
        raise SearchIndexError(f"no search index in {folder}: write_index makes one")
    try:
        return _register_analyzers(Index.open(str(folder)))
    except (ValueError, OSError) as error:
        raise SearchIndexError(f"the search index in {folder} is damaged: {error}") from error


def write_index(folder: Path, products: pl.DataFrame) -> None:
    """A new index in `folder`, which must be empty or absent; whole only when this returns.

    `products`, a row a product: product_id (16 hex digits), title, brand, gtin, gtins,
    category (path with ` > `), category_slugs (of the category and all above it), brand_slug,
    retailers, availability (lists), currency, price (decimal), offers (count). Text may be null.
    """
    index = Index(_schema(), str(_fresh(folder)), reuse=False)
    documents = _documents(products)
    _change(_register_analyzers(index), documents, documents["pid"].clear())


def update_index(old: Path, folder: Path, changed: pl.DataFrame, removed: Sequence[str]) -> None:
    """The index of `old` with rows put in or replaced and products removed, in a new `folder`.

    Costs what changed: tantivy never writes into a segment's files again, so they are hard-linked.
    `old` stays as it is, for those who read it too.
    """
    open_index(old)
    _fresh(folder)
    for file in old.iterdir():
        if file.name in {"meta.json", ".managed.json"}:
            shutil.copyfile(file, folder / file.name)
        elif not file.name.startswith("."):  # lock files must not be shared
            try:
                os.link(file, folder / file.name)
            except OSError:  # a file system without hard links
                shutil.copyfile(file, folder / file.name)
    documents = _documents(changed)
    gone = pl.Series([_pid(product_id) for product_id in removed], dtype=pl.UInt64)
    _change(open_index(folder), documents, pl.concat([documents["pid"], gone]))


def _change(index: Index, documents: pl.DataFrame, gone: pl.Series) -> None:
    # One thread and a heap that holds everything make one segment.
    writer = index.writer(min(max(20_000_000, documents.height * 1_500), 400_000_000), 1)
    try:
        if not gone.is_empty():  # delete_documents_by_term finds no unsigned values (0.27)
            writer.delete_documents_by_query(
                Query.term_set_query(index.schema, "pid", gone.to_list())
            )
        # Not splitlines: JSON text may hold U+2028, which is a line's end to it.
        for document in filter(None, documents.write_ndjson().split("\n")):
            writer.add_json(document)
        writer.commit()
    finally:
        writer.wait_merging_threads()


def _pid(product_id: str) -> int:
    if not re.fullmatch("[0-9a-f]{16}", product_id):
        raise SearchIndexError(f"product_id {product_id!r} is not 16 lower-case hex digits")
    return int(product_id, 16)


def _tokens(column: str) -> pl.Expr:
    plain = pl.col(column).str.normalize("NFKD").str.replace_all(_MARKS, "").str.normalize("NFKC")
    return plain.str.replace_all(_APOSTROPHES, "").str.extract_all(_TOKEN).list.join(" ")


def _values(value: str | pl.Expr) -> pl.Expr:
    return pl.concat_list(value).list.drop_nulls()


def _documents(products: pl.DataFrame) -> pl.DataFrame:
    """One row a document, every field a number or a list of values."""
    if products["product_id"].is_duplicated().any():
        raise SearchIndexError("the products frame has a product_id twice: one row a product")
    regular = pl.col("product_id").str.contains("^[0-9a-f]{16}$").fill_null(value=False)
    for product_id in products.filter(~regular)["product_id"].head(1):
        _pid(str(product_id))
    most_offers = pl.col("offers").clip(0, 4095).cast(pl.UInt64) * 2**52
    id_start = pl.col("product_id").str.slice(0, 13).str.to_integer(base=16, dtype=pl.Int64)
    units = pl.col("price").cast(pl.Decimal(18, 4)).to_physical().cast(pl.Int64)
    gtins = pl.concat_list(pl.col("gtins").fill_null([]), "gtin").list.drop_nulls().list.unique()
    bounded = [pl.format("^ {} $", pl.col(f"{field}_tokens")) for field in ("title", "brand")]
    entry = pl.concat_str("brand_slug", "brand", separator=SEPARATOR)
    frame = products.with_columns(
        title_tokens=_tokens("title"),
        brand_tokens=_tokens("brand"),
        entries=_category_entries(products),
    )
    return frame.select(
        pid=pl.col("product_id").str.to_integer(base=16, dtype=pl.UInt64),
        rank=most_offers + (2**52 - 1 - id_start).cast(pl.UInt64),
        price=_values(units),
        # The ends are words too: a phrase with both is the whole text.
        name=pl.concat_list(bounded).list.drop_nulls(),
        brand=_values("brand_tokens"),
        category=_values(_tokens("category")),
        gtin=gtins.list.eval(pl.element().str.zfill(14)),
        availability=pl.col("availability").fill_null([]).list.unique(),
        category_slug=pl.col("category_slugs").fill_null([]).list.unique(),
        brand_slug=_values("brand_slug"),
        retailer=pl.col("retailers").fill_null([]).list.unique(),
        currency=_values("currency"),
        brand_entry=_values(entry),
        category_entry="entries",
        title=_values("title"),
    )


def _category_entries(products: pl.DataFrame) -> pl.Series:
    """For each product, slug and path of its category and of those above it."""
    key = ["category", "category_slugs"]
    paths = products.select(key).unique().drop_nulls()
    entries = []
    for path, unordered in paths.iter_rows():
        names, slugs = path.split(" > "), sorted(unordered, key=len)
        if not all(below.startswith(above) for above, below in itertools.pairwise(slugs)):
            slugs = unordered  # slugs that do not nest: taken to stand from the root down
        upto = itertools.accumulate(names, lambda above, below: f"{above} > {below}")
        entries.append([SEPARATOR.join(pair) for pair in zip(slugs, upto, strict=False)])
    paths = paths.with_columns(entries=pl.Series(entries, dtype=pl.List(pl.String)))
    joined = products.select(key).join(paths, on=key, how="left", maintain_order="left")
    return joined["entries"].fill_null([])


def read_words(text: str) -> list[Word]:
    text = text[:TEXT_MOST].encode("utf-8", "replace").decode()
    plain = re.sub(_MARKS, "", unicodedata.normalize("NFKD", text))
    plain = re.sub(_APOSTROPHES, "", unicodedata.normalize("NFKC", plain))
    words: list[Word] = []
    end = -1
    for token in _query_analyzer().pre_tokenize(plain).tokens:
        unspaced = _is_unspaced(token.text)
        if unspaced and token.char_offset_from == end:
            words[-1] = Word((*words[-1].tokens, token.text))
        else:
            words.append(Word((token.text,)))
        end = token.char_offset_to if unspaced else -1
    return words[:_WORDS_MOST]


@lru_cache(maxsize=8192)
def _is_unspaced(token: str) -> bool:
    one = TextAnalyzerBuilder(Tokenizer.regex(f"[{_UNSPACED}]")).build()
    return len(token) == 1 and bool(one.analyze(token))
