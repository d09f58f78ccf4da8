"""One server over one folder for all tests that only read, and two that take batches."""

from collections.abc import Iterator

import pytest

from tests.intake import SMALL, Intake, intake_of
from tests.served import Known, Served, expected_product, shared_server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared_server(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(scope="session")
def known(served: Served) -> Known:
    """What the oracle says of each product, by the id that the API gave it."""
    expected = served.market.products()
    found = {}
    for item in served.walk("/products", limit=200):
        page = served.get(f"/products/{item['product_id']}")
        offers = {(offer["retailer"], offer["sku"]) for offer in page["offers"]}
        assert offers in expected.values()
        found[item["product_id"]] = expected_product(served.market, offers)
    assert len(found) == len(expected)
    return found


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    """With the limits that a server has if nobody sets any."""
    yield from intake_of(tmp_path_factory.mktemp("intake"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    limits = {"max_upload_bytes": SMALL, "max_feed_bytes": SMALL}
    yield from intake_of(tmp_path_factory.mktemp("small"), **limits)
