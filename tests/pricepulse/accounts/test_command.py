"""`pricepulse user`, beside a running server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.command import run, serving, until
from tests.people import OTHER, PASSWORD

ROOT = "root@example.org"


def signed_in(client: httpx.Client, password: str = PASSWORD) -> httpx.Response:
    body = {"email": ROOT, "password": password}
    return client.post("/api/v1/auth/login", json=body)


def test_an_admin_is_made_and_changed_beside_two_workers(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    with serving(data, "--workers", 2, log=log) as server:
        client = server.client
        client.headers.pop("authorization")
        assert f"`pricepulse user create ADDRESS --role admin --data {data}`" in log.read_text()
        made = run(data, "user", "create", ROOT, "--role", "admin", stdin=PASSWORD.encode())
        assert (made.returncode, made.stderr) == (0, "")
        tokens = signed_in(client).json()
        mine = {"authorization": f"Bearer {tokens['access_token']}"}

        def status() -> int:
            # A connection of its own, so that either worker may take it.
            address = f"{client.base_url}/api/v1/users/me"
            return httpx.get(address, headers=mine, trust_env=False).status_code

        assert [status() for _ in range(6)] == [200] * 6
        assert run(data, "user", "role", ROOT, "operator").returncode == 0
        until(lambda: [status() for _ in range(6)] == [401] * 6, "the old role counts nowhere", 2)
        assert signed_in(client).status_code == 200
        assert run(data, "user", "disable", ROOT).returncode == 0
        assert signed_in(client).status_code == 401
        assert run(data, "user", "enable", ROOT).returncode == 0
        link = run(data, "user", "reset", ROOT, "--second-factor").stdout.strip()
        # A password beside a second factor may be short: without one it counts no more.
        assert signed_in(client).status_code == 401
        body = {"token": link.partition("#token=")[2], "password": OTHER}
        assert client.post("/api/v1/auth/reset-password", json=body).status_code == 204
        assert signed_in(client).status_code == 401
        assert signed_in(client, OTHER).status_code == 200
        listed = run(data, "user", "list").stdout.split("\t")
        assert listed[:2] == [ROOT, "operator"]
        assert listed[2] == listed[3] == f"{datetime.now(UTC):%Y-%m-%d}"
        assert listed[4] == "\n"
        outbox = until(lambda: list((data / "outbox").glob("*.eml")), "the mail is written")
        assert b"password of your account was changed" in outbox[0].read_bytes()
        assert run(data, "user", "delete", ROOT).returncode == 1  # nobody says yes
        assert run(data, "user", "delete", ROOT, "--yes").stdout == f"{ROOT} is deleted\n"
        assert list((data / "outbox").glob("*.eml")) == []
        assert signed_in(client, OTHER).status_code == 401
        assert run(data, "user", "list").stdout == ""
    said = log.read_text()
    assert PASSWORD not in said
    assert OTHER not in said
    assert "no admin yet" not in run(data, "status").stderr


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    for words, stdin, told in (
        (["create", ROOT], b"short", "has 5 characters; it takes 15"),
        (["create", "root"], PASSWORD.encode(), "is no address of mail"),
        (["role", "root", "admin"], b"", "there is no account with the address root"),
        (["role", ROOT, "admin"], b"", f"there is no account with the address {ROOT}"),
    ):
        done = run(tmp_path, "user", *words, stdin=stdin)
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert run(tmp_path, "user", "create", ROOT, stdin=PASSWORD.encode()).returncode == 0
    done = run(tmp_path, "user", "create", ROOT.upper(), stdin=PASSWORD.encode())
    assert (done.returncode, "has an account" in done.stderr) == (2, True)


def test_an_address_is_meant_however_it_is_written(tmp_path: Path) -> None:
    name = "ann@exämple.org"
    assert run(tmp_path, "user", "create", name, stdin=PASSWORD.encode()).returncode == 0
    for each in (name, "Ann@EXÄMPLE.org", " ann@xn--exmple-cua.org"):
        done = run(tmp_path, "user", "disable", each)
        assert (done.returncode, done.stderr) == (0, ""), each
