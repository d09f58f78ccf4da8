"""Whom people may sign in with: `PRICEPULSE_OIDC_<NAME>_ISSUER` and the like, any number of names.

A provider either has an issuer, and its OpenID configuration says the rest, or is one of plain
OAuth 2 (GitHub): then its addresses are told one by one.
"""

import difflib
import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pricepulse.secret import Secret

NAME = re.compile(r"oidc_(?:([a-z][a-z0-9]{0,31})_)?(\w*)")
YES_OR_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
URLS = ("authorize_url", "token_url", "userinfo_url")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    issuer: Annotated[
        str,
        Meta(description="an OpenID provider's issuer, exactly as it writes it in its ID tokens"),
    ] = ""
    client_id: Annotated[str, Meta(description="what the provider knows this server by")] = ""
    client_secret: Annotated[
        Secret | None, Meta(description="given with it; none for a public client")
    ] = None
    scopes: Annotated[
        str, Meta(description="what is asked for; of OpenID providers `openid email profile`")
    ] = ""
    title: Annotated[str, Meta(description="what the button says; by default the name")] = ""
    trust_email: Annotated[
        bool,
        Meta(
            description="whether an address counts as proven where the provider says so: it then "
            "makes accounts, and links itself to the one with that address"
        ),
    ] = False
    authorize_url: Annotated[
        str, Meta(description="of plain OAuth 2, instead of an issuer: where browsers are sent")
    ] = ""
    token_url: Annotated[str, Meta(description="likewise: where codes become tokens")] = ""
    userinfo_url: Annotated[
        str, Meta(description="likewise: says who it is, with `id` and `name` or `login`")
    ] = ""
    emails_url: Annotated[
        str,
        Meta(description="likewise, if there is one: a list of `email`, `primary`, `verified`"),
    ] = ""

    def __post_init__(self) -> None:
        fill = msgspec.structs.force_setattr  # frozen for everyone else
        fill(self, "title", self.title or self.name.capitalize())
        fill(self, "scopes", self.scopes or ("openid email profile" if self.issuer else ""))

    @property
    def authority(self) -> str:
        """Whose subjects they are. Of another issuer the same subject is somebody else, even if the
        operator gives that issuer the old name."""
        return self.issuer or self.userinfo_url


FIELDS = [field for field in msgspec.structs.fields(Provider) if field.name != "name"]


def read(given: dict[str, Any], wrong: list[str]) -> tuple[Provider, ...]:
    """The providers of these settings (names in lower case, without prefix); adds to `wrong` a
    sentence for each that cannot be used."""
    by_name: dict[str, dict[str, Any]] = {}
    for setting, value in given.items():
        found = NAME.fullmatch(setting)
        name, field = found.groups() if found else (None, "")
        fault = _fault(field, value) if name else "it is PRICEPULSE_OIDC_<NAME>_<FIELD>"
        if fault:
            wrong.append(f"PRICEPULSE_{setting.upper()} cannot be used: {fault}")
        else:
            by_name.setdefault(str(name), {})[field] = _value(field, value)
    made = [Provider(name=name, **fields) for name, fields in sorted(by_name.items())]
    if not wrong:
        wrong += [
            f"PRICEPULSE_OIDC_{each.name.upper()}_…: {fault}"
            for each in made
            if (fault := _incomplete(each))
        ]
    return tuple(made)


def is_safe(url: str, *, loopback: bool = True) -> bool:
    """Whether what is sent there can be read by nobody on the way: TLS, or this very machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = host and not parts.username and not parts.fragment and url.isascii()
    if not plain or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (loopback and parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def table(prefix: str) -> list[tuple[str, str, str]]:
    """(variable, default, meaning), as `pricepulse.settings.table` has them."""
    return [
        (f"{prefix}OIDC_<NAME>_{field.name.upper()}", "", meta.description or "")
        for field in FIELDS
        for meta in field.type.__metadata__
    ]


def _fault(field: str, value: Any) -> str | None:
    known = [each.name for each in FIELDS]
    if field not in known:
        close = difflib.get_close_matches(field, known, n=1) or known
        return "the fields are " + ", ".join(each.upper() for each in close)
    if field == "trust_email" and str(value).lower() not in YES_OR_NO:
        return "it is true or false"
    if (field in URLS or field in {"issuer", "emails_url"}) and not is_safe(value):
        return "it is an https:// address, or http:// on this machine's loopback"
    if field == "issuer" and "?" in value:  # OpenID Connect Core, 1.2
        return "an issuer has no query"
    return None


def _value(field: str, value: Any) -> Any:
    if field == "client_secret":
        return value if isinstance(value, Secret) else Secret(value)
    return YES_OR_NO[str(value).lower()] if field == "trust_email" else value


def _incomplete(provider: Provider) -> str | None:
    told = [name for name in URLS if getattr(provider, name)]
    if not provider.client_id:
        return "CLIENT_ID is missing"
    if bool(provider.issuer) == bool(told or provider.emails_url):
        return "it takes either ISSUER, or AUTHORIZE_URL, TOKEN_URL and USERINFO_URL"
    if told and len(told) < len(URLS):
        return "missing: " + ", ".join(name.upper() for name in URLS if name not in told)
    if provider.issuer and "openid" not in provider.scopes.split():
        return "SCOPES of an OpenID provider include openid"
    return None
