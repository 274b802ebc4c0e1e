"""routing.transactions = "replica-until-write" under SQLAlchemy and Django as they come.

Their results are those of a direct run, and what a transaction reads before its first write is read
on a replica, which it is not with transactions = "primary".
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgproxy.embedded import Cluster
from tests.extra.test_drivers_python import command, place
from tests.support.comparison import ROLE, Results, in_new_database
from tests.support.proxy import ProxyProcess

__all__ = ["place"]

APPLICATIONS = [
    ("sqlalchemy", "psycopg"),
    ("sqlalchemy", "asyncpg"),
    ("django", "client"),
    ("django", "server"),
]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def role(cluster: Cluster) -> Iterator[None]:
    """Whom the schema gives rights."""
    cluster.primary.psql(f"CREATE ROLE {ROLE}")
    yield
    cluster.primary.psql(f"DROP ROLE {ROLE}")


def read_on_replicas(proxy: ProxyProcess) -> int:
    """Statements that were reads and ran on a replica."""
    found = re.search(
        r'^pgproxy_statements_total\{reason="read",target="replica"\} (\d+)',
        proxy.get("/metrics")[1],
        re.MULTILINE,
    )
    return int(found[1]) if found else 0


@pytest.mark.parametrize(("framework", "way"), APPLICATIONS)
def test_results_are_the_same_and_replicas_have_read(
    framework: str,
    way: str,
    place: Path,
    cluster: Cluster,
    start_proxy: Callable[..., ProxyProcess],
    tmp_path: Path,
) -> None:
    program = [*command(place, framework, way)]
    program[1] = program[1].replace("/use_", "/app_")

    def run(through: ProxyProcess | None) -> Results:
        where = cluster.primary if through is None else through
        return in_new_database(program, cluster, where, tmp_path, neighbours="none")

    def proxy(transactions: str) -> ProxyProcess:
        return start_proxy(
            cluster.servers, routing={"transactions": transactions}, health={"interval": 0.05}
        )

    direct = run(None)
    assert "raised" not in direct["application"], direct
    reads = direct["application"][-1]["reads"]
    roaming, usual = proxy("replica-until-write"), proxy("primary")
    assert run(usual) == direct
    assert run(roaming) == direct
    # A replica that does not show yet what the session wrote last is not read from. asyncpg ends the
    # first Parse of each statement with Flush, for which a transaction moves.
    share = 4 if way == "asyncpg" else 2
    assert reads // share <= read_on_replicas(roaming) - read_on_replicas(usual)
