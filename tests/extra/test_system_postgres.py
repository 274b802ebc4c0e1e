"""The main job with the system's own PostgreSQL servers in place of the wheel's."""

import re
from collections.abc import Iterator

import pytest

from pgproxy.embedded import Cluster
from tests.extra.system import system_installation
from tests.support.proxy import ProxyProcess
from tests.support.serving import (
    assert_cancels_arrive,
    assert_pgbench_adds_up,
    assert_statements_go_where_they_should,
    served,
)

Served = tuple[Cluster, ProxyProcess]


@pytest.fixture(scope="module")
def system() -> Iterator[Served]:
    with served(system_installation()) as both:
        yield both


def test_statements_go_where_they_should(system: Served) -> None:
    assert_statements_go_where_they_should(*system)


def test_pgbench_adds_up(system: Served) -> None:
    assert_pgbench_adds_up(*system)


async def test_cancels_arrive(system: Served) -> None:
    await assert_cancels_arrive(*system)


def test_the_environment_variable_names_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    installation = system_installation()
    monkeypatch.setenv("PGPROXY_PG_BIN", str(installation.bin_dir))
    with Cluster.create(0) as cluster:
        assert cluster.installation == installation
        version = re.match(r"\d+", cluster.primary.psql("SHOW server_version"))
        assert version is not None
        assert int(version[0]) == installation.version
