"""Where links in mails and sign-ins lead, on a server without a front end: one page with one form each.

Opening a link does nothing, the button does: mail scanners open links, too. The token is behind a
#, so that no server's log has it, and the page asks for it nowhere but in the body of a POST.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from litestar import get
from litestar.response.base import Response

from pricepulse.access import public

LINKS = Path(__file__).with_name("link_page.html").read_bytes()
SIGN_IN = Path(__file__).with_name("sign_in_page.html").read_bytes()


def _hash(page: bytes, tag: str) -> str:
    """What Content-Security-Policy allows of this page: its own script and style, and no other."""
    found = re.search(f"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
    assert found
    return "'sha256-" + base64.b64encode(hashlib.sha256(found[1]).digest()).decode() + "'"


def _csp(page: bytes) -> str:
    return (
        f"default-src 'none'; script-src {_hash(page, 'script')}; "
        f"style-src {_hash(page, 'style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


CSP = {page: _csp(page) for page in (LINKS, SIGN_IN)}


@get(
    ["/verify-email", "/reset-password", "/forgot-password", "/register"],
    **public(produces=("text/html",)),
    include_in_schema=False,
    sync_to_thread=False,
)
def link_page() -> Response[bytes]:
    return _shown(LINKS)


@get(
    ["/sign-in", "/signed-in"],
    **public(produces=("text/html",)),
    include_in_schema=False,
    sync_to_thread=False,
)
def sign_in_page() -> Response[bytes]:
    """Where providers' sign-ins begin and end."""
    return _shown(SIGN_IN)


def _shown(page: bytes) -> Response[bytes]:
    headers = {"content-security-policy": CSP[page], "cache-control": "no-store"}
    return Response(page, media_type="text/html", headers=headers)
