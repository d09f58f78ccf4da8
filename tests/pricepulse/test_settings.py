from pathlib import Path

import pytest

from pricepulse.settings import PREFIX, Secret, Settings, SettingsError, table

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
