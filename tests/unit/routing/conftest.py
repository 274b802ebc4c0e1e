"""What the tests of batches begin with."""

import pytest

from pgproxy.routing.batchreader import BatchReader
from tests.support.batches import new_reader


@pytest.fixture
def reader() -> BatchReader:
    return new_reader()
