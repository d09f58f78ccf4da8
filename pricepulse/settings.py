"""Settings: one frozen table, read once from the environment and the command's flags.

`PRICEPULSE_PORT=8000` and `--port 8000` are the same setting. A value that cannot be used, and a
`PRICEPULSE_` name that does not exist, stop the start with a sentence that says how to mend it.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pricepulse import providers
from pricepulse.providers import Provider
from pricepulse.secret import Secret

PREFIX = "PRICEPULSE_"
CHOICES = {"access_log", "log_format", "log_level", "rate_limit_store"}
SMTP_SCHEMES = ("smtp", "smtps", "smtp+plain")
ORIGIN = re.compile(r"https?://[^/\s?#@]+|\*")


class SettingsError(ValueError):
    """One line per setting that cannot be used; the command prints it and exits with code 2."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    data: Annotated[Path, Meta(description="the data folder", examples=["./data"])] = Path("data")
    catalog_url: Annotated[
        str,
        Meta(
            description="the lake's catalog; by default catalog.sqlite in the data folder",
            examples=["postgresql://lake@db/lake"],
        ),
    ] = ""
    lake_url: Annotated[
        str,
        Meta(
            description="where the lake keeps its Parquet files; by default lake/ in the data",
            examples=["s3://bucket/lake/"],
        ),
    ] = ""
    database_url: Annotated[
        Secret | None,
        Meta(
            description="the database of people; by default people.sqlite in the data folder",
            examples=["postgresql://pricepulse:PASSWORD@db/pricepulse"],
        ),
    ] = None
    secret: Annotated[
        Secret | None,
        Meta(
            description="what the server encrypts keys in the database with, at least 32 "
            "characters; by default secret.key in the data folder, made at the first start",
            examples=["$(openssl rand -hex 32)"],
        ),
    ] = None
    host: Annotated[str, Meta(min_length=1, description="the address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="0 takes a free one")] = 8000
    workers: Annotated[int, Meta(ge=1, le=256, description="processes that answer")] = 1
    ingest_key: Annotated[
        Secret | None,
        Meta(
            description="a key to take in data with that belongs to no account, for a first start and "
            "installations without accounts; at least 16 characters; API keys need no such setting",
            examples=["$(openssl rand -hex 24)"],
        ),
    ] = None
    max_upload_bytes: Annotated[
        int, Meta(ge=1024, description="largest upload as sent", examples=["1073741824"])
    ] = 1 << 30
    max_feed_bytes: Annotated[
        int, Meta(ge=1024, description="largest feed once unpacked", examples=["8589934592"])
    ] = 8 << 30
    vouch_days: Annotated[
        int, Meta(ge=1, le=365, description="how long one look vouches for a price")
    ] = 10
    keep_versions_minutes: Annotated[
        int, Meta(ge=1, description="how long a replaced build stays for those who read it")
    ] = 60
    public_url: Annotated[
        str,
        Meta(
            description="where people reach the front end: the links in mails begin with it; by "
            "default this server",
            examples=["https://prices.example"],
        ),
    ] = ""
    api_url: Annotated[
        str,
        Meta(
            description="where browsers reach this server; by default PRICEPULSE_PUBLIC_URL",
            examples=["https://api.prices.example"],
        ),
    ] = ""
    providers: tuple[Provider, ...] = ()  # PRICEPULSE_OIDC_<NAME>_…, see pricepulse/providers.py
    smtp_url: Annotated[
        Secret | None,
        Meta(
            description="the mail server: smtp:// with STARTTLS, smtps://, or smtp+plain:// "
            "without encryption; without it mails are files in outbox/ in the data folder",
            examples=["smtp://user:PASSWORD@mail.example:587"],
        ),
    ] = None
    mail_from: Annotated[
        str,
        Meta(description="the sender of mails", examples=["PricePulse <prices@example.org>"]),
    ] = "PricePulse <pricepulse@localhost>"
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="origins whose pages may call the API, by comma; * is all",
            examples=["https://prices.example,http://localhost:5173"],
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="addresses or networks whose X-Forwarded-For and -Proto are believed",
            examples=["127.0.0.1,10.0.0.0/8"],
        ),
    ] = ()
    rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="requests a minute for each address, each account and each API key; 0 is no limit",
        ),
    ] = 6000
    sign_in_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="failed sign-ins for one account before each costs 15 minutes of waiting "
            "where the account was never used; 0 is no limit on these, on mails and on links",
        ),
    ] = 10
    rate_limit_store: Annotated[
        Literal["memory", "database"],
        Meta(
            description="where limits are counted: each process for itself, or all together in the "
            "database of accounts"
        ),
    ] = "memory"
    answer_cache_mb: Annotated[
        int,
        Meta(ge=0, le=65536, description="memory for answers of a build, per process; 0 is none"),
    ] = 64
    access_log: Annotated[
        Literal["errors", "all", "off"],
        Meta(description="requests to log; 'errors' is status 400 and above, or over a second"),
    ] = "errors"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="lines for people or for a log collector")
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least that is logged")
    ] = "info"

    def __post_init__(self) -> None:
        fill = msgspec.structs.force_setattr  # frozen for everyone else
        fill(self, "data", self.data.expanduser().absolute())
        fill(self, "catalog_url", self.catalog_url or f"sqlite:///{self.data / 'catalog.sqlite'}")
        fill(self, "lake_url", self.lake_url or str(self.data / "lake"))
        host = f"[{self.host}]" if ":" in self.host else self.host
        fill(self, "public_url", self.public_url or f"http://{host}:{self.port}")
        fill(self, "api_url", self.api_url or self.public_url)

    @property
    def database(self) -> str:
        """URL of the transactional store, its password included: never to be printed."""
        url = self.database_url
        return url.reveal() if url else f"sqlite:///{self.data / 'people.sqlite'}"

    @classmethod
    def from_env(cls, env: Mapping[str, str], **overrides: Any) -> "Settings":
        """Settings of `env`, with `overrides` (the command's flags; None means not given).

        Raises SettingsError with all that is wrong at once.
        """
        given: dict[str, Any] = {
            name.removeprefix(PREFIX).lower(): value.strip()
            for name, value in env.items()
            if name.startswith(PREFIX) and value.strip()
        }
        given |= {name: value for name, value in overrides.items() if value is not None}
        types = get_type_hints(cls, include_extras=True)
        values: dict[str, Any] = {}
        wrong: list[str] = []
        of_providers = {name: given.pop(name) for name in [*given] if providers.NAME.match(name)}
        values["providers"] = providers.read(of_providers, wrong)
        del types["providers"]
        for name, value in given.items():
            if name not in types:
                wrong.append(_unknown(name, list(types)))
                continue
            try:
                values[name] = _read(name, types[name], value)
            except ValueError as error:
                wrong.append(_unusable(name, types[name], value, str(error)))
        if wrong:
            raise SettingsError("\n".join(wrong))
        return cls(**values)


def table() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, for `--help` and the documentation."""
    types = get_type_hints(Settings, include_extras=True)
    return [
        (
            PREFIX + field.name.upper(),
            _text(field.default),
            " ".join(filter(None, (meta.description for meta in _metas(types[field.name])))),
        )
        for field in msgspec.structs.fields(Settings)
        if field.name != "providers"
    ] + providers.table(PREFIX)


def _read(name: str, kind: Any, value: Any) -> Any:
    if name == "data":
        return Path(value)
    if name in SECRETS:
        secret = value if isinstance(value, Secret) else Secret(value)
        SECRETS[name](secret.reveal())
        return secret
    if name in {"public_url", "api_url"}:
        return _origin(value.rstrip("/"))
    if name == "mail_from":
        return _sender(value)
    if name in {"cors_origins", "trusted_proxies"}:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(_ITEMS[name](item.strip()) for item in items if item.strip())
    if name in CHOICES:
        value = str(value).lower()
    return msgspec.convert(value, kind, strict=False)


def _key(value: str, least: int = 16) -> None:
    if len(value) < least or not value.isascii() or not value.isprintable():
        raise ValueError(f"a key has at least {least} printable ASCII characters")


def _database(value: str) -> None:
    if not value.startswith(("sqlite:///", "postgresql://", "postgres://")):
        raise ValueError("it begins with sqlite:/// or postgresql://")


def _smtp(value: str) -> None:
    try:
        url = urlsplit(value)
        usable = url.scheme in SMTP_SCHEMES and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "it is " + ", ".join(f"{each}://" for each in SMTP_SCHEMES) + " and a host"
        )
    if url.scheme == "smtp+plain" and url.username:
        raise ValueError("smtp+plain:// would send the password unencrypted")


# What each must be; their values are shown nowhere.
SECRETS: dict[str, Callable[[str], None]] = {
    "ingest_key": _key,
    "database_url": _database,
    "secret": partial(_key, least=32),
    "smtp_url": _smtp,
}


def _sender(value: str) -> str:
    _, address = parseaddr(value)
    if "@" not in address or not value.isprintable():
        raise ValueError("it is an address, or a name and an address in <>")
    return value


def _origin(item: str) -> str:
    if not ORIGIN.fullmatch(item):
        raise ValueError(f"{item!r} is not an origin: scheme, host and port, nothing after it")
    return item


def _network(item: str) -> str:
    return str(ipaddress.ip_network(item, strict=False))


_ITEMS = {"cors_origins": _origin, "trusted_proxies": _network}


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    names = [PREFIX + each.upper() for each in (close or known)]
    meant = f"did you mean {names[0]}?" if close else "there are " + ", ".join(names)
    return f"{PREFIX}{name.upper()} is no setting: {meant}"


def _unusable(name: str, kind: Any, value: Any, why: str) -> str:
    shown = "***" if name in SECRETS else repr(str(value))
    if name in CHOICES:
        why = "it is one of " + ", ".join(_choices(kind))
    elif why.startswith("Expected `int`, got"):
        why = "it takes a whole number"
    examples = [str(each) for meta in _metas(kind) for each in meta.examples or ()]
    default = _text(getattr(Settings, "__struct_defaults__")[_position(name)])  # noqa: B009
    example = (examples or [default])[0]
    variable = PREFIX + name.upper()
    return f"{variable}={shown} cannot be used: {why}. For example {variable}={example}"


def _choices(kind: Any) -> list[str]:
    literal = get_args(kind)[0] if _metas(kind) else kind
    return list(get_args(literal))


def _position(name: str) -> int:
    return [field.name for field in msgspec.structs.fields(Settings)].index(name)


def _metas(kind: Any) -> list[Meta]:
    return [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta)]


def _text(value: Any) -> str:
    if value is None or value == ():
        return ""
    return ",".join(value) if isinstance(value, tuple) else str(value)
