"""`pool.cluster_budget`: what all proxies together have of each server, as pg_stat_activity shows it."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import pytest

from pgproxy.embedded import Cluster, Server
from pgproxy.servers.sizes import BESIDE
from tests.fakes.kube_api import FakeKubeApi
from tests.support import wire
from tests.support.kube import write_kubeconfig
from tests.support.peers import Siblings, states
from tests.support.proxy import HOST, ProxyProcess
from tests.support.watch import eventually, status
from tests.support.wire import Wire

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]

BUDGET: Final = 9
CLIENTS: Final = 20  # of each proxy; half of them are enough to use up the primary's
PHASES: Final = (1, 3, 5, 2)
# Some are longer than it takes until the others know that there is another proxy.
WORK: Final = ("SELECT pg_sleep(0.05)", "SELECT pg_sleep(0.1)", "SELECT pg_sleep(0.7)")
ACTIVITY: Final = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """A user whom nobody else has: what proxies open beside their pools is of others."""
    name = f"budget_{secrets.token_hex(4)}"
    cluster.primary.psql(f"CREATE ROLE {name} LOGIN")
    cluster.wait_caught_up()
    yield name
    cluster.primary.psql(f"DROP ROLE {name}")


class Sampler:
    """Counts a user's connections to one server, over and over."""

    def __init__(self, server: Server, role: str) -> None:
        self._server: Final = server
        self._role: Final = role
        self._task: asyncio.Task[None] | None = None
        self.most = 0
        self.samples = 0

    def begin(self) -> None:
        """Of what comes from now on."""
        self.most = self.samples = 0

    async def more(self, samples: int) -> None:
        wanted = self.samples + samples
        await eventually(lambda: self.samples >= wanted)

    async def __aenter__(self) -> Self:
        self._connection: Any = await asyncpg.connect(
            host=self._server.host, port=self._server.port, user="postgres", database="postgres"
        )
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._connection.close()

    async def _run(self) -> None:
        while True:
            self.most = max(self.most, await self._connection.fetchval(ACTIVITY, self._role))
            self.samples += 1
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def _load(proxy: ProxyProcess, role: str) -> AsyncIterator[None]:
    """Clients of one proxy that never rest. When they are seen off they leave."""

    async def work(number: int) -> None:
        hint = "primary" if number % 2 else "replica"
        async with await Wire.connect(proxy, user=role) as client:
            sql = wire.query(f"/* pgproxy: {hint} */ {WORK[number % len(WORK)]}")
            while True:
                frames = await client.ask(sql)
                if frames[-1:] != [(b"Z", b"I")]:
                    assert wire.errors(frames) in ([], ["57P01"]), frames
                    return

    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work(number)) for number in range(CLIENTS)]
        yield
        for task in working:
            task.cancel()


def _shares(proxy: ProxyProcess) -> dict[str, int]:
    shares: dict[str, int] = status(proxy)["peers"]["shares"]
    return shares


async def _until_divided(siblings: Siblings, servers: list[str], budget: int) -> None:
    """Until the parts of each server are the whole, as even as can be."""
    even = [number * budget // len(siblings.running) for number in range(len(siblings.running) + 1)]
    wanted = sorted(more - less for less, more in pairwise(even))

    def is_divided() -> bool:
        found = [_shares(proxy) for proxy in siblings.running.values()]
        return all(sorted(one.get(name, 0) for one in found) == wanted for name in servers)

    while not await asyncio.to_thread(is_divided):  # noqa: ASYNC110 - other processes
        await asyncio.sleep(0.05)


async def test_the_sum_stays_within_the_budget_as_proxies_come_and_go(
    cluster: Cluster, role: str
) -> None:
    """All but what has just come, which has one at once. The last of them has two workers."""
    names = [server.name for server in cluster.servers]
    pool = {"size": 50, "cluster_budget": True, "max_backend_connections": BUDGET}
    with Siblings(cluster.servers, max(PHASES), pool=pool) as siblings:
        async with contextlib.AsyncExitStack() as stack:
            samplers = [
                await stack.enter_async_context(Sampler(server, role)) for server in cluster.servers
            ]
            loads: dict[int, contextlib.AsyncExitStack] = {}
            for count in PHASES:
                before = len(siblings.running)
                for sampler in samplers:
                    sampler.begin()
                for place in range(before, count):
                    workers = 2 if place == max(PHASES) - 1 else 1
                    proxy = await asyncio.to_thread(
                        siblings.start, place, listen={"workers": workers}
                    )
                    loads[place] = contextlib.AsyncExitStack()
                    await loads[place].enter_async_context(_load(proxy, role))
                leaving = range(count, before)
                await asyncio.gather(
                    *[asyncio.to_thread(siblings.stop, place) for place in leaving]
                )
                for place in leaving:
                    await loads.pop(place).aclose()
                await _until_divided(siblings, names, BUDGET)
                come = max(count - before, 0)
                assert max(sampler.most for sampler in samplers) <= BUDGET + come
                # What is in use still, above the new parts, closes with its transaction.
                await asyncio.sleep(1)
                for sampler in samplers:
                    sampler.begin()
                    await sampler.more(100)
                assert max(sampler.most for sampler in samplers) <= BUDGET
                assert samplers[0].most >= BUDGET - 1  # the primary's are worked to the full
            for load in loads.values():
                await load.aclose()


async def test_what_a_server_has_is_divided_and_told(cluster: Cluster) -> None:
    """Without a number of ours it is what the server's max_connections leaves."""
    room = int(
        cluster.primary.psql(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
            " - coalesce(current_setting('reserved_connections', true), '0')::int"
        )
    )
    with Siblings(cluster.servers, 2, pool={"cluster_budget": True}) as siblings:
        first = siblings.start(0)
        name = cluster.primary.name
        assert _shares(first)[name] == room - BESIDE
        # Ready is who knows what is its own.
        second = siblings.start(1)
        await eventually(lambda: states(first) == ["self", "up"])
        await _until_divided(siblings, [name], room - 2 * BESIDE)
        for proxy in (first, second):
            share = _shares(proxy)[name]
            line = f'pgproxy_backend_connections_share{{backend="{name}"}} {share:.1f}'
            assert line in proxy.get("/metrics")[1]
            [backend] = [one for one in status(proxy)["backends"] if one["name"] == name]
            assert backend["max_connections"] == share


async def test_more_proxies_than_connections(cluster: Cluster) -> None:
    pool = {"cluster_budget": True, "max_backend_connections": 1}
    with Siblings(cluster.servers, 2, pool=pool) as siblings:
        proxies = [siblings.start(place) for place in range(2)]
        for proxy in proxies:
            async with await Wire.connect(proxy) as client:
                assert wire.errors(await client.ask(wire.query("SELECT 1"))) == []
            warned = await asyncio.to_thread(proxy.wait_event, "cluster_budget_too_small")
            assert (warned["connections"], warned["proxies"]) == (1, 2)


async def test_nobody_is_ready_before_the_others_are_known(cluster: Cluster) -> None:
    """A name that no resolver can answer for; what part is this proxy's cannot be known."""
    pool = {"cluster_budget": True}
    peers = {"static": [], "dns": f"{'x' * 64}.test:1"}  # no label is so long
    with Siblings(cluster.servers, 1, pool=pool, peers=peers) as siblings:
        proxy = siblings.start(0, wait_ready=False)
        await asyncio.sleep(1.5)
        code, text = proxy.get("/readyz")
        assert (code, "part of the servers' connections" in text) == (503, True)


async def test_a_pod_must_find_itself_among_the_others(cluster: Cluster, tmp_path: Path) -> None:
    """Or the selector is wrong, and each would take itself for the only one."""
    async with FakeKubeApi() as api:
        kubeconfig = str(await write_kubeconfig(api, tmp_path))
        peers = {"static": [], "selector": "app=p", "namespace": api.namespace, "port": "http"}
        with Siblings(
            cluster.servers,
            1,
            pool={"cluster_budget": True, "max_backend_connections": 7},
            peers=peers,
            **{"discovery.kubernetes": {"kubeconfig": kubeconfig}},
        ) as siblings:
            proxy = await asyncio.to_thread(siblings.start, 0, wait_ready=False)
            await asyncio.sleep(1.5)
            code, text = await asyncio.to_thread(proxy.get, "/readyz")
            assert (code, "not among the pods" in text) == (503, True)
            await api.create_pod(
                "p-0", {"app": "p"}, ip=HOST, port=proxy.http_port, port_name="http", ready=False
            )
            await asyncio.to_thread(proxy.wait_ready, time.monotonic() + 30)
            assert (await asyncio.to_thread(_shares, proxy))[cluster.primary.name] == 7
            await asyncio.to_thread(siblings.stop, 0)
