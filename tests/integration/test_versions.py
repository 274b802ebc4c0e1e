"""The other PostgreSQL version of the wheel; all other tests run with the newest."""

from collections.abc import Iterator

import pytest

from pgproxy.embedded import Cluster, find_installation
from tests.support.proxy import ProxyProcess
from tests.support.serving import (
    assert_cancels_arrive,
    assert_pgbench_adds_up,
    assert_statements_go_where_they_should,
    secret_of_a_log_in,
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


async def test_cancels_arrive(older: Served) -> None:
    assert len(await secret_of_a_log_in(older[0])) == 4
    await assert_cancels_arrive(*older)


async def test_cancels_arrive_with_the_long_keys_of_version_18(
    cluster: Cluster, proxy: ProxyProcess
) -> None:
    assert len(await secret_of_a_log_in(cluster)) == 32
    await assert_cancels_arrive(cluster, proxy)
