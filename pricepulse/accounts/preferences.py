"""GET, PATCH /users/me/settings: currency, language, time zone, theme, privacy."""

from __future__ import annotations

import asyncio
import zoneinfo
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get, patch
from litestar.params import JSONBody
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from pricepulse import audit
from pricepulse.access import Role, Scope, may
from pricepulse.accounts.belongings import Preferences
from pricepulse.accounts.me import OWN, Own, lock
from pricepulse.accounts.tables import Account
from pricepulse.accounts.tokens import Claims
from pricepulse.contract import CURRENCY, END
from pricepulse.errors import FieldError, UnprocessableError, told_as
from pricepulse.store import Db
from warehouse.currencies import CURRENCIES

# RFC 5646, 2.1, without extended languages, private use and the grandfathered: language, script,
# region, variants, extensions (`de-CH-u-co-phonebk`).
LOCALE = told_as(
    rf"^[A-Za-z]{{2,3}}(-[A-Za-z]{{4}})?(-([A-Za-z]{{2}}|[0-9]{{3}}))?"
    rf"(-([A-Za-z0-9]{{5,8}}|[0-9][A-Za-z0-9]{{3}}))*(-[A-WY-Za-wy-z0-9](-[A-Za-z0-9]{{2,8}})+)*{END}",
    "must be a language tag (BCP 47), like en, de-CH or zh-Hant-TW",
)
Locale = Annotated[str, Meta(max_length=35, pattern=LOCALE)]  # 4.4.1: room for any useful tag
TimeZone = Annotated[
    str, Meta(min_length=1, max_length=64, description="Of the IANA's, `Europe/Zurich`.")
]
Code = Annotated[str, Meta(pattern=CURRENCY, description="ISO 4217 code.")]
Theme = Literal["light", "dark", "system"]


class Privacy(msgspec.Struct, frozen=True):
    """`keep_activity`: whether what the account looks at may be kept, for recommendations. As long as
    it is false nothing of that kind is."""

    keep_activity: bool = False


class OwnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`currency`: the own lists are shown in it where reference rates allow; null is each product's
    own."""

    currency: str | None
    locale: str
    time_zone: str
    theme: Theme
    privacy: Privacy

    @classmethod
    def from_row(cls, row: Preferences) -> OwnSettings:
        return cls(
            currency=row.currency,
            locale=row.locale,
            time_zone=row.time_zone,
            theme=row.theme,  # type: ignore[arg-type]
            privacy=Privacy(row.keep_activity),
        )


class PrivacyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keep_activity: bool | UnsetType = UNSET


class SettingsChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not given stays as it is. `currency`: null takes it away."""

    currency: Code | UnsetType | None = UNSET
    locale: Locale | UnsetType = UNSET
    time_zone: TimeZone | UnsetType = UNSET
    theme: Theme | UnsetType = UNSET
    privacy: PrivacyChange | UnsetType = UNSET


@get("/users/me/settings", **may(Role.USER, Scope.READ), **OWN)
async def get_settings(me: Own, db: Db) -> OwnSettings:
    """How the account wants to see things, and what may be kept of it."""
    return OwnSettings.from_row(await preferences_of(db, me))


@patch("/users/me/settings", **may(Role.USER, problems=(422,)), **OWN)
async def change_settings(
    request: Request[Claims, Any, Any], data: JSONBody[SettingsChange], me: Own, db: Db
) -> OwnSettings:
    """Change some of the settings."""
    await _check(data)
    # Locked: two first changes at once would both insert.
    await lock(db, me)
    row = await preferences_of(db, me)
    before = OwnSettings.from_row(row)
    for name in ("locale", "time_zone", "theme", "currency"):
        given = getattr(data, name)
        if given is not UNSET:
            setattr(row, name, given)
    if data.currency:
        row.currency = data.currency.upper()
    if data.locale:
        row.locale = _canonical(data.locale)
    if data.privacy and data.privacy.keep_activity is not UNSET:
        row.keep_activity = data.privacy.keep_activity
    if OwnSettings.from_row(row) != before:
        db.add(row)
        audit.record(db, "account.settings", f"account:{me.id}", request=request, actor=me.id)
    return OwnSettings.from_row(row)


async def preferences_of(db: AsyncSession, me: Account) -> Preferences:
    """The account's row; where it has none, one with the defaults that is not stored."""
    return await db.get(Preferences, me.id) or Preferences(
        account_id=me.id, locale="en", time_zone="UTC", theme="system", keep_activity=False
    )


async def _check(data: SettingsChange) -> None:
    wrong: list[FieldError] = []
    if data.currency and data.currency.upper() not in CURRENCIES:
        wrong.append(FieldError("/body/currency", "is no currency of ISO 4217"))
    if data.time_zone and data.time_zone not in await asyncio.to_thread(_time_zones):
        told = "is no time zone of the IANA's, like Europe/Zurich or UTC"
        wrong.append(FieldError("/body/time_zone", told))
    if wrong:
        said = (f"{each.pointer.rpartition('/')[2]} {each.detail}" for each in wrong)
        raise UnprocessableError("; ".join(said), errors=wrong)


@cache
def _time_zones() -> set[str]:
    """Reads 600 files, once: 0.1 s."""
    return zoneinfo.available_timezones()


def _canonical(tag: str) -> str:
    """In the case that people write it in (RFC 5646, 2.1.1); tags mean the same in any."""
    language, *rest = tag.lower().split("-")
    parts = [language]
    for part in rest:
        extended = any(len(each) == 1 for each in parts)
        if not extended and len(part) == 2:
            parts.append(part.upper())
        elif not extended and len(part) == 4 and part.isalpha():
            parts.append(part.title())
        else:
            parts.append(part)
    return "-".join(parts)


ROUTES = (get_settings, change_settings)
