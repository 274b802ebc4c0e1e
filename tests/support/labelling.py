"""`pgproxy label` at work on the pods of an API server, and one who watches what comes of it.

    async with LabelStage.start(api, cluster, tmp_path) as stage:
        first = await stage.labeller()
        await stage.until_labels(pg_0="primary", pg_1="replica", pg_2="replica")

At the end the pods were never seen with two primaries, whatever happened.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from pgproxy.embedded import Cluster
from pgproxy.embedded.server import Server
from tests.support.kube import PODS_URL, KubeApi, client, write_kubeconfig
from tests.support.proxy import ProxyProcess, config_for

LABELS: Final = {"app": "db"}
# Seconds: a Lease short enough to be waited for, and long enough for a busy machine.
TERMS: Final = {"lease_duration": 5, "renew_deadline": 4.0, "retry_period": 0.5}
_SOON: Final = 60.0  # seconds in which a busy machine does anything


class LabelStage:
    """A pod `pg-N` without a role label for each server, and the processes that label them."""

    def __init__(self, api: KubeApi, kubeconfig: Path, session: aiohttp.ClientSession) -> None:
        self.labels: Final[dict[str, str]] = {}
        """By pod, as last seen; empty without one."""
        self.most_primaries = 0
        """The highest number of pods that had the primary's label at one moment."""
        self._api: Final = api
        self._kubeconfig: Final = kubeconfig
        self._session: Final = session
        self._processes: Final[list[ProxyProcess]] = []
        self._seen: Final[list[tuple[str, str]]] = []  # pods and labels, as events told
        self._news: Final = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def start(
        cls, api: KubeApi, cluster: Cluster, directory: Path
    ) -> "AsyncIterator[LabelStage]":
        for number, server in enumerate(cluster.servers):
            await api.create_pod(f"pg-{number}", LABELS, ip=server.host, port=server.port)
        kubeconfig = await write_kubeconfig(api, directory)
        async with client(api, await api.token()) as session, asyncio.TaskGroup() as group:
            stage = cls(api, kubeconfig, session)
            observer = group.create_task(stage._observe())
            try:
                yield stage
                assert stage.most_primaries <= 1
            finally:
                observer.cancel()
                for process in stage._processes:
                    if process.process.returncode is None:
                        await asyncio.to_thread(process.kill9)
            for process in stage._processes:
                process.check()

    async def labeller(self, *options: str, **sections: dict[str, object]) -> ProxyProcess:
        """One more process, listening."""
        return await asyncio.to_thread(self._started, options, sections)

    def _started(self, options: Sequence[str], sections: dict[str, Any]) -> ProxyProcess:
        config = label_config(self._kubeconfig, self._api.namespace, **sections)
        process = ProxyProcess(config, ("label", *options))
        self._processes.append(process)
        process.http_port = process.wait_event("http_listening")["port"]
        return process

    async def until_labels(self, **labels: str) -> None:
        """Wait until these pods and no others have these labels; `_` in a name stands for `-`."""
        wanted = {name.replace("_", "-"): label for name, label in labels.items()}
        try:
            async with asyncio.timeout(_SOON):
                while self.labels != wanted:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            said = "\n".join(process.stderr for process in self._processes)
            raise AssertionError(f"{self.labels}, not {wanted}:\n{said}") from None

    async def set_label(self, pod: str, label: str) -> None:
        """As somebody else does; returns when it has been seen."""
        before = len(self._seen)
        await self._api.patch_labels(pod, {"role": label or None})
        await self._until_seen(before, pod, label)

    async def make_anew(self, pod: str, server: Server) -> None:
        """The pod is deleted, and there is another one of that name."""
        before = len(self._seen)
        await self._api.delete_pod(pod)
        await self._api.create_pod(pod, LABELS, ip=server.host, port=server.port)
        await self._until_seen(before, pod, "")

    async def _until_seen(self, before: int, pod: str, label: str) -> None:
        async with asyncio.timeout(_SOON):
            while (pod, label) not in self._seen[before:]:
                self._news.clear()
                await self._news.wait()

    async def leader(self) -> ProxyProcess:
        """The one that leads, once there is one."""
        found: list[ProxyProcess] = []

        def is_found() -> bool:
            found[:] = [one for one in self.running() if status(one)["leads"]]
            return bool(found)

        await until(is_found)
        (one,) = found
        return one

    def running(self) -> list[ProxyProcess]:
        """Those that neither have ended nor are stopped."""
        return [one for one in self._processes if one.process.poll() is None and is_awake(one)]

    async def _observe(self) -> None:
        url = PODS_URL.format(self._api.url, self._api.namespace)
        async with self._session.get(url) as response:
            listed = await response.json()
        for pod in listed["items"]:
            self._see("ADDED", pod)
        version = listed["metadata"]["resourceVersion"]
        query = {"watch": "true", "timeoutSeconds": "600", "resourceVersion": version}
        async with self._session.get(url, params=query) as response:
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for line in response.content:
                    event = json.loads(line)
                    self._see(event["type"], event["object"])

    def _see(self, kind: str, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        if kind == "DELETED":
            self.labels.pop(metadata["name"], None)
        else:
            self.labels[metadata["name"]] = metadata.get("labels", {}).get("role", "")
            self._seen.append((metadata["name"], self.labels[metadata["name"]]))
        count = list(self.labels.values()).count("primary")
        self.most_primaries = max(self.most_primaries, count)
        self._news.set()


def label_config(kubeconfig: Path, namespace: str, **sections: Any) -> str:
    """Of a labeller that takes the pods of `LABELS`."""
    settings: dict[str, Any] = {
        "discovery": {"mode": "kubernetes"},
        "discovery.kubernetes": {
            "kubeconfig": str(kubeconfig),
            "namespace": namespace,
            "selector": "app=db",
            "port": "postgresql",
        },
        "label": {**TERMS, **sections.pop("label", {})},
        "health": {"user": "postgres", "interval": 0.2, "timeout": 5},
    }
    return config_for((), **settings, **sections)


def status(process: ProxyProcess) -> dict[str, Any]:
    """What /status says."""
    found: dict[str, Any] = json.loads(process.get("/status")[1])
    return found


def is_awake(process: ProxyProcess) -> bool:
    """Whether it is not stopped by a signal."""
    state = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state not in {"T", "Z"}


async def until(is_true: Callable[[], bool]) -> None:
    """Wait until that holds; it may block for a while."""
    began = time.monotonic()
    while not await asyncio.to_thread(is_true):
        assert time.monotonic() - began < _SOON
        await asyncio.sleep(0.05)
