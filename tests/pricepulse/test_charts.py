"""Charts over HTTP: what is drawn, compared with hand-made spells, and that nothing breaks them."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient

from pricepulse import chart_png
from pricepulse.app import create_app
from pricepulse.settings import Settings
from tests.drawn import SVG, Drawn, Point, png_size
from tests.pipeline import Pipeline
from tests.served import Row, Served, problem

DAY = 86_400
AS_OF = datetime(2026, 3, 21, tzinfo=UTC)
END = int(AS_OF.timestamp())


def seen(shop: str, days_ago: float, price: str, key: str = "HAND", **about: Any) -> Row:
    time = (AS_OF - timedelta(days=days_ago)).replace(tzinfo=None)
    row = {"retailer": shop, "sku": key, "observed_at": time, "price": price}
    return row | {"currency": "EUR", "product_key": key} | about


OUT = {"availability": "OutOfStock"}
HAND: list[Row] = [
    # Bought at alpha for 20, then 24; nobody looks for 12 days, ten of which 24 is known.
    seen("alpha", 29, "20", title="Zebra Kettle", list_price="30"),
    seen("alpha", 26, "24", list_price="30"),
    seen("alpha", 14, "26"),
    seen("alpha", 10, "26"),
    seen("alpha", 3, "25"),
    seen("alpha", 0.5, "25"),
    # bravo is cheaper once, for two days, and cheapest when it has none.
    seen("bravo", 12, "28"),
    seen("bravo", 9, "18"),
    seen("bravo", 7, "27"),
    seen("bravo", 4, "15", **OUT),
    seen("bravo", 0, "15", **OUT),
]
OTHERS: list[Row] = [
    seen("alpha", 0, "12.5", "ONCE", title="Seen at the last moment"),
    seen("alpha", 200, "9.99", "OLD", title="Long gone"),
    seen("alpha", 20, "7", "GONE", **OUT),
    seen("bravo", 1, "8", "GONE", **OUT),
    *(seen("alpha", days, "3.33", "SAME") for days in range(0, 900, 9)),
    seen("alpha", 1, "10", "MONEY"),
    seen("bravo", 1, "11", "MONEY"),
    seen("charlie", 1, "12", "MONEY", currency="USD"),
    seen("delta", 1, "13", "MONEY", currency="USD"),
    seen("echo", 1, "14", "MONEY", currency="CHF"),
    seen("foxtrot", 1, "5", "MONEY", condition="used"),
    seen("alpha", 20, "2", "EVIL", title="<script>alert(1)</script>\"'&amp;]]><!--"),
    seen("alpha", 1, "3", "EVIL"),
    *(seen(f"shop-{n}", 1, f"{20 + n}", "CROWD") for n in range(9)),
    seen("alpha", 1, "20", "FAR", list_price="99"),
]

Ask = Callable[..., Drawn]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    pipeline = Pipeline(tmp_path_factory.mktemp("charts"))
    pipeline.put([*HAND, *OTHERS])
    pipeline.build()
    pipeline.lake.close()
    with TestClient(create_app(Settings.from_env({}, data=pipeline.folder))) as client:
        yield client


def address(client: TestClient[Any], key: str = "HAND", kind: str = "svg") -> str:
    found = client.get("/api/v1/products/lookup", params={"product_key": key})
    return f"/api/v1/products/{found.json()['product_id']}/chart.{kind}"


@pytest.fixture
def ask(client: TestClient[Any]) -> Ask:
    def asked(key: str = "HAND", **query: Any) -> Drawn:
        answer = client.get(address(client, key), params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/svg+xml"
        return Drawn.read(answer.content)

    return asked


def assert_same(
    drawn: Drawn, lines: list[list[Point]], expected: list[Any], days: int = 30
) -> None:
    """Corners as (days ago, price), each no further than a tenth of a pixel from its place: twice
    that, since the axes that they are measured by are rounded as well."""
    left, right, _ = drawn.axis
    (low_y, low), *_, (high_y, high) = drawn.prices()
    pixel = (days * DAY / (right - left), abs((high - low) / (high_y - low_y)))
    found = [drawn.in_words(line, END - days * DAY, END) for line in lines]
    assert [len(line) for line in found] == [len(line) for line in expected], found
    for line, wanted in zip(found, expected, strict=True):
        for (seconds, price), (ago, known) in zip(line, wanted, strict=True):
            assert abs(seconds - (END - ago * DAY)) <= 0.2 * pixel[0], (line, wanted)
            assert abs(price - known) <= 0.2 * pixel[1], (line, wanted)


BEST = [
    [(29, 20), (26, 20), (26, 24), (16, 24)],
    [(14, 26), (9, 26), (9, 18), (7, 18), (7, 26), (3, 26), (3, 25), (0, 25)],
]


def test_steps_are_steps_and_gaps_are_gaps(ask: Ask) -> None:
    drawn = ask(range="30d")
    assert_same(drawn, drawn.lines("best"), BEST)
    alpha = [BEST[0], [(14, 26), (3, 26), (3, 25), (0, 25)]]
    assert_same(drawn, drawn.lines("shop0", "thin")[:2], alpha)
    bravo = [[(12, 28), (9, 28), (9, 18), (7, 18), (7, 27), (4, 27)]]
    assert_same(drawn, drawn.lines("shop1", "thin")[:1], bravo)
    assert_same(drawn, drawn.lines("shop1", "out")[:1], [[(4, 27), (4, 15), (0, 15)]])
    assert_same(drawn, drawn.lines("list")[:1], [[(29, 30), (16, 30)]])


def test_a_window_cuts_what_reaches_into_it(ask: Ask) -> None:
    for period, days in (("90d", 90), ("365d", 365)):
        drawn = ask(range=period, width=2000, height=400)
        assert_same(drawn, drawn.lines("best"), BEST, days)
    drawn = ask("SAME", range="30d")
    assert_same(drawn, drawn.lines("best"), [[(30, 3.33), (0, 3.33)]])
    drawn = ask("SAME", range="all")
    assert_same(drawn, drawn.lines("best"), [[(891, 3.33), (0, 3.33)]], 891)


def test_the_marks_and_words_say_what_is_drawn(ask: Ask) -> None:
    drawn = ask(range="30d")
    low, now = drawn.root.iter(f"{SVG}circle")
    places = [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in (low, now)]
    assert_same(drawn, [places], [[(9, 18), (0, 25)]])
    assert (low.get("class"), now.get("class")) == ("low thin", "now thin")
    texts = drawn.texts()
    assert texts[:2] == ["€25.00 at alpha · lowest €18.00 on 12 Mar 2026", "Zebra Kettle"]
    assert "€18.00" in texts
    assert texts[-1] == "thick: lowest price in stock · dotted: out of stock"
    assert drawn.root.findtext(f"{SVG}title") == "Price history of Zebra Kettle"
    assert drawn.said == (
        "Prices in EUR from 19 Feb 2026 to 21 Mar 2026. Now: €25.00 at alpha · lowest €18.00 on "
        "12 Mar 2026. The lowest price in stock moved between €18.00 and €26.00. alpha: €25.00. "
        "bravo: €15.00, out of stock."
    )
    assert drawn.root.get("role") == "img"
    named = (drawn.root.get("aria-labelledby") or "").split()
    assert named == [drawn.root[0].get("id"), drawn.root[1].get("id")]


def test_other_currencies_and_used_things_are_left_out_and_named(ask: Ask) -> None:
    drawn = ask("MONEY")
    told = "not shown: 1 offer in CHF, 2 offers in USD, 1 used offer"
    assert drawn.texts()[-1] == f"thick: lowest price in stock · {told}"
    assert told.replace("not", "Not") in drawn.said
    assert drawn.texts()[0].startswith("€10.00 at alpha")
    assert len(drawn.lines("shop0", "thin")) == 2  # the line, and the way to its name
    assert drawn.lines("shop2") == []


def test_more_shops_than_find_room(ask: Ask) -> None:
    drawn = ask("CROWD", height=400)
    assert "not shown: 3 more offers" in drawn.texts()[-1]
    assert [text for text in drawn.texts() if text.startswith("shop-")] == [
        f"shop-{n}" for n in (5, 4, 3, 2, 1, 0)
    ]


@pytest.mark.parametrize(
    ("key", "heading", "message"),
    [
        ("ONCE", "€12.50 at alpha · no other price in 365 days", False),
        ("OLD", "No current price · last €9.99 at alpha, known until 12 Sep 2025", False),
        ("GONE", "Out of stock", False),
        ("SAME", "€3.33 at alpha · no other price in 365 days", False),
    ],
)
def test_products_of_which_there_is_little_to_draw(
    ask: Ask, key: str, heading: str, message: bool
) -> None:
    drawn = ask(key)
    assert drawn.texts()[0] == heading
    assert ("No price known in this period" in drawn.texts()) is message


def test_nothing_known_in_the_window(ask: Ask) -> None:
    drawn = ask("OLD", range="90d")
    assert drawn.texts()[0] == "No current price · last €9.99 at alpha, known until 12 Sep 2025"
    assert "No price known in this period" in drawn.texts()
    assert "No price is known in this period." in drawn.said
    assert drawn.lines("best") == []
    assert len(drawn.lines("axis")) > 2


def test_seen_at_a_single_instant(ask: Ask) -> None:
    """Its history is a moment long: `all` is a day all the same, and the price is a dot."""
    drawn = ask("ONCE", range="all")
    (dot,) = drawn.lines("best", "dot")
    right = drawn.axis[1]
    assert [x for x, _ in dot] == [right, right]


def test_a_list_price_far_away_does_not_flatten_the_rest(ask: Ask) -> None:
    assert ask("FAR").lines("list") == []


def test_titles_are_text_and_nothing_else(ask: Ask, client: TestClient[Any]) -> None:
    title = "<script>alert(1)</script>\"'&amp;]]><!--"
    drawn = ask("EVIL")
    assert drawn.root.findtext(f"{SVG}title") == f"Price history of {title}"
    assert title in drawn.texts()
    kinds = {each.tag.removeprefix(SVG) for each in drawn.root.iter()}
    assert kinds <= {"svg", "title", "desc", "style", "rect", "path", "circle", "text", "tspan"}
    names = {name for each in drawn.root.iter() for name in each.attrib}
    assert not [name for name in names if name.startswith("on") or "href" in name]
    raw = client.get(address(client, "EVIL")).text
    assert "url(" not in raw
    assert raw.count("http") == 1  # the namespace


def test_themes(client: TestClient[Any]) -> None:
    def svg(theme: str) -> str:
        return client.get(address(client), params={"theme": theme}).text

    light, dark, auto = svg("light"), svg("dark"), svg("auto")
    assert "prefers-color-scheme" not in light + dark
    assert auto == client.get(address(client)).text
    assert "@media(prefers-color-scheme:dark){.price-auto text{fill:#f1f3f5}" in auto
    assert ".price-light .back{fill:#ffffff}" in light
    assert ".price-dark .back{fill:#14181d}" in dark


@pytest.mark.parametrize(("width", "height"), [(200, 100), (600, 240), (2000, 1200), (333, 777)])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_png(client: TestClient[Any], width: int, height: int, theme: str) -> None:
    query: dict[str, Any] = {"width": width, "height": height, "theme": theme}
    answer = client.get(address(client, kind="png"), params=query)
    assert answer.headers["content-type"] == "image/png"
    assert png_size(answer.content) == (width, height)


def test_png_has_text_without_any_font_of_the_system() -> None:
    def png(text: str) -> bytes:
        head = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30" font-family="sans-serif">'
        return chart_png.draw(f'{head}<text x="1" y="20">{text}</text></svg>')

    assert len({png(text) for text in ("", "1", "2", "ä", "Ж", "Ω", "ế", "€", "₹", "₩")}) == 10
    assert png("<tspan font-weight='600'>1</tspan>") != png("1")


def test_png_is_light_unless_dark_is_asked_for(client: TestClient[Any]) -> None:
    where = address(client, kind="png")
    auto, light, dark = (
        client.get(where, params={"theme": theme}).content for theme in ("auto", "light", "dark")
    )
    assert auto == light != dark


def test_what_resvg_cannot_draw_says_why(
    client: TestClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="does not have a root node"):
        chart_png.draw("<svg")
    monkeypatch.setattr(chart_png, "SECONDS", 0)
    told = problem(client.get(address(client, kind="png"), params={"width": 640}), 503)
    assert "chart.svg" in told["detail"]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_an_embedded_picture_may_be_shown_elsewhere_also_once_confirmed(
    client: TestClient[Any], kind: str
) -> None:
    where = address(client, kind=kind)
    first = client.get(where)
    again = client.get(where, headers={"if-none-match": first.headers["etag"]})
    head = client.head(where)
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, head.content) == (200, b"")
    for answer in (first, again, head, client.get(where)):
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
        assert answer.headers["etag"] == first.headers["etag"]
        assert "max-age" in answer.headers["cache-control"]
    assert client.get(where).content == first.content


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_what_is_refused(client: TestClient[Any], kind: str) -> None:
    where = address(client, kind=kind)
    for query, field in {
        "width=199": "width",
        "width=2001": "width",
        "width=600.5": "width",
        "width=NaN": "width",
        "width=-600": "width",
        "width=99999999999999999999999": "width",
        "height=99": "height",
        "height=1201": "height",
        "height=": "height",
        "range=1d": "range",
        "range=365D": "range",
        "range=": "range",
        "theme=pink": "theme",
        "currency=EUR": "currency",
        "width=300&width=300": "width",
    }.items():
        told = problem(client.get(f"{where}?{query}"), 400)
        assert [each["pointer"] for each in told["errors"]] == [f"/query/{field}"], query
    for name in ("0", "9" * 30, "-1", "x", "1.5", "%00"):
        problem(client.get(f"/api/v1/products/{name}/chart.{kind}"), 404)
    problem(client.get(where.replace(kind, "gif")), 404)
    problem(client.post(where), 405)
    problem(client.get(where, headers={"accept": "application/json"}), 406)
    assert client.get(where, headers={"accept": "image/*"}).status_code == 200


@pytest.mark.parametrize("size", [(600, 240), (200, 100), (250, 1200), (2000, 100)])
def test_every_product_of_the_market_in_every_range(served: Served, size: tuple[int, int]) -> None:
    """Also the shelf's: prices from 0.0001 to 999999999999.9999, nowhere in stock, in dollars, without
    a title. Nothing stands outside the picture, no number is none."""
    width, height = size
    for product in served.walk("/products", limit=200):
        where = f"/api/v1/products/{product['product_id']}/chart.svg"
        for period in ("30d", "all"):
            query = {"range": period, "width": width, "height": height}
            answer = served.client.get(where, params=query)
            assert answer.status_code == 200, answer.text
            assert len(answer.content) < 60_000
            drawn = Drawn.read(answer.content)
            assert not re.search(r' (d|x|y|cx|cy)="[^"]*\.\d\d', answer.text)
            assert "nan" not in answer.text.replace(product["title"] or "", "").lower()
            for line in [*drawn.lines(), *drawn.lines("out"), *drawn.lines("dot")]:
                for x, y in line:
                    assert 0 <= x <= width, where
                    assert 0 <= y <= height, where
            for text in drawn.root.iter(f"{SVG}text"):
                assert 0 <= float(text.get("x", "nan")) <= width
                assert 0 <= float(text.get("y", "nan")) <= height
