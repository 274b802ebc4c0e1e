"""What the watch of the pods does on any API server: the same tests run on the fake and a real one.

    class TestOnTheFake(WatchContract): ...    with a fixture `kube_api`

Times are shorter than in production so that the tests need not wait for them; the limit of two
requests a second is not, and holds in every test.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from pgproxy import config
from pgproxy.topology.kubernetes import Kubernetes
from pgproxy.topology.model import Backend
from pgproxy.topology.schedule import Timing
from tests.support.kube import KubeApi, mount, write_kubeconfig

QUICK: Final = Timing(
    watch=(2, 2),
    grace=1.0,
    answer=3.0,
    first_wait=0.05,
    longest_wait=0.4,
    healthy=1.0,
    repair=(3600.0, 3600.0),
)
LABELS: Final = {"app": "db"}
PRIMARY: Final = {**LABELS, "role": "primary"}
REPLICA: Final = {**LABELS, "role": "replica"}
_SOON: Final = 40.0  # seconds in which even a busy machine restarts an API server


class Following:
    """A running watch and every snapshot that it has published."""

    def __init__(self, settings: config.Kubernetes, timing: Timing) -> None:
        self.snapshots: Final[list[tuple[Backend, ...]]] = []
        self.pods: Final = Kubernetes(settings, self._take, timing=timing)
        self._news: Final = asyncio.Event()

    def _take(self, backends: tuple[Backend, ...]) -> None:
        self.snapshots.append(backends)
        self._news.set()

    @property
    def roles(self) -> dict[str, str]:
        """By pod, as last published."""
        return {backend.name: backend.role for backend in self.pods.backends}

    def backend(self, name: str) -> Backend:
        (found,) = [backend for backend in self.pods.backends if backend.name == name]
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a snapshot after which it holds."""
        async with asyncio.timeout(_SOON):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_roles(self, **roles: str) -> None:
        """Wait until these pods and no others have these roles; `_` in a name stands for `-`."""
        wanted = {name.replace("_", "-"): role for name, role in roles.items()}
        await self.until(lambda: self.roles == wanted)

    def ended(self, outcome: str) -> int:
        """How many requests have ended so."""
        return sum([count for (_, one), count in self.pods.requests.items() if one == outcome])

    async def until_outcome(self, outcome: str, count: int = 1) -> None:
        """Wait until so many requests have ended so."""
        await poll(lambda: self.ended(outcome) >= count)


async def poll(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells."""
    async with asyncio.timeout(_SOON):
        while not condition():  # noqa: ASYNC110 - it is read from counters
            await asyncio.sleep(0.01)


@asynccontextmanager
async def following(
    api: KubeApi, directory: Path, timing: Timing = QUICK, **keys: Any
) -> AsyncIterator[Following]:
    """A watch with the ServiceAccount's rights; at the end the API server's count of requests is
    held against what is promised."""
    settings = {
        "namespace": api.namespace,
        "selector": "app=db",
        "role_label": "role",
        "primary_values": ("primary",),
        "replica_values": ("replica",),
        "kubeconfig": await write_kubeconfig(api, directory),
    }
    watch = Following(config.Kubernetes(**settings | keys), timing)
    before, began = len(await api.request_log()), time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.pods.run())
        try:
            yield watch
        finally:
            await watch.pods.close()
    made = len(await api.request_log()) - before
    assert made <= 2 * (time.monotonic() - began) + 2


class WatchContract:
    @pytest.fixture
    async def cluster_of_pods(self, kube_api: KubeApi) -> KubeApi:
        """A primary, a replica, and a pod that is none of theirs."""
        await kube_api.create_pod("db-0", PRIMARY, ip="10.0.0.10")
        await kube_api.create_pod("db-1", REPLICA, ip="10.0.0.11")
        await kube_api.create_pod("pooler-0", {"app": "pooler", "role": "primary"})
        return kube_api

    async def test_the_first_list_is_the_first_snapshot(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.pods.synced.wait()
            (snapshot,) = watch.snapshots
            assert watch.roles == {"db-0": "primary", "db-1": "replica"}
            assert all(backend.ready and not backend.leaving for backend in snapshot)
            assert watch.backend("db-1").host == "10.0.0.11"

    async def test_no_pod_is_a_snapshot_too(self, kube_api: KubeApi, tmp_path: Path) -> None:
        async with following(kube_api, tmp_path) as watch:
            await watch.pods.synced.wait()
            assert watch.snapshots == [()]
            await kube_api.create_pod("db-0", PRIMARY)
            await watch.until_roles(db_0="primary")

    @pytest.mark.parametrize("first", ["the old one loses it", "the new one gets it"])
    async def test_the_label_goes_over(
        self, cluster_of_pods: KubeApi, tmp_path: Path, first: str
    ) -> None:
        api = cluster_of_pods
        async with following(api, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            if first == "the old one loses it":
                await api.patch_labels("db-0", {"role": "demoted"})
                await watch.until_roles(db_0="none", db_1="replica")
                await api.patch_labels("db-1", {"role": "primary"})
                await watch.until_roles(db_0="none", db_1="primary")
            else:
                await api.patch_labels("db-1", {"role": "primary"})
                await watch.until_roles(db_0="primary", db_1="primary")
            await api.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="primary")
            await api.patch_labels("db-0", {"role": None})
            await watch.until_roles(db_0="none", db_1="primary")

    async def test_a_pod_that_leaves_the_selector_is_gone(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await cluster_of_pods.patch_labels("db-0", {"app": "other"})
            await watch.until_roles(db_1="replica")
            await cluster_of_pods.patch_labels("db-0", {"app": "db"})
            await watch.until_roles(db_0="primary", db_1="replica")

    async def test_a_pod_from_its_birth_to_its_end(self, kube_api: KubeApi, tmp_path: Path) -> None:
        async with following(kube_api, tmp_path) as watch:
            await kube_api.create_pod("db-2", REPLICA, ip="", phase="Pending", ready=False)
            await poll(lambda: watch.pods.status()["pods"] == 1)
            assert watch.pods.status()["not_backends"] == {"db-2": "it has no address yet"}
            await kube_api.set_status("db-2", ip="10.0.0.12", phase="Running")
            await watch.until(lambda: bool(watch.pods.backends))
            assert not watch.backend("db-2").ready
            await kube_api.set_status("db-2", ready=True)
            await watch.until(lambda: watch.backend("db-2").ready)
            await kube_api.terminate_pod("db-2")
            await watch.until(lambda: watch.backend("db-2").leaving)
            await kube_api.delete_pod("db-2")
            await watch.until(lambda: not watch.pods.backends)

    async def test_a_pod_of_the_same_name_is_another_server(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            before = watch.backend("db-1")
            await cluster_of_pods.delete_pod("db-1")
            await cluster_of_pods.create_pod("db-1", REPLICA, ip="10.0.0.99")
            await watch.until(lambda: "10.0.0.99" in [one.host for one in watch.pods.backends])
            assert watch.backend("db-1").uid not in {"", before.uid}

    async def test_annotations_are_no_news(self, cluster_of_pods: KubeApi, tmp_path: Path) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            for number in range(20):
                await cluster_of_pods.patch_annotations("db-0", {"status": f'{{"lsn": {number}}}'})
            await poll(lambda: watch.pods.events.get("modified", 0) >= 20)
            await cluster_of_pods.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="replica")
            assert len(watch.snapshots) == 2

    async def test_each_watch_ends_and_the_next_goes_on(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_outcome("ok", count=2)
            await cluster_of_pods.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="replica")
            assert watch.pods.relists == {"start": 1}
            assert watch.pods.status()["failing"] == ""

    async def test_an_api_server_that_is_away_changes_nothing(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await cluster_of_pods.stop()
            await watch.until_outcome("unreachable", count=4)
            assert watch.pods.status()["failing"] == "unreachable"
            assert len(watch.snapshots) == 1
            await cluster_of_pods.start()
            await cluster_of_pods.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="replica")
            await poll(lambda: watch.pods.status()["failing"] == "")

    async def test_it_waits_for_an_api_server_that_is_not_there_yet(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        await write_kubeconfig(cluster_of_pods, tmp_path)
        await cluster_of_pods.stop()
        # The token of the file above; nobody gives one out now.
        kubeconfig = tmp_path / "kubeconfig"
        watch = Following(
            config.Kubernetes(
                namespace=cluster_of_pods.namespace, selector="app=db", kubeconfig=kubeconfig
            ),
            QUICK,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.pods.run())
            await watch.until_outcome("unreachable", count=2)
            assert not watch.pods.synced.is_set()
            assert watch.snapshots == []
            await cluster_of_pods.start()
            await watch.until_roles(db_0="auto", db_1="auto")
            await watch.pods.close()

    async def test_a_connection_that_is_dead_but_not_closed(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await cluster_of_pods.freeze()
            await watch.until_outcome("silent")
            assert len(watch.snapshots) == 1
            await cluster_of_pods.thaw()
            await cluster_of_pods.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="replica")

    async def test_what_was_forgotten_meanwhile_is_listed(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        """A DELETED that nobody saw, and a version that is too old to go on from."""
        api = cluster_of_pods
        async with following(api, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await api.freeze()
            await watch.until_outcome("silent")
            await api.thaw()
            await api.delete_pod("db-0")
            await api.create_pod("db-2", PRIMARY, namespace=api.elsewhere)
            await api.compact()
            await api.create_pod("db-3", PRIMARY)
            await watch.until_roles(db_1="replica", db_3="primary")

    async def test_a_new_history(self, cluster_of_pods: KubeApi, tmp_path: Path) -> None:
        """etcd was lost: versions begin anew, lower, and a watch from the old one is silent."""
        api = cluster_of_pods
        timing = Timing(**{**vars_of(QUICK), "repair": (1.0, 1.5)})
        async with following(api, tmp_path, timing) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await api.stop()
            await api.start(history_lost=True)
            await mount(api, tmp_path)
            await api.create_pod("db-7", PRIMARY)
            await watch.until_roles(db_7="primary")

    async def test_a_token_is_replaced_and_the_old_one_revoked(
        self, cluster_of_pods: KubeApi, tmp_path: Path
    ) -> None:
        async with following(cluster_of_pods, tmp_path) as watch:
            await watch.until_roles(db_0="primary", db_1="replica")
            await cluster_of_pods.revoke_tokens()
            await watch.until_outcome("unauthorized", count=2)
            assert len(watch.snapshots) == 1
            await mount(cluster_of_pods, tmp_path)
            await cluster_of_pods.patch_labels("db-0", {"role": "replica"})
            await watch.until_roles(db_0="replica", db_1="replica")

    async def test_without_the_right_it_says_which(self, kube_api: KubeApi, tmp_path: Path) -> None:
        async with following(kube_api, tmp_path, namespace=kube_api.elsewhere) as watch:
            await watch.until_outcome("forbidden", count=2)
            assert not watch.pods.synced.is_set()
            assert "forbidden" in str(watch.pods.status()["last_error"])

    async def test_a_selector_that_is_none(self, kube_api: KubeApi, tmp_path: Path) -> None:
        async with following(kube_api, tmp_path, selector="app==db==x") as watch:
            await watch.until_outcome("rejected", count=2)
            assert "HTTP 400" in str(watch.pods.status()["last_error"])


def vars_of(timing: Timing) -> dict[str, Any]:
    """Its fields, to change some."""
    return dict(vars(timing))
