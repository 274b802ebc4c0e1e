"""Chaos under caps: clients are killed in the middle of everything, stall and flood, servers lose
connections and stop for a moment. Then nothing is left of it, and no cap was ever exceeded.

SEED=n in the environment repeats what a run has printed.
"""

import asyncio
import os
import random
import secrets
import time
from collections import Counter
from typing import Final

import pytest

from pgproxy.config import Limits, Timeouts
from pgproxy.embedded import Cluster
from tests.support import wire
from tests.support.chaos import Chaos
from tests.support.inprocess import InProcess, serving
from tests.support.wire import Wire

pytestmark = [pytest.mark.once]

CLIENTS: Final = 60
MAX_CLIENTS: Final = 50
PER_USER: Final = 30
SIZE: Final = 4
CONNECTIONS: Final = 6  # to each server, of all pools
RUNNING: Final = 7
RUNNING_PER_BACKEND: Final = 4
QUEUE: Final = 30


@pytest.mark.timeout(180)
async def test_eight_seconds_of_chaos_leave_nothing(
    private_cluster: Cluster,
) -> None:
    await _chaos(private_cluster, 8)


@pytest.mark.extra
@pytest.mark.timeout(400)
async def test_sixty_seconds_of_chaos_leave_nothing(private_cluster: Cluster) -> None:
    await _chaos(private_cluster, 60)


async def _chaos(cluster: Cluster, seconds: float) -> None:
    seed = int(os.environ.get("SEED", "0")) or secrets.randbelow(1 << 30)
    print(f"SEED={seed}")  # noqa: T201
    cluster.primary.psql("CREATE ROLE chaos LOGIN SUPERUSER; CREATE TABLE sink (n int, s text)")
    cluster.wait_caught_up()
    roles = {cluster.primary: "primary", **dict.fromkeys(cluster.replicas, "replica")}
    async with serving(
        roles,
        size=SIZE,
        max_clients=MAX_CLIENTS,
        max_backend_connections=CONNECTIONS,
        limits=Limits(
            max_clients_per_user=PER_USER,
            max_concurrent=RUNNING,
            max_concurrent_per_backend=RUNNING_PER_BACKEND,
            queue_size=QUEUE,
        ),
        timeouts=Timeouts(query=1.0, transaction=3.0, idle_in_transaction=1.0, client_idle=2.0),
    ) as proxy:
        await proxy.until_primary(cluster.primary.name)
        # What is known of a database is watched from its first client on, by one task.
        async with await Wire.connect(proxy) as first:
            await first.ask(wire.query("SELECT f FROM (SELECT count(*) AS f FROM sink) AS s"))
            await proxy.until(lambda: _tasks()["Catalogues._watch"] == 1)
            tasks_before = _tasks()
        await _until_nothing_is_held(proxy)
        before = _descriptors()
        began = time.monotonic()
        chaos = Chaos(proxy, "postgres", seed)
        sampler = _Sampler(proxy, cluster)
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(sampler.run()),
                tasks.create_task(_trouble(cluster, random.Random(seed))),
            ]
            await chaos.run(CLIENTS, seconds)
            for one in beside:
                one.cancel()
        print(f"{time.monotonic() - began:.0f} s")  # noqa: T201
        print(dict(chaos.done), dict(chaos.refused), sampler.seen)  # noqa: T201
        assert sum(chaos.done.values()) > 50
        assert sampler.exceeded == []
        async with asyncio.timeout(60):
            await _until_nothing_is_held(proxy)
            # Idle connections may stay open; they are the ledgers' and nobody else's.
            idle = sum(pool.ledger.total for pool in proxy.proxy.cluster.pools())
            await _until_no_task_is_left(tasks_before)
            await proxy.until(lambda: _descriptors() <= before + idle + 1)  # LISTEN's
            await proxy.until(lambda: _sessions(cluster) <= idle + 1)


def _held(proxy: InProcess) -> dict[str, int]:
    """What has to be nothing when everybody has gone."""
    parts = proxy.proxy
    pools = parts.cluster.pools()
    caps = parts.listener.caps
    context = parts.cluster.context
    assert context.limiter is not None
    return {
        "seats": int(context.limiter.total.used),
        "seats by backend": sum(int(one.running.used) for one in parts.cluster.backends.values()),
        "queue": int(context.queue.limit.used),
        "clients": len(parts.listener.clients),
        "counted": int(caps.total.used),
        "databases": caps.databases.entries,
        "users": caps.users.entries,
        "arriving": parts.listener.arriving,
        "leased": sum(int(pool.ledger.leased) for pool in pools),
        "resetting": sum(int(pool.ledger.resetting) for pool in pools),
        "opening": sum(int(pool.ledger.opening) for pool in pools),
        "closing": sum(int(pool.ledger.closing) for pool in pools),
        "waiting": sum(int(pool.ledger.waiting) for pool in pools),
        "homeless": len(parts.cluster.homeless),
        "load": sum(int(backend.load) for backend in parts.cluster.backends.values()),
        "log-ins": sum(int(one.logins.taken) for one in parts.cluster.backends.values()),
        "prepared": len(parts.clients.registry),
        "tasks": len(parts.server_tasks._tasks),
    }


async def _until_nothing_is_held(proxy: InProcess) -> None:
    deadline = time.monotonic() + 40
    while any((held := _held(proxy)).values()):
        assert time.monotonic() < deadline, held
        await asyncio.sleep(0.02)


class _Sampler:
    """Looks again and again whether there is more of anything than there may be."""

    def __init__(self, proxy: InProcess, cluster: Cluster) -> None:
        self.exceeded: Final[list[str]] = []
        self.seen: dict[str, int] = {}
        self._proxy: Final = proxy
        self._cluster: Final = cluster

    async def run(self) -> None:
        while True:
            caps = self._proxy.proxy.listener.caps
            self._look("clients", len(self._proxy.proxy.listener.clients), MAX_CLIENTS)
            self._look("counted", int(caps.total.used), MAX_CLIENTS)
            for user in ("postgres", "chaos"):
                self._look(f"clients of {user}", caps.users.count(user), PER_USER)
            cluster = self._proxy.proxy.cluster
            for pool in cluster.pools():
                self._look(f"pool of {pool.user}", int(pool.ledger.total), SIZE)
            assert cluster.context.limiter is not None
            self._look("running", int(cluster.context.limiter.total.used), RUNNING)
            for backend in cluster.backends.values():
                self._look("running on one", int(backend.running.used), RUNNING_PER_BACKEND)
                connections = int(backend.budget.connections.limit.used)
                self._look("connections to one", connections, CONNECTIONS)
            await asyncio.sleep(0.005)

    def _look(self, what: str, count: int, cap: int) -> None:
        self.seen[what] = max(count, self.seen.get(what, 0))
        if count > cap:
            self.exceeded.append(f"{what}: {count} > {cap}")


async def _trouble(cluster: Cluster, generator: random.Random) -> None:
    """Server connections end, replicas stop for a moment."""
    while True:
        await asyncio.sleep(generator.random() * 0.5)
        if generator.random() < 0.7:
            server = generator.choice(cluster.servers)
            await asyncio.to_thread(
                server.psql,
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type ="
                " 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2) AS few",
            )
            continue
        replica = generator.choice(cluster.replicas)
        replica.freeze()
        try:
            await asyncio.sleep(generator.random() * 0.4)
        finally:
            replica.thaw()


def _tasks() -> Counter[str]:
    """What runs, by the names of the coroutines."""
    return Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]


async def _until_no_task_is_left(before: Counter[str]) -> None:
    deadline = time.monotonic() + 20
    while left := _tasks() - before:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.02)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _sessions(cluster: Cluster) -> int:
    """Of the proxy's clients, on all servers."""
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND pid <> pg_backend_pid() AND application_name NOT LIKE 'pgproxy%'"
    )
    return sum(int(server.psql(asked)) for server in cluster.servers)
