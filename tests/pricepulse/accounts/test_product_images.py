"""PUT, DELETE /products/{product_id}/image and GET /images/{image_id}: an operator's picture of a product."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from sqlalchemy import select, update

from jobs.pictures import SPARED_SECONDS, remove_unreferenced
from pricepulse import pictures
from pricepulse.accounts.tables import Account
from pricepulse.audit import Audit
from tests.command import csv, serving, until
from tests.drawings import CANARY, JPEG, PNG, REFUSED, WEBP, picture, turned_and_talkative
from tests.people import PASSWORD, People, refused
from tests.shops import Shops, seen
from warehouse import images

SHOPS = "https://shop.example/kettle.png"
DAILY = range(60, 0, -1)
HUGE_ID = "9" * 19


def signed_in_as(market: Shops, role: str) -> str:
    email = f"{role}@example.org"
    market.site.registered(email)
    with market.site.database.begin() as db:
        db.execute(update(Account).where(Account.email == email).values(role=role))
    return str(market.site.signed_in(email)["access_token"])


def put(
    market: Shops, token: str, product_id: str, content: bytes = PNG, kind: str = "image/png"
) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= {"content-type": kind} if kind else {}
    address = f"/api/v1/products/{product_id}/image"
    return market.site.client.put(address, content=content, headers=headers)


def given(answer: httpx.Response) -> str:
    """The address of the picture."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["image_url"])


def files(site: People) -> list[Path]:
    return [path for path in (site.settings.data / "pictures").rglob("*") if path.is_file()]


def age(paths: list[Path]) -> None:
    old = time.time() - SPARED_SECONDS - 1
    for path in paths:
        os.utime(path, (old, old))


def shown(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    image = Image.open(io.BytesIO(answer.content), formats=["WEBP"])
    image.load()
    return image


def told_of(node: Any, product_id: str) -> Iterator[str]:
    """Every `image_url` that an answer has of the product."""
    if isinstance(node, list):
        for each in node:
            yield from told_of(each, product_id)
    elif isinstance(node, dict):
        if node.get("product_id") == product_id and "image_url" in node:
            yield node["image_url"]
        for each in node.values():
            yield from told_of(each, product_id)


def everywhere(market: Shops, product_id: str, other: str, token: str) -> set[str]:
    """What all answers that show the product name as its picture, and what analysts see."""
    product = "products/lookup?product_key=kettle"
    lists = ("products", "search?q=kettle", "deals", "price-drops", "trending")
    both = (f"products/compare?ids={other},{product_id}", f"products/{other}/similar")
    found = set()
    for address in (f"products/{product_id}", product, *lists, *both, "users/me/favorites"):
        answer = market.site.send("GET", f"/{address}", token)
        assert answer.status_code == 200, answer.text
        named = set(told_of(answer.json(), product_id))
        assert named, f"{address} does not show it"
        found |= named
    file = market.site.app.state["warehouse"].current
    (row,) = file.query("SELECT image_url FROM product WHERE product_id = ?", [int(product_id)])
    return found | {row["image_url"]}


def kettle(market: Shops) -> str:
    """One product, built and served; its id."""
    market.deliver(seen("kettle", 1, "30", image_url=SHOPS))
    return market.product("kettle")


def test_it_shows_everywhere_after_the_build_and_goes_again(market: Shops) -> None:
    about = {"category": "Kitchen > Kettles", "brand": "Acme"}
    market.deliver(
        *(seen("kettle", day, "40", image_url=SHOPS, **about) for day in DAILY),
        *(seen("kettle two", day, "45", **about) for day in DAILY),
        seen("kettle", 0.5, "30", list_price="40", **about),
    )
    product, other = market.product("kettle"), market.product("kettle two")
    operator = signed_in_as(market, "operator")
    assert market.site.send("PUT", f"/users/me/favorites/{product}", operator).status_code == 201
    assert everywhere(market, product, other, operator) == {SHOPS}
    first = given(put(market, operator, product))
    assert everywhere(market, product, other, operator) == {SHOPS}, "not before the build"
    market.deliver()
    assert everywhere(market, product, other, operator) == {first}
    assert shown(market.site.client.get(first)).size == (300, 200)
    assert market.get_product(other)["image_url"] is None
    # It stays with new rows, and another one takes its place.
    market.deliver(seen("kettle", 0.4, "29", image_url="https://shop.example/new.png"))
    assert market.get_product(product)["image_url"] == first
    second = given(put(market, operator, product, picture(size=(50, 80))))
    market.deliver()
    assert everywhere(market, product, other, operator) == {second} != {first}
    answer = market.site.send("DELETE", f"/products/{product}/image", operator)
    assert (answer.status_code, answer.content) == (204, b"")
    market.deliver()
    assert everywhere(market, product, other, operator) == {"https://shop.example/new.png"}
    refused(market.site.send("DELETE", f"/products/{product}/image", operator), 404)


def test_it_is_taken_back_before_any_build(market: Shops) -> None:
    product, operator = kettle(market), signed_in_as(market, "operator")
    refused(market.site.send("DELETE", f"/products/{product}/image", operator), 404)
    given(put(market, operator, product))
    assert market.site.send("DELETE", f"/products/{product}/image", operator).status_code == 204
    market.deliver()
    assert market.get_product(product)["image_url"] == SHOPS


def test_it_is_kept_whole_and_no_larger_than_it_came(market: Shops) -> None:
    product, operator = kettle(market), signed_in_as(market, "operator")
    for sent, kept in (
        ((300, 200), (300, 200)),
        ((3000, 1000), (1024, 341)),
        ((90, 4096), (22, 1024)),
        ((4096, 1), (1024, 1)),
    ):
        address = given(put(market, operator, product, picture(size=sent)))
        image = shown(market.site.client.get(address))
        assert image.size == kept
        left, right = image.getpixel((0, 0)), image.getpixel((kept[0] - 1, kept[1] - 1))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]


def test_formats_come_in_and_pixels_go_out(market: Shops) -> None:
    product, operator = kettle(market), signed_in_as(market, "operator")
    for kind, content in (("image/jpeg", JPEG), ("image/webp", WEBP), ("image/png", PNG)):
        assert shown(market.site.client.get(given(put(market, operator, product, content, kind))))
    sent = turned_and_talkative()
    assert sent.count(CANARY) == 2
    answer = market.site.client.get(given(put(market, operator, product, sent, "image/jpeg")))
    assert shown(answer).size == (200, 300), "turned as it should be"
    assert CANARY not in answer.content


def test_what_is_no_picture_is_refused_and_nothing_is_done(market: Shops) -> None:
    product, operator = kettle(market), signed_in_as(market, "operator")
    before, lake = market.site.audit(), market.pipeline.lake.snapshot()
    for bad, (kind, content, status) in REFUSED.items():
        answer = put(market, operator, product, content, kind)
        told = refused(answer, status, "/body" if status == 422 else "")
        assert "Traceback" not in told["detail"], bad
    refused(put(market, operator, product, PNG + bytes(2 << 20)), 413)
    for unknown in ("0", "7", "-1", "1e3", HUGE_ID, "9" * 40, "x", "%00", "..%2F1", "kettle"):
        assert put(market, operator, unknown).status_code in {400, 404}, unknown
        address = f"/products/{unknown}/image"
        assert market.site.send("DELETE", address, operator).status_code in {400, 404}, unknown
    refused(put(market, operator, HUGE_ID), 404)
    # A product that is not there is said to be so before the picture is looked at.
    refused(put(market, operator, HUGE_ID, b"no picture"), 404)
    assert files(market.site) == []
    assert market.pipeline.lake.snapshot() == lake
    assert market.site.audit() == before
    assert market.get_product(product)["image_url"] == SHOPS


def test_without_a_build_there_is_no_product_yet(market: Shops) -> None:
    refused(put(market, signed_in_as(market, "operator"), "7"), 503)


def test_who_may_and_what_the_audit_says(market: Shops) -> None:
    product = kettle(market)
    refused(put(market, "", product), 401)
    for role in ("user", "analyst"):
        token = signed_in_as(market, role)
        refused(put(market, token, product), 403)
        refused(market.site.send("DELETE", f"/products/{product}/image", token), 403)
    assert files(market.site) == []
    operator, admin = signed_in_as(market, "operator"), signed_in_as(market, "admin")
    post = market.site.post
    key = post(
        "/users/me/api-keys", operator, name="feed", scopes=["ingest"], password=PASSWORD
    ).json()
    reading = post(
        "/users/me/api-keys", admin, name="r", scopes=["read", "sql", "admin"], password=PASSWORD
    ).json()
    refused(put(market, reading["key"], product), 403)
    digests = [
        given(put(market, token, f"00{product}"[-19:] if token == admin else product, picture(size=size))).rpartition("/")[2]
        for token, size in ((operator, (9, 9)), (key["key"], (8, 8)), (admin, (7, 7)))
    ]  # fmt: skip
    assert market.site.send("DELETE", f"/products/{product}/image", admin).status_code == 204
    ids = {each: market.site.send("GET", "/users/me", each).json()["id"] for each in (operator, admin)}  # fmt: skip
    with market.site.database.begin(write=False) as db:
        rows = db.scalars(select(Audit).where(Audit.action == "product.image").order_by(Audit.id))
        told = [(row.actor, row.target, row.detail["key"], row.detail["image"]) for row in rows]
    target = f"product:{product}"
    assert told == [
        (ids[operator], target, None, digests[0]),
        (ids[operator], target, key["id"], digests[1]),
        (ids[admin], target, None, digests[2]),
        (ids[admin], target, None, None),
    ]


def test_a_picture_is_everybodys_and_kept_for_ever(market: Shops) -> None:
    product, operator = kettle(market), signed_in_as(market, "operator")
    client = market.site.client
    address = given(put(market, operator, product))
    answer = client.get(address, headers={"accept": "image/avif,image/webp,*/*;q=0.8"})
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(address, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == answer.headers["cache-control"]
    head = client.head(address)
    assert (head.status_code, head.content) == (200, b"")
    refused(client.get(address, headers={"accept": "image/png"}), 406)
    # The same picture again, for whatever product, is the same file.
    assert given(put(market, operator, product)) == address
    (file,) = files(market.site)
    digest = address.rpartition("/")[2]
    place = str(file.relative_to(market.site.settings.data))
    assert place == f"pictures/products/{digest[:2]}/{digest[2:4]}/{digest}.webp"
    # Names from outside lead nowhere, and an avatar is no product's picture.
    headers = {"authorization": f"Bearer {operator}", "content-type": "image/png"}
    avatar = client.put("/api/v1/users/me/avatar", content=PNG, headers=headers).json()["avatar"]
    bad = ("../../secret.key", "%2e%2e%2f%2e%2e%2fsecret.key", f"{digest}.webp", digest.upper())
    for name in (*bad, digest[:-1], "f" * 64, avatar):
        answer = client.get(f"/api/v1/images/{name}")
        refused(answer, 404)
        assert answer.headers["cache-control"] == "no-store"


def test_of_many_at_once_one_is_left(market: Shops) -> None:
    product = kettle(market)
    tokens = [signed_in_as(market, role) for role in ("operator", "admin")]
    sent = [(tokens[n % 2], picture(size=(20 + n, 20))) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda each: put(market, each[0], product, each[1]), sent))
    addresses = {given(each) for each in answers}
    assert len(addresses) == 6
    market.deliver()
    left = market.get_product(product)["image_url"]
    assert left in addresses
    assert images.needed(market.pipeline.lake, None) == {left.rpartition("/")[2]}


def test_what_no_product_shows_is_removed_and_what_one_shows_is_not(market: Shops) -> None:
    site, product = market.site, kettle(market)
    operator, data = signed_in_as(market, "operator"), market.site.settings.data

    def upkeep() -> str:
        return remove_unreferenced(data, site.database, market.pipeline.lake)

    first = given(put(market, operator, product))
    market.deliver()
    # A crash after the file and before the lake, and one while a file is written.
    stray = pictures.path_of(site.settings, pictures.PRODUCT, "e" * 64)
    pictures.store(stray, b"a picture that no product shows")
    cut_off = files(site)[0].with_name("upload.new")
    cut_off.write_bytes(b"cut off")
    assert upkeep() == "0 pictures removed"
    age(files(site))
    assert upkeep() == "2 pictures removed"
    # Replaced, but the build in service shows it still.
    second = given(put(market, operator, product, picture(size=(40, 40))))
    age(files(site))
    assert upkeep() == "0 pictures removed"
    shown(site.client.get(first))
    market.deliver()
    assert upkeep() == "1 pictures removed"
    refused(site.client.get(first), 404)
    shown(site.client.get(second))
    # The same one again, after the file was lost.
    for path in files(site):
        path.unlink()
    refused(site.client.get(second), 404)
    assert given(put(market, operator, product, picture(size=(40, 40)))) == second
    shown(site.client.get(second))


def test_a_server_shows_it_within_seconds(tmp_path: Path) -> None:
    """With the jobs, and the key that belongs to nobody, as a pipeline has it."""
    moment = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    feed = csv([f"shop,1,{moment},9.50,EUR"])
    with serving(tmp_path / "data", log=tmp_path / "log") as server:
        send, get = server.client.put, server.client.get
        sent = {"content-type": "text/csv"}
        server.client.post("/api/v1/ingest/observations", content=feed, headers=sent)

        def product() -> Any:
            found = get("/api/v1/products/lookup", params={"retailer": "shop", "sku": "1"})
            return found.json() if found.status_code == 200 else None

        page = until(product, "the product is there")
        assert page["image_url"] is None
        address = f"/api/v1/products/{page['product_id']}/image"
        image = given(send(address, content=PNG, headers={"content-type": "image/png"}))
        until(lambda: product()["image_url"] == image, "the picture is shown", 10)
        assert shown(get(image)).size == (300, 200)
