"""GET /docs: a page of the API that needs nothing but this server."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from pricepulse.docs import FOLDER, KINDS
from tests.served import Served, problem

# Attributes that make a browser fetch something.
FETCHED = {"src", "href", "srcset", "data", "poster", "action", "manifest"}


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [(tag, value) for name, value in attrs if name in FETCHED and value]
        if tag == "script" and "src" not in given:
            self.inline.append(tag)
        self.inline += [name for name in given if name.startswith("on")]


@pytest.fixture
def page(served: Served) -> httpx.Response:
    answer = served.client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer


def test_the_root_leads_to_the_docs(served: Served) -> None:
    answer = served.client.get("/")
    assert answer.is_redirect
    assert answer.headers["location"] == "/docs"


def test_the_page_fetches_only_from_this_server(served: Served, page: httpx.Response) -> None:
    links = Links(page.text)
    local = [(tag, link) for tag, link in links.found if not link.startswith("data:")]
    assert {tag for tag, _ in local} >= {"script", "link"}
    for _, link in local:
        assert link.startswith("/"), link
        assert not urlsplit(urljoin("http://here/docs", link)).netloc.removeprefix("here"), link
        answer = served.client.get(link)
        assert answer.status_code == 200, link
        assert len(answer.content) > 100, link
    # What the Content-Security-Policy would block anyway.
    assert links.inline == []


def test_styles_import_nothing_and_fetch_nothing_from_elsewhere(served: Served) -> None:
    for name in ("swagger-ui.css", "docs.css"):
        css = served.client.get(f"/docs/{name}").text
        assert "@import" not in css
        for link in re.findall(r"url\(\s*['\"]?([^'\")\s]+)", css):
            assert link.startswith("data:"), link


def test_the_script_asks_for_our_document_and_no_validator(served: Served) -> None:
    script = served.client.get("/docs/docs.js").text
    assert 'url: "/api/v1/openapi.json"' in script
    assert "validatorUrl: null" in script
    assert "://" not in script


def test_the_policy_lets_the_page_reach_nobody_else(page: httpx.Response) -> None:
    policy = {
        name: sources.split()
        for name, _, sources in (
            part.strip().partition(" ")
            for part in page.headers["content-security-policy"].split(";")
        )
    }
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'"]
    assert policy["connect-src"] == ["'self'"]
    allowed = {source for sources in policy.values() for source in sources}
    assert allowed <= {"'none'", "'self'", "'unsafe-inline'", "data:"}


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_every_file_is_served_as_it_is(served: Served, file: object) -> None:
    assert hasattr(file, "name")
    path = FOLDER / file.name
    answer = served.client.get(f"/docs/{path.name}")
    assert answer.content == path.read_bytes()
    assert answer.headers["content-type"] == f"{KINDS[path.suffix]}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = served.client.get(
        f"/docs/{path.name}", headers={"if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "..%2fapp.py", "%2e%2e/settings.py", "docs.js%00", "INDEX.HTML", ".", "a/b"],
)
def test_nothing_else_can_be_had(served: Served, name: str) -> None:
    answer = served.client.get(f"/docs/{name}", follow_redirects=False)
    if answer.status_code != 200:
        problem(answer, 404)
    else:  # the client has made /docs/ of "/docs/."
        assert name == "."
        assert "<!DOCTYPE html>" in answer.text
