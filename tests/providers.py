"""Providers of sign-in: nanoidp as a process, and one of ours that can also answer as none should."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from tests.command import until

CLIENT = "pricepulse-test"
SECRET = "canary-secret:of/the+client"  # must be form-encoded, which nanoidp does not take back
PLAIN_SECRET = "canary-secret-of-the-client"
USER, PASSWORD = "ann", "canary password of ann"
CALLBACK = "http://127.0.0.1:8000/api/v1/auth/oauth/{}/callback"


@contextmanager
def nanoidp(folder: Path, callback: str) -> Iterator[str]:
    """A real OpenID provider that knows USER with ann@example.org; its issuer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    issuer = f"http://127.0.0.1:{port}"
    client = {"client_id": CLIENT, "client_secret": PLAIN_SECRET, "redirect_uris": [callback]}
    oauth = {"issuer": issuer, "audience": "other", "require_pkce": True, "clients": [client]}
    server = {"host": "127.0.0.1", "port": port}
    told = {"config_version": 1, "server": server, "oauth": oauth}
    # JSON is YAML.
    (folder / "settings.yaml").write_bytes(msgspec.json.encode(told))
    users = {USER: {"password": PASSWORD, "email": "ann@example.org"}}
    (folder / "users.yaml").write_bytes(msgspec.json.encode({"config_version": 1, "users": users}))
    command = [sys.executable, "-m", "nanoidp", "--config", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        until(lambda: _answers(process, issuer), f"nanoidp: {folder}/log", 60)
        yield issuer
    finally:
        process.terminate()
        process.wait(20)


def _answers(process: subprocess.Popen[bytes], issuer: str) -> bool:
    assert process.poll() is None
    with suppress(httpx.TransportError):
        return httpx.get(f"{issuer}/.well-known/openid-configuration").status_code == 200
    return False


def signed_in_at_nanoidp(address: str) -> str:
    """What a browser does there; the address that it is sent back to."""
    with httpx.Client() as browser:
        form = browser.get(address)
        assert form.status_code == 200, form.text
        answer = browser.post(address, data={"username": USER, "password": PASSWORD})
    assert answer.status_code in {302, 303}, answer.text
    return answer.headers["location"]


Answer = Callable[["BaseHTTPRequestHandler"], None]


@dataclass
class OwnProvider:
    """OpenID Connect and, on the same machine, what GitHub does. `answers`: other behaviour by path;
    `claims`: what the ID token says besides, or instead; `sign`: other than with the key."""

    issuer: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}))
    published: list[RSAKey] | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[dict[str, Any]], str] | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    iss: str | None = None  # beside the code
    user: dict[str, Any] = field(default_factory=dict)
    emails: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # paths, in order
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)  # all that were given out

    def reset(self) -> None:
        fresh = OwnProvider(key=self.key)
        for name in ("published", "claims", "sign", "configuration", "answers", "iss", "user",
                     "emails", "asked", "codes", "tokens"):  # fmt: skip
            setattr(self, name, getattr(fresh, name))

    def browse(self, address: str) -> str:
        """What a browser does there: nobody is asked, and it is sent back."""
        answer = httpx.get(address)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": "subject-1", "nonce": nonce, "iat": now,
            "exp": now + 300, "email": "ann@example.org", "email_verified": True, "name": "Ann",
        } | self.claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.sign:
            return self.sign(claims)
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)


class _Handler(BaseHTTPRequestHandler):
    provider: OwnProvider
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.dispatch("")

    def do_POST(self) -> None:
        self.dispatch(self.rfile.read(int(self.headers["content-length"])).decode())

    def dispatch(self, body: str) -> None:
        path = urlsplit(self.path).path
        own = self.provider
        own.asked.append(path)
        with suppress(BrokenPipeError, ConnectionResetError):
            if path in own.answers:
                own.answers[path](self)
            else:
                getattr(self, ROUTES[path])(body)

    def json(self, told: Any, status: int = 200) -> None:
        send(self, msgspec.json.encode(told), status)

    def configured(self, _: str) -> None:
        issuer = self.provider.issuer
        told = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize?tenant=1",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys",
        }
        self.json(told | self.provider.configuration)

    def keys(self, _: str) -> None:
        shown = [self.provider.key] if self.provider.published is None else self.provider.published
        symmetric = OctKey.generate_key(256).as_dict()
        rubbish: list[Any] = [{"kty": "RSA", "kid": "x", "n": 1}, {"kty": "new"}, 3, symmetric]
        self.json({"keys": rubbish + [each.as_dict(private=False) for each in shown]})

    def authorize(self, _: str) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        code = "canary-code-" + secrets.token_hex(8)
        self.provider.codes[code] = query
        told = {"code": code, "state": query["state"], "session_state": "x"}
        if self.provider.iss is not None:
            told["iss"] = self.provider.iss
        self.send_response(302)
        self.send_header("location", f"{query['redirect_uri']}?{urlencode(told)}")
        self.send_header("content-length", "0")
        self.end_headers()

    def token(self, body: str) -> None:
        form = dict(parse_qsl(body))
        query = self.provider.codes.pop(form["code"], None)
        if query is None:
            self.json({"error": "invalid_grant", "error_description": "canary-code"}, 400)
            return
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == query["code_challenge"]
        assert form["redirect_uri"] == query["redirect_uri"]
        given = (form.get("client_id"), form.get("client_secret"))
        if scheme := self.headers["authorization"]:
            pair = base64.b64decode(scheme.removeprefix("Basic ")).decode()
            given = tuple(dict(parse_qsl(f"a={pair.replace(':', '&b=')}")).values())  # type: ignore[assignment]
        assert given == (CLIENT, SECRET), given
        access = "canary-access-" + secrets.token_hex(8)
        told = {"access_token": access, "token_type": "Bearer"}
        if "nonce" in query:
            told["id_token"] = self.provider.id_token(query["nonce"])
        self.provider.tokens += [form["code"], form["code_verifier"], *told.values()]
        self.json(told)

    def userinfo(self, _: str) -> None:
        self.for_token(self.provider.user)

    def all_emails(self, _: str) -> None:
        self.for_token(self.provider.emails)

    def for_token(self, told: Any) -> None:
        token = self.headers["authorization"].removeprefix("Bearer ")
        assert token in self.provider.tokens
        self.json(told)


ROUTES = {
    "/.well-known/openid-configuration": "configured",
    "/keys": "keys",
    "/authorize": "authorize",
    "/token": "token",
    "/user": "userinfo",
    "/user/emails": "all_emails",
}


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"content-type": "application/json"} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def own_provider() -> Iterator[OwnProvider]:
    provider = OwnProvider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
