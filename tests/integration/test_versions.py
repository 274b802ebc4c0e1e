"""The other PostgreSQL version of the wheel; all other tests run with the newest."""

from collections.abc import Iterator

import pytest

from pgproxy.embedded import Cluster, find_installation
from tests.support.proxy import ProxyProcess
from tests.support.serving import (
    assert_pgbench_adds_up,
    assert_statements_go_where_they_should,
    served,
)

Served = tuple[Cluster, ProxyProcess]


@pytest.fixture(scope="module")
def older() -> Iterator[Served]:
    with served(find_installation(16)) as both:
        yield both


def test_statements_go_where_they_should(older: Served) -> None:
    assert_statements_go_where_they_should(*older)


def test_pgbench_adds_up(older: Served) -> None:
    assert_pgbench_adds_up(*older)
