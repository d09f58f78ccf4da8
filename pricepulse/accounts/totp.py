"""The second factor: codes of an authenticator (RFC 6238), and recovery codes for when it is lost."""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import time
from urllib.parse import quote

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse.accounts.tables import Account, RecoveryCode
from pricepulse.sealing import Sealer, Unsealable

STEP_SECONDS = 30
DIGITS = 6  # with SHA-1 and 30 s what every authenticator does
SECRET_BYTES = 20  # RFC 4226, 4: 160 bits
# RFC 6238, 5.2: at most one step for the delay; one ahead, since telephones' clocks are wrong, too.
DRIFT = (0, -1, 1)
# From the showing of a secret to its first code.
PENDING_SECONDS = 600
RECOVERY_CODES = 10
# 120 bits: below 112 NIST SP 800-63B-4, 3.1.2.2 and OWASP ASVS 5.0, 6.5.2 want a slow hash.
RECOVERY_BYTES = 15
log = logging.getLogger("pricepulse.accounts")


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def pending(sealer: Sealer, secret: bytes) -> bytes:
    """A secret that is shown and not proven yet, sealed with the time until which it may be."""
    until = int(time.time()) + PENDING_SECONDS
    return sealer.seal("totp pending", until.to_bytes(8, "big") + secret)


def pending_secret(sealer: Sealer, account: Account) -> bytes | None:
    """None where none was shown, or too long ago."""
    try:
        plain = sealer.unseal("totp pending", account.totp_pending or b"")
    except Unsealable:
        return None  # of another PRICEPULSE_SECRET: to be begun anew
    return plain[8:] if int.from_bytes(plain[:8], "big") > time.time() else None


def code_at(secret: bytes, step: int) -> str:
    """The code of a 30 s step (RFC 4226, 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(secret: bytes, code: str, after: int, now: float | None = None) -> int | None:
    """The step whose code it is, later than `after`: a code is good once (RFC 6238, 5.2)."""
    current = int(time.time() if now is None else now) // STEP_SECONDS
    for step in (current + drift for drift in DRIFT):
        if step > after and hmac.compare_digest(code_at(secret, step), code):
            return step
    return None


def base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def address_of(secret: bytes, email: str) -> str:
    """What the front end shows as a QR code."""
    return f"otpauth://totp/PricePulse:{quote(email)}?secret={base32(secret)}&issuer=PricePulse"


async def accept(db: AsyncSession, sealer: Sealer, account: Account, code: str) -> bool:
    """Whether the code is good, and it is used up then. `account` is locked by the caller."""
    assert account.totp
    given = code.strip().replace(" ", "").replace("-", "")
    if given.isascii() and given.isdigit() and len(given) == DIGITS:
        try:
            secret = sealer.unseal("totp", account.totp)
        except Unsealable:
            log.error("account %s has a second factor of another PRICEPULSE_SECRET", account.id)  # noqa: TRY400
            return False
        step = matching_step(secret, given, account.totp_step)
        if step is None:
            return False
        account.totp_step = step
        return True
    mine = RecoveryCode.hash == _hashed(sealer, account.id, given.upper())
    found = delete(RecoveryCode).where(mine, RecoveryCode.account_id == account.id)
    return (await db.scalar(found.returning(RecoveryCode.hash))) is not None


async def new_recovery_codes(db: AsyncSession, sealer: Sealer, account: Account) -> list[str]:
    """Ten codes to be shown once; they take the place of the old ones."""
    await db.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account.id))
    codes = [base32(secrets.token_bytes(RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]
    db.add_all(
        RecoveryCode(hash=_hashed(sealer, account.id, code), account_id=account.id)
        for code in codes
    )
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


def _hashed(sealer: Sealer, account_id: str, code: str) -> bytes:
    # Under the server's secret, so that a stolen database says nothing of them.
    return sealer.derive("recovery code", f"{account_id} {code}".encode())
