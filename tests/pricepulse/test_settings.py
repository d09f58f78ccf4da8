from pathlib import Path

import pytest

from pricepulse.secret import Secret
from pricepulse.settings import PREFIX, Settings, SettingsError, table

KEY = "a-key-of-24-characters-x"


def test_defaults_lie_inside_the_data_folder(tmp_path: Path) -> None:
    settings = Settings.from_env({"PRICEPULSE_DATA": str(tmp_path), "HOME": "/nowhere"})
    assert settings.data == tmp_path
    assert settings.catalog_url == f"sqlite:///{tmp_path}/catalog.sqlite"
    assert settings.lake_url == f"{tmp_path}/lake"
    assert settings.ingest_key is None
    assert (settings.host, settings.port, settings.vouch_days) == ("127.0.0.1", 8000, 10)


def test_flags_win_over_the_environment_and_none_is_not_given() -> None:
    settings = Settings.from_env({"PRICEPULSE_PORT": "9000"}, port=9001, host=None)
    assert settings.port == 9001
    assert settings.host == "127.0.0.1"


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_env({"PRICEPULSE_INGEST_KEY": "", "PRICEPULSE_PORT": " "}).port == 8000


def test_lists_are_read_by_comma() -> None:
    settings = Settings.from_env(
        {
            "PRICEPULSE_CORS_ORIGINS": "https://a.example, http://localhost:5173",
            "PRICEPULSE_TRUSTED_PROXIES": "127.0.0.1,10.1.2.3/8,",
        }
    )
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")
    assert settings.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "abc", "it takes a whole number. For example PRICEPULSE_PORT=8000"),
        ("PORT", "70000", "<= 65535"),
        ("WORKERS", "0", ">= 1"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("ACCESS_LOG", "some", "one of errors, all, off"),
        ("CORS_ORIGINS", "a.example", "'a.example' is not an origin"),
        ("CORS_ORIGINS", "https://a.example/path", "is not an origin"),
        ("TRUSTED_PROXIES", "1.2.3", "'1.2.3' does not appear to be an IPv4 or IPv6 network"),
        ("INGEST_KEY", "short", "at least 16 printable ASCII characters"),
        ("INGST_KEY", KEY, "did you mean PRICEPULSE_INGEST_KEY?"),
        ("XYZ", "1", "there are PRICEPULSE_DATA, "),
    ],
)
def test_what_cannot_be_used_is_named_with_the_way_out(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({PREFIX + name: value})
    assert str(refused.value).startswith(PREFIX + name)
    assert told in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"PRICEPULSE_PORT": "x", "PRICEPULSE_WORKERS": "y"})
    assert len(str(refused.value).splitlines()) == 2


def test_the_key_is_never_shown() -> None:
    settings = Settings.from_env({"PRICEPULSE_INGEST_KEY": KEY})
    assert KEY not in f"{settings} {settings!r} {settings.ingest_key!s}"
    assert isinstance(settings.ingest_key, Secret)
    assert settings.ingest_key.matches(KEY)
    assert not settings.ingest_key.matches(KEY + "x")
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"PRICEPULSE_INGEST_KEY": "tooshort"})
    assert "tooshort" not in str(refused.value)


def test_settings_are_frozen_and_each_is_explained() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]
    assert all(meaning for _, _, meaning in table())


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("DATABASE_URL", "postgresql://u:canary@db/people", "mysql://u:canary@db/people"),
        ("SMTP_URL", "smtp://u:canary@mail.example:587", "smtp+plain://u:canary@mail.example"),
        ("SECRET", "canary" * 6, "canary"),
    ],
)
def test_secrets_are_shown_neither_when_good_nor_when_bad(name: str, good: str, bad: str) -> None:
    assert "canary" not in repr(Settings.from_env({PREFIX + name: good}))
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({PREFIX + name: bad})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("bad", ["mail.example", "smtp://", "http://mail.example", "smtp://[::1"])
def test_what_is_no_mail_server_is_refused(bad: str) -> None:
    with pytest.raises(SettingsError, match="smtp://"):
        Settings.from_env({"PRICEPULSE_SMTP_URL": bad})


def test_the_database_is_a_file_unless_said_otherwise(tmp_path: Path) -> None:
    assert Settings.from_env({}, data=tmp_path).database == f"sqlite:///{tmp_path}/people.sqlite"


OIDC = "PRICEPULSE_OIDC_"
GOOGLE = {
    f"{OIDC}GOOGLE_ISSUER": "https://accounts.google.com",
    f"{OIDC}GOOGLE_CLIENT_ID": "1234",
    f"{OIDC}GOOGLE_CLIENT_SECRET": "canary",
}
HUB = {
    f"{OIDC}HUB_CLIENT_ID": "5678",
    f"{OIDC}HUB_AUTHORIZE_URL": "https://hub.example/authorize",
    f"{OIDC}HUB_TOKEN_URL": "https://hub.example/token",
    f"{OIDC}HUB_USERINFO_URL": "https://api.hub.example/user",
}


def test_providers_have_names_of_their_own() -> None:
    settings = Settings.from_env(GOOGLE | HUB | {f"{OIDC}HUB_TRUST_EMAIL": "Yes"})
    google, hub = settings.providers
    assert (google.name, google.title, google.trust_email) == ("google", "Google", False)
    assert (google.scopes, hub.scopes) == ("openid email profile", "")
    assert (google.authority, hub.authority) == (
        "https://accounts.google.com",
        "https://api.hub.example/user",
    )
    assert hub.trust_email
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({f"{OIDC}GOOGLE_ISSUER": "https://accounts.google.com"}, "CLIENT_ID is missing"),
        ({f"{OIDC}GOOGLE_CLIENT_ID": "1"}, "either ISSUER, or AUTHORIZE_URL"),
        (GOOGLE | {f"{OIDC}GOOGLE_TOKEN_URL": "https://x.example"}, "either ISSUER, or"),
        (GOOGLE | {f"{OIDC}GOOGLE_SCOPES": "email"}, "include openid"),
        (GOOGLE | {f"{OIDC}GOOGLE_ISUER": "x"}, "the fields are ISSUER"),
        (GOOGLE | {f"{OIDC}GOOGLE_TRUST_EMAIL": "maybe"}, "it is true or false"),
        (GOOGLE | {f"{OIDC}ISSUER": "x"}, "it is PRICEPULSE_OIDC_<NAME>_<FIELD>"),
        ({k: v for k, v in HUB.items() if "TOKEN" not in k}, "missing: TOKEN_URL"),
        ({"PRICEPULSE_PROVIDERS": "google"}, "is no setting"),
    ],
)
def test_a_provider_that_cannot_be_used_is_told_of(given: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(given)
    assert told in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://sso.example", "http://127.0.0.1.example", "http://10.0.0.1", "ftp://localhost",
        "https://", "https://user:canary@sso.example", "https://sso.example/?realm=1",
        "https://sso.example#x", "//sso.example", "https://sso.example:port", "http://[::1",
    ],
)  # fmt: skip
def test_secrets_go_over_tls_or_stay_on_this_machine(issuer: str) -> None:
    with pytest.raises(SettingsError, match=r"https://|no query"):
        Settings.from_env(GOOGLE | {f"{OIDC}GOOGLE_ISSUER": issuer})
    for good in ("https://sso.example/realms/a", "http://localhost:8080", "http://[::1]:1"):
        assert Settings.from_env(GOOGLE | {f"{OIDC}GOOGLE_ISSUER": good}).providers
