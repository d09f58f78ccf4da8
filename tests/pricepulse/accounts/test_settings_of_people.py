"""GET, PATCH /users/me/settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.people import People, refused

DEFAULTS = {
    "currency": None,
    "locale": "en",
    "time_zone": "UTC",
    "theme": "system",
    "privacy": {"keep_activity": False},
}
ADDRESS = "/users/me/settings"


def test_settings_begin_private_and_change_one_by_one(site: People) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    answer = site.send("GET", ADDRESS, access)
    assert answer.json() == DEFAULTS
    assert answer.headers["cache-control"] == "no-store"
    expected: dict[str, Any] = dict(DEFAULTS)
    for given, kept in (
        ({"currency": "chf"}, {"currency": "CHF"}),
        ({"locale": "DE-ch-1996-U-CO-Phonebk"}, {"locale": "de-CH-1996-u-co-phonebk"}),
        ({"locale": "zh-hant-tw"}, {"locale": "zh-Hant-TW"}),
        ({"time_zone": "Europe/Zurich"}, {"time_zone": "Europe/Zurich"}),
        ({"theme": "dark"}, {"theme": "dark"}),
        ({"privacy": {"keep_activity": True}}, {"privacy": {"keep_activity": True}}),
        ({"privacy": {}}, {}),
        ({}, {}),
        ({"currency": None, "theme": "light"}, {"currency": None, "theme": "light"}),
    ):
        expected |= kept
        assert site.send("PATCH", ADDRESS, access, **given).json() == expected
        assert site.send("GET", ADDRESS, access).json() == expected
    # Somebody else's are their own.
    site.registered("bob@example.org")
    other = site.signed_in("bob@example.org")["access_token"]
    assert site.send("GET", ADDRESS, other).json() == DEFAULTS


@pytest.mark.parametrize(
    ("given", "status", "pointer"),
    [
        ({"currency": "EURO"}, 400, "/body/currency"),
        ({"currency": "XXX"}, 422, "/body/currency"),
        ({"locale": "english please"}, 400, "/body/locale"),
        ({"locale": "de\n"}, 400, "/body/locale"),
        ({"locale": "x-" + "a" * 8}, 400, "/body/locale"),
        ({"time_zone": "Mars/Olympus"}, 422, "/body/time_zone"),
        ({"time_zone": "../../etc/passwd"}, 422, "/body/time_zone"),
        ({"time_zone": "\x00"}, 422, "/body/time_zone"),
        ({"time_zone": ""}, 400, "/body/time_zone"),
        ({"theme": "pink"}, 400, "/body/theme"),
        ({"theme": None}, 400, "/body/theme"),
        ({"privacy": {"keep_activity": "perhaps"}}, 400, "/body/privacy/keep_activity"),
        ({"privacy": {"owner_id": True}}, 400, "/body/privacy"),
        ({"account_id": "x"}, 400, ""),
    ],
)
def test_what_is_no_setting_is_refused_and_changes_nothing(
    site: People, given: dict[str, Any], status: int, pointer: str
) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    refused(site.send("PATCH", ADDRESS, access, **{"theme": "dark"} | given), status, pointer)
    assert site.send("GET", ADDRESS, access).json() == DEFAULTS


def test_first_changes_at_once_are_all_kept(site: People) -> None:
    site.registered()
    access = site.signed_in()["access_token"]
    changes: list[dict[str, Any]] = [
        {"theme": "dark"}, {"locale": "fr"}, {"currency": "USD"}, {"time_zone": "Asia/Tokyo"},
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda each: site.send("PATCH", ADDRESS, access, **each), changes))
    assert [each.status_code for each in answers] == [200] * 4
    found = site.send("GET", ADDRESS, access).json()
    assert {name: found[name] for each in changes for name in each} == {
        name: value for each in changes for name, value in each.items()
    }
