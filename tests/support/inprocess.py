"""A proxy in the test's own process, whose discovery is the test: it says what the pods are.

    async with serving() as proxy:
        proxy.set_backends(pods(primary=old, replica=new))

The rest is as in a process of its own: real sockets, a real monitor, real servers.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pgproxy.app import Proxy, Ready
from pgproxy.config import (
    Auth,
    Config,
    Health,
    Http,
    Limits,
    Listen,
    Replication,
    Routing,
    Timeouts,
)
from pgproxy.config import Pool as PoolConfig
from pgproxy.embedded import Server
from pgproxy.topology.model import Backend, Node, Topology
from tests.support.proxy import HOST


class InProcess:
    """A running proxy. `host` and `port` are where clients connect."""

    def __init__(self, proxy: Proxy, ready: Ready) -> None:
        self.proxy: Final = proxy
        self.host: Final = HOST
        self.port: Final = ready.port
        self.backends: tuple[Backend, ...] = ()

    def dsn(self, db: str = "postgres", user: str = "postgres") -> str:
        """A connection URI."""
        return f"postgresql://{user}@{self.host}:{self.port}/{db}"

    @property
    def topology(self) -> Topology:
        return self.proxy.monitor.topology

    def node(self, name: str) -> Node:
        """What is known of that server, which must be there."""
        found = self.topology.node(name)
        assert found is not None, self.topology
        return found

    def set_backends(self, backends: Sequence[Backend]) -> None:
        """From now on discovery says this."""
        self.backends = tuple(backends)
        self.proxy.monitor.set_backends(backends)

    def label(self, **roles: str) -> None:
        """Pods get other labels, by name (with _ for -)."""
        named = {name.replace("_", "-"): role for name, role in roles.items()}
        assert named.keys() <= {backend.name for backend in self.backends}
        self.set_backends(
            [replace(pod, role=named.get(pod.name, pod.role)) for pod in self.backends]
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the proxy knows; nothing tells when it does."""
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def until_primary(self, name: str) -> None:
        """Wait until writes go to that server."""
        await self.until(
            lambda: self.topology.primary is not None and self.topology.primary.name == name
        )


def pods(roles: Mapping[Server, str]) -> list[Backend]:
    """Pods that carry those role labels."""
    return [
        Backend(server.name, server.host, server.port, role, uid=server.name, hinted=True)
        for server, role in roles.items()
    ]


@contextlib.asynccontextmanager
async def serving(
    roles: Mapping[Server, str],
    *,
    size: int = 10,
    failover_wait: float = 30.0,
    switchover_grace: float = 10.0,
    replication: bool = False,
    routing: Routing | None = None,
    max_clients: int = 1000,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    max_backend_connections: int = 0,
) -> AsyncIterator[InProcess]:
    """A proxy before pods with those role labels."""
    config = Config(
        listen=Listen(host=HOST, port=0, max_clients=max_clients),
        http=Http(host=HOST, port=0),
        auth=Auth(method="trust", users_file=None),
        health=Health(interval=0.2, failover_wait=failover_wait, switchover_grace=switchover_grace),
        pool=PoolConfig(size=size, max_backend_connections=max_backend_connections),
        replication=Replication(allow=replication),
        routing=routing or Routing(),
        limits=limits or Limits(),
        timeouts=timeouts or Timeouts(),
    )
    proxy = Proxy(config, None)
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(proxy.run(ready.set_result))
        try:
            running = InProcess(proxy, await ready)
            running.set_backends(pods(roles))
            await running.until(lambda: len(running.topology.nodes) == len(roles))
            yield running
        finally:
            task.cancel()
