"""`pgproxy serve` in front of pods, with clients at work."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from pgproxy.embedded import Cluster
from tests.support.kube import KubeApi, write_kubeconfig
from tests.support.ledger import INDEX, ROWS, TABLE, Audit, Load
from tests.support.proxy import ProxyProcess

_SOON: Final = 60.0  # seconds in which a busy machine does anything, and a back-off ends


class KubeStage:
    """One pod for each server of `cluster`, a proxy that follows them, and a load through it."""

    def __init__(self, cluster: Cluster, proxy: ProxyProcess, load: Load) -> None:
        self.proxy: Final = proxy
        self.load: Final = load
        self._cluster: Final = cluster

    @classmethod
    @asynccontextmanager
    async def start(
        cls, api: KubeApi, cluster: Cluster, directory: Path, **load: Any
    ) -> "AsyncIterator[KubeStage]":
        """The load works from here on; at the end nothing it asked for has failed or is lost."""
        for number, server in enumerate(cluster.servers):
            labels = {"app": "db", "role": "replica" if number else "primary"}
            await api.create_pod(f"pg-{number}", labels, ip=server.host, port=server.port)
        kubeconfig = await write_kubeconfig(api, directory)
        cluster.primary.psql(TABLE)
        cluster.primary.psql(INDEX)
        discovery: dict[str, object] = {
            "kubeconfig": str(kubeconfig),
            "namespace": api.namespace,
            "selector": "app=db",
            "role_label": "role",
            "primary_values": ["primary"],
            "replica_values": ["replica"],
            "port": "postgresql",
        }
        sections: dict[str, Any] = {
            "discovery": {"mode": "kubernetes"},
            "discovery.kubernetes": discovery,
        }
        with await asyncio.to_thread(lambda: ProxyProcess.start((), **sections)) as proxy:
            stage = cls(cluster, proxy, Load(proxy.dsn(), **load))
            await asyncio.to_thread(stage.load.start)
            try:
                yield stage
            finally:
                books = await asyncio.to_thread(stage.load.stop)
            assert books.failures == []
            rows = cluster.primary.psql(ROWS).split()
            assert books.audit(map(int, rows)) == Audit()
            await asyncio.to_thread(proxy.stop)

    def status(self) -> dict[str, Any]:
        """What /status says."""
        found: dict[str, Any] = json.loads(self.proxy.get("/status")[1])
        return found

    def roles(self) -> dict[str, str]:
        """What each pod may do at present."""
        return {node["name"]: node["role"] for node in self.status()["topology"]}

    async def works(self, writes: int = 200) -> None:
        """Wait until so many further writes were acknowledged."""
        await asyncio.to_thread(self.load.wait_writes, writes)

    async def until(self, is_true: Callable[[], bool]) -> float:
        """Wait until that holds; returns the seconds it took."""
        began = time.monotonic()
        while not await asyncio.to_thread(is_true):
            assert time.monotonic() - began < _SOON, self.status()
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def follows_a_label(self, api: KubeApi) -> float:
        """The seconds that it takes."""
        await api.patch_labels("pg-2", {"role": "unhealthy"})
        return await self.until(lambda: self.roles()["pg-2"] == "none")
