"""What the server keeps secret from whoever reads the database: sealed with a secret that is not in it.

Signing keys, TOTP secrets and mails that wait (there are links in them) are encrypted with
AES-256-GCM, each kind with a key of its own that HKDF (RFC 5869) makes of the server's secret. A
stolen backup of the database alone therefore signs nobody in.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pricepulse.settings import Settings

NONCE_BYTES = 12  # of a GCM nonce; drawn at random, it may serve 2**32 times (NIST SP 800-38D, 8.3)


class Unsealable(Exception):
    """Sealed with another secret, or changed since."""


class Sealer:
    def __init__(self, secret: bytes) -> None:
        self._key = cache(
            lambda kind: HKDF(SHA256(), 32, salt=None, info=f"pricepulse {kind}".encode()).derive(
                secret
            )
        )

    def seal(self, kind: str, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._key(kind)).encrypt(nonce, plain, None)

    def unseal(self, kind: str, sealed: bytes) -> bytes:
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return AESGCM(self._key(kind)).decrypt(nonce, rest, None)
        except (InvalidTag, ValueError) as error:
            raise Unsealable(kind) from error

    def derive(self, kind: str, data: bytes) -> bytes:
        """HMAC-SHA256: 32 bytes that follow from `data`, and that nobody without the secret can tell."""
        return hmac.digest(self._key(kind), data, "sha256")


def sealer(settings: Settings) -> Sealer:
    """With PRICEPULSE_SECRET, or the secret in the data folder, which the first start makes."""
    if settings.secret is not None:
        return Sealer(settings.secret.reveal().encode())
    return Sealer(_kept(settings.data / "secret.key"))


def _kept(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_private(new, secrets.token_hex(32).encode())
    try:
        # A link fails where the name is taken: of several processes that start, one makes the secret.
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink()
    return path.read_bytes()


def write_private(path: Path, content: bytes) -> None:
    """A file for the owner's eyes, on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
