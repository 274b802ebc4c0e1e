"""tokio-postgres: the same through the proxy as with PostgreSQL itself."""

import pytest

from tests.extra.conftest import Compare
from tests.extra.system import prepared, program
from tests.support.comparison import session_sections

SECTIONS = [
    *("simple", "parameters", "prepared", "transaction", "pipeline", "cursor", "copy", "errors"),
    *("notifications", "cancel", "timeouts", "reconnect", "reported", "large", "concurrent"),
    *session_sections("simple", "extended"),
]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def driver() -> list[str]:
    cargo = program("cargo", "cargo-web")
    program("rustc", "rustc-web")
    place = prepared("rust", [cargo, "build", "--quiet"])
    return [str(place / "target" / "debug" / "drivers")]


@pytest.mark.parametrize("section", SECTIONS)
def test_results_are_the_same(section: str, driver: list[str], compared: Compare) -> None:
    compared(driver).check(section)


def test_it_did_what_it_was_to_do(driver: list[str], compared: Compare) -> None:
    results = compared(driver).direct
    assert set(results) == set(SECTIONS)
    assert results["errors"][0][1] == "22012"
    assert results["copy"][:2] == [20000, True]
    assert results["cancel"][0][1] == "57014"
    assert results["large"] == [True]
    assert results["concurrent"] == [True, [["16000"]]]
