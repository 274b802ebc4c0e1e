"""`pgproxy serve` with pods: real PostgreSQL servers, whose roles an API server tells."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import pytest_asyncio

from pgproxy.app import Proxy
from pgproxy.config import Auth, Config, Discovery, Kubernetes
from pgproxy.embedded import Cluster, Server
from pgproxy.topology.monitor import EAGER_TIME
from tests.fakes.kube_api import FakeKubeApi
from tests.support.kube import write_kubeconfig
from tests.support.proxy import ProxyProcess, config_for
from tests.support.watch import bystander, eventually, status

pytestmark = pytest.mark.once

LABELS: Final = {"app": "db"}
PORT: Final = "SELECT inet_server_port()"
WRITE: Final = "SELECT inet_server_port() FROM pg_class LIMIT 1 FOR UPDATE"


@pytest_asyncio.fixture
async def kube_api() -> AsyncIterator[FakeKubeApi]:
    async with FakeKubeApi() as api:
        yield api


async def make_pods(api: FakeKubeApi, cluster: Cluster) -> None:
    for server in cluster.servers:
        await make_pod(api, server, "primary" if server is cluster.primary else "replica")


async def make_pod(api: FakeKubeApi, server: Server, role: str) -> None:
    labels = {**LABELS, "role": role}
    await api.create_pod(server.name, labels, ip=server.host, port=server.port, port_name="pg")


@asynccontextmanager
async def serving(
    api: FakeKubeApi, directory: Path, *, wait_ready: bool = True
) -> AsyncIterator[ProxyProcess]:
    """A proxy that knows nothing but the API server. The event loop goes on: the API is in it."""
    text = config_for(
        (),
        discovery={"mode": "kubernetes"},
        **{
            "discovery.kubernetes": {
                "namespace": api.namespace,
                "selector": "app=db",
                "role_label": "role",
                "primary_values": ["primary"],
                "replica_values": ["replica"],
                "port": "pg",
                "kubeconfig": str(await write_kubeconfig(api, directory)),
            }
        },
    )
    proxy = ProxyProcess(text)
    try:
        event = await asyncio.to_thread(proxy.wait_event, "http_listening")
        proxy.http_port = event["port"]
        if wait_ready:
            await until_served(proxy)
        yield proxy
    except BaseException:
        proxy.kill9()
        raise
    await asyncio.to_thread(proxy.stop)


async def until_served(proxy: ProxyProcess) -> None:
    event = await asyncio.to_thread(proxy.wait_event, "listening")
    proxy.port = event["port"]
    await asyncio.to_thread(proxy.wait_ready, time.monotonic() + 30)


async def get(proxy: ProxyProcess, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(proxy.get, path)


async def roles(proxy: ProxyProcess) -> dict[str, str]:
    found = json.loads((await get(proxy, "/status"))[1])
    return {node["name"]: node["role"] for node in found["topology"]}


async def until_roles(proxy: ProxyProcess, *in_order: str) -> None:
    """Wait until primary, replica-1, replica-2 and so on have these roles, and no other is left."""
    names = ["primary", *[f"replica-{number}" for number in range(1, len(in_order))]]
    wanted = dict(zip(names, in_order, strict=True))
    while await roles(proxy) != wanted:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.02)


async def run(proxy: ProxyProcess, sql: str) -> int:
    """The port of the server on which a new session's statement ran."""
    async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as connection:
        row = await (await connection.execute(sql)).fetchone()
        assert row is not None
        return int(row[0])


async def metric(proxy: ProxyProcess, line: str) -> float:
    (found,) = [
        one.removeprefix(line)
        for one in (await get(proxy, "/metrics"))[1].splitlines()
        if one.startswith(line)
    ]
    return float(found)


async def test_it_serves_from_pods(kube_api: FakeKubeApi, cluster: Cluster, tmp_path: Path) -> None:
    await make_pods(kube_api, cluster)
    async with serving(kube_api, tmp_path) as proxy:
        await until_roles(proxy, "primary", "replica", "replica")
        replicas = {server.port for server in cluster.replicas}
        assert await run(proxy, PORT) in replicas
        assert await run(proxy, WRITE) == cluster.primary.port
        assert (await get(proxy, "/startupz"))[0] == 200
        discovery: dict[str, Any] = json.loads((await get(proxy, "/status"))[1])["discovery"]
        assert (discovery["mode"], discovery["synced"], discovery["backends"]) == (
            "kubernetes",
            True,
            3,
        )
        assert await metric(proxy, 'pgproxy_discovered_backends{role="replica"}') == 2
        assert await metric(proxy, "pgproxy_topology_age_seconds") >= 0


async def test_a_replica_without_a_role_gets_nothing_and_a_role_gives_it_back(
    kube_api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    await make_pods(kube_api, cluster)
    async with serving(kube_api, tmp_path) as proxy:
        await until_roles(proxy, "primary", "replica", "replica")
        await kube_api.patch_labels("replica-1", {"role": "unhealthy"})
        await until_roles(proxy, "primary", "none", "replica")
        assert {await run(proxy, PORT) for _ in range(6)} == {cluster.replicas[1].port}
        await kube_api.patch_labels("replica-1", {"role": "replica"})
        await until_roles(proxy, "primary", "replica", "replica")


async def test_no_replica_at_all_hurts_nobody(
    kube_api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    await make_pods(kube_api, cluster)
    async with serving(kube_api, tmp_path) as proxy:
        await until_roles(proxy, "primary", "replica", "replica")
        async with bystander(proxy) as client:
            for server in cluster.replicas:
                await kube_api.terminate_pod(server.name)
            await until_roles(proxy, "primary", "none", "none")
            await client.served(4)  # what ran there has ended
            for server in cluster.replicas:
                await kube_api.delete_pod(server.name)
            await until_roles(proxy, "primary")
            await client.served(20)
            assert await run(proxy, PORT) == cluster.primary.port
            assert (await get(proxy, "/readyz"))[0] == 200
            for server in cluster.replicas:
                await make_pod(kube_api, server, "replica")
            await until_roles(proxy, "primary", "replica", "replica")
            await client.served(20)


async def test_a_promotion_is_followed_with_the_labels_in_the_wrong_order(
    kube_api: FakeKubeApi, private_cluster: Cluster, tmp_path: Path
) -> None:
    """The label comes too early, and both have it for a while: no write goes astray."""
    cluster = private_cluster
    await make_pods(kube_api, cluster)
    async with serving(kube_api, tmp_path) as proxy:
        await until_roles(proxy, "primary", "replica", "replica")
        heir = cluster.replicas[0]
        await kube_api.patch_labels(heir.name, {"role": "primary"})
        await eventually(lambda: status(proxy)["discovery"]["backends"] == 3)
        assert await run(proxy, WRITE) == cluster.primary.port
        await asyncio.to_thread(cluster.primary.kill9)
        await asyncio.to_thread(heir.promote)
        await kube_api.patch_labels("primary", {"role": "replica"})
        assert await run(proxy, WRITE) == heir.port


async def test_an_api_server_that_is_away_is_noticed_by_nobody_but_metrics(
    kube_api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    await make_pods(kube_api, cluster)
    async with serving(kube_api, tmp_path) as proxy:
        await until_roles(proxy, "primary", "replica", "replica")
        async with bystander(proxy) as client:
            await kube_api.stop()
            failed = 'pgproxy_kubernetes_requests_total{outcome="unreachable",verb="watch"}'
            while failed not in (await get(proxy, "/metrics"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await client.served(50)
            for path in ("/livez", "/readyz", "/startupz"):
                assert (await get(proxy, path))[0] == 200
            assert await run(proxy, WRITE) == cluster.primary.port
            assert await roles(proxy) == {
                "primary": "primary",
                "replica-1": "replica",
                "replica-2": "replica",
            }
            await kube_api.start()
            await kube_api.patch_labels("replica-2", {"role": "unhealthy"})
            await until_roles(proxy, "primary", "replica", "none")
            await client.served(20)


async def test_it_starts_before_the_api_server_does(
    kube_api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    await make_pods(kube_api, cluster)
    await write_kubeconfig(kube_api, tmp_path)
    kube_api.answer_with(403)
    async with serving(kube_api, tmp_path, wait_ready=False) as proxy:
        refused = await asyncio.to_thread(proxy.wait_event, "kubernetes_api_failed")
        assert refused["outcome"] == "forbidden"
        assert kube_api.namespace in refused["check"]
        assert "list and watch on pods" in refused["check"]
        assert await get(proxy, "/startupz") == (503, "the pods have not been listed yet\n")
        assert (await get(proxy, "/livez"))[0] == 200
        kube_api.heal()
        await until_served(proxy)
        assert (await get(proxy, "/startupz"))[0] == 200
        assert await run(proxy, PORT) in {server.port for server in cluster.replicas}


async def test_a_thousand_events_a_second_cost_little(
    kube_api: FakeKubeApi, cluster: Cluster, tmp_path: Path
) -> None:
    """Annotations of some kilobytes, as Patroni writes them, but a thousand in a second."""
    await make_pods(kube_api, cluster)
    async with serving(kube_api, tmp_path) as proxy:
        await until_roles(proxy, "primary", "replica", "replica")
        await kube_api.watched()
        loop = asyncio.get_running_loop()
        before, began = proxy.cpu_seconds(), loop.time()
        for number in range(3000):
            await kube_api.patch_annotations("primary", {"status": f"{number:05}" + "x" * 4000})
            await asyncio.sleep(max(0.0, began + number / 1000 - loop.time()))
        counted = 'pgproxy_kubernetes_events_total{type="modified"}'
        while await metric(proxy, counted) < 3000:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
        busy = (proxy.cpu_seconds() - before) / (loop.time() - began)
        assert busy < 0.5, f"{busy:.0%} of a core"
        assert await roles(proxy) == {
            "primary": "primary",
            "replica-1": "replica",
            "replica-2": "replica",
        }
        assert len(proxy.events("pods_listed")) == 1
        assert len(kube_api.requests) <= 4


async def test_a_standby_cluster_s_api_server_is_not_asked_for_a_primary_for_ever() -> None:
    config = Config(
        auth=Auth(method="trust", users_file=None),
        discovery=Discovery(mode="kubernetes", kubernetes=Kubernetes(selector="app=db")),
    )
    proxy = Proxy(config, None)
    asked: list[bool] = []
    proxy.discovery.look_again = lambda: asked.append(True)  # type: ignore[method-assign]
    proxy.monitor.set_backends(())
    proxy.servers.no_primary()
    assert asked == [True]
    proxy.monitor._headless_since -= EAGER_TIME
    proxy.servers.no_primary()
    assert asked == [True]
