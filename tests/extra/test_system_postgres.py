"""The main job with the system's own PostgreSQL servers in place of the wheel's.

PGPROXY_SYSTEM_PG_BIN names their bin directory where it is not Debian's.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pgproxy.embedded import Cluster, EmbeddedError, find_installation
from tests.support.proxy import ProxyProcess
from tests.support.serving import (
    assert_pgbench_adds_up,
    assert_statements_go_where_they_should,
    served,
)

DEBIAN: Final = Path("/usr/lib/postgresql")

Served = tuple[Cluster, ProxyProcess]


def system_bin() -> Path:
    """Where the newest of the system's servers is."""
    if named := os.environ.get("PGPROXY_SYSTEM_PG_BIN"):
        return Path(named)
    found = [path.parent for path in DEBIAN.glob("*/bin/postgres")]
    if not found:
        pytest.fail(f"no PostgreSQL server in {DEBIAN}: apt-get install postgresql-15")
    return max(found, key=lambda path: int(path.parent.name))


@pytest.fixture(scope="module")
def system() -> Iterator[Served]:
    try:
        installation = find_installation(bin_dir=system_bin())
    except EmbeddedError as error:
        pytest.fail(str(error))
    with served(installation) as both:
        yield both


def test_statements_go_where_they_should(system: Served) -> None:
    assert_statements_go_where_they_should(*system)


def test_pgbench_adds_up(system: Served) -> None:
    assert_pgbench_adds_up(*system)


def test_the_environment_variable_names_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPROXY_PG_BIN", str(system_bin()))
    with Cluster.create(0) as cluster:
        version = re.match(r"\d+", cluster.primary.psql("SHOW server_version"))
        assert version is not None
        assert int(version[0]) == cluster.installation.version
        assert cluster.installation.bin_dir == system_bin()
