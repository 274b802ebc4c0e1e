"""pgx in its modes, with its pool: the same through the proxy as with PostgreSQL itself."""

import pytest

from tests.extra.conftest import Compare
from tests.extra.system import prepared, program
from tests.support.comparison import session_sections

MODES = ["cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"]
SECTIONS = [
    *("simple", "parameters", "prepared", "reprepared", "transaction", "batch", "pipeline"),
    *("cursor", "copy", "errors", "notices", "notifications", "cancel", "timeout", "reconnect"),
    *("reported", "large", "concurrent"),
    *session_sections("pgx"),
]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def driver() -> str:
    go = program("go", "golang-go")
    return f"{prepared('go', [go, 'build', '-mod=readonly', '-o', 'drivers', '.'])}/drivers"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("section", SECTIONS)
def test_results_are_the_same(section: str, mode: str, driver: str, compared: Compare) -> None:
    compared([driver, mode]).check(section)


@pytest.mark.parametrize("mode", MODES)
def test_it_did_what_it_was_to_do(mode: str, driver: str, compared: Compare) -> None:
    results = compared([driver, mode]).direct
    assert set(results) == set(SECTIONS)
    assert results["errors"][0][0] == "22012"
    assert results["copy"][:3] == [20000, "COPY 20000", True]
    assert results["cancel"][0][0] == "57014"
    assert results["large"] == [True]
    assert results["concurrent"] == [True, [[16000]]]
