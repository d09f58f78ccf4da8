"""Every link of every mail leads to a page, whose script may run, and to a route that takes its form."""

from __future__ import annotations

import re
from pathlib import Path

from pricepulse.access import entries
from pricepulse.accounts import link_page
from pricepulse.mail import TEMPLATES
from tests.people import People

FOLDER = Path(link_page.__file__).parents[1] / "mail_templates"


def test_every_link_of_a_mail_leads_to_a_page(site: People) -> None:
    texts = [path.read_text() for path in FOLDER.glob("*.txt")]
    linked = {path for text in texts for path in re.findall(r"public_url }}(/[\w-]+)", text)}
    assert linked == {"/verify-email", "/reset-password", "/forgot-password", "/register"}
    assert len(TEMPLATES.list_templates(extensions=["txt"])) == len(texts)
    routes = entries(site.app)
    for path in linked:
        answer = site.client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert f'"{path}": {{' in answer.text
        assert routes[f"POST /api/v1/auth{path}"].who == "public"


def test_the_page_asks_for_the_password_of_a_registration_only(site: People) -> None:
    """`&password` behind the token, in the one mail whose link takes a password that is known already."""
    with_password = {
        path.name for path in FOLDER.glob("*.txt") if "token }}&password\n" in path.read_text()
    }
    assert with_password == {"verify_address.txt"}
    page = site.client.get("/verify-email").text
    assert 'if (told.has("password")) page.fields.push(chosen);' in page
