"""A walk as a new user would: the command serves, mails come from a real server, and a front end's calls follow."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.command import serving, until
from tests.drawings import PNG
from tests.people import OTHER, PASSWORD
from tests.pipeline import Pipeline
from tests.served import SHELF
from tests.smtp import PASSWORD as SMTP_PASSWORD
from tests.smtp import USER, MailServer, mail_server

API = "/api/v1"
EMAIL = "new.user@example.org"


def link_in(server: MailServer, page: str) -> str:
    """The token of the link in the one mail that comes, encrypted and after a login."""
    until(lambda: server.received, "a mail is delivered")
    (mail,) = server.received
    assert server.encrypted.pop()
    assert mail["to"] == EMAIL
    server.received.clear()
    body = mail.get_body(("plain",))
    assert body
    (token,) = set(re.findall(rf"/{page}#token=([\w-]+)(?:&password)?\s", body.get_content()))
    return str(token)


def test_register_verify_sign_in_favourites_dashboard_export_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.put(SHELF)
    pipeline.build()
    pipeline.lake.close()
    with mail_server(tmp_path) as mails:
        monkeypatch.setenv("SSL_CERT_FILE", str(mails.certificate))
        url = f"smtp://{USER}:{quote(SMTP_PASSWORD, safe='')}@127.0.0.1:{mails.port}"
        with serving(tmp_path, log=tmp_path / "log", smtp_url=url) as server:
            walk(server.client, mails, tmp_path)


def walk(client: httpx.Client, mails: MailServer, data: Path) -> None:
    def ask(method: str, address: str, status: int, **body: Any) -> httpx.Response:
        answer = client.request(method, API + address, json=body or None, headers=headers)
        assert answer.status_code == status, (method, address, answer.text)
        return answer

    headers: dict[str, str] = {}
    ask("POST", "/auth/register", 202, email=EMAIL, password=PASSWORD, name="New User")
    token = link_in(mails, "verify-email")
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

    ask("POST", "/auth/forgot-password", 202, email=EMAIL)
    token = link_in(mails, "reset-password")
    ask("POST", "/auth/reset-password", 204, token=token, password=OTHER)
    until(
        lambda: client.get(f"{API}/users/me", headers=headers).status_code == 401,
        "the session is over, as the password was reset",
    )
    tokens = ask("POST", "/auth/login", 200, email=EMAIL, password=OTHER).json()
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    ask("DELETE", "/users/me", 204, password=OTHER)
    ask("GET", "/users/me", 401)
    headers = {}
    ask("POST", "/auth/refresh", 401, refresh_token=tokens["refresh_token"])
    ask("POST", "/auth/login", 401, email=EMAIL, password=OTHER)
    for folder in ("outbox", "pictures"):
        assert not [path for path in (data / folder).rglob("*") if path.is_file()]
