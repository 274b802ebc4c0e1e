"""pgx in its modes, with its pool: the same through the proxy as with PostgreSQL itself."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.extra.system import prepared, program

SECTIONS = {"simple", "parameters", "prepared", "transaction", "batch", "pipeline", "cursor"}
SECTIONS |= {"copy", "errors", "notices", "notifications", "cancel", "timeout", "large"}
SECTIONS |= {"concurrent"}


@pytest.fixture(scope="module")
def drivers() -> str:
    go = program("go", "golang-go")
    return f"{prepared('go', [go, 'build', '-mod=readonly', '-o', 'drivers', '.'])}/drivers"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "mode", ["cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"]
)
def test_results_are_the_same(
    mode: str, drivers: str, same_results: Callable[..., dict[str, Any]]
) -> None:
    results = same_results([drivers, mode])
    assert set(results) >= SECTIONS
    assert results["errors"][0][0] == "22012"
    assert results["copy"][:3] == [20000, "COPY 20000", True]
    assert results["cancel"][0][0] == "57014"
    assert results["large"] == [True]
    assert results["concurrent"] == [True, [[16000]]]
