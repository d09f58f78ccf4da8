"""What is no address of mail that anything is sent to."""

import pytest

from pricepulse.accounts.addresses import Address
from pricepulse.errors import UnprocessableError
from tests.jobs.test_deliver import ENCODED


@pytest.mark.parametrize("text", ENCODED)
def test_an_encoded_word_is_none(text: str) -> None:
    """RFC 2047, 5: it may not be part of an address; parsers decode it all the same."""
    with pytest.raises(UnprocessableError) as told:
        Address.from_text(text)
    assert told.value.errors[0].pointer == "/body/email"
    assert Address.from_text("what?=so@example.org").key == "what?=so@example.org"
