from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.people import People, people


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[People]:
    """A server with an empty database, on both kinds."""
    with people(database, tmp_path) as made:
        yield made
