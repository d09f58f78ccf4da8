"""GET /products/{product_id}/chart.svg and .png: a product's prices as a picture to embed."""

import asyncio
import subprocess
from collections import Counter
from operator import itemgetter
from typing import Annotated, Any

import numpy as np
from litestar import Request, get
from litestar.params import FromPath, QueryParameter
from litestar.response.base import Response

from models.timeline import CAN_BE_BOUGHT
from pricepulse import chart_png
from pricepulse.answer import Json
from pricepulse.catalog import known_product
from pricepulse.chart import render
from pricepulse.chart_axes import DAY
from pricepulse.chart_steps import Line
from pricepulse.chart_style import THEMES
from pricepulse.chart_words import Chart
from pricepulse.contract import one_of, version_of
from pricepulse.errors import UnavailableError
from warehouse import history
from warehouse.columns import Page, Shown
from warehouse.connection import Version

RANGES = {"30d": 30 * DAY, "90d": 90 * DAY, "365d": 365 * DAY, "all": None}
SVG, PNG = "image/svg+xml", "image/png"
# Others embed it with <img>; opened by itself it may do nothing but style itself.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "cross-origin",
}
Range = Annotated[
    str,
    one_of(*RANGES, name="range", description="How far back from the newest observation."),
]
Width = Annotated[int, QueryParameter(ge=200, le=2000, description="Pixels.")]
Height = Annotated[int, QueryParameter(ge=100, le=1200, description="Pixels.")]
Theme = Annotated[
    str,
    one_of(
        *THEMES, description="`auto` follows the reader's `prefers-color-scheme`; in PNG, light."
    ),
]


def _options(media_type: str) -> dict[str, Any]:
    return {"versioned": True, "produces": (media_type,), "headers": HEADERS}


@get("/products/{product_id:str}/chart.svg", tags=["prices"], media_type=SVG, opt=_options(SVG))
async def get_chart_svg(
    request: Request[Any, Any, Any],
    product_id: FromPath[str],
    range_: Range = "365d",
    width: Width = 600,
    height: Height = 240,
    theme: Theme = "auto",
) -> Response[bytes]:
    """Price chart of a product as SVG, to embed with `<img>`.

    The thick line is the lowest price at which it could be bought, thin lines are shops, dotted where
    out of stock; dashed is a claimed list price. Where no price was known there is no line. All is in the
    product's own currency: an offer in another is left out, and the chart says so."""
    version = version_of(request)
    at = known_product(version, product_id)
    # 1 to 4 ms.
    svg = await asyncio.to_thread(_svg, version, at, range_, width, height, theme)
    return Json(svg.encode(), media_type=SVG, headers=HEADERS)


@get("/products/{product_id:str}/chart.png", tags=["prices"], media_type=PNG, opt=_options(PNG))
async def get_chart_png(
    request: Request[Any, Any, Any],
    product_id: FromPath[str],
    range_: Range = "365d",
    width: Width = 600,
    height: Height = 240,
    theme: Theme = "auto",
) -> Response[bytes]:
    """The same chart as PNG, for mail and messengers.

    Titles in scripts beyond Latin, Greek and Cyrillic need fonts on the server."""
    version = version_of(request)
    at = known_product(version, product_id)
    shade = "dark" if theme == "dark" else "light"

    def work() -> bytes:
        return chart_png.draw(_svg(version, at, range_, width, height, shade))

    loop = asyncio.get_running_loop()
    try:
        png = await loop.run_in_executor(request.app.state["drawing"], work)
    except subprocess.TimeoutExpired as error:
        told = "drawing took too long; chart.svg is the same picture without it"
        raise UnavailableError(told, retry_after=5) from error
    return Json(png, media_type=PNG, headers=HEADERS)


def _svg(version: Version, at: int, period: str, width: int, height: int, theme: str) -> str:
    page, offers = version.columns.page(at)
    lines, left_out = _lines(version, at, page, offers)
    end = int(version.as_of.timestamp()) if version.as_of else 0
    span = RANGES[period]
    first = min((int(line.first[0]) for line in lines), default=end)
    best = next((each for each in offers if each.offer_id == page.best_offer_id), None)
    return render(
        Chart(
            key=str(page.product_id),
            title=page.title or page.gtin or f"Product {page.product_id}",
            currency=page.currency,
            lines=lines,
            best=(best.retailer, best.price) if best else None,
            left_out=left_out,
            odd=_odd(version, at, page.currency),
            # A product that was seen once, a moment ago, has a day all the same.
            start=end - span if span else min(first, end - DAY),
            end=end,
            width=width,
            height=height,
            theme=theme,
        )
    )


def _lines(
    version: Version, at: int, page: Page, offers: list[Shown]
) -> tuple[list[Line], list[str]]:
    """The new offers' prices in the product's currency, the cheapest now first, and what that leaves
    out. Used ones only where there are no others: a used price is no lower price of the new thing."""
    columns = version.columns
    listed, spells = columns.history(at)
    as_of = int(version.as_of.timestamp()) if version.as_of else 0
    buyable = np.array([word in CAN_BE_BOUGHT for word in columns.availabilities])
    names = Counter(each.retailer for each in offers)
    new = any(each.condition == "new" for each in offers)
    found, left_out = [], Counter[str]()
    for offer, shown in zip(listed, offers, strict=True):
        if new and shown.condition != "new":
            left_out[shown.condition] += 1
            continue
        mine = history.part(spells, offer.spells)
        until = history.held_until(mine, version.vouch_seconds, as_of)
        same = mine.currency == columns.currencies.index(page.currency)
        if not same.any():
            left_out[f"in {shown.currency}"] += 1
            continue
        mine, until = history.part(mine, same), until[same]
        several = names[offer.retailer] > 1
        label = f"{offer.retailer} {offer.sku}" if several else offer.retailer
        can_buy = buyable[mine.availability]
        line = Line(label, mine.first, until, mine.price, mine.list_price, can_buy)
        rank = (
            shown.offer_id != page.best_offer_id,
            until[-1] < as_of,
            not can_buy[-1],
            int(mine.price[-1]),
            label,
        )
        found.append((rank, line))
    return [line for _, line in sorted(found, key=itemgetter(0))], _told(left_out)


def _odd(version: Version, at: int, currency: str) -> list[tuple[int, int]]:
    """When and at which price something looked wrong; not what is only no longer seen."""
    return [
        (row["began_at"], row["price"])
        for row in version.columns.mart("anomaly", at)
        if row["kind"] != "stale" and row["currency"] == currency
    ]


def _told(left_out: Counter[str]) -> list[str]:
    said = []
    for what, many in sorted(left_out.items()):
        offers = "1 offer" if many == 1 else f"{many} offers"
        said.append(
            f"{offers} {what}" if what.startswith("in ") else offers.replace(" ", f" {what} ")
        )
    return said


ROUTES = (get_chart_svg, get_chart_png)
