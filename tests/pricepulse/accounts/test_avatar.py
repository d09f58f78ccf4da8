"""PUT, GET, DELETE /users/me/avatar: what is sent, what is kept, what is refused."""

from __future__ import annotations

import asyncio
import io
import os
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from jobs.pictures import SPARED_SECONDS, remove_unreferenced
from tests.drawings import CANARY, JPEG, PNG, REFUSED, WEBP, picture, turned_and_talkative
from tests.people import PASSWORD, People, refused
from tests.pipeline import open_lake

AVATAR = "/users/me/avatar"


@pytest.fixture
def access(site: People) -> str:
    site.registered()
    return str(site.signed_in()["access_token"])


def put(site: People, access: str, content: bytes, kind: str = "image/png") -> httpx.Response:
    headers = {"authorization": f"Bearer {access}"} | ({"content-type": kind} if kind else {})
    return site.client.put(f"/api/v1{AVATAR}", content=content, headers=headers)


def files(site: People) -> list[Path]:
    return [path for path in (site.settings.data / "pictures").rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def no_files(site: People) -> None:
    for path in files(site):
        path.unlink()


def shown(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    image = Image.open(io.BytesIO(answer.content), formats=["WEBP"])
    image.load()
    return image


@pytest.mark.parametrize(
    ("kind", "content"), [("image/png", PNG), ("image/jpeg", JPEG), ("image/webp", WEBP)]
)
def test_a_picture_is_cut_and_encoded_anew(
    site: People, access: str, kind: str, content: bytes
) -> None:
    refused(site.send("GET", AVATAR, access), 404)
    assert site.send("GET", "/users/me", access).json()["avatar"] is None
    made = put(site, access, content, f"{kind}; charset=binary")
    assert made.status_code == 200, made.text
    answer = site.send("GET", AVATAR, access)
    image = shown(answer)
    assert image.size == (256, 256)
    red, blue = image.getpixel((40, 128)), image.getpixel((216, 128))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 200 > 60 > red[2]
    assert blue[2] > 200 > 60 > blue[0]
    # It is the account's alone, and confirmed by its tag.
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["etag"] == f'"{made.json()["avatar"]}"'
    headers = {"authorization": f"Bearer {access}", "if-none-match": answer.headers["etag"]}
    again = site.client.get(f"/api/v1{AVATAR}", headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    assert site.send("GET", "/users/me", access).json()["avatar"] == made.json()["avatar"]
    (file,) = files(site)
    digest = made.json()["avatar"]
    place = file.relative_to(site.settings.data)
    assert str(place) == f"pictures/avatars/{digest[:2]}/{digest[2:4]}/{digest}.webp"
    assert file.stat().st_mode & 0o077 == 0


def test_it_is_turned_as_it_should_be_and_says_nothing_more(site: People, access: str) -> None:
    sent = turned_and_talkative()
    assert sent.count(CANARY) == 2
    assert put(site, access, sent, "image/jpeg").status_code == 200
    image = shown(site.send("GET", AVATAR, access))
    top, bottom = image.getpixel((128, 40)), image.getpixel((128, 216))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200
    assert bottom[2] > 200
    (file,) = files(site)
    assert CANARY not in file.read_bytes()
    assert not {"exif", "xmp", "icc_profile", "comment"} & image.info.keys()


@pytest.mark.parametrize("bad", REFUSED)
def test_what_is_no_picture_is_refused_and_nothing_is_kept(
    site: People, access: str, bad: str
) -> None:
    kind, content, status = REFUSED[bad]
    told = refused(put(site, access, content, kind), status, "/body" if status == 422 else "")
    assert "Traceback" not in told["detail"]
    assert files(site) == []
    refused(site.send("GET", AVATAR, access), 404)


def test_more_than_two_megabytes_are_refused_unread(site: People, access: str) -> None:
    large = PNG + bytes(2 << 20)
    refused(put(site, access, large), 413)
    assert files(site) == []
    for name in ("../../secret.key", "%2e%2e%2fsecret.key", "..%2F..%2Fsecret.key"):
        answer = site.send("GET", f"{AVATAR}/{name}", access)
        assert answer.status_code == 404


def test_no_more_are_taken_in_at_once_than_there_is_room_for(site: People, access: str) -> None:
    room = site.app.state["pictures"]
    site.app.state["pictures"] = asyncio.Semaphore(0)
    try:
        answer = put(site, access, PNG)
    finally:
        site.app.state["pictures"] = room
    refused(answer, 503)
    assert answer.headers["retry-after"] == "5"
    assert put(site, access, PNG).status_code == 200


def test_everybody_has_a_file_of_their_own_and_takes_it_along(site: People, access: str) -> None:
    site.registered("bob@example.org")
    bob = str(site.signed_in("bob@example.org")["access_token"])
    refused(site.send("GET", AVATAR), 401)
    for token in (access, bob):
        assert put(site, token, PNG).status_code == 200
    assert len(files(site)) == 2
    assert put(site, access, PNG).status_code == 200
    assert len(files(site)) == 2
    assert site.send("DELETE", "/users/me", access, password=PASSWORD).status_code == 204
    assert len(files(site)) == 1
    shown(site.send("GET", AVATAR, bob))
    assert site.send("DELETE", AVATAR, bob).status_code == 204
    assert files(site) == []
    refused(site.send("DELETE", AVATAR, bob), 404)


def test_what_nobody_refers_to_is_removed_after_an_hour(site: People, access: str) -> None:
    first = put(site, access, PNG).json()["avatar"]
    second = put(site, access, picture(size=(50, 50))).json()["avatar"]
    stray = files(site)[0].with_name("upload.new")
    stray.write_bytes(b"cut off")
    lake = open_lake(site.settings.data)
    assert remove_unreferenced(site.settings.data, site.database, lake) == "0 pictures removed"
    old = time.time() - SPARED_SECONDS - 1
    for file in files(site):
        os.utime(file, (old, old))
    assert remove_unreferenced(site.settings.data, site.database, lake) == "2 pictures removed"
    lake.close()
    assert [file.stem for file in files(site)] == [second]
    assert first != second
    shown(site.send("GET", AVATAR, access))
