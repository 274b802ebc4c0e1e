"""Where reads land, by the count of those that each real server has answered."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import psycopg
import pytest
import pytest_asyncio

from pgproxy.config import Routing
from pgproxy.embedded import Cluster, Server
from pgproxy.servers.backend import Backend
from pgproxy.servers.shares import SMALLEST_SHARE
from pgproxy.topology.model import Role
from tests.support.inprocess import InProcess, serving

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

PORT: Final = "SELECT inet_server_port()"


def roles(cluster: Cluster) -> dict[Server, str]:
    return {cluster.primary: "primary"} | dict.fromkeys(cluster.replicas, "replica")


def arrange(proxy: InProcess, **changes: dict[str, object]) -> None:
    """Pods get other weights and zones, by name (with _ for -)."""
    named = {name.replace("_", "-"): values for name, values in changes.items()}
    assert named.keys() <= {backend.name for backend in proxy.backends}
    proxy.set_backends(
        [replace(pod, **named.get(pod.name, {})) for pod in proxy.backends]  # type: ignore[arg-type]
    )


async def connect(proxy: InProcess) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True)


async def reads(
    proxy: InProcess, cluster: Cluster, count: int, *, clients: int = 1
) -> Counter[str]:
    """Which servers answer so many reads of each of the clients."""
    names = {server.port: server.name for server in cluster.servers}
    found: Counter[str] = Counter()

    async def client() -> None:
        async with await connect(proxy) as session:
            for _ in range(count):
                row = await (await session.execute(PORT)).fetchone()
                assert row is not None
                found[names[row[0]]] += 1

    await asyncio.gather(*[client() for _ in range(clients)])
    return found


def backend(proxy: InProcess, server: Server) -> Backend:
    return proxy.proxy.cluster.backends[server.name]


@pytest_asyncio.fixture
async def in_turn(cluster: Cluster) -> AsyncIterator[InProcess]:
    async with serving(roles(cluster), routing=Routing(balance="round-robin")) as proxy:
        await until_replicas(proxy, 2)
        yield proxy


async def until_replicas(proxy: InProcess, count: int) -> None:
    def are_fresh() -> bool:
        replicas = proxy.proxy.cluster.replicas
        return len(replicas) == count and all(one.fresh_as_of > 0 for one in replicas)

    await proxy.until(are_fresh)


async def until_share(proxy: InProcess, server: Server, share: float) -> None:
    await proxy.until(lambda: backend(proxy, server).share == pytest.approx(share, abs=0.01))


@pytest.mark.parametrize("balance", ["least-loaded", "weighted-random", "round-robin", "sticky"])
async def test_every_way_reads_from_all_replicas_and_from_none_else(
    cluster: Cluster, balance: str
) -> None:
    routing = Routing(balance=balance)  # type: ignore[arg-type]  # each is one that it takes
    async with serving(roles(cluster), routing=routing) as proxy:
        await until_replicas(proxy, 2)
        found = await reads(proxy, cluster, 25, clients=8)
        assert found.keys() == {server.name for server in cluster.replicas}


async def test_weights(cluster: Cluster, in_turn: InProcess) -> None:
    heavy, light = cluster.replicas
    arrange(in_turn, **{heavy.name.replace("-", "_"): {"weight": 3}})
    await in_turn.until(lambda: backend(in_turn, heavy).weight == 3)
    found = await reads(in_turn, cluster, 100)
    assert found[light.name] in {24, 25, 26}
    assert found[heavy.name] == 100 - found[light.name]
    arrange(in_turn, **{heavy.name.replace("-", "_"): {"weight": 0}})
    await in_turn.until(lambda: backend(in_turn, heavy).weight == 0)
    assert await reads(in_turn, cluster, 20) == {light.name: 20}


async def test_weights_count_by_what_is_in_flight(cluster: Cluster) -> None:
    heavy, light = cluster.replicas
    async with serving(roles(cluster)) as proxy:
        arrange(proxy, **{heavy.name.replace("-", "_"): {"weight": 3}})
        await until_replicas(proxy, 2)
        sessions = [await connect(proxy) for _ in range(8)]
        for session in sessions:
            await session.execute("BEGIN READ ONLY")
            await session.execute(PORT)
        assert backend(proxy, heavy).load == 6
        assert backend(proxy, light).load == 2
        for session in sessions:
            await session.close()


async def test_a_session_stays_on_its_replica(cluster: Cluster) -> None:
    async with serving(roles(cluster), routing=Routing(balance="sticky")) as proxy:
        await until_replicas(proxy, 2)
        seen = [await reads(proxy, cluster, 10) for _ in range(8)]
        assert all(len(found) == 1 for found in seen)
        assert {name for found in seen for name in found} == {
            server.name for server in cluster.replicas
        }


async def test_the_own_zone_comes_first(private_cluster: Cluster) -> None:
    cluster = private_cluster
    near, far = cluster.replicas
    async with serving(roles(cluster), routing=Routing(zone="z1", warm_up=0)) as proxy:
        arrange(
            proxy,
            **{
                near.name.replace("-", "_"): {"zone": "z1"},
                far.name.replace("-", "_"): {"zone": "z2"},
            },
        )
        await until_replicas(proxy, 2)
        assert await reads(proxy, cluster, 10, clients=5) == {near.name: 50}
        await asyncio.to_thread(near.stop)
        await until_replicas(proxy, 1)
        assert await reads(proxy, cluster, 10) == {far.name: 10}
        await asyncio.to_thread(near.start)
        await until_replicas(proxy, 2)
        assert await reads(proxy, cluster, 10) == {near.name: 10}


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_replica_that_comes_back_takes_up_its_part_by_and_by(
    private_cluster: Cluster, how: str
) -> None:
    """The warm-up is long enough to stand still; the test moves its beginning."""
    cluster = private_cluster
    gone, stays = cluster.replicas
    routing = Routing(balance="round-robin", warm_up=1e6)
    async with serving(roles(cluster), routing=routing) as proxy:
        await until_replicas(proxy, 2)
        assert (await reads(proxy, cluster, 100))[gone.name] in {49, 50, 51}
        backend(proxy, stays).reads_since -= 2e6
        if how == "stopped":
            await asyncio.to_thread(gone.stop)
        else:
            gone.freeze()
        await proxy.until(lambda: proxy.node(gone.name).role is Role.NONE)
        assert await reads(proxy, cluster, 20) == {stays.name: 20}
        if how == "stopped":
            await asyncio.to_thread(gone.start)
        else:
            gone.thaw()
        await until_replicas(proxy, 2)
        assert backend(proxy, gone).share == SMALLEST_SHARE
        parts = [(await reads(proxy, cluster, 100))[gone.name]]
        for warmth in (0.25, 0.5, 1.0):
            backend(proxy, gone).reads_since = time.monotonic() - warmth * 1e6
            await until_share(proxy, gone, warmth)
            parts.append((await reads(proxy, cluster, 100))[gone.name])
        assert parts == pytest.approx([5, 20, 33, 50], abs=1)


async def test_a_replica_that_lags_sheds_load(private_cluster: Cluster) -> None:
    cluster = private_cluster
    late, good = cluster.replicas
    await asyncio.to_thread(cluster.primary.psql, "CREATE TABLE t (n int)")
    await asyncio.to_thread(cluster.wait_caught_up)
    async with serving(roles(cluster), routing=Routing(balance="round-robin")) as proxy:
        await until_replicas(proxy, 2)
        await proxy.until(lambda: backend(proxy, late).fresh_as_of > 0)
        await until_share(proxy, late, 1.0)
        assert (await reads(proxy, cluster, 20))[late.name] in {9, 10, 11}
        late.pause_replay()
        try:
            await asyncio.to_thread(cluster.primary.psql, "INSERT INTO t VALUES (1)")
            await proxy.until(lambda: backend(proxy, late).share < 0.75)
            assert backend(proxy, good).share == 1.0
            assert (await reads(proxy, cluster, 100))[late.name] <= 44
        finally:
            late.resume_replay()
        await until_share(proxy, late, 1.0)
        assert (await reads(proxy, cluster, 20))[late.name] in {9, 10, 11}
