"""What the API server may do to those who follow the pods, and that they come through it.

    class TestOnTheRealOne(KubeTrouble): ...    with a fixture `kube_api`

The reflector runs in the test's loop, with times a tenth of its usual ones. What it publishes must
follow the pods when the trouble is over, must not lose one before that, and it may never begin more
than two requests in a second.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest_asyncio

from pgproxy import config
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.model import Backend
from pgproxy.topology.schedule import Timing
from tests.support.fault import FaultProxy
from tests.support.kube import KubeApi, mount, write_kubeconfig

QUICK: Final = Timing(
    watch=(2, 3),
    grace=0.5,
    answer=1.5,
    smallest_gap=0.5,  # half of what is allowed
    first_wait=0.1,
    longest_wait=1.5,
    healthy=6.0,
)

SELECTOR: Final = "app=db"

_SOON: Final = 30.0  # seconds in which a busy machine does anything

Backends = tuple[Backend, ...]


@dataclass(frozen=True)
class _Place:
    host: str
    port: int


class Follower:
    """A reflector, and every snapshot that it has published."""

    def __init__(self, kubeconfig: Path, namespace: str, timing: Timing) -> None:
        self.snapshots: Final[list[Backends]] = []
        settings = config.Kubernetes(
            kubeconfig=kubeconfig,
            namespace=namespace,
            selector=SELECTOR,
            role_label="role",
            primary_values=("primary",),
            replica_values=("replica",),
            port="postgresql",
        )
        self.reflector: Final = Kubernetes(settings, self._publish, timing=timing)
        self._news: Final = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def start(
        cls, kubeconfig: Path, namespace: str, timing: Timing = QUICK
    ) -> "AsyncIterator[Follower]":
        follower = cls(kubeconfig, namespace, timing)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follower.reflector.run())
            try:
                yield follower
            finally:
                await follower.reflector.close()

    @property
    def roles(self) -> dict[str, str]:
        """What is published now."""
        return {backend.name: backend.role for backend in self.snapshots[-1]}

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until something holds that a snapshot, or a request's end, may change."""
        async with asyncio.timeout(_SOON):
            while not is_true():
                self._news.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self._news.wait()
                except TimeoutError:
                    continue  # a request may have ended

    async def follows(self, **roles: str) -> None:
        """Wait until the pods have these roles."""
        wanted = {name.replace("_", "-"): role for name, role in roles.items()}
        await self.until(lambda: bool(self.snapshots) and self.roles == wanted)

    def outcomes(self, outcome: str) -> int:
        """How many requests have ended so."""
        return sum(n for (_, how), n in self.reflector.requests.items() if how == outcome)

    def _publish(self, backends: Backends) -> None:
        self.snapshots.append(backends)
        self._news.set()


async def make_cluster(api: KubeApi) -> None:
    """A primary and two replicas."""
    for number, role in enumerate(("primary", "replica", "replica")):
        labels = {"app": "db", "role": role}
        await api.create_pod(f"pg-{number}", labels, ip=f"127.0.0.{2 + number}")


async def check_rate(api: KubeApi) -> None:
    """Of two requests a second. The way to the server may gather those of one second in another."""
    times = sorted(request.at for request in await api.request_log())
    for first in range(len(times)):
        within = [at for at in times[first:] if at - times[first] < 5.0]
        assert len(within) <= 14, times


class KubeTrouble:
    @pytest_asyncio.fixture
    async def follower(self, kube_api: KubeApi, tmp_path: Path) -> AsyncIterator[Follower]:
        await make_cluster(kube_api)
        kubeconfig = await write_kubeconfig(kube_api, tmp_path)
        async with Follower.start(kubeconfig, kube_api.namespace) as follower:
            await follower.follows(pg_0="primary", pg_1="replica", pg_2="replica")
            yield follower
            assert all(len(snapshot) == 3 for snapshot in follower.snapshots)
        await check_rate(kube_api)

    async def test_a_failover_is_followed(self, kube_api: KubeApi, follower: Follower) -> None:
        await kube_api.patch_labels("pg-0", {"role": "replica"})
        await kube_api.patch_labels("pg-1", {"role": "primary"})
        await follower.follows(pg_0="replica", pg_1="primary", pg_2="replica")
        assert set(follower.reflector.relists) == {"start"}

    async def test_a_pod_made_anew_is_another(self, kube_api: KubeApi, follower: Follower) -> None:
        before = {backend.uid for backend in follower.snapshots[-1]}
        await kube_api.stop()  # so that it comes and goes unseen
        await kube_api.start()
        await kube_api.delete_pod("pg-2")
        labels = {"app": "db", "role": "replica"}
        await kube_api.create_pod("pg-2", labels, ip="127.0.0.9")
        await follower.until(lambda: follower.snapshots[-1][-1].host == "127.0.0.9")
        assert len({backend.uid for backend in follower.snapshots[-1]} - before) == 1
        follower.snapshots[:] = [one for one in follower.snapshots if len(one) == 3]

    async def test_stopped_and_started(self, kube_api: KubeApi, follower: Follower) -> None:
        published = len(follower.snapshots)
        await kube_api.stop()
        await follower.until(lambda: follower.outcomes("unreachable") >= 3)
        assert len(follower.snapshots) == published
        await kube_api.start()
        await kube_api.patch_labels("pg-1", {"role": "primary"})
        await follower.follows(pg_0="primary", pg_1="primary", pg_2="replica")

    async def test_back_with_a_new_history(
        self, kube_api: KubeApi, follower: Follower, tmp_path: Path
    ) -> None:
        before = {backend.uid for backend in follower.snapshots[-1]}
        published = len(follower.snapshots)
        await kube_api.stop()
        await follower.until(lambda: follower.outcomes("unreachable") >= 2)
        await kube_api.start(history_lost=True)
        await make_cluster(kube_api)
        await kube_api.patch_labels("pg-0", {"role": "replica"})
        await kube_api.patch_labels("pg-2", {"role": "primary"})
        assert len(follower.snapshots) == published  # its token is of before
        await mount(kube_api, tmp_path)
        await follower.follows(pg_0="replica", pg_1="replica", pg_2="primary")
        assert not before & {backend.uid for backend in follower.snapshots[-1]}

    async def test_what_happened_behind_a_partition_is_forgotten(
        self, kube_api: KubeApi, tmp_path: Path
    ) -> None:
        await make_cluster(kube_api)
        host, _, port = kube_api.url.removeprefix("https://").partition(":")
        # Long enough for the server to be back before the next request.
        timing = replace(QUICK, watch=(8, 8))
        async with FaultProxy(_Place(host, int(port))) as network:
            url = f"https://{network.host}:{network.port}"
            kubeconfig = await write_kubeconfig(kube_api, tmp_path, url)
            async with Follower.start(kubeconfig, kube_api.namespace, timing) as follower:
                await follower.follows(pg_0="primary", pg_1="replica", pg_2="replica")
                await kube_api.patch_labels("pg-0", {"role": "none"})
                await follower.follows(pg_0="none", pg_1="replica", pg_2="replica")
                silent = follower.outcomes("silent")
                network.stall()
                await kube_api.patch_labels("pg-1", {"role": "primary"})
                await kube_api.compact()
                await follower.until(lambda: follower.outcomes("silent") > silent)
                assert len(follower.snapshots) == 2
                network.resume()
                await follower.follows(pg_0="none", pg_1="primary", pg_2="replica")
                assert set(follower.reflector.relists) == {"start", "gone"}

    async def test_half_open(self, kube_api: KubeApi, follower: Follower) -> None:
        relists = dict(follower.reflector.relists)
        silent = follower.outcomes("silent")
        await kube_api.freeze()
        try:
            await follower.until(lambda: follower.outcomes("silent") >= silent + 2)
        finally:
            await kube_api.thaw()
        await kube_api.patch_labels("pg-1", {"role": "primary"})
        await follower.follows(pg_0="primary", pg_1="primary", pg_2="replica")
        assert follower.reflector.relists == relists  # it went on where it was

    async def test_a_token_that_expires_is_renewed_from_its_file(
        self, kube_api: KubeApi, follower: Follower, tmp_path: Path
    ) -> None:
        await kube_api.revoke_tokens()
        await mount(kube_api, tmp_path, lifetime=2)
        await follower.until(lambda: follower.outcomes("unauthorized") >= 4)
        await kube_api.patch_labels("pg-1", {"role": "primary"})
        await mount(kube_api, tmp_path)
        await follower.follows(pg_0="primary", pg_1="primary", pg_2="replica")
