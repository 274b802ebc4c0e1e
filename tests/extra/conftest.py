"""These tests need more than PyPI gives: `make test-all`, with what .ci/run installs.

A program that is missing fails its test, with a word on what to install: nobody who asks for these
tests wants them left out in silence.
"""

from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by the mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.extra)
