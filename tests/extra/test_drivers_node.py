"""node-postgres and postgres.js: the same through the proxy as with PostgreSQL itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.extra.system import prepared, program

SECTIONS = {"simple", "parameters", "prepared", "transaction", "batch", "cursor", "copy", "errors"}
SECTIONS |= {"notifications", "cancel", "timeout", "large", "concurrent"}


@pytest.fixture(scope="module")
def programs() -> Path:
    program("node", "nodejs")
    return prepared("node", [program("npm", "npm"), "ci", "--no-audit", "--no-fund"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("driver", ["pg", "postgres"])
def test_results_are_the_same(
    driver: str, programs: Path, same_results: Callable[..., dict[str, Any]]
) -> None:
    results = same_results(["node", str(programs / f"{driver}.js")])
    assert set(results) >= SECTIONS
    assert results["errors"][0]["code"] == "22012"
    assert results["large"] is True
    assert results["copy"][0] is True
    assert results["concurrent"][0] is True
