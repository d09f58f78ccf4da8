from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.people import People, people
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
