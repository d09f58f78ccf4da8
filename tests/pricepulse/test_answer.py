"""Answers that are kept: the same to the byte, of one version, within their bounds."""

from __future__ import annotations

import pytest

from pricepulse.answer import ENTRY_BYTES, LARGEST, Answer, Answers
from tests.served import Served

A = ("/a", b"")


def body(size: int) -> Answer:
    return Answer(200, [], b"x" * size)


def test_the_ones_asked_for_last_are_kept() -> None:
    answers = Answers(most=40 * (ENTRY_BYTES + 4))
    asked = [("/p", b"%02d" % number) for number in range(41)]
    assert answers.find("1-1", asked[0]) is None
    for address in asked[:40]:
        answers.keep("1-1", address, body(0))
    assert answers.find("1-1", asked[0]) is not None
    answers.keep("1-1", asked[40], body(0))
    kept = [number for number in range(41) if answers.find("1-1", asked[number])]
    assert kept == [0, *range(2, 41)]
    assert answers.size == 40 * (ENTRY_BYTES + 4)


def test_a_large_answer_does_not_drive_out_the_others() -> None:
    answers = Answers(most=100_000)
    answers.find("1-1", A)
    answers.keep("1-1", A, body(int(100_000 * LARGEST)))
    assert answers.find("1-1", A) is None
    assert answers.size == 0


def test_no_memory_keeps_nothing() -> None:
    answers = Answers(most=0)
    answers.find("1-1", A)
    answers.keep("1-1", A, body(0))
    assert answers.find("1-1", A) is None


def test_another_version_has_answers_of_its_own() -> None:
    answers = Answers(most=1_000_000)
    answers.find("1-1", A)
    answers.keep("1-1", A, body(1))
    assert answers.find("2-1", A) is None
    answers.keep("1-1", A, body(1))  # a request that began before the new build
    assert answers.find("2-1", A) is None
    assert answers.size == 0


def test_a_kept_answer_is_the_same(served: Served) -> None:
    """And passes the same checks: headers of its own, 304, 406, compression, HEAD."""
    product = served.get("/products")["items"][0]["product_id"]
    for path in (f"/products/{product}", f"/products/{product}/history?resolution=week"):
        address = f"/api/v1{path}"
        client = served.client
        first, again = (client.get(address, headers={"accept-encoding": "identity"}) for _ in "12")
        assert again.content == first.content
        own = {"x-request-id", "ratelimit", "date"}
        assert {k: v for k, v in again.headers.items() if k not in own} == {
            k: v for k, v in first.headers.items() if k not in own
        }
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert client.get(address, headers={"accept": "text/html"}).status_code == 406
        tag = {"if-none-match": again.headers["etag"]}
        assert client.get(address, headers=tag).status_code == 304
        packed = client.get(address, headers={"accept-encoding": "gzip"})
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", first.content)
        head = client.head(address, headers={"accept-encoding": "identity"})
        assert head.headers["content-length"] == str(len(first.content))
        assert client.get(f"{address}{'&' if '?' in address else '?'}nope=1").status_code == 400


def test_a_question_mark_in_a_path_is_no_query(served: Served) -> None:
    product = served.get("/products")["items"][0]["product_id"]
    asked = f"/api/v1/products/{product}/history"
    assert served.client.get(f"{asked}?from=2020-01-01").status_code == 200
    assert served.client.get(f"{asked}%3Ffrom=2020-01-01").status_code == 404


@pytest.mark.parametrize(
    "address",
    [
        "/products?sort=title%0A",
        "/products?availability=InStock%0A",
        "/products?currency=EUR%0A&sort=price",
        "/products?min_price=1%0A",
        "/products/{}/history?resolution=day%0A",
    ],
)
def test_a_line_break_is_no_part_of_a_word(served: Served, address: str) -> None:
    product = served.get("/products")["items"][0]["product_id"]
    assert served.client.get(f"/api/v1{address.format(product)}").status_code == 400
