"""Access tokens (JWT, 15 minutes) and their keys; refresh tokens and links are 256 random bits.

HS256: whoever verifies here also signs, so a public key would be of use to nobody, and a token costs
a fifth of Ed25519's time. There is one algorithm, and a token's header is never read: it must be, byte
for byte, the header that we write for one of our keys (RFC 8725, 3.1). `alg: none`, a foreign `kid`,
a `jku`, another `typ`: none of it is the key of a dictionary.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from pricepulse.accounts.tables import SigningKey
from pricepulse.sealing import Sealer

ALGORITHM = "HS256"
TYPE = "at+jwt"  # RFC 9068, 2.1
AUDIENCE = "pricepulse"
ACCESS_SECONDS = 15 * 60
SKEW_SECONDS = 5  # between the clocks of several machines
# A new key signs only when every process has surely read it.
SETTLING = timedelta(seconds=10)


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sid`: the session; its end ends the token. `sub`: the account."""

    iss: str
    aud: str
    sub: str
    sid: str
    role: str
    jti: str
    iat: int
    exp: int


class BadToken(Exception):
    """What is wrong with it, in words that may be told."""


class Keyring:
    """The keys of this moment; made anew when the table changes."""

    def __init__(
        self, rows: Sequence[SigningKey], sealer: Sealer, issuer: str, now: datetime
    ) -> None:
        self.kids = frozenset(row.kid for row in rows)
        self.issuer = issuer
        self._by_header: dict[str, OctKey] = {}
        self._signing: OctKey | None = None
        for row in sorted(rows, key=lambda row: row.created_at):
            secret = sealer.unseal("signing key", row.secret)
            key = OctKey.import_key(secret, {"kid": row.kid})
            self._by_header[_encoded({}, key).partition(".")[0]] = key
            if self._signing is None or row.created_at <= now - SETTLING:
                self._signing = key

    def sign(self, account_id: str, session_id: str, role: str) -> str:
        assert self._signing, "every start makes a key"
        at = int(time.time())
        claims = Claims(
            iss=self.issuer, aud=AUDIENCE, sub=account_id, sid=session_id, role=role,
            jti=secrets.token_hex(8), iat=at, exp=at + ACCESS_SECONDS,
        )  # fmt: skip
        return _encoded(msgspec.to_builtins(claims), self._signing)

    def verify(self, token: str) -> Claims:
        """The claims of one of our access tokens; BadToken says why it is none."""
        key = self._by_header.get(token.partition(".")[0])
        if key is None or len(token) > 2000:
            raise BadToken("is not an access token of this server")
        try:
            found = jwt.decode(token, key, algorithms=[ALGORITHM])
            claims = msgspec.convert(found.claims, Claims)
        except (JoseError, msgspec.ValidationError, ValueError) as error:
            raise BadToken("is not an access token of this server") from error
        at = time.time()
        if (claims.iss, claims.aud) != (self.issuer, AUDIENCE) or claims.iat > at + SKEW_SECONDS:
            raise BadToken("is not an access token of this server")
        if claims.exp <= at:
            raise BadToken("has expired; POST /api/v1/auth/refresh gives a new one")
        return claims


def _encoded(claims: dict[str, object], key: OctKey) -> str:
    header = {"alg": ALGORITHM, "kid": key.kid}
    return jwt.encode(header, claims, key, algorithms=[ALGORITHM], default_type=TYPE)


def new_signing_key(sealer: Sealer) -> SigningKey:
    """256 bits: as long as the hash (RFC 7518, 3.2)."""
    sealed = sealer.seal("signing key", secrets.token_bytes(32))
    return SigningKey(kid=secrets.token_hex(8), secret=sealed)


def new_token(prefix: str) -> str:
    """An opaque token; by the prefix a scanner knows one that has got into a repository."""
    return prefix + secrets.token_urlsafe(32)


def hashed(token: str) -> bytes:
    """What is stored of it. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
