"""What must not sign anybody in: answers to nobody's question, tokens that are not good, providers that misbehave."""

from __future__ import annotations

import base64
import gzip
import logging
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry
from litestar.testing import TestClient
from sqlalchemy import select

from pricepulse import log
from pricepulse.accounts import oauth_state, outward
from pricepulse.app import create_app
from pricepulse.audit import Audit
from pricepulse.settings import Settings
from tests.people import People, refused
from tests.providers import CLIENT, SECRET, OwnProvider, send
from tests.sign_in import Visit, challenge_of, new_verifier, query_of

REFUSED = {"error": "refused"}


# The browser and the state


def test_an_answer_to_no_question_of_this_browser(door: People, own: OwnProvider) -> None:
    visit = Visit(door, "own")
    back = own.browse(visit.begin())
    state = query_of(back)["state"]
    wrong = {"error": "state"}
    assert visit.come_back(back.replace(state, "x" * 43)) == wrong
    assert visit.come_back(back.replace("state=", "other=")) == wrong
    assert visit.come_back(back.replace("/own/", "/hub/")) == wrong
    door.client.cookies.clear()
    assert visit.come_back(back) == wrong
    # An attacker's answer in a browser that has asked for something else.
    Visit(door, "own").begin()
    assert visit.come_back(back) == wrong
    door.client.cookies.clear()
    door.client.cookies.set(oauth_state.COOKIE, "AAAA")
    assert visit.come_back(back) == wrong
    assert "/token" not in own.asked


def test_a_state_is_good_once(door: People, own: OwnProvider) -> None:
    visit = Visit(door, "own")
    address = visit.begin()
    cookie = door.client.cookies[oauth_state.COOKIE]
    first, second = own.browse(address), own.browse(address)
    assert "code" in visit.come_back(first)
    assert oauth_state.COOKIE not in door.client.cookies
    for again in (first, second):
        door.client.cookies.set(oauth_state.COOKIE, cookie)
        assert visit.come_back(again) == {"error": "state"}
    assert own.asked.count("/token") == 1


def test_a_state_lasts_ten_minutes(
    door: People, own: OwnProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert oauth_state.STATE_SECONDS == 600
    monkeypatch.setattr(oauth_state, "STATE_SECONDS", -1)
    visit = Visit(door, "own")
    address = visit.begin()
    for cookie in door.client.cookies.jar:
        cookie.expires = None
    assert visit.come_back(own.browse(address)) == {"error": "state"}


def test_a_code_of_the_provider_is_good_once(door: People, own: OwnProvider) -> None:
    first, second = Visit(door, "own"), Visit(door, "own")
    back = own.browse(first.begin())
    first.come_back(back)
    again = own.browse(second.begin())
    used = again.replace(query_of(again)["code"], query_of(back)["code"])
    assert second.come_back(used) == REFUSED


def test_the_cookie_is_the_browsers_alone(tmp_path: Path, own: OwnProvider) -> None:
    given = {"oidc_own_issuer": own.issuer, "oidc_own_client_id": CLIENT}
    for api_url, name in (
        ("https://api.example", "__Host-pricepulse_oauth"),
        ("http://127.0.0.1:1", "pricepulse_oauth"),
    ):
        settings = Settings.from_env({}, data=tmp_path, api_url=api_url, **given)
        with TestClient(create_app(settings)) as client:
            path = f"/api/v1/auth/oauth/own/start?challenge={challenge_of(new_verifier())}"
            answer = client.get(path, headers={"host": "evil.example"}, follow_redirects=False)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{name}=")
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "max-age=600", "path=/", "samesite=lax"} <= parts
        assert ("secure" in parts) == name.startswith("__Host-")
        assert not any(part.startswith("domain") for part in parts)
        # Where the code will go is said by the settings, not by whoever asks.
        callback = query_of(answer.headers["location"])["redirect_uri"]
        assert callback == f"{api_url}/api/v1/auth/oauth/own/callback"


def test_nobody_says_where_the_browser_ends(door: People, own: OwnProvider) -> None:
    visit = Visit(door, "own")
    start = f"/api/v1/auth/oauth/own/start?challenge={visit.challenge}"
    for name in ("redirect_uri", "return_to", "next"):
        refused(visit.open(f"{start}&{name}=https://evil.example"), 400)
    for bad in ("", "x", "x" * 44, "é" * 43):
        refused(visit.open(f"/api/v1/auth/oauth/own/start?challenge={bad}"), 400)
    refused(visit.open("/api/v1/auth/oauth/own/start"), 400)
    refused(visit.open(start.replace("own", "nobody")), 404)
    assert "authorize" not in own.asked


def test_somebody_who_does_not_agree(door: People, own: OwnProvider) -> None:
    for error, told in (("access_denied", "denied"), ("server_error", "refused")):
        visit = Visit(door, "own")
        state = query_of(visit.begin())["state"]
        back = f"/api/v1/auth/oauth/own/callback?error={error}&state={state}&error_description=x"
        assert visit.come_back(back) == {"error": told}


def test_answers_without_a_person_are_counted_and_not_audited(
    door: People, own: OwnProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = msgspec.structs.replace(door.settings, sign_in_limit=1)
    monkeypatch.setattr(door.app.state, "settings", limited)
    statuses = []
    for _ in range(7):
        visit = Visit(door, "own")
        state = query_of(visit.begin())["state"]
        back = visit.open(f"/api/v1/auth/oauth/own/callback?error=server_error&state={state}")
        statuses.append(back.status_code)
    assert statuses == [303] * 5 + [429] * 2
    assert "oauth.failed" not in door.audit()


def test_the_issuer_beside_the_code(door: People, own: OwnProvider) -> None:
    """RFC 9207: against a provider that hands us another provider's code."""
    own.iss = "https://other.example"
    assert Visit(door, "own").through(own) == REFUSED
    assert "/token" not in own.asked


def test_the_issuer_beside_the_code_where_it_is_promised(door: People, own: OwnProvider) -> None:
    own.configuration = {"authorization_response_iss_parameter_supported": True}
    assert Visit(door, "own").through(own) == REFUSED
    own.iss = own.issuer
    assert "code" in Visit(door, "own").through(own)


# The ID token


def now_plus(seconds: int) -> int:
    return int(time.time()) + seconds


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"}, {"iss": None}, {"iss": []},
        {"aud": "other"}, {"aud": None}, {"aud": ["other"]}, {"aud": []},
        {"aud": [CLIENT, "other"]}, {"aud": [CLIENT, "other"], "azp": "other"},
        {"azp": "other"},
        {"exp": now_plus(-61)}, {"exp": None}, {"exp": "9999999999"}, {"exp": 1e400},
        {"iat": now_plus(3600)}, {"iat": None}, {"nbf": now_plus(3600)},
        {"nonce": "other"}, {"nonce": None}, {"nonce": ["x"]},
        {"sub": None}, {"sub": ""}, {"sub": 17}, {"sub": "x" * 256}, {"sub": "ä"}, {"sub": "a\0"},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, {"at_hash": 5},
    ],
    ids=lambda wrong: "-".join(wrong),
)  # fmt: skip
def test_an_id_token_that_says_something_else(
    door: People, own: OwnProvider, claims: dict[str, Any]
) -> None:
    own.claims = claims
    assert Visit(door, "own").through(own) == REFUSED


OTHER_KEY = RSAKey.generate_key(2048, {"kid": "first"})
CURVE_KEY = ECKey.generate_key("P-256", {"kid": "first"})


def unsigned(claims: dict[str, Any], header: dict[str, Any]) -> str:
    parts = (msgspec.json.encode(header), msgspec.json.encode(claims), b"")
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


def public_pem(own: OwnProvider) -> bytes:
    return own.key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hs256(secret: bytes, claims: dict[str, Any]) -> str:
    # A foreign header, so that joserfc does not mind what it is given for a key.
    key = OctKey.import_key(base64.urlsafe_b64encode(secret).decode())
    return jwt.encode({"alg": "HS256", "kid": "first"}, claims, key)


def other_header(own: OwnProvider, claims: dict[str, Any], **more: Any) -> str:
    lenient = JWSRegistry(strict_check_header=False)
    header = {"alg": "RS256", "kid": "first"} | more
    return jwt.encode(header, claims, own.key, registry=lenient)


def _swapped(signed: str, other: str) -> str:
    head, _, signature = signed.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


FORGED: dict[str, Callable[[OwnProvider, dict[str, Any]], str]] = {
    "another key": lambda _, c: jwt.encode({"alg": "RS256", "kid": "first"}, c, OTHER_KEY),
    "another kind of key": lambda _, c: jwt.encode({"alg": "ES256", "kid": "first"}, c, CURVE_KEY),
    "none": lambda _, c: unsigned(c, {"alg": "none", "kid": "first"}),
    "None": lambda _, c: unsigned(c, {"alg": "None"}),
    "no alg": lambda _, c: unsigned(c, {"kid": "first"}),
    "no signature": lambda own, c: other_header(own, c).rpartition(".")[0] + ".",
    "other claims": lambda own, c: _swapped(other_header(own, {}), unsigned(c, {})),
    "HS256 with the client secret": lambda _, c: hs256(SECRET.encode(), c),
    "HS256 with the public key": lambda own, c: hs256(public_pem(own), c),
    "HS256 with the public JWK": lambda own, c: hs256(
        msgspec.json.encode(own.key.as_dict(private=False)), c
    ),
    "its own key in the header": lambda _, c: jwt.encode(
        {"alg": "RS256", "jwk": OTHER_KEY.as_dict(private=False)}, c, OTHER_KEY
    ),
    "an unknown key": lambda own, c: other_header(own, c, kid="nobody's"),
    "crit": lambda own, c: (
        unsigned(c, {"alg": "RS256", "kid": "first", "crit": ["x"], "x": 1}) + "x"
    ),
    "not a JWT": lambda *_: "canary-token",
    "empty": lambda *_: "",
    "not claims": lambda own, _: other_header(own, {}).split(".")[0] + ".W10.AAAA",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_an_id_token_that_the_issuer_has_not_signed(
    door: People, own: OwnProvider, forge: Callable[[OwnProvider, dict[str, Any]], str]
) -> None:
    own.sign = lambda claims: forge(own, claims)
    assert Visit(door, "own").through(own) == REFUSED


def test_a_header_that_nobody_understands_is_ignored(door: People, own: OwnProvider) -> None:
    own.sign = lambda claims: other_header(own, claims, x="y")
    assert "code" in Visit(door, "own").through(own)


def test_a_new_key_is_looked_for_once(door: People, own: OwnProvider) -> None:
    """Within half a minute: a provider is not asked for its keys by every bad token."""
    assert "code" in Visit(door, "own").through(own)
    own.sign = lambda claims: other_header(own, claims, kid="new")
    for _ in range(3):
        assert Visit(door, "own").through(own) == REFUSED
    assert own.asked.count("/keys") == 1
    assert own.asked.count("/.well-known/openid-configuration") == 1


# Providers that misbehave


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


BOMB = gzip.compress(b" " * 50_000_000, 1)


def bomb(handler: BaseHTTPRequestHandler) -> None:
    send(handler, BOMB, content_encoding="gzip")


def elsewhere(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"{}", 307, location="/secret")


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


BODIES = {
    "html": b"<html>", "nothing": b"", "list": b"[]", "number": b"1", "null": b"null",
    "deep": b"[" * 100_000, "nan": b'{"access_token": NaN}', "no utf-8": b'{"a": "\xff"}',
    "empty": b"{}", "types": b'{"access_token": 1, "id_token": {}}',
}  # fmt: skip
MISBEHAVED: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], str]] = {
    "slow": (trickle, "unavailable"),
    "endless": (endless, "refused"),
    "bomb": (bomb, "refused"),
    "elsewhere": (elsewhere, "refused"),
    "hangs up": (hangs_up, "unavailable"),
    "500": (lambda handler: send(handler, b"oops", 500), "unavailable"),
    "429": (lambda handler: send(handler, b"{}", 429), "unavailable"),
    "418": (lambda handler: send(handler, b'{"error": "canary 0123"}', 418), "refused"),
    "error with 200": (lambda handler: send(handler, b'{"error": "bad_code"}'), "refused"),
}


def answering(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, body)


MISBEHAVED |= {name: (answering(body), "refused") for name, body in BODIES.items()}


@pytest.mark.parametrize("misbehaviour", MISBEHAVED.values(), ids=MISBEHAVED)
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys"])
def test_a_provider_that_misbehaves(
    door: People, own: OwnProvider, path: str, misbehaviour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, told = misbehaviour
    if answer is trickle:
        monkeypatch.setattr(outward, "LONGEST_SECONDS", 0.3)
    own.answers[path] = answer
    visit = Visit(door, "own")
    began = time.monotonic()
    if path == "/.well-known/openid-configuration":
        assert visit.come_back(f"/api/v1/auth/oauth/own/start?challenge={visit.challenge}") == {
            "error": told
        }
    else:
        assert visit.through(own) == {"error": told}
    assert time.monotonic() - began < 4
    assert "/secret" not in own.asked


def test_a_provider_without_id_tokens_that_misbehaves(door: People, own: OwnProvider) -> None:
    for path in ("/token", "/user", "/user/emails"):
        for answer, told in (MISBEHAVED["elsewhere"], MISBEHAVED["html"], MISBEHAVED["500"]):
            own.reset()
            own.user = {"id": 1}
            own.answers[path] = answer
            assert Visit(door, "hub").through(own) == {"error": told}, path


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"token_endpoint": "http://internal.example/token"},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": "https://user:password@keys.example/"},
        {"jwks_uri": "//keys.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"userinfo_endpoint": "http://[::1"},
        {"token_endpoint": 5},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be(
    door: People, own: OwnProvider, told: dict[str, Any]
) -> None:
    own.configuration = told
    visit = Visit(door, "own")
    start = f"/api/v1/auth/oauth/own/start?challenge={visit.challenge}"
    assert visit.come_back(start) == REFUSED


def test_a_provider_that_is_silent_is_let_alone_for_a_while(door: People, own: OwnProvider) -> None:
    """Else all who wait would wait out its silence, one after another."""
    own.answers["/.well-known/openid-configuration"] = MISBEHAVED["500"][0]
    for _ in range(3):
        visit = Visit(door, "own")
        told = visit.come_back(f"/api/v1/auth/oauth/own/start?challenge={visit.challenge}")
        assert told == {"error": "unavailable"}
    assert len(own.asked) == 1


def test_no_secret_is_in_a_log_an_audit_or_an_answer(
    door: People, own: OwnProvider, caplog: pytest.LogCaptureFixture
) -> None:
    log.quieten()
    caplog.set_level(logging.DEBUG)
    answers = []
    for misbehave in (False, True):
        if misbehave:
            own.sign = lambda _: "canary-token"
        visit = Visit(door, "own")
        back = own.browse(visit.begin())
        answer = visit.open(back)
        answers += [answer.headers["location"], answer.text]
    own.answers["/token"] = MISBEHAVED["418"][0]
    answers.append(str(Visit(door, "own").through(own)))
    with door.database.begin(write=False) as db:
        audits = [str(vars(each)) for each in db.scalars(select(Audit))]
    everything = "\n".join([caplog.text, *answers, *audits])
    assert "sign-in with own failed" in caplog.text
    assert len(own.tokens) > 4
    for secret in ("canary", SECRET, *own.tokens):
        assert secret not in everything, secret
