"""pgjdbc in its modes, and HikariCP: the same through the proxy as with PostgreSQL itself."""

import os

import pytest

from tests.extra.conftest import Compare
from tests.extra.system import prepared, program
from tests.support.comparison import session_sections

MODES = [
    "autosave=never",
    "autosave=always&prepareThreshold=1",
    "preferQueryMode=simple",
    "preferQueryMode=extendedCacheEverything",
    "prepareThreshold=0&defaultRowFetchSize=3",
]
# Those that differ less; PGPROXY_DRIVER_MODES=all.
if os.environ.get("PGPROXY_DRIVER_MODES") == "all":
    MODES += [
        "autosave=always",
        "autosave=conservative&prepareThreshold=1",
        "preferQueryMode=extendedForPrepared&reWriteBatchedInserts=true",
        "prepareThreshold=-1",
        "targetServerType=primary&options=-c%20work_mem=5MB&ApplicationName=java",
        # Its settings are then in the start-up packet; else it begins every session with a SET.
        "assumeMinServerVersion=9.0",
    ]
SECTIONS = [
    *("simple", "parameters", "prepared", "reprepared", "transaction", "autosave", "batch"),
    *("cursor", "copy", "errors", "notices", "calls", "notifications", "cancel", "timeouts"),
    *("reconnect", "reported", "large", "concurrent"),
    *session_sections("pgjdbc"),
]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def driver() -> list[str]:
    """The command up to the program's arguments."""
    javac = program("javac", "default-jdk-headless")
    drivers = "target/dependency/*"
    place = prepared(
        "java",
        [program("mvn", "maven"), "--quiet", "--batch-mode", "dependency:copy-dependencies"],
        [javac, "-cp", drivers, "-d", "target", "Drivers.java"],
    )
    return ["java", "-Xshare:auto", "-cp", f"{place}/target:{place}/{drivers}", "Drivers"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("section", SECTIONS)
def test_results_are_the_same(
    section: str, mode: str, driver: list[str], compared: Compare
) -> None:
    compared([*driver, mode]).check(section)


@pytest.mark.parametrize("mode", MODES)
def test_it_did_what_it_was_to_do(mode: str, driver: list[str], compared: Compare) -> None:
    results = compared([*driver, mode]).direct
    assert set(results) == set(SECTIONS)
    assert results["errors"][0] == ["22012", "division by zero"]
    assert results["copy"][:3] == [20000, 20000, True]
    assert results["cancel"][0][0] == "57014"
    assert results["large"] == [True]
    assert results["concurrent"] == [True, [["16000"]]]
