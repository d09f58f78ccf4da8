from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pricepulse.accounts import oidc
from tests.databases import Databases
from tests.people import People, people
from tests.providers import CALLBACK, CLIENT, SECRET, OwnProvider, nanoidp, own_provider
from tests.shops import Shops, shops


@pytest.fixture(scope="session")
def servers(
    all_databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], People]]:
    """One server for each kind of database; to start one takes half a second."""
    made: dict[str, People] = {}
    with ExitStack() as stack:

        def server(kind: str) -> People:
            if kind not in made:
                database = all_databases.migrated(kind)
                made[kind] = stack.enter_context(people(database, tmp_path_factory.mktemp(kind)))
            return made[kind]

        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, servers: Callable[[str], People]) -> People:
    """A server where nobody has an account, on both kinds of database."""
    found = servers(request.param)
    found.forget_everybody()
    return found


@pytest.fixture
def own_site(database: str, tmp_path: Path) -> Iterator[People]:
    """The same for tests that change the server itself."""
    with people(database, tmp_path) as made:
        yield made


@pytest.fixture
def market(database: str, tmp_path: Path) -> Iterator[Shops]:
    """A server over a market of its own, where nobody has an account and nothing is sold yet."""
    with shops(database, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def real_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Issuer of a nanoidp."""
    with nanoidp(tmp_path_factory.mktemp("nanoidp"), CALLBACK.format("nano")) as issuer:
        yield issuer


@pytest.fixture(scope="session")
def own_providers() -> Iterator[tuple[OwnProvider, OwnProvider]]:
    with own_provider() as first, own_provider() as second:
        yield first, second


@pytest.fixture
def own(own_providers: tuple[OwnProvider, OwnProvider]) -> OwnProvider:
    """`own`, trusted to prove addresses, and `hub`, the same machine without ID tokens."""
    own_providers[0].reset()
    return own_providers[0]


@pytest.fixture
def wary(own_providers: tuple[OwnProvider, OwnProvider]) -> OwnProvider:
    """`wary`: its word does not count for addresses."""
    own_providers[1].reset()
    return own_providers[1]


@pytest.fixture(scope="session")
def doors(
    all_databases: Databases,
    tmp_path_factory: pytest.TempPathFactory,
    own_providers: tuple[OwnProvider, OwnProvider],
) -> Iterator[Callable[[str], People]]:
    """Servers with those providers, one for each kind of database."""
    made: dict[str, People] = {}
    first, second = (each.issuer for each in own_providers)
    given = {
        "oidc_own_issuer": first,
        "oidc_own_trust_email": "true",
        "oidc_own_title": "Own & Co",
        "oidc_wary_issuer": second,
        "oidc_hub_authorize_url": f"{first}/authorize",
        "oidc_hub_token_url": f"{first}/token",
        "oidc_hub_userinfo_url": f"{first}/user",
        "oidc_hub_emails_url": f"{first}/user/emails",
        "oidc_hub_scopes": "read:user user:email",
        "oidc_hub_trust_email": "true",
    }
    for name in ("own", "wary", "hub"):
        given |= {f"oidc_{name}_client_id": CLIENT, f"oidc_{name}_client_secret": SECRET}
    with ExitStack() as stack:

        def server(kind: str) -> People:
            if kind not in made:
                database = all_databases.migrated(kind)
                folder = tmp_path_factory.mktemp(kind)
                made[kind] = stack.enter_context(people(database, folder, **given))
            return made[kind]

        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def door(request: pytest.FixtureRequest, doors: Callable[[str], People]) -> People:
    """A server where nobody has an account and nothing is known of any provider yet."""
    found = doors(request.param)
    found.forget_everybody()
    connections = found.app.state["providers"]
    for name, each in connections.items():
        connections[name] = oidc.connect(each.provider, each.client)
    return found
