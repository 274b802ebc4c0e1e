"""The noisy neighbours: content with PostgreSQL itself, and not to be deceived."""

from collections.abc import Iterator

import pytest

from pgproxy.embedded import Cluster
from tests.support.neighbours import Neighbour, NeighbourError, Neighbours
from tests.support.proxy import ProxyProcess
from tests.support.wire import Wire, query

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def role(cluster: Cluster) -> Iterator[str]:
    cluster.primary.psql("CREATE ROLE somebody_else")
    yield "somebody_else"
    cluster.primary.psql("DROP ROLE somebody_else")


def test_they_find_nothing_wrong_with_postgresql_itself(
    cluster: Cluster, fresh_database: str, role: str
) -> None:
    with Neighbours(cluster.primary, fresh_database, role=role, pause=0.01) as neighbours:
        neighbours.wait(1000)
    assert neighbours.rounds >= 1000


def test_they_share_a_small_pool_when_they_keep_nothing(
    cluster: Cluster, fresh_database: str, role: str, proxy: ProxyProcess
) -> None:
    with Neighbours(proxy, fresh_database, role=role, keep=False, pause=0.01) as neighbours:
        neighbours.wait(400)
    assert neighbours.rounds >= 400


@pytest.mark.parametrize("sql", ["SET app.who = 'not theirs'", "SET ROLE somebody_else"])
async def test_they_notice_what_is_not_theirs(
    cluster: Cluster, fresh_database: str, role: str, sql: str
) -> None:
    async with await Wire.connect(cluster.primary, database=fresh_database) as wire:
        neighbour = Neighbour(wire, 1, role, keep=False)
        await neighbour.look()
        await neighbour.round()
        await wire.ask(query(sql))
        with pytest.raises(NeighbourError, match=r"app\.who|current_user"):
            await neighbour.round()
