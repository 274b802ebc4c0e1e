"""node-postgres and postgres.js: the same through the proxy as with PostgreSQL itself."""

from pathlib import Path

import pytest

from tests.extra.conftest import Compare
from tests.extra.system import prepared, program
from tests.support.comparison import session_sections

BOTH = [
    *("simple", "parameters", "prepared", "transaction", "batch", "cursor", "copy", "errors"),
    *("notifications", "cancel", "timeout", "reconnect", "reported", "large", "concurrent"),
    *session_sections("simple", "extended"),
]
SECTIONS = {
    "pg": [*BOTH, "reprepared", "notices", "query_timeout"],
    "postgres": [*BOTH, "unprepared", "pipelined_transaction", "settings"],
}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def programs() -> Path:
    program("node", "nodejs")
    return prepared("node", [program("npm", "npm"), "ci", "--no-audit", "--no-fund"])


@pytest.mark.parametrize(
    ("driver", "section"), [(driver, one) for driver in SECTIONS for one in SECTIONS[driver]]
)
def test_results_are_the_same(driver: str, section: str, programs: Path, compared: Compare) -> None:
    compared(["node", str(programs / f"{driver}.js")]).check(section)


@pytest.mark.parametrize("driver", SECTIONS)
def test_it_did_what_it_was_to_do(driver: str, programs: Path, compared: Compare) -> None:
    results = compared(["node", str(programs / f"{driver}.js")]).direct
    assert set(results) == set(SECTIONS[driver])
    assert results["errors"][0]["code"] == "22012"
    assert results["cancel"][0]["code"] == "57014"
    assert results["large"] is True
    assert results["copy"][0] is True
    assert results["concurrent"][0] is True
