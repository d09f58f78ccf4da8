"""A walk as a new user would: the command serves, mails are files, and a front end's calls follow."""

from __future__ import annotations

import email
import io
import json
import re
import zipfile
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx

from tests.command import serving, until
from tests.drawings import PNG
from tests.people import PASSWORD
from tests.pipeline import Pipeline
from tests.served import SHELF

API = "/api/v1"
EMAIL = "new.user@example.org"


def mail_in(outbox: Path) -> EmailMessage:
    """The one mail that comes."""
    until(lambda: len(list(outbox.glob("*.eml"))) == 1, "a mail is in the outbox")
    (path,) = outbox.glob("*.eml")
    return email.message_from_bytes(path.read_bytes(), policy=default)


def test_register_verify_sign_in_favourites_dashboard_export_delete(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.put(SHELF)
    pipeline.build()
    pipeline.lake.close()
    with serving(tmp_path, log=tmp_path / "log") as server:
        walk(server.client, tmp_path)


def walk(client: httpx.Client, data: Path) -> None:
    def ask(method: str, address: str, status: int, **body: Any) -> httpx.Response:
        answer = client.request(method, API + address, json=body or None, headers=headers)
        assert answer.status_code == status, (method, address, answer.text)
        return answer

    headers: dict[str, str] = {}
    ask("POST", "/auth/register", 202, email=EMAIL, password=PASSWORD, name="New User")
    mail = mail_in(data / "outbox")
    assert mail["to"] == EMAIL
    body = mail.get_body(("plain",))
    assert body
    (token,) = set(re.findall(r"/verify-email#token=(\S+)&password\s", body.get_content()))
    ask("POST", "/auth/login", 401, email=EMAIL, password=PASSWORD)
    ask("POST", "/auth/verify-email", 422, token=token)
    made = ask("POST", "/auth/verify-email", 200, token=token, password=PASSWORD)
    assert made.json() == {"email": EMAIL}
    tokens = ask("POST", "/auth/login", 200, email=EMAIL, password=PASSWORD).json()
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    assert ask("GET", "/users/me", 200).json()["name"] == "New User"

    found = ask("GET", "/search?q=zebra", 200).json()["items"]
    found += ask("GET", "/search?q=quagga", 200).json()["items"]
    chosen = [each["product_id"] for each in found][:3]
    for product_id in chosen:
        ask("PUT", f"/users/me/favorites/{product_id}", 201)
    ask("PUT", f"/users/me/categories/{found[0]['category_slug']}", 201)
    listed = ask("GET", "/users/me/favorites", 200).json()["items"]
    assert {each["product_id"] for each in listed} == set(chosen)
    assert ask("GET", "/users/me/dashboard", 200).json()["favorites"] == 3
    picture = client.put(
        f"{API}/users/me/avatar", content=PNG, headers=headers | {"content-type": "image/png"}
    )
    assert picture.status_code == 200, picture.text

    archive = zipfile.ZipFile(io.BytesIO(ask("GET", "/users/me/export", 200).content))
    assert len(json.loads(archive.read("favorite.json"))) == 3
    assert "avatar.webp" in archive.namelist()

    ask("DELETE", "/users/me", 204, password=PASSWORD)
    ask("GET", "/users/me", 401)
    headers = {}
    ask("POST", "/auth/refresh", 401, refresh_token=tokens["refresh_token"])
    ask("POST", "/auth/login", 401, email=EMAIL, password=PASSWORD)
    for folder in ("outbox", "pictures"):
        assert not [path for path in (data / folder).rglob("*") if path.is_file()]
