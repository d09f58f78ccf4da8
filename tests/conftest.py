"""Fixtures of all tests: a pipeline of one's own, in a fresh folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.databases import Databases, databases
from tests.pipeline import Pipeline

# Shrinking a failure of a property that builds warehouses takes minutes and more.
settings.register_profile(
    "check", deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
settings.load_profile("check")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(tmp_path / "data")
    yield made
    made.lake.close()


@pytest.fixture
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Pipeline]]:
    """As many as a Hypothesis test asks for; closed at the end."""
    made: list[Pipeline] = []

    def fresh() -> Pipeline:
        made.append(Pipeline(tmp_path_factory.mktemp("data")))
        return made[-1]

    yield fresh
    for each in made:
        each.lake.close()


@pytest.fixture(scope="session")
def all_databases() -> Iterator[Databases]:
    with databases() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, all_databases: Databases) -> str:
    """URL of a fresh database with the newest schema; the test runs on both kinds."""
    return all_databases.migrated(request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def blank_database(request: pytest.FixtureRequest, all_databases: Databases) -> str:
    """URL of an empty database; the test runs on both kinds."""
    return all_databases.blank(request.param)
