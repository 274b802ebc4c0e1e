"""pgjdbc in its modes, and HikariCP: the same through the proxy as with PostgreSQL itself."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.extra.system import prepared, program

SECTIONS = {"simple", "parameters", "prepared", "transaction", "batch", "cursor", "copy", "errors"}
SECTIONS |= {"notices", "calls", "notifications", "cancel", "large", "concurrent"}


@pytest.fixture(scope="module")
def java() -> list[str]:
    """The command up to the program's arguments."""
    javac = program("javac", "default-jdk-headless")
    drivers = "target/dependency/*"
    place = prepared(
        "java",
        [program("mvn", "maven"), "--quiet", "--batch-mode", "dependency:copy-dependencies"],
        [javac, "-cp", drivers, "-d", "target", "Drivers.java"],
    )
    return ["java", "-Xshare:auto", "-cp", f"{place}/target:{place}/{drivers}", "Drivers"]


def check(results: dict[str, Any]) -> None:
    assert set(results) >= SECTIONS
    assert results["errors"][0] == ["22012", "division by zero"]
    assert results["copy"][:3] == [20000, 20000, True]
    assert results["cancel"][0][0] == "57014"
    assert results["large"] == [True]
    assert results["concurrent"] == [True, [["16000"]]]


# So that its settings are in the start-up packet. Else it begins every session with a SET, which
# pins it.
QUIET = "assumeMinServerVersion=9.0"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "options",
    [
        "autosave=never",
        "autosave=always",
        "autosave=conservative&prepareThreshold=1",
        "preferQueryMode=simple",
        "preferQueryMode=extendedForPrepared&reWriteBatchedInserts=true",
        "preferQueryMode=extendedCacheEverything",
        "prepareThreshold=0&defaultRowFetchSize=3",
        "prepareThreshold=-1",
        "targetServerType=primary&options=-c%20work_mem=5MB&ApplicationName=java",
    ],
)
def test_results_are_the_same(
    options: str, java: list[str], same_results: Callable[..., dict[str, Any]]
) -> None:
    check(same_results([*java, f"{QUIET}&{options}"]))


@pytest.mark.timeout(300)
def test_results_are_the_same_when_every_session_is_pinned(
    java: list[str], same_results: Callable[..., dict[str, Any]]
) -> None:
    check(same_results([*java, "autosave=never"], pool_size=12))
